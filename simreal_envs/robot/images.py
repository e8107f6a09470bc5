"""From the camera's frame to an observation: cropped around the centre to the aspect ratio, then scaled.

The same map as :meth:`simreal_envs.cameras.Camera.resized`, so that the intrinsics stay true.
"""

from __future__ import annotations

import numpy as np
from PIL import Image

from simreal_envs.robot.frame import Stamp


def fit_colour(colour: np.ndarray, size: tuple[int, int]) -> np.ndarray:
    """(H, W, 3) uint8 to ``size``; every new pixel is the mean of those it covers."""
    picture = Image.fromarray(colour).resize(size[::-1], Image.Resampling.BOX, box=_box(colour.shape, size))
    return np.asarray(picture)


def fit_depth(depth_m: np.ndarray, size: tuple[int, int]) -> np.ndarray:
    """(H, W) float32 metres to ``size``; nearest, since a mean over an edge would be nowhere."""
    picture = Image.fromarray(depth_m).resize(
        size[::-1], Image.Resampling.NEAREST, box=_box(depth_m.shape, size)
    )
    return np.asarray(picture)


def mark_old(colour: np.ndarray, oldest: Stamp) -> np.ndarray:
    """The picture (H, W, 3) in grey, with how long ``oldest``'s stream has been silent written over it."""
    import cv2

    grey = np.array(Image.fromarray(colour).convert("L").convert("RGB"))
    text = f"no new {oldest.stream} image for {oldest.age_s:.1f} s"
    cv2.putText(grey, text, (10, 32), cv2.FONT_HERSHEY_SIMPLEX, 0.8, (255, 64, 64), 2)
    return grey


def _box(shape: tuple[int, ...], size: tuple[int, int]) -> tuple[float, float, float, float]:
    """Left, upper, right and lower border of what is kept."""
    height, width = shape[:2]
    scale = max(size[0] / height, size[1] / width)
    crop_height, crop_width = size[0] / scale, size[1] / scale
    # max: in floating point the difference of equals may lie below zero.
    left, upper = max(0.0, (width - crop_width) / 2), max(0.0, (height - crop_height) / 2)
    return left, upper, min(width, left + crop_width), min(height, upper + crop_height)
