"""Point clouds: where they lie, how many there are, and what becomes of stray points."""

from __future__ import annotations

import logging
import statistics
import time
from typing import Any

import gymnasium as gym
import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

import simreal_envs  # noqa: F401 - registers the worlds
from simreal_envs import pointcloud
from simreal_envs.cameras import THIRD_PERSON
from simreal_envs.errors import DataError
from simreal_envs.pointcloud import CROP_HIGH_M, CROP_LOW_M, VIEW_SIZE, View, point_cloud

CAMERA = THIRD_PERSON.resized(VIEW_SIZE)
COLOUR = np.random.default_rng(0).integers(0, 256, (*VIEW_SIZE, 3), dtype=np.uint8)


def plane(height_m: float) -> np.ndarray:
    """Depth (H, W) of a level plane at this height in the base frame."""
    rays = CAMERA.deproject(np.ones(VIEW_SIZE)) - CAMERA.pose_in_base[:3, 3]
    return ((height_m - CAMERA.pose_in_base[2, 3]) / rays[..., 2]).astype(np.float32)


@pytest.mark.parametrize("cameras", ["agentview", "wrist", "agentview+wrist"])
@pytest.mark.parametrize("yaw", [0.0, 0.3])
def test_points_of_a_known_box_lie_on_its_faces(cameras: str, yaw: float) -> None:
    env = gym.make("simreal/Stack-v0", obs="pointcloud+pointcolour", cameras=cameras, points=4000)
    world: Any = env.unwrapped
    placement = {"cubeA": (-0.06, 0.0, yaw), "cubeB": (0.05, 0.1, 0.0)}
    observation, _ = env.reset(seed=0, options={"placement": placement})
    points, colours = observation["pointcloud"], observation["pointcloud_rgb"].astype(int)
    assert points.dtype == np.float32
    red = colours[:, 0] > 2 * colours[:, 1:].max(axis=1)
    pose = world.object_poses_in_base()["cubeA"]
    local = np.abs((points[red] - pose[:3, 3]) @ pose[:3, :3])
    assert len(local) > 50
    half_m = 0.025
    np.testing.assert_array_less(local.max(axis=0), half_m + 0.002)
    from_nearest_face = np.abs(local - half_m).min(axis=1)
    # A pixel on an edge may have the colour of what lies beside it.
    assert np.quantile(from_nearest_face, 0.98) < 0.002
    env.close()


@given(height_m=st.floats(0.03, 0.3), count=st.integers(1, 3000))
def test_a_cloud_has_the_number_of_points_that_was_asked_for_within_the_workspace(
    height_m: float, count: int
) -> None:
    view = View(CAMERA, plane(height_m), COLOUR)
    points, colours = point_cloud([view], count)
    assert points.shape == colours.shape == (count, 3)
    assert ((points > CROP_LOW_M) & (points < CROP_HIGH_M)).all()
    np.testing.assert_allclose(points[:, 2], height_m, atol=1e-4)
    again, _ = point_cloud([view], count)
    np.testing.assert_array_equal(points, again)


def test_points_keep_their_colours() -> None:
    points, colours = point_cloud([View(CAMERA, plane(0.1), COLOUR)], 500)
    pixels = np.rint(CAMERA.project(points)).astype(int)
    np.testing.assert_array_equal(COLOUR[pixels[:, 1], pixels[:, 0]], colours)


def test_farthest_points_cover_what_is_there() -> None:
    view = View(CAMERA, plane(0.1), COLOUR)
    every, _ = pointcloud._points_of(view)
    chosen, _ = point_cloud([view], 256)
    far = np.linalg.norm(every[:, None, :2] - chosen[None, :, :2], axis=2).min(axis=1).max()
    area = np.prod(np.ptp(every[:, :2], axis=0))
    assert far < 2 * np.sqrt(area / 256)


def test_stray_points_and_holes_are_left_out() -> None:
    depth = plane(0.1)
    rng = np.random.default_rng(1)
    rows, columns = rng.integers(5, VIEW_SIZE[0] - 5, 40), rng.integers(5, VIEW_SIZE[1] - 5, 40)
    depth[rows, columns] *= rng.uniform(0.7, 0.9, 40).astype(np.float32)
    depth[100:110, 100:110] = 0
    points, _ = point_cloud([View(CAMERA, depth, COLOUR)], 3000)
    np.testing.assert_allclose(points[:, 2], 0.1, atol=1e-3)


def test_too_few_points_are_repeated_and_told_of(caplog: pytest.LogCaptureFixture) -> None:
    depth = np.zeros(VIEW_SIZE, np.float32)
    depth[100:110, 100:110] = plane(0.1)[100:110, 100:110]
    pointcloud._tell_of_few.cache_clear()
    with caplog.at_level(logging.WARNING):
        points, _ = point_cloud([View(CAMERA, depth, COLOUR)], 1024)
    assert len(np.unique(points, axis=0)) <= 100
    assert "fewer than 1024" in caplog.text


def test_where_nothing_is_seen_there_is_no_cloud() -> None:
    with pytest.raises(DataError, match="workspace"):
        point_cloud([View(CAMERA, np.zeros(VIEW_SIZE, np.float32), COLOUR)], 10)


@pytest.mark.alone
def test_a_cloud_of_20_000_points_takes_less_than_8_ms() -> None:
    depth = plane(0.05)
    points = CAMERA.deproject(depth)
    seen = np.flatnonzero(((points > CROP_LOW_M) & (points < CROP_HIGH_M)).all(axis=-1))
    depth.reshape(-1)[seen[20_000:]] = 0
    view = View(CAMERA, depth, COLOUR)
    assert len(pointcloud._points_of(view)[0]) > 19_000
    times = []
    for _ in range(21):
        started = time.perf_counter()
        point_cloud([view], 1024)
        times.append(time.perf_counter() - started)
    assert statistics.median(times) < 0.008
