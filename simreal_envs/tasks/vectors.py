"""Vectors of positions, apart from :mod:`simreal_envs.poses`: importing the tasks shall not load scipy."""

from __future__ import annotations

import numpy as np

from simreal_envs.spec import FloatArray


def raised(position: FloatArray, by_m: float) -> FloatArray:
    """The position, so much higher."""
    return position + np.array([0.0, 0.0, by_m])


def turned(offset: FloatArray, by_rad: float) -> FloatArray:
    """An offset (3,), turned about the vertical."""
    cos, sin = np.cos(by_rad), np.sin(by_rad)
    return np.array([cos * offset[0] - sin * offset[1], sin * offset[0] + cos * offset[1], offset[2]])
