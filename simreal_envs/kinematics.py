"""Forward and inverse kinematics of the Panda with its hand.

Craig's (modified) Denavit-Hartenberg parameters from Franka's documentation; the end effector is
robosuite's grip site, 203.5 mm from the last joint, with the hand's axes (turned -45 degrees).
"""

from __future__ import annotations

import numpy as np
from scipy.spatial.transform import Rotation

from simreal_envs.poses import pose
from simreal_envs.spec import JOINT_HIGH_RAD, JOINT_LOW_RAD, FloatArray

_A_M = (0.0, 0.0, 0.0, 0.0825, -0.0825, 0.0, 0.088)
_D_M = (0.333, 0.0, 0.316, 0.0, 0.384, 0.0, 0.0)
_ALPHA_RAD = (0.0, -np.pi / 2, np.pi / 2, np.pi / 2, -np.pi / 2, np.pi / 2, np.pi / 2)
_END_EFFECTOR_IN_LINK7 = pose(
    Rotation.from_euler("z", -np.pi / 4).as_matrix(), np.array([0.0, 0.0, 0.1065 + 0.097])
)

MAX_ITERATIONS = 100
DAMPING = 1e-4


def forward(joints_rad: FloatArray) -> FloatArray:
    """Pose (4, 4) of the end effector in the base frame for seven joint angles."""
    return _frames(joints_rad)[-1]


def _frames(joints_rad: FloatArray) -> list[FloatArray]:
    """Poses of the seven links and of the end effector."""
    frames, t = [], np.eye(4)
    for theta, a, d, alpha in zip(joints_rad, _A_M, _D_M, _ALPHA_RAD, strict=True):
        c, s, ca, sa = np.cos(theta), np.sin(theta), np.cos(alpha), np.sin(alpha)
        t = t @ np.array(
            [[c, -s, 0, a], [s * ca, c * ca, -sa, -d * sa], [s * sa, c * sa, ca, d * ca], [0, 0, 0, 1]]
        )
        frames.append(t)
    return [*frames, t @ _END_EFFECTOR_IN_LINK7]


def inverse(pose_in_base: FloatArray, joints_start_rad: FloatArray) -> FloatArray | None:
    """Joint angles near ``joints_start_rad`` that reach a pose, or None.

    Damped least squares (Wampler, "Manipulator inverse kinematic solutions based on vector formulations
    and damped least-squares methods", 1986) to 1e-6 m and rad, within the joint limits.
    """
    q = np.asarray(joints_start_rad, dtype=np.float64).copy()
    for _ in range(MAX_ITERATIONS):
        *links, now = _frames(q)
        rotation_error = Rotation.from_matrix(pose_in_base[:3, :3] @ now[:3, :3].T).as_rotvec()
        error = np.concatenate([pose_in_base[:3, 3] - now[:3, 3], rotation_error])
        if np.abs(error).max() < 1e-6:
            return q
        axes = np.stack([link[:3, 2] for link in links], axis=1)
        arms = np.stack([now[:3, 3] - link[:3, 3] for link in links], axis=1)
        jacobian = np.concatenate([np.cross(axes.T, arms.T).T, axes])
        step = jacobian.T @ np.linalg.solve(jacobian @ jacobian.T + DAMPING * np.eye(6), error)
        q = np.clip(q + step, JOINT_LOW_RAD, JOINT_HIGH_RAD)
    return None
