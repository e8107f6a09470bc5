"""Point clouds from depth images: to the base frame, cut to the workspace, cleaned, and thinned.

::

    depth image -> points in the base frame -> workspace -> without lone points -> farthest points
"""

from __future__ import annotations

import logging
from collections.abc import Sequence
from dataclasses import dataclass
from functools import lru_cache

import fpsample
import numpy as np
from numpy.typing import NDArray

from simreal_envs.cameras import Camera
from simreal_envs.errors import DataError
from simreal_envs.features import POINT_COLOUR_KEY, POINTS_KEY
from simreal_envs.spec import WORKSPACE_HIGH_M, WORKSPACE_LOW_M, Observation

VIEW_SIZE = (240, 320)
"""(height, width) of the depth images that clouds are made of, in pixels, whatever the size of the images."""
CROP_LOW_M = np.array([*WORKSPACE_LOW_M[:2], 0.01], np.float32)
"""Points below this height are left out: the table would take most of the points and shows nothing."""
CROP_HIGH_M = WORKSPACE_HIGH_M.astype(np.float32)

NEAR = 0.02
"""Two neighbouring pixels are on one surface if their depths differ by this share at most."""
MIN_NEIGHBOURS = 3
"""A point is kept if so many of its 8 neighbours are on its surface. Between an object and what lies behind
it, stereo cameras report points that float in the air; these have fewer such neighbours."""

KD_HEIGHT = 6
"""Of fpsample's tree; the fastest for 20,000 points."""

logger = logging.getLogger(__name__)


@dataclass(frozen=True)
class View:
    """What one camera sees.

    Attributes:
        camera: the camera, with its pose at that moment.
        depth_m: (H, W) float32 along its optical axis, 0 where there is no reading.
        colour: (H, W, 3) uint8 RGB.
    """

    camera: Camera
    depth_m: NDArray[np.float32]
    colour: NDArray[np.uint8]


def point_cloud(views: Sequence[View], points: int) -> tuple[NDArray[np.float32], NDArray[np.uint8]]:
    """Exactly so many points (N, 3) in metres, base frame, of what all views show, and their colours (N, 3).

    The same views give the same points. Where there are too few, they are repeated.

    Raises:
        DataError: no view shows anything in the workspace.
    """
    parts = [_points_of(view) for view in views]
    positions = np.concatenate([part[0] for part in parts])
    colours = np.concatenate([part[1] for part in parts])
    if len(positions) == 0:
        raise DataError(
            f"No camera sees anything in the workspace, from {CROP_LOW_M.round(2).tolist()} to "
            f"{CROP_HIGH_M.round(2).tolist()} m in the base frame."
        )
    if len(positions) > points:
        chosen = farthest_points(positions, points)
    else:
        chosen = np.resize(np.arange(len(positions)), points)
        if len(positions) < points:
            _tell_of_few(points)
    return positions[chosen], colours[chosen]


def shown(groups: Sequence[str], views: Sequence[View], points: int) -> Observation:
    """The arrays of an observation that hold the point cloud, see :func:`point_cloud`."""
    positions, colours = point_cloud(views, points)
    arrays: dict[str, np.ndarray] = {}
    if "pointcloud" in groups:
        arrays[POINTS_KEY] = positions
    if "pointcolour" in groups:
        arrays[POINT_COLOUR_KEY] = colours
    return arrays


def farthest_points(positions: NDArray[np.float32], count: int) -> NDArray[np.int64]:
    """Which ``count`` of the points (N, 3) to keep, each far from the others (Eldar et al., 1997)."""
    return fpsample.bucket_fps_kdline_sampling(positions, count, h=KD_HEIGHT, start_idx=0).astype(np.int64)


def _points_of(view: View) -> tuple[NDArray[np.float32], NDArray[np.uint8]]:
    """The points of one view after cutting and cleaning, and their colours."""
    camera = view.camera
    pose = camera.pose_in_base.astype(np.float32)
    rays = _rays(camera.size, camera.intrinsics.tobytes()) @ pose[:3, :3].T
    candidates = (view.depth_m > 0) & ~_lone(view.depth_m)
    at = np.flatnonzero(candidates)
    positions = rays.reshape(-1, 3)[at] * view.depth_m.reshape(-1, 1)[at] + pose[:3, 3]
    inside = ((positions > CROP_LOW_M) & (positions < CROP_HIGH_M)).all(axis=1)
    return positions[inside], view.colour.reshape(-1, 3)[at[inside]]


@lru_cache(maxsize=16)
def _rays(size: tuple[int, int], intrinsics: bytes) -> NDArray[np.float32]:
    """Directions (H, W, 3) of the pixels in the camera's frame, with depth 1."""
    k = np.frombuffer(intrinsics).reshape(3, 3)
    u, v = np.meshgrid(np.arange(size[1]), np.arange(size[0]))
    rays = np.stack([(u - k[0, 2]) / k[0, 0], (v - k[1, 2]) / k[1, 1], np.ones(size)], axis=-1)
    return rays.astype(np.float32)


def _lone(depth_m: NDArray[np.float32]) -> NDArray[np.bool_]:
    """Mask (H, W) of the points that have too few neighbours on their own surface."""
    near = depth_m * np.float32(NEAR)
    neighbours = np.zeros(depth_m.shape, np.int8)
    for row, column in ((0, 1), (1, -1), (1, 0), (1, 1)):  # the other four are the same pairs
        ahead, behind = _pair(row, column)
        alike = np.abs(depth_m[ahead] - depth_m[behind]) < near[behind]
        neighbours[ahead] += alike
        neighbours[behind] += alike
    return neighbours < MIN_NEIGHBOURS


def _pair(row: int, column: int) -> tuple[tuple[slice, slice], tuple[slice, slice]]:
    """All pixels that have a neighbour in this direction: the neighbours, and the pixels themselves."""
    columns = slice(max(0, column), None if column >= 0 else column)
    mirrored = slice(max(0, -column), None if column <= 0 else -column)
    return (slice(row, None), columns), (slice(None, -row or None), mirrored)


@lru_cache(maxsize=1)
def _tell_of_few(points: int) -> None:
    """Warn of too few points, once a process: it may happen in every step."""
    logger.warning(
        "A point cloud has fewer than %d points, which are repeated. Ask for fewer, or for more cameras.",
        points,
    )
