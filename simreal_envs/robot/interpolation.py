"""Smooth motion between targets that come at the control rate."""

from __future__ import annotations

import numpy as np
from scipy.spatial.transform import Rotation

from simreal_envs.robot.safety import Limits
from simreal_envs.spec import FloatArray


class PoseInterpolator:
    """Moves a pose straight and evenly to the latest target, from wherever it is when that comes.

    It takes ``limits.interpolation_s``, or longer where the speed limits ask for it, so the pose never jumps.

    Args:
        start: pose (4, 4) at ``now_s``; the measured one when control starts, so that nothing jerks.
    """

    def __init__(self, start: FloatArray, limits: Limits, now_s: float) -> None:
        self._limits = limits
        self._position, self._way = start[:3, 3].copy(), np.zeros(3)
        self._rotation, self._turn = Rotation.from_matrix(start[:3, :3]), np.zeros(3)
        self._quaternion = self._rotation.as_quat()
        self._since_s, self._duration_s = now_s, limits.interpolation_s

    def aim(self, target: FloatArray, now_s: float) -> None:
        """Head for a pose (4, 4) from now on."""
        self._position, quaternion = self.at(now_s)
        self._rotation = Rotation.from_quat(quaternion)
        self._way = target[:3, 3] - self._position
        self._turn = (Rotation.from_matrix(target[:3, :3]) * self._rotation.inv()).as_rotvec()
        self._since_s = now_s
        self._duration_s = max(
            self._limits.interpolation_s,
            float(np.linalg.norm(self._way)) / self._limits.max_speed_mps,
            float(np.linalg.norm(self._turn)) / self._limits.max_rotation_speed_radps,
        )

    def at(self, now_s: float) -> tuple[FloatArray, FloatArray]:
        """Position (3,) in m and quaternion (4,) xyzw, which has the sign nearest to the last one's."""
        part = np.clip((now_s - self._since_s) / self._duration_s, 0.0, 1.0)
        quaternion = (Rotation.from_rotvec(part * self._turn) * self._rotation).as_quat()
        if quaternion @ self._quaternion < 0:
            quaternion = -quaternion
        self._quaternion = quaternion
        return self._position + part * self._way, quaternion
