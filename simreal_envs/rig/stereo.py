"""The D435 that the rig stands in for: where its sensors sit, and what its stereo makes of distances."""

from __future__ import annotations

import zlib

import numpy as np

from simreal_envs.cameras import CAMERA_SPECS, THIRD_PERSON, Camera
from simreal_envs.poses import pose
from simreal_envs.shifts import EpisodeDraws, parse_shift
from simreal_envs.spec import FloatArray

FPS = 30

COLOUR_INTRINSICS = THIRD_PERSON.intrinsics
DEPTH_INTRINSICS = np.array([[385.4, 0.0, 320.8], [0.0, 385.4, 238.6], [0.0, 0.0, 1.0]])
"""Of the left infrared imager at 640 x 480; wider than the colour sensor's, as on the device."""

DEPTH_IN_COLOUR = pose(np.eye(3), [0.0148, 0.0001, 0.0003])
"""Pose of the left infrared imager in the colour camera's frame."""

BASELINE_M = 0.050
"""Distance between the two infrared imagers."""
SUBPIXEL_RMS = 0.08
"""Standard deviation of a disparity in pixels, of a well textured target (Intel's tuning guide)."""
DISPARITY_STEPS = 32
"""Disparities are in 1/32 pixel, 126 pixels at most."""
MAX_DISPARITY = 126.0

FRAMES = np.dtype(
    [
        ("number", "<i8"),
        ("time_s", "<f8"),  # time.monotonic
        ("plugged", "u1"),
        ("board", "u1"),  # 0 not there, 1 in the hand, 2 on the table
        ("pose_camera_in_base", "<f8", (4, 4)),
        ("colour", "u1", (480, 640, 3)),
        ("depth_mm", "<u2", (480, 640)),
    ]
)
"""What the camera's process publishes; the pose is the colour sensor's."""
FAULTS = np.dtype([("camera_stall", "u1"), ("camera_unplug", "u1")])
"""Which of the camera's faults hold at present; published by the rig's server."""


def colour_camera(shift: str) -> Camera:
    """The colour sensor at the pose that the shift gives it; this is the rig's true calibration."""
    placed = EpisodeDraws(0).camera(CAMERA_SPECS["agentview"], parse_shift(shift))
    return THIRD_PERSON.moved(placed.pose_in_mount)


def depth_camera(colour: Camera) -> Camera:
    """The depth sensor beside a colour sensor."""
    return Camera(colour.size, DEPTH_INTRINSICS, colour.pose_in_base @ DEPTH_IN_COLOUR)


def serial_number(pose_camera_in_base: FloatArray) -> str:
    """A serial number for each place of a rig's camera, so that a calibration is used for no other place."""
    return f"rig-{zlib.crc32(np.round(pose_camera_in_base, 6).astype('<f8').tobytes()):08x}"


def stereo_depth_mm(depth_m: FloatArray, normal: FloatArray) -> np.ndarray:
    """What the device measures (H, W) uint16 in mm, 0 where it has no reading.

    A point is measured only if both imagers see it, so there are holes to the left of near things and along
    the left border. The disparity's noise becomes depth noise of ``z**2 * SUBPIXEL_RMS / (f * BASELINE_M)``.

    Args:
        depth_m: (H, W) true depth along the optical axis of the left imager.
        normal: (H, W) standard normal noise.
    """
    disparity = np.float32(DEPTH_INTRINSICS[0, 0] * BASELINE_M) / depth_m
    column_in_right = np.arange(depth_m.shape[1], dtype=np.float32) - disparity
    # A point further right in the left image that lies further left in the right one is nearer, and hides it.
    nearest = np.minimum.accumulate(column_in_right[:, ::-1], axis=1)[:, ::-1]
    unseen = (column_in_right > nearest) | (column_in_right < 0) | (disparity > MAX_DISPARITY)
    measured = np.rint((disparity + np.float32(SUBPIXEL_RMS) * normal) * DISPARITY_STEPS)
    np.maximum(measured, 1, out=measured)
    depth_mm = np.float32(1000 * DEPTH_INTRINSICS[0, 0] * BASELINE_M * DISPARITY_STEPS) / measured
    return np.where(unseen, 0, np.minimum(depth_mm, 65535)).astype(np.uint16)
