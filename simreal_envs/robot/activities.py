"""The activities of the arm. The driver runs one at a time and calls its ``tick`` 200 times a second."""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Callable
from typing import Any

import numpy as np

from simreal_envs import kinematics
from simreal_envs.robot.franka import Franka, Reading
from simreal_envs.robot.interpolation import PoseInterpolator
from simreal_envs.robot.safety import Limits, limit_joints, limit_target
from simreal_envs.spec import CONTROL_HZ, FloatArray

Report = Callable[[str, str], None]
"""Called with the kind and the message of an event."""

AT_REST_RADPS = 0.02
REST_TIME_S = 0.3
"""An arm that is told to rest is given this long to come to rest."""
SETTLE_TIME_S = 1.5
"""A move is given this long after its planned end to arrive; the last millimetre is crept."""
ARRIVED_RAD = 1e-3
ARRIVED_M = 1e-3
POOR_SUCCESS_RATE = 0.9
LOSS_WINDOW_S = 0.2
"""The robot's rate is over 100 ms; at first it holds what was before."""
REACHED_RAD = 0.03
REACHED_M = 0.02


class Activity(ABC):
    """An activity of the arm: following targets, a move, guiding or coming to rest, with its controller.

    Attributes:
        mode: one of ``records.MODES``.
        guarded: whether contact and speed stop it.
        watched: whether silence of the user's process stops it.
        acted: whether an action has come since it began; from then on the hand does what actions say.
        target: pose (4, 4) that the arm is to reach now; it is only shown and recorded.
        finished: whether the driver may end control.
        failure: what was not achieved when the activity finished; empty if nothing.
    """

    mode = "moving"
    guarded = watched = True
    acted = False
    finished = False
    failure = ""
    target: FloatArray

    @abstractmethod
    def __init__(self, franka: Franka, now_s: float, reading: Reading) -> None:
        """Begin, at the state that the arm is in."""

    @abstractmethod
    def tick(self, now_s: float, reading: Reading, command: np.ndarray) -> None:
        """Give the arm its next target."""

    def rest(self) -> None:  # noqa: B027 - most targets stay where they are
        """Set a target that stays where it is, so that the arm comes to rest."""


class Follow(Activity):
    """Follows the user's targets, limited and interpolated. Without new ones the arm holds its pose."""

    mode = "controlling"

    def __init__(
        self, franka: Franka, now_s: float, reading: Reading, limits: Limits, number: int, report: Report
    ) -> None:
        self._franka, self._limits, self._report = franka, limits, report
        self._number, self.last_action_s = number, now_s
        self._began_s, self._lossy = now_s, False
        self._active: set[str] = set()
        self.target = reading.pose
        self._begin(now_s, reading)

    def tick(self, now_s: float, reading: Reading, command: np.ndarray) -> None:
        if int(command["number"]) > self._number:
            dt_s = now_s - self.last_action_s if self.acted else 1 / CONTROL_HZ
            self._number, self.last_action_s, self.acted = int(command["number"]), now_s, True
            self._say_limits(self._take(command, now_s, dt_s))
        silence_s = now_s - self.last_action_s
        holding = silence_s > self._limits.watchdog_hold_s
        if holding and self.mode == "controlling":
            self._report("hold", f"no action for {1000 * silence_s:.0f} ms: the pose is held")
        self.mode = "holding" if holding else "controlling"
        self._say_loss(now_s, reading.success_rate)
        self._aim(now_s)

    def _say_loss(self, now_s: float, success_rate: float) -> None:
        """Report once that commands come too late; the robot gives up when 20 in a row do."""
        if success_rate < POOR_SUCCESS_RATE and not self._lossy and now_s - self._began_s > LOSS_WINDOW_S:
            self._lossy = True
            self._report("link", f"only {success_rate:.0%} of the commands reach the robot in time")

    def _say_limits(self, limited: tuple[str, ...]) -> None:
        """Report a limit when it begins to act, not at every action."""
        for what in set(limited) - self._active:
            self._report("limited", f"target limited by {what}")
        self._active = set(limited)

    @abstractmethod
    def _begin(self, now_s: float, reading: Reading) -> None:
        """Start the controller; the first target is the present state."""

    @abstractmethod
    def _take(self, command: np.ndarray, now_s: float, dt_s: float) -> tuple[str, ...]:
        """Head for a new target; returns the limits that changed it."""

    @abstractmethod
    def _aim(self, now_s: float) -> None:
        """Pass the target of this moment on."""


class FollowPoses(Follow):
    """Cartesian impedance."""

    def _begin(self, now_s: float, reading: Reading) -> None:
        self._path = PoseInterpolator(reading.pose, self._limits, now_s)
        self._franka.start_pose_control()

    def _take(self, command: np.ndarray, now_s: float, dt_s: float) -> tuple[str, ...]:
        self.target, limited = limit_target(self.target, command["pose_target_in_base"], self._limits, dt_s)
        self._path.aim(self.target, now_s)
        return limited

    def _aim(self, now_s: float) -> None:
        self._franka.aim_pose(*self._path.at(now_s))


class FollowJoints(Follow):
    """Joint impedance."""

    def _begin(self, now_s: float, reading: Reading) -> None:
        self._from = self._to = reading.joints_rad
        self._since_s = now_s
        self._franka.start_joint_control()

    def _at(self, now_s: float) -> FloatArray:
        part = min((now_s - self._since_s) / self._limits.interpolation_s, 1.0)
        return self._from + part * (self._to - self._from)

    def _take(self, command: np.ndarray, now_s: float, dt_s: float) -> tuple[str, ...]:
        self._from = self._at(now_s)
        dt_s = min(dt_s, self._limits.interpolation_s)  # a late action may not go farther
        self._to, limited = limit_joints(self._from, command["joints_target_rad"], self._limits, dt_s)
        self._since_s = now_s
        self.target = kinematics.forward(self._to)
        return limited

    def _aim(self, now_s: float) -> None:
        self._franka.aim_joints(self._at(now_s), np.zeros(7))


class MoveJoints(Activity):
    """To joint angles on panda_py's time-optimal trajectory."""

    def __init__(
        self, franka: Franka, now_s: float, reading: Reading, goal_rad: FloatArray, speed: float
    ) -> None:
        self._franka, self._since_s = franka, now_s
        self._goal_rad, self._at_rad = goal_rad, reading.joints_rad
        self._path: Any = franka.joint_trajectory([reading.joints_rad, goal_rad], speed)
        self.target = kinematics.forward(goal_rad)
        franka.start_joint_control()

    def tick(self, now_s: float, reading: Reading, command: np.ndarray) -> None:
        t = now_s - self._since_s
        over_s = t - self._path.get_duration()
        self._at_rad = self._path.get_joint_positions(t) if over_s < 0 else self._goal_rad
        speeds_radps = self._path.get_joint_velocities(t) if over_s < 0 else np.zeros(7)
        self._franka.aim_joints(self._at_rad, speeds_radps)
        error_rad = float(np.abs(reading.joints_rad - self._goal_rad).max())
        if over_s > 0 and ((at_rest(reading) and error_rad < ARRIVED_RAD) or over_s > SETTLE_TIME_S):
            self.finished = True
            if error_rad > REACHED_RAD:
                self.failure = f"the arm stayed {error_rad:.3f} rad away from where it was sent"

    def rest(self) -> None:
        self._franka.aim_joints(self._at_rad, np.zeros(7))


class MoveStraight(Activity):
    """Straight to a pose, at a fraction of the Panda's speed."""

    def __init__(
        self, franka: Franka, now_s: float, reading: Reading, goal: FloatArray, speed: float
    ) -> None:
        self._franka, self._since_s = franka, now_s
        self._path: Any = franka.straight_trajectory([reading.pose, goal], speed)
        self.target = goal
        franka.start_pose_control()

    def tick(self, now_s: float, reading: Reading, command: np.ndarray) -> None:
        t = now_s - self._since_s
        over_s = t - self._path.get_duration()
        t = min(t, self._path.get_duration())
        self._franka.aim_pose(self._path.get_position(t), self._path.get_orientation(t))
        error_m = float(np.linalg.norm(reading.pose[:3, 3] - self.target[:3, 3]))
        if over_s > 0 and ((at_rest(reading) and error_m < ARRIVED_M) or over_s > SETTLE_TIME_S):
            self.finished = True
            if error_m > REACHED_M:
                self.failure = f"the hand stayed {1000 * error_m:.0f} mm away from where it was sent"


class Guide(Activity):
    """A person moves the arm; the controller only compensates its weight and damps it a little."""

    mode = "guiding"
    guarded = False

    def __init__(
        self, franka: Franka, now_s: float, reading: Reading, limits: Limits, report: Report
    ) -> None:
        self.target = reading.pose
        self._number: int | None = None
        self._limits, self._report, self._inside = limits, report, True
        franka.start_guiding()

    def tick(self, now_s: float, reading: Reading, command: np.ndarray) -> None:
        self.target = reading.pose
        inside = self._limits.contains(reading.pose[:3, 3])
        if self._inside and not inside:
            self._report("guiding", "the hand has left the workspace, where actions cannot follow it")
        self._inside = inside
        if self._number is None:
            self._number = int(command["number"])
        self.acted = int(command["number"]) > self._number


class ComeToRest(Activity):
    """Holds the last target until the arm is at rest, or for :data:`REST_TIME_S`; then control ends."""

    mode = "holding"
    guarded = watched = False

    def __init__(self, franka: Franka, now_s: float, reading: Reading) -> None:
        self._until_s = now_s + REST_TIME_S
        self.target = reading.pose

    def tick(self, now_s: float, reading: Reading, command: np.ndarray) -> None:
        self.finished = at_rest(reading) or now_s > self._until_s


def at_rest(reading: Reading) -> bool:
    """Whether no joint moves."""
    return bool(np.abs(reading.joint_speeds_radps).max() < AT_REST_RADPS)
