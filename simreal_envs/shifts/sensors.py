"""Shifts of what cameras make of the light: images, depth and point clouds."""

from __future__ import annotations

from io import BytesIO

import numpy as np
from PIL import Image, ImageFilter

from simreal_envs.cameras import THIRD_PERSON
from simreal_envs.shifts.base import Shift


class Colour(Shift):
    """Red, green and blue change places: RGB becomes GBR."""

    stream = 4
    is_scaled = False

    def sense_image(self, image: np.ndarray, rng: np.random.Generator) -> np.ndarray:
        return np.ascontiguousarray(image[..., [1, 2, 0]])


class Noise(Shift):
    """A cheap camera: exposure that wanders, a soft lens, photon and read noise; a D435's depth.

    Depth: standard deviation growing with the square of the distance (2 mm at 0.5 m), quantised to 1 mm,
    with holes at random and along depth edges.
    """

    stream = 5

    def sense_image(self, image: np.ndarray, rng: np.random.Generator) -> np.ndarray:
        s = self.strength
        soft = _blurred(image, s * image.shape[1] / 84 * 0.4).astype(np.float32)
        return _noisy(soft * np.float32(1 + s * rng.uniform(-0.05, 0.05)), s, rng)

    def sense_depth(self, depth_m: np.ndarray, rng: np.random.Generator) -> np.ndarray:
        s = self.strength
        deviation_m = s * 0.008 * depth_m**2
        noisy = depth_m + deviation_m * rng.standard_normal(depth_m.shape, dtype=np.float32)
        rows, columns = np.gradient(depth_m)
        edge = np.hypot(rows, columns) > 0.03
        hole = rng.random(depth_m.shape) < np.where(edge, 0.5, 0.01) * min(s, 1.0)
        return np.where(hole, 0.0, np.round(noisy, 3)).astype(np.float32)


class Exposure(Shift):
    """Exposure and white balance wander from image to image.

    At strength 1 all is multiplied by 0.75 to 1.25, and red, green and blue by 0.95 to 1.05 each.
    """

    stream = 12

    def sense_image(self, image: np.ndarray, rng: np.random.Generator) -> np.ndarray:
        s = self.strength
        gain = (1 + s * rng.uniform(-0.25, 0.25)) * (1 + s * rng.uniform(-0.05, 0.05, 3))
        return _as_image(image * gain.astype(np.float32))


class Blur(Shift):
    """A soft lens: at strength 1 a Gaussian whose standard deviation is 1/84 of the image's width."""

    stream = 13

    def sense_image(self, image: np.ndarray, rng: np.random.Generator) -> np.ndarray:
        return _blurred(image, self.strength * image.shape[1] / 84)


class SensorNoise(Shift):
    """Photon and read noise of every pixel: at strength 1 11 of 255 levels at half brightness, 4 in the dark.

    This is 2.6 times that of ``noise``.
    """

    stream = 14

    def sense_image(self, image: np.ndarray, rng: np.random.Generator) -> np.ndarray:
        return _noisy(image.astype(np.float32), 2.6 * self.strength, rng)


class Jpeg(Shift):
    """JPEG compression: at strength 1 of quality 20, at 0.5 of quality 45."""

    stream = 15

    def sense_image(self, image: np.ndarray, rng: np.random.Generator) -> np.ndarray:
        file = BytesIO()
        Image.fromarray(image).save(file, "JPEG", quality=round(100 * 0.2**self.strength))
        return np.array(Image.open(file))


_DISPARITY_PX_M = 385.4 * 0.050
"""A D435's disparity in pixels at 1 m: focal length at 640 x 480 times the distance of its two imagers."""
_SUBPIXEL_RMS_PX, _STEP_PX = 0.08, 1 / 32
"""Noise of a disparity, and the steps in which it is measured."""
_NEAREST_M = 0.17
_STEEPEST = 4.0
"""Tangent of the angle of view beyond which a surface has no reading: 76 degrees off the perpendicular."""
_EDGE_PX = 4.0
"""Width of the holes along edges in pixels of the sensor, some more than the window of its matching."""


class Depth(Shift):
    """A D435's depth, from disparities: the noise and the steps grow with the square of the distance.

    At strength 1 the disparity has a standard deviation of 0.08 pixels and steps of 1/32 pixel, which are 3
    and 1.3 mm at 0.9 m. There is no reading nearer than 0.17 m, along edges, where a surface is seen at more
    than 76 degrees, and for one pixel in 200.
    """

    stream = 16

    def sense_depth(self, depth_m: np.ndarray, rng: np.random.Generator) -> np.ndarray:
        s, measured = self.strength, depth_m > 0
        true_m = np.where(measured, depth_m, np.float32(1.0))
        noise = np.float32(s * _SUBPIXEL_RMS_PX) * rng.standard_normal(depth_m.shape, dtype=np.float32)
        step = np.float32(s * _STEP_PX)
        steps = np.maximum(np.rint((np.float32(_DISPARITY_PX_M) / true_m + noise) / step), 1)
        seen_m = np.float32(_DISPARITY_PX_M) / (steps * step)
        scale = max(a / b for a, b in zip(depth_m.shape, THIRD_PERSON.size, strict=True))
        rows, columns = np.gradient(depth_m)
        slope = np.hypot(rows, columns) * np.float32(THIRD_PERSON.intrinsics[0, 0] * scale) / true_m
        share = np.where(slope > _STEEPEST, min(1.0, _EDGE_PX * scale), 0.005) * min(s, 1.0)
        hole = (rng.random(depth_m.shape) < share) | (depth_m < _NEAREST_M) | ~measured
        return np.where(hole, 0.0, seen_m).astype(np.float32)


class Points(Shift):
    """A point cloud of a worse sensor, whose place is known a little wrongly.

    At strength 1 each coordinate has a standard deviation of 2 mm, one point in ten is lost and another one
    repeated instead, one in a hundred is up to 5 cm beside its place along each axis, and all are off by the
    same 4 mm, and by half a degree about the vertical through the robot's base, in every episode.
    """

    stream = 17

    def choose_points(self, count: int, rng: np.random.Generator) -> np.ndarray:
        lost = rng.random(count) < 0.1 * self.strength
        lost[rng.integers(count)] = False  # at least one is left
        chosen = np.arange(count)
        chosen[lost] = rng.choice(np.flatnonzero(~lost), lost.sum())
        return chosen

    def sense_points(self, points: np.ndarray, rng: np.random.Generator) -> np.ndarray:
        s = self.strength
        turn_rad = s * np.deg2rad(0.5)
        cos, sin = np.cos(turn_rad), np.sin(turn_rad)
        turned = points @ np.array([[cos, sin, 0], [-sin, cos, 0], [0, 0, 1]])
        jitter_m = 0.002 * s * rng.standard_normal(points.shape)
        is_outlier = rng.random((len(points), 1)) < 0.01 * s
        stray_m = np.where(is_outlier, rng.uniform(-0.05, 0.05, points.shape), 0.0)
        return (turned + s * _OFFSET_IN_BASE_M + jitter_m + stray_m).astype(np.float32)


_OFFSET_IN_BASE_M = np.array([0.0024, -0.0027, 0.0018])


def _blurred(image: np.ndarray, radius_px: float) -> np.ndarray:
    """The image (H, W, 3) uint8, blurred by a Gaussian with this standard deviation."""
    return np.asarray(Image.fromarray(image).filter(ImageFilter.GaussianBlur(radius_px)))


def _noisy(levels: np.ndarray, gain: float, rng: np.random.Generator) -> np.ndarray:
    """Photon and read noise on levels (H, W, 3) float32 of 0 to 255, as an image."""
    deviation = gain * np.sqrt(2.0 + 0.12 * levels)
    return _as_image(levels + deviation * rng.standard_normal(levels.shape, dtype=np.float32))


def _as_image(levels: np.ndarray) -> np.ndarray:
    """Levels (H, W, 3) float32, rounded and cut to uint8."""
    return np.clip(levels + 0.5, 0, 255).astype(np.uint8)
