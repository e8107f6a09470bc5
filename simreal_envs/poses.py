"""Poses (4, 4), and the native ``pose`` action: [x, y, z, rx, ry, rz, gripper], base frame, m and rad."""

from __future__ import annotations

import numpy as np
from numpy.typing import ArrayLike
from scipy.spatial.transform import Rotation

from simreal_envs.spec import WORKSPACE_HIGH_M, WORKSPACE_LOW_M, FloatArray


def pose(rotation: ArrayLike, position_m: ArrayLike) -> np.ndarray:
    """A (4, 4) pose from a (3, 3) rotation and a position (3,)."""
    matrix = np.eye(4)
    matrix[:3, :3] = rotation
    matrix[:3, 3] = position_m
    return matrix


def in_frame(frame: FloatArray, position: ArrayLike) -> FloatArray:
    """A position (3,) of the base frame in another frame, whose pose (4, 4) in the base is given."""
    return frame[:3, :3].T @ (np.asarray(position) - frame[:3, 3])


def in_base(frame: FloatArray, position: ArrayLike) -> FloatArray:
    """The inverse of :func:`in_frame`: a position (3,) of another frame in the base frame."""
    return frame[:3, 3] + frame[:3, :3] @ np.asarray(position)


def is_upright(pose_in_base: FloatArray) -> bool:
    """Whether something's z axis is vertical within 15 degrees: it stands, and neither leans nor lies."""
    return bool(pose_in_base[2, 2] > np.cos(np.deg2rad(15.0)))


def quaternion_xyzw(rotation: ArrayLike) -> np.ndarray:
    """Unit quaternion (4,) float32 with w >= 0 of a (3, 3) rotation."""
    return Rotation.from_matrix(np.asarray(rotation)).as_quat(canonical=True).astype(np.float32)


def pose_from_action(action: ArrayLike) -> np.ndarray:
    """The target pose (4, 4) of a ``pose`` action (7,)."""
    action = np.asarray(action, dtype=np.float64)
    return pose(Rotation.from_rotvec(action[3:6]).as_matrix(), action[:3])


def actions_from_poses(poses: ArrayLike, gripper: ArrayLike) -> np.ndarray:
    """The actions (T, 7) float64 that ask for poses (T, 4, 4) with ``gripper`` (T,)."""
    poses = np.asarray(poses, dtype=np.float64)
    rotvec = Rotation.from_matrix(poses[:, :3, :3]).as_rotvec()
    return np.concatenate([poses[:, :3, 3], rotvec, np.asarray(gripper)[:, None]], axis=1)


def reachable_action(pose_target_in_base: ArrayLike, gripper: float) -> np.ndarray:
    """The action (7,) float32 of one target pose, its position clipped to the workspace."""
    action = actions_from_poses(np.asarray(pose_target_in_base)[None], [gripper])[0]
    action[:3] = np.clip(action[:3], WORKSPACE_LOW_M, WORKSPACE_HIGH_M)
    return action.astype(np.float32)
