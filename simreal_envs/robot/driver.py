"""The process that owns the robot: it looks, decides and aims 200 times a second, whatever happens elsewhere.

It starts the gripper's process, takes orders over a :class:`Channel` and targets over shared memory, and ends
when the user's process does, after the arm has come to rest.
"""

from __future__ import annotations

import os
import time
from typing import Any

import numpy as np

from simreal_envs.cleanup import finally_do
from simreal_envs.errors import RobotError
from simreal_envs.latest import Latest
from simreal_envs.robot import hand
from simreal_envs.robot.activities import (
    ARRIVED_RAD,
    Activity,
    ComeToRest,
    Follow,
    FollowJoints,
    FollowPoses,
    Guide,
    MoveJoints,
    MoveStraight,
)
from simreal_envs.robot.causes import LINK_LOST
from simreal_envs.robot.channel import Channel, Orders, Poll
from simreal_envs.robot.franka import Franka, Reading, panda_py
from simreal_envs.robot.records import COMMAND, MODES, STATE, EventLog, as_bytes
from simreal_envs.robot.safety import Guard, Limits

PERIOD_S = 0.005
STATE_SILENCE_S = 0.3
"""A controlled robot sends a state every millisecond; silent for longer, the link counts as lost."""


class Driver:
    """The driver of one robot and its hand, with the activity that the arm is busy with.

    Args:
        name: beginning of the names of the shared memory.
        parent: process id of the user's process, whose end stops the arm.

    Raises:
        MissingDependencyError, RobotError: see :class:`Franka`.

    Attributes:
        link_lost: whether the robot is out of reach.
    """

    def __init__(self, host: str, name: str, limits: Limits, channel: Channel, parent: int) -> None:
        self._host, self._name, self._limits = host, name, limits
        self._channel, self._parent = channel, parent
        self._orders = Orders(channel, self)
        panda_py()  # or say that it is missing before anything is started
        self._hand = self._connect_hand()  # while we connect to the arm
        try:
            self._franka = Franka(host, limits)
            self._reading: Reading = self._franka.read()
        except BaseException:
            self._hand.close()
            raise
        self._read_s = time.monotonic()
        self._commands = Latest(f"{name}-command", COMMAND)
        self._states = Latest(f"{name}-state", STATE, create=True)
        self._events = EventLog(name, create=True)
        self._state = np.zeros((), STATE)
        self._activity: Activity | None = None
        self._guard = Guard(limits)
        self._fault, self._mode_at_rest, self.link_lost = "", "idle", False
        self._asked_to_leave = self._leaving = False

    def _connect_hand(self) -> hand.Hand:
        return hand.Hand(self._host, f"{self._name}-{time.monotonic_ns()}", self._limits)

    def run(self, scheduled: str) -> None:
        """Drive the robot until the user's process closes the channel or ends.

        Args:
            scheduled: how this process is scheduled, to be told to the user.
        """
        kind = "real-time" if self._franka.realtime else "no real-time"
        self._events.add("connected", f"robot at {self._host}, {kind} kernel, {scheduled}")
        if self._franka.found:
            self._events.add("found", f"the robot had stopped before: {self._franka.found}; it is recovered")
        self._orders.wait_for(0, self._hand_connected)
        next_s = time.monotonic()
        while not (self._leaving and self._activity is None):
            self._orders.take()
            self._tick(time.monotonic())
            self._orders.answer()
            next_s = max(next_s + PERIOD_S, time.monotonic() - PERIOD_S)  # ticks lost are not made up for
            time.sleep(max(0.0, next_s - time.monotonic()))

    def ask_to_leave(self) -> None:
        """Let the arm come to rest, then end :meth:`run`; for a signal handler."""
        self._asked_to_leave = True

    def close(self) -> None:
        """Let go of robot, hand and memory."""
        with finally_do(self._let_go):
            if not self.link_lost:
                self._franka.stop()

    def _let_go(self) -> None:
        self._hand.close()
        self._states.close()
        self._events.close()
        self._commands.path.unlink(missing_ok=True)  # a killed user's process could not

    # --- every tick ---------------------------------------------------------------------------------

    def _tick(self, now_s: float) -> None:
        alone = self._channel.closed or os.getppid() != self._parent
        if (alone or self._asked_to_leave) and not self._leaving:
            self._leaving = True
            self._rest()
        hand_state = self._hand.read()
        try:
            if self.link_lost:
                self._look_for_link()
            else:
                self._watch(now_s)
        except RobotError as error:
            self._end_with_fault(str(error))
        if not self._fault and (cause := self._hand.fault()):
            self._stop_because(cause, "gripper")
        reading, state = self._reading, self._state
        state["time_s"] = now_s
        state["pose_in_base"], state["joints_rad"] = reading.pose, reading.joints_rad
        state["pose_target_in_base"] = self._activity.target if self._activity else reading.pose
        state["joint_speeds_radps"] = reading.joint_speeds_radps
        state["force_N"], state["torque_Nm"] = reading.force_N, reading.torque_Nm
        state["gripper_width_m"], state["grasped"] = hand_state.width_m, hand_state.grasped
        state["gripper_homed"] = hand_state.homed
        state["success_rate"], state["fault"] = reading.success_rate, as_bytes(self._fault)
        state["mode"] = MODES.index(self._activity.mode if self._activity else self._mode_at_rest)
        state["events"] = self._events.count
        self._states.write(state)

    def _watch(self, now_s: float) -> None:
        """Read the robot and look for reasons to stop, before anything moves on."""
        reading = self._franka.read()
        if reading is not self._reading:
            self._reading, self._read_s = reading, now_s
        if error := self._franka.error():
            raise RobotError(error)
        if now_s - self._read_s > STATE_SILENCE_S:
            raise RobotError(f"{LINK_LOST}: no state from the robot for {now_s - self._read_s:.1f} s")
        activity = self._activity
        if activity is None:
            if reading.trouble and not self._fault:
                raise RobotError(reading.trouble)
            return
        command = self._commands.read()
        if activity.guarded and (cause := self._guard.check(now_s, *_measured(reading))):
            self._stop_because(cause, "stop")
            self._franka.yield_to_contact(reading)
        elif (
            activity.watched
            and (silence_s := now_s - self._last_sign_s(command)) > self._limits.watchdog_stop_s
        ):
            what = "action" if isinstance(activity, Follow) else "sign of life"
            self._stop_because(f"no {what} came for {silence_s:.2f} s", "stop")
        else:
            activity.tick(now_s, reading, command)
            if activity.acted and command["gripper"] != 0:
                self._hand.wish(hand.CLOSE if command["gripper"] > 0 else hand.OPEN)
            if activity.finished:
                self._franka.stop()
                self._activity = None

    def _last_sign_s(self, command: np.ndarray) -> float:
        """When the user's process last acted, or, while the arm moves by itself, was last seen to run."""
        if isinstance(self._activity, Follow):
            return self._activity.last_action_s
        return max(float(command["alive_s"]), self._since_s)

    # --- beginning and ending activities --------------------------------------------------------------

    def _begin(self, kind: type[Activity], *arguments: Any) -> Poll:
        if self._fault:
            raise RobotError(f"The arm cannot move: {self._fault}. Recover first.")
        if self._activity is not None:
            raise RobotError(f"The arm is busy ({self._activity.mode}); stop it first.")
        self._since_s = self._read_s = time.monotonic()
        self._guard = Guard(self._limits)
        self._mode_at_rest = "idle"
        activity = self._activity = kind(self._franka, self._since_s, self._reading, *arguments)
        return lambda: self._outcome(activity)

    def _rest(self) -> None:
        """Let the arm come to rest at its last target, then end control."""
        if self._activity is not None and not isinstance(self._activity, ComeToRest):
            self._activity.rest()
            self._activity = ComeToRest(self._franka, time.monotonic(), self._reading)

    def _stop_because(self, cause: str, kind: str) -> None:
        """Stop for a reason of ours."""
        self._fault, self._mode_at_rest = cause, "stopped"
        self._events.add(kind, cause)
        self._rest()

    def _end_with_fault(self, cause: str) -> None:
        """The robot has stopped by itself, or is out of reach: no controller of ours moves it."""
        self._activity, self._mode_at_rest = None, "fault"
        self._fault = cause
        self._events.add("fault", cause)
        self.link_lost = cause.startswith(LINK_LOST)

    def _look_for_link(self) -> None:
        """Stop the old controller when a lost link comes back.

        It cannot be stopped earlier: libfranka would wait for the robot's answer, perhaps for ever.
        """
        if self._franka.controlled and self._franka.read() is not self._reading:
            self._franka.stop()

    # --- orders -------------------------------------------------------------------------------------

    def _hand_connected(self) -> str | None:
        return (self._hand.fault() or None) if not self._hand.connected else ""

    def _outcome(self, activity: Activity) -> str | None:
        if self._activity is activity:
            return None
        return activity.failure if activity.finished else self._fault or "stopped before it arrived"

    def do_start(self, joints: bool) -> None:
        """Follow the user's targets."""
        position = self._reading.pose[:3, 3]
        if not self._limits.contains(position):
            raise RobotError(
                f"The end effector at {np.round(position, 3).tolist()} m is outside the workspace "
                f"{self._limits.workspace_low_m} to {self._limits.workspace_high_m}; move it inside."
            )
        number = int(self._commands.read()["number"])
        follow = FollowJoints if joints else FollowPoses
        self._begin(follow, self._limits, number, self._events.add)

    def do_stop(self) -> Poll:
        """End whatever the arm is doing."""
        self._rest()
        return lambda: None if self._activity else ""

    def do_move_to_joints(self, joints_rad: list[float], speed: float) -> Poll | None:
        """To joint angles."""
        goal = np.array(joints_rad)
        if np.abs(goal - self._reading.joints_rad).max() < ARRIVED_RAD:
            return None
        return self._begin(MoveJoints, goal, speed)

    def do_move_up(self, height_m: float, speed: float) -> Poll | None:
        """Straight up, to the top of the workspace at most."""
        goal = self._reading.pose.copy()
        goal[2, 3] = min(goal[2, 3] + height_m, self._limits.workspace_high_m[2])
        if goal[2, 3] <= self._reading.pose[2, 3]:
            return None
        return self._begin(MoveStraight, goal, speed)

    def do_guide(self, on: bool) -> Poll | None:
        """Let a person move the arm, or hold it again."""
        if not on:
            return self.do_stop()
        self._begin(Guide, self._limits, self._events.add)
        return None

    def do_gripper(self, what: int) -> Poll:
        """Open, close or home the hand."""
        if self._fault:
            raise RobotError(f"The hand cannot move: {self._fault}. Recover first.")
        number = self._hand.wish(what, again=True)
        return lambda: "" if self._hand.done(number) else (self._fault or None)

    def do_recover(self) -> Poll | None:
        """Clear a fault."""
        if self._activity is not None:
            raise RobotError(f"The arm is busy ({self._activity.mode}); stop it first.")
        self._franka.recover()
        cause, self._fault, self._mode_at_rest = self._fault, "", "idle"
        self._events.add("recovered", cause or "nothing was wrong")
        if not self._hand.fault():
            return None
        self._hand.close()
        self._hand = self._connect_hand()
        return self._hand_connected


def _measured(reading: Reading) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    return reading.pose[:3, 3], reading.force_N, reading.torque_Nm
