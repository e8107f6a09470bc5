"""The robot's own motion generators: a client's commands in joint or Cartesian space become joint targets."""

from __future__ import annotations

import numpy as np

from simreal_envs.rig.protocol import Motion
from simreal_envs.rig.reflexes import JOINT_SPEED_LIMIT_RADPS
from simreal_envs.rig.simulated_arm import TICK_S, SimulatedArm, difference, least_squares
from simreal_envs.spec import JOINT_HIGH_RAD, JOINT_LOW_RAD, FloatArray

DAMPING = 1e-6
"""Of the inverse kinematics (damped least squares)."""

START_TOLERANCE_RAD = 0.01
START_TOLERANCE_M = 0.005


class MotionGenerator:
    """Follows a client's commands with a joint target.

    Attributes:
        q, dq, ddq: (7,) desired joint motion.
        pose: (4, 4) last commanded (or reached) end-effector pose.
        twist, acceleration: (6,) its first and second derivative.
    """

    def __init__(self, arm: SimulatedArm, kind: Motion) -> None:
        self._arm, self._kind = arm, kind
        self.q, self.dq, self.ddq = arm.q.copy(), np.zeros(7), np.zeros(7)
        self.pose = arm.pose_in_base.copy()
        self.twist, self.acceleration = np.zeros(6), np.zeros(6)
        self._first = True

    def follow(self, command: np.void) -> str | None:
        """Take a command; returns the name of the error if the robot would refuse it."""
        if self._kind in (Motion.JOINT_POSITION, Motion.JOINT_VELOCITY):
            self.pose[:] = self._arm.pose_in_base
        if self._kind == Motion.JOINT_POSITION:
            return self._to_joints(command["q_c"], "joint_motion_generator")
        if self._kind == Motion.JOINT_VELOCITY:
            return self._to_joints(self.q + TICK_S * command["dq_c"], "joint_motion_generator")
        if self._kind == Motion.CARTESIAN_POSITION:
            target = command["O_T_EE_c"].reshape(4, 4).T
            if not is_pose(target):
                return "cartesian_position_motion_generator_invalid_frame_flag"
            if self._first and np.abs(target[:3, 3] - self.pose[:3, 3]).max() > START_TOLERANCE_M:
                return "cartesian_position_motion_generator_start_pose_invalid"
            twist = difference(target, self.pose) / TICK_S
        else:
            twist = command["O_dP_EE_c"]
            target = _moved(self.pose, twist * TICK_S)
        self.acceleration[:] = (twist - self.twist) / TICK_S
        self.twist[:], self.pose[:] = twist, target
        return self._to_joints(self._inverse(target), "cartesian_motion_generator_joint")

    def _to_joints(self, q: FloatArray, generator: str) -> str | None:
        if not np.isfinite(q).all() or (q > JOINT_HIGH_RAD).any() or (q < JOINT_LOW_RAD).any():
            return f"{generator}_position_limits_violation"
        if self._first and np.abs(q - self.q).max() > START_TOLERANCE_RAD:
            return "joint_position_motion_generator_start_pose_invalid"
        dq = (q - self.q) / TICK_S
        if (np.abs(dq) > JOINT_SPEED_LIMIT_RADPS).any():
            return f"{generator}_velocity_limits_violation"
        self.ddq[:] = (dq - self.dq) / TICK_S
        self.q[:], self.dq[:] = q, dq
        self._first = False
        return None

    def _inverse(self, target: FloatArray) -> FloatArray:
        """Joint angles that bring the desired joints' end effector to the target, one step."""
        library = self._arm.library
        measured = library.q.copy()
        library.q[:] = self.q
        error = difference(target, library.end_pose())
        jacobian = library.end_jacobian()
        step = jacobian.T @ least_squares(jacobian, error, DAMPING)
        library.q[:] = measured
        library.end_pose()
        library.end_jacobian()
        return self.q + step


def _moved(pose: FloatArray, step: FloatArray) -> FloatArray:
    x, y, z = step[3:]
    turn = np.array([[1.0, -z, y], [z, 1.0, -x], [-y, x, 1.0]])
    rotation, _ = np.linalg.qr(turn @ pose[:3, :3])
    rotation *= np.sign(np.sum(rotation * pose[:3, :3], axis=0))
    moved = pose.copy()
    moved[:3, :3] = rotation
    moved[:3, 3] += step[:3]
    return moved


def is_pose(matrix: FloatArray) -> bool:
    """Whether a matrix (4, 4) is a rotation and a translation."""
    rotation = matrix[:3, :3]
    return bool(np.isfinite(matrix).all() and np.abs(rotation @ rotation.T - np.eye(3)).max() < 1e-3)
