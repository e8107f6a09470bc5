"""The reflexes: conditions in which the robot stops by itself."""

from __future__ import annotations

import numpy as np

from simreal_envs.rig import protocol
from simreal_envs.rig.simulated_arm import TORQUE_LIMIT_NM, SimulatedArm
from simreal_envs.spec import JOINT_HIGH_RAD, JOINT_LOW_RAD, FloatArray

JOINT_SPEED_LIMIT_RADPS = np.array([2.175, 2.175, 2.175, 2.175, 2.61, 2.61, 2.61])
TORQUE_STEP_LIMIT_NM = 1.0
"""Largest change of a commanded torque in a millisecond (1000 N m/s). Franka's data sheet, as the speeds."""

ACCELERATING_RADPS2 = 1.0
"""Joint acceleration from which on the thresholds for acceleration apply."""

_CENTRE_RAD = (JOINT_HIGH_RAD + JOINT_LOW_RAD) / 2
_HALF_RANGE_RAD = (JOINT_HIGH_RAD - JOINT_LOW_RAD) / 2


class Reflexes:
    """Watches the arm's limits and the thresholds of contact and collision.

    Attributes:
        contact: (13,) where the lower thresholds are exceeded: joints, then the wrench.
        collision: (13,) the same for the upper ones, which stop the arm.
    """

    def __init__(self, arm: SimulatedArm) -> None:
        self._arm = arm
        self._deviation = np.zeros(7)
        self._load = np.zeros(13)
        self.contact, self.collision = np.zeros(13, bool), np.zeros(13, bool)
        # What panda_py's `set_default_behavior` asks for.
        self._lower, self._upper = np.full((2, 13), 20.0), np.full((2, 13), 20.0)

    def set_thresholds(self, behavior: np.void) -> bool:
        """Take a request's thresholds; False if they make no sense."""
        kinds = ("nominal", "acceleration")
        lower, upper = (
            np.array(
                [[*behavior[f"{side}_torque_{kind}"], *behavior[f"{side}_force_{kind}"]] for kind in kinds]
            )
            for side in ("lower", "upper")
        )
        if not (np.isfinite(lower).all() and np.isfinite(upper).all() and (lower >= 0).all()):
            return False
        if (upper < lower).any():
            return False
        self._lower, self._upper = lower, upper
        return True

    def measure(self) -> None:
        """Compare external torque and wrench with the thresholds."""
        arm = self._arm
        np.abs(arm.external_torque, out=self._load[:7])
        np.abs(arm.external_wrench_in_base, out=self._load[7:])
        accelerating = int(np.abs(arm.ddq).max() > ACCELERATING_RADPS2)
        np.greater(self._load, self._lower[accelerating], out=self.contact)
        np.greater(self._load, self._upper[accelerating], out=self.collision)

    def violation(self) -> str | None:
        """Name of the error that stops a moving arm now, if any."""
        arm = self._arm
        np.subtract(arm.q, _CENTRE_RAD, out=self._deviation)
        np.abs(self._deviation, out=self._deviation)
        if (self._deviation > _HALF_RANGE_RAD).any():
            return "joint_position_limits_violation"
        np.abs(arm.dq, out=self._deviation)
        if (self._deviation > JOINT_SPEED_LIMIT_RADPS).any():
            return "joint_velocity_violation"
        if self.collision.any():
            return "joint_reflex" if self.collision[:7].any() else "cartesian_reflex"
        return None

    def outside_limits(self) -> bool:
        """Whether a joint is beyond its range, from where only a person can bring it back."""
        return bool((np.abs(self._arm.q - _CENTRE_RAD) > _HALF_RANGE_RAD).any())

    def torque_error(self, torque: FloatArray, milliseconds: int) -> str | None:
        """The error of a commanded torque that answers a state of some milliseconds ago, if there is one."""
        step = TORQUE_STEP_LIMIT_NM * max(milliseconds, 1) * (1 + 1e-3)
        if not (np.abs(torque - self._arm.torque) <= step).all():  # NaN compares false
            return "controller_torque_discontinuity"
        if (np.abs(torque) > TORQUE_LIMIT_NM).any():
            return "tau_J_range_violation"
        return None


def flags(name: str) -> np.ndarray:
    """The state's error flags with one of them set."""
    bits = np.zeros(len(protocol.ERRORS), np.uint8)
    bits[protocol.ERRORS.index(name)] = 1
    return bits
