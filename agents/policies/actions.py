"""How a policy sees poses: orientation as six numbers without jumps, position where it generalises.

A rotation vector near an angle of pi, where the gripper points down, flips its sign between neighbours.
Inside the policy an orientation is therefore the first two columns of its matrix (Zhou et al., 2019), and a
native action ``[xyz m, rotation vector rad, gripper]`` becomes ``[xyz m, 6 numbers, gripper]``. Actions of
other kinds (``delta``, ``joint``) stay as they are.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray
from scipy.spatial.transform import Rotation

from simreal_envs.spec import action_space

ORIENTATION = "robot0_eef_quat"


@dataclass(frozen=True)
class ActionCodec:
    """Converts between a world's actions and the numbers that a policy predicts.

    Attributes:
        kind: the world's ``action_kind``.
        frame: ``base``, or ``end_effector`` for positions relative to where the end effector is at the
            prediction (along the base's axes); orientation is always in the base frame.
    """

    kind: str
    frame: str

    @property
    def size(self) -> int:
        """Numbers of one action inside the policy."""
        return 10 if self.kind == "pose" else int(action_space(self.kind).shape[0])

    @property
    def _relative(self) -> bool:
        return self.kind == "pose" and self.frame == "end_effector"

    def encode(self, actions: NDArray[np.floating], position_m: NDArray[np.floating]) -> NDArray[np.float32]:
        """Chunks (B, H, A) predicted at end-effector positions (B, 3) -> (B, H, size)."""
        if self.kind != "pose":
            return actions.astype(np.float32)
        origin = position_m[:, None] if self._relative else 0.0
        columns = six_from_rotation(Rotation.from_rotvec(actions[..., 3:6].reshape(-1, 3)))
        return np.concatenate(
            [actions[..., :3] - origin, columns.reshape(*actions.shape[:2], 6), actions[..., 6:]], axis=-1
        ).astype(np.float32)

    def decode(self, chunks: NDArray[np.floating], position_m: NDArray[np.floating]) -> NDArray[np.float32]:
        """The inverse, (B, H, size) -> (B, H, A), in the action space: gripper -1 or 1, the rest clipped."""
        actions = np.array(chunks, dtype=np.float64)
        if self.kind == "pose":
            origin = position_m[:, None] if self._relative else 0.0
            rotation = rotation_from_six(actions[..., 3:9].reshape(-1, 6))
            vectors = rotation.as_rotvec().reshape(*actions.shape[:2], 3)
            actions = np.concatenate([actions[..., :3] + origin, vectors, actions[..., 9:]], axis=-1)
        actions[..., -1] = np.where(actions[..., -1] > 0, 1.0, -1.0)
        space = action_space(self.kind)
        return np.clip(actions, space.low, space.high).astype(np.float32)


def six_from_rotation(rotation: Rotation) -> NDArray[np.float64]:
    """First two columns of each matrix, (N, 6)."""
    return np.swapaxes(rotation.as_matrix()[:, :, :2], 1, 2).reshape(-1, 6)


def rotation_from_six(six: NDArray[np.floating]) -> Rotation:
    """The rotation whose first column is along the first three numbers (Gram-Schmidt), (N, 6)."""
    first, second = six[:, :3], six[:, 3:]
    x = first / np.maximum(np.linalg.norm(first, axis=1, keepdims=True), 1e-9)
    y = second - (x * second).sum(1, keepdims=True) * x
    y /= np.maximum(np.linalg.norm(y, axis=1, keepdims=True), 1e-9)
    return Rotation.from_matrix(np.stack([x, y, np.cross(x, y)], axis=2))


def policy_inputs(
    proprioception: dict[str, NDArray[np.floating]], names: tuple[str, ...]
) -> NDArray[np.float32]:
    """The chosen proprioception of N frames as one array (N, P); a quaternion becomes six numbers."""
    parts = [
        six_from_rotation(Rotation.from_quat(proprioception[name]))
        if name == ORIENTATION
        else proprioception[name]
        for name in names
    ]
    return np.concatenate(parts, axis=1).astype(np.float32)
