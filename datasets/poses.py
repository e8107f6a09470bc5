"""Poses (4, 4) and pose actions (7,): [x, y, z, rx, ry, rz, gripper], base frame, metres and radians."""

from __future__ import annotations

import numpy as np
from numpy.typing import ArrayLike
from scipy.spatial.transform import Rotation


def pose_from_action(action: ArrayLike) -> np.ndarray:
    """The target pose of pose actions: (..., 7) to (..., 4, 4)."""
    action = np.asarray(action, dtype=np.float64)
    pose = np.zeros((*action.shape[:-1], 4, 4))
    rotvec = action[..., 3:6].reshape(-1, 3)
    pose[..., :3, :3] = Rotation.from_rotvec(rotvec).as_matrix().reshape(*action.shape[:-1], 3, 3)
    pose[..., :3, 3] = action[..., :3]
    pose[..., 3, 3] = 1.0
    return pose


def action_from_pose(pose: ArrayLike, gripper: ArrayLike) -> np.ndarray:
    """Pose actions that ask for ``pose`` (..., 4, 4) with ``gripper`` (...,): (..., 7)."""
    pose = np.asarray(pose, dtype=np.float64)
    rotvec = Rotation.from_matrix(pose[..., :3, :3].reshape(-1, 3, 3)).as_rotvec()
    rotvec = rotvec.reshape(*pose.shape[:-2], 3)
    return np.concatenate([pose[..., :3, 3], rotvec, np.asarray(gripper)[..., None]], axis=-1)
