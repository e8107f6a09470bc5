"""The gripper, in a process of its own.

libfranka's gripper calls wait for the hand (a grasp up to seconds, a reading 50 ms), some of them with
Python's interpreter lock; in the arm's process they would delay its watchdog.
"""

from __future__ import annotations

import os
import subprocess
import sys
import threading
import time
from dataclasses import dataclass
from typing import TYPE_CHECKING

import numpy as np

from simreal_envs.latest import Latest
from simreal_envs.robot import causes
from simreal_envs.robot.lifeline import die_with_parent
from simreal_envs.robot.records import as_bytes, as_text

if TYPE_CHECKING:
    from simreal_envs.robot.safety import Limits

OPEN, CLOSE, HOME = 1, 2, 3

_WISH = np.dtype([("number", "<i8"), ("what", "u1")])
_STATE = np.dtype(
    [
        ("time_s", "<f8"),
        ("width_m", "<f8"),
        ("grasped", "u1"),
        ("homed", "u1"),
        ("done", "<i8"),  # number of the last wish that is finished
        ("busy_since_s", "<f8"),  # 0 when nothing is being done
        ("fault", "S400"),
    ]
)

_UNMOVED_M = 0.002
"""Fingers that are told to close and stay as close to fully open as this have not moved."""

HOMED_M = 0.01
"""A hand that was not homed does not know that it opens further (its greatest width, m)."""

_SETTLE_S = 0.05
_NEW_RANGE_S = 0.2
"""After homing, until a reading holds the range that was found."""

_SILENCE_S = 2.0
"""The hand reports at about 20 Hz or more; silent for longer it is lost."""


@dataclass(frozen=True)
class HandState:
    """Width between the fingers in m; whether the hand says that it holds something and knows its range."""

    width_m: float
    grasped: bool
    homed: bool


class Hand:
    """The driver's side: wishes out, states in, nothing waits."""

    def __init__(self, host: str, name: str, limits: Limits) -> None:
        self._name, self._limits = name, limits
        self._wishes = Latest(f"{name}-wish", _WISH, create=True)
        self._number, self._what = 0, 0
        self._started_s = time.monotonic()
        self._states: Latest | None = None
        self._state = np.zeros((), _STATE)
        arguments = [host, name, str(limits.gripper_speed_mps), str(limits.grasp_force_N)]
        self._process = subprocess.Popen([sys.executable, "-m", __name__, *arguments], cwd="/")

    def wish(self, what: int, again: bool = False) -> int:
        """Have the fingers opened, closed or homed; returns the number of the wish.

        What is wished already is not done again, unless asked for.
        """
        if what != self._what or again:
            self._number, self._what = self._number + 1, what
            self._wishes.write(np.array((self._number, what), _WISH))
        return self._number

    def done(self, number: int) -> bool:
        """Whether a wish is fulfilled."""
        return int(self._state["done"]) >= number

    def read(self) -> HandState:
        """The latest state."""
        if self._states is None:
            try:
                self._states = Latest(f"{self._name}-hand", _STATE)
            except FileNotFoundError:  # not there yet
                return HandState(0.0, False, False)
        state = self._state = self._states.read()
        return HandState(float(state["width_m"]), bool(state["grasped"]), bool(state["homed"]))

    @property
    def connected(self) -> bool:
        """Whether a first state has come."""
        return float(self._state["time_s"]) > 0

    def fault(self) -> str:
        """Why the hand cannot go on, or an empty string."""
        now_s, state = time.monotonic(), self._state
        if state["fault"]:
            return f"gripper: {as_text(state['fault'])}"
        if self._process.poll() is not None:
            return f"gripper: its process ended (exit code {self._process.returncode})"
        busy_s = now_s - float(state["busy_since_s"]) if state["busy_since_s"] else 0.0
        if busy_s > self._limits.gripper_timeout_s:
            return f"gripper: stuck at {1000 * state['width_m']:.0f} mm, not finished after {busy_s:.1f} s"
        if self.connected and now_s - float(state["time_s"]) > _SILENCE_S:
            return f"gripper: link lost, silent for {now_s - float(state['time_s']):.1f} s"
        if not self.connected and now_s - self._started_s > 10.0:
            return "gripper: no state within 10 s of connecting"
        return ""

    def close(self) -> None:
        """End the process; the fingers stay as they are."""
        self._process.kill()  # a stuck hand does not answer to less
        self._process.wait()
        self._wishes.close()
        if self._states is not None:
            self._states.path.unlink(missing_ok=True)  # its killed creator could not


class _Gripper:
    """The process's side: one thread acts, the other reads."""

    def __init__(self, host: str, name: str, speed_mps: float, force_N: float) -> None:
        self._speed_mps, self._force_N = speed_mps, force_N
        self._wishes = Latest(f"{name}-wish", _WISH)
        self._states = Latest(f"{name}-hand", _STATE, create=True)
        self._done, self._busy_since_s, self._fault = 0, 0.0, ""
        self._state = np.zeros((), _STATE)
        try:
            from panda_py import libfranka

            self._gripper = libfranka.Gripper(host)
            self._read()
        except RuntimeError as error:
            self._fault = causes.on_connecting(error, host)
        self._publish()

    def run(self) -> None:
        """Until the hand has a fault."""
        threading.Thread(target=self._act, daemon=True).start()
        while not self._fault:
            try:
                self._read()
            except RuntimeError as error:
                self._fault = causes.in_motion(error)
            self._publish()
        os._exit(0)  # the acting thread may wait for a hand that never answers

    def _read(self) -> None:
        reading = self._gripper.read_once()
        self._state["width_m"], self._state["grasped"] = reading.width, reading.is_grasped
        self._max_width_m = reading.max_width
        self._state["homed"] = self._max_width_m >= HOMED_M

    def _publish(self) -> None:
        state = self._state
        state["time_s"], state["done"], state["busy_since_s"] = (
            time.monotonic(),
            self._done,
            self._busy_since_s,
        )
        state["fault"] = as_bytes(self._fault)
        self._states.write(state)

    def _act(self) -> None:
        while not self._fault:
            wish = self._wishes.read()
            if int(wish["number"]) <= self._done:
                time.sleep(0.005)
                continue
            self._busy_since_s = time.monotonic()
            try:
                self._fulfil(int(wish["what"]))
            except RuntimeError as error:
                self._fault = causes.in_motion(error)
            self._busy_since_s, self._done = 0.0, int(wish["number"])

    def _fulfil(self, what: int) -> None:
        if what != HOME and self._max_width_m < HOMED_M:
            self._fault = "its range is unknown since it was switched on: home it in Desk, or by a reset"
            return
        if what == OPEN:
            went = self._gripper.move(self._max_width_m, self._speed_mps)
        elif what == CLOSE:  # on whatever is there
            widest_m = self._max_width_m - _UNMOVED_M
            self._gripper.grasp(0.0, self._speed_mps, self._force_N, 0.0, widest_m)
            time.sleep(_SETTLE_S)  # for a reading from after the grasp; that nothing is held is no fault
            went = bool(self._state["width_m"] < widest_m)
        else:
            went = self._gripper.homing()
            time.sleep(_NEW_RANGE_S)
        if not went:
            asked = {OPEN: "open", CLOSE: "close", HOME: "home"}[what]
            self._fault = f"stuck at {1000 * self._state['width_m']:.0f} mm when it was to {asked}"


def main() -> None:
    """``python -m simreal_envs.robot.hand HOST NAME SPEED FORCE``, run by :class:`Hand`."""
    host, name, speed_mps, force_N = sys.argv[1:]
    die_with_parent()
    os.sched_setscheduler(0, os.SCHED_OTHER, os.sched_param(0))  # needs no real-time priority
    _Gripper(host, name, float(speed_mps), float(force_N)).run()


if __name__ == "__main__":
    main()
