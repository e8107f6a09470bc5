"""The arm and its hand as the user's process sees them; the work is done in the driver's process."""

from __future__ import annotations

import itertools
import logging
import os
import socket
import subprocess
import sys
import time
from collections import deque
from collections.abc import Callable
from types import TracebackType
from typing import Any

import numpy as np

from simreal_envs.errors import MissingDependencyError, RobotError, UsageError
from simreal_envs.latest import Latest
from simreal_envs.robot import hand
from simreal_envs.robot.causes import LINK_LOST
from simreal_envs.robot.channel import Channel
from simreal_envs.robot.records import COMMAND, MODES, STATE, ArmState, Event, EventLog, as_text
from simreal_envs.robot.safety import Limits, joint_goal_error
from simreal_envs.spec import FloatArray

log = logging.getLogger("simreal.robot")

_numbers = itertools.count()

CONNECT_TIME_S = 15.0
CLOSE_TIME_S = 5.0
EVENTS_KEPT = 1000
SILENCE_S = 5.0
"""The driver publishes 200 times a second; silent for longer (an error recovery takes seconds) it hangs.
While it follows targets or a person nothing delays it, so twice ``watchdog_hold_s`` is too long."""
FOLLOWING = ("controlling", "holding", "guiding")


class Arm:
    """A Franka Panda with its hand. Use it as a context manager, or close it: that stops the arm.

    Whatever becomes of this process, the driver stops the arm: on :meth:`close`, when the process ends or is
    killed, and when it no longer acts (``watchdog_stop_s``).

    Args:
        host: address of the robot's control unit, or of a virtual rig.
        limits: see :func:`simreal_envs.robot.safety.load_limits`.

    Raises:
        MissingDependencyError: panda_py is not installed.
        RobotError: no connection to arm or hand; names the cause. So do all methods that move something.
    """

    def __init__(self, host: str, limits: Limits) -> None:
        self.host, self.limits = host, limits
        self._events: deque[Event] = deque(maxlen=EVENTS_KEPT)
        self._waiting = False  # for an order
        self._connect()

    def _connect(self) -> None:
        self._name = f"robot-{os.getpid()}-{next(_numbers)}"
        self._command = np.zeros((), COMMAND)
        self._commands = Latest(f"{self._name}-command", COMMAND, create=True)
        ours, theirs = socket.socketpair()
        self._channel, self._orders = Channel(ours), itertools.count(1)
        self._answers: dict[int, dict[str, Any]] = {}
        arguments = [self.host, self._name, str(theirs.fileno()), str(os.getpid())]
        self._driver = subprocess.Popen(
            [sys.executable, "-m", "simreal_envs.robot.process", *arguments],
            cwd="/",
            pass_fds=[theirs.fileno()],
            start_new_session=True,  # Ctrl-C is for this process, which decides
        )
        theirs.close()
        try:
            self._channel.send({"limits": self.limits.to_json()})
            until_s = time.monotonic() + CONNECT_TIME_S
            answer = self._wait_for(0, lambda: time.monotonic() > until_s)
            if answer["error"]:
                missing = MissingDependencyError if answer.get("missing") else RobotError
                raise missing(answer["error"])
            self._states = Latest(f"{self._name}-state", STATE)
            self._event_log = EventLog(self._name)
        except BaseException:
            self._driver.kill()  # nothing moves yet, so there is nothing to wait for
            self.close()
            raise

    # --- seeing -----------------------------------------------------------------------------------

    def state(self) -> ArmState:
        """The latest state, at most 5 ms old; never waits. A driver that ended or hangs is a fault.

        Also logs the events since the last call, see :meth:`events`, and tells the driver that this process
        runs.
        """
        self._show_life()
        record = self._states.read()
        if record["events"] > self._event_log.count:
            self._note_events()
        fault = as_text(record["fault"])
        if self._driver.poll() is not None:
            fault = f"{LINK_LOST}: the arm's driver ended (exit code {self._driver.returncode})"
        elif self._hangs(record):
            fault = f"{LINK_LOST}: {f'after {fault}, ' if fault else ''}the arm's driver hangs"
        return ArmState.of(record, fault)

    def _hangs(self, record: np.ndarray) -> bool:
        following = MODES[int(record["mode"])] in FOLLOWING and not self._waiting
        longest_s = 2 * self.limits.watchdog_hold_s if following else SILENCE_S
        return time.monotonic() - float(record["time_s"]) > longest_s

    def events(self) -> list[Event]:
        """What the driver did and saw since the last call, oldest first; each is logged, too."""
        self._note_events()
        events = list(self._events)
        self._events.clear()
        return events

    def _note_events(self) -> None:
        for event in self._event_log.new():
            level = logging.INFO if event.kind in ("connected", "recovered", "limited") else logging.WARNING
            log.log(level, "%s: %s", event.kind, event.message)
            self._events.append(event)

    # --- control ----------------------------------------------------------------------------------

    def start(self, joints: bool = False) -> None:
        """Take control at the present pose; from now on :meth:`command` must come at the control rate.

        Args:
            joints: follow :meth:`command_joints` instead.
        """
        self._ask("start", joints=joints)

    def command(self, pose_target_in_base: FloatArray, gripper: float) -> None:
        """Next target: pose (4, 4), and gripper: negative opens, positive closes. Never waits.

        It is limited and interpolated by the driver; without control (a fault, a stop) it has no effect, and
        :meth:`state` says why.
        """
        target = _finite(pose_target_in_base, (4, 4))
        rotation = target[:3, :3]
        if np.abs(rotation @ rotation.T - np.eye(3)).max() > 1e-3 or np.linalg.det(rotation) < 0:
            raise UsageError(f"The upper left of a target must be a rotation, not {rotation.tolist()}.")
        self._write(pose_target_in_base=target, gripper=gripper)

    def command_joints(self, joints_target_rad: FloatArray, gripper: float) -> None:
        """Next target as joint angles (7,), after ``start(joints=True)``."""
        self._write(joints_target_rad=_finite(joints_target_rad, (7,)), gripper=gripper)

    def stop(self) -> None:
        """Come to rest (at most 0.3 s) and end control or a move; the robot then holds itself."""
        if self._driver.poll() is None:  # an arm without a driver has stopped
            self._ask("stop")

    def guide(self, on: bool) -> None:
        """Let a person move the arm by hand, or hold it again.

        Look at :meth:`state` meanwhile: the arm is held once this process shows no life for
        ``watchdog_stop_s``.
        """
        self._ask("guide", on=on)

    def recover(self) -> None:
        """Clear a fault: the robot's errors, a stuck hand (connected anew), a lost link (likewise)."""
        if self._driver.poll() is not None or self.state().fault.startswith(LINK_LOST):
            self.close()
            self._connect()
        self._ask("recover")

    # --- moves that wait for their end ----------------------------------------------------------------

    def move_to_joints(self, joints_rad: FloatArray, speed: float | None = None) -> None:
        """Move to joint angles (7,), at a fraction of the greatest speed (None: ``limits.move_speed``).

        Raises:
            UsageError: they are out of the joints' range, or put the end effector out of the workspace.
        """
        goal = _finite(joints_rad, (7,))
        if error := joint_goal_error(goal, self.limits):
            raise UsageError(error)
        self._ask("move_to_joints", joints_rad=goal.tolist(), speed=self._speed(speed))

    def move_up(self, height_m: float) -> None:
        """Raise the hand straight up, to the top of the workspace at most."""
        if not 0 <= height_m <= 1:
            raise UsageError(f"Height {height_m} m must be from 0 to 1.")
        self._ask("move_up", height_m=float(height_m), speed=self._speed(None))

    def open_gripper(self) -> None:
        """Open the hand."""
        self._ask("gripper", what=hand.OPEN)

    def close_gripper(self) -> None:
        """Close the hand, on whatever is there."""
        self._ask("gripper", what=hand.CLOSE)

    def home_gripper(self) -> None:
        """Let the hand find its range; needed once after it was switched on. The fingers close and open."""
        self._ask("gripper", what=hand.HOME)

    # --- inside -----------------------------------------------------------------------------------

    def _speed(self, speed: float | None) -> float:
        speed = self.limits.move_speed if speed is None else float(speed)
        if not 0.01 <= speed <= 0.5:
            raise UsageError(f"Speed {speed} must be from 0.01 to 0.5 of the robot's greatest.")
        return speed

    def _write(self, **values: Any) -> None:
        for name, value in values.items():
            self._command[name] = value
        self._command["number"] += 1
        self._command["time_s"] = time.monotonic()
        self._show_life()

    def _show_life(self) -> None:
        self._command["alive_s"] = time.monotonic()
        self._commands.write(self._command)

    def _ask(self, do: str, **arguments: Any) -> None:
        """Give an order and wait until it is carried out. Leaving the wait (Ctrl-C) stops the arm."""
        if self._driver.poll() is not None:
            raise RobotError(
                f"The arm's driver has ended (exit code {self._driver.returncode}). Recover first."
            )
        number = next(self._orders)
        self._channel.send({"id": number, "do": do, "args": arguments})
        self._waiting = True
        try:
            answer = self._wait_for(number, lambda: self.state().fault.endswith("driver hangs"))
        except BaseException:
            self._channel.send({"id": next(self._orders), "do": "stop", "args": {}})
            raise
        finally:
            self._waiting = False
        if answer["error"]:
            raise RobotError(f"Robot: {answer['error']}.".replace("..", "."))

    def _wait_for(self, number: int, given_up: Callable[[], bool]) -> dict[str, Any]:
        while number not in self._answers:
            for answer in self._channel.receive():
                self._answers[answer["id"]] = answer
            if number in self._answers:
                break
            if self._driver.poll() is not None:
                raise RobotError(f"Robot: the arm's driver ended (exit code {self._driver.returncode}).")
            if given_up():
                raise RobotError(
                    f"Robot: no answer from {self.host}: check cable, address and other clients."
                )
            self._show_life()
            time.sleep(0.005)
        return self._answers.pop(number)

    def close(self) -> None:
        """Stop the arm and end the driver. The fingers stay as they are."""
        self._channel.close()
        try:
            self._driver.wait(CLOSE_TIME_S)
        except subprocess.TimeoutExpired:  # it hangs in libfranka; the robot stops when its connection closes
            self._driver.kill()
            self._driver.wait()
        memory = self._commands.path
        for left in memory.parent.glob(memory.name.replace("-command", "-*")):  # a killed driver could not
            left.unlink(missing_ok=True)

    def __enter__(self) -> Arm:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.close()


def _finite(values: FloatArray, shape: tuple[int, ...]) -> FloatArray:
    """The array, or the error that refuses it."""
    array = np.asarray(values, np.float64)
    if array.shape != shape or not np.isfinite(array).all():
        raise UsageError(f"A target must be {shape} finite numbers, not {array.tolist()}.")
    return array
