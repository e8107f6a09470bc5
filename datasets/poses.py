"""Pose actions for many poses at once; for a single one see :mod:`simreal_envs.wrappers`."""

from __future__ import annotations

import numpy as np
from numpy.typing import ArrayLike
from scipy.spatial.transform import Rotation


def action_from_pose(pose: ArrayLike, gripper: ArrayLike) -> np.ndarray:
    """The ``pose`` actions (T, 7) that ask for ``pose`` (T, 4, 4), base frame, with ``gripper`` (T,)."""
    pose = np.asarray(pose, dtype=np.float64)
    rotvec = Rotation.from_matrix(pose[:, :3, :3]).as_rotvec()
    return np.concatenate([pose[:, :3, 3], rotvec, np.asarray(gripper)[:, None]], axis=1)
