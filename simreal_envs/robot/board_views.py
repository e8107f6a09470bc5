"""Takes the views that a camera is calibrated from, while the hand moves the board before the camera."""

from __future__ import annotations

import itertools
import time
from collections.abc import Callable, Iterator

import numpy as np
from scipy.spatial.transform import Rotation

from simreal_envs.errors import DataError, RobotError
from simreal_envs.kinematics import inverse
from simreal_envs.poses import pose
from simreal_envs.robot.arm import Arm
from simreal_envs.robot.camera import Frame, RealSense
from simreal_envs.robot.charuco import Board
from simreal_envs.robot.handeye import HeldView
from simreal_envs.robot.safety import joint_goal_error
from simreal_envs.spec import FloatArray

TILT_RAD = np.deg2rad([25.0, 25.0, 35.0])
LOWEST_M, HIGHEST_M = np.array([-0.05, -0.08, -0.02]), np.array([0.05, 0.08, 0.08])
"""How far the hand turns about its axes and moves along the base's, around where the operator left it."""

TRIES_PER_VIEW = 3
STILL_RADPS = 0.005
SETTLE_S = 10.0
EXPOSED_S = 0.15
"""A frame that arrives this long after the arm came to rest was exposed after it."""
MAX_TOUCH_ERROR_M = 0.003

HAND_IN_VIEW = pose(np.diag([1.0, -1.0, -1.0]), [0.62, -0.02, 0.08])
"""Pose of the hand in the base in which the default camera sees it well."""

Say = Callable[[int, str], None]
"""Told how many views there are, and what has just happened."""


def poses_around(centre: FloatArray) -> Iterator[FloatArray]:
    """Hand poses (4, 4) about ``centre``; the same ones every time."""
    rng = np.random.default_rng(0)
    while True:
        turn = Rotation.from_rotvec(rng.uniform(-1, 1, 3) * TILT_RAD).as_matrix()
        yield pose(centre[:3, :3] @ turn, centre[:3, 3] + rng.uniform(LOWEST_M, HIGHEST_M))


def take_views(arm: Arm, camera: RealSense, board: Board, count: int, say: Say) -> list[HeldView]:
    """Take views of the board in the hand at the present pose and at poses around it, then move back.

    Poses out of reach or without a view of the board are passed over.

    Raises:
        DataError: too few views in ``TRIES_PER_VIEW * count`` poses.
        RobotError: the arm or the camera stopped.
    """
    start = arm.state()
    views = [seen for seen in [look(arm, camera, board)] if seen]
    for target in itertools.islice(poses_around(start.pose_in_base), TRIES_PER_VIEW * count):
        joints = inverse(target, start.joints_rad)
        if joints is None or joint_goal_error(joints, arm.limits):
            say(len(views), "out of reach")
            continue
        arm.move_to_joints(joints)
        view = look(arm, camera, board)
        if view is None:
            say(len(views), "board not seen")
            continue
        views.append(view)
        say(len(views), f"{len(view.view.ids)} corners")
        if len(views) == count:
            break
    arm.move_to_joints(start.joints_rad)
    if len(views) < count:
        raise DataError(
            f"Only {len(views)} of {count} views showed the board. Start with the board in the middle of the "
            "image and facing the camera, in even light."
        )
    return views


def look(arm: Arm, camera: RealSense, board: Board) -> HeldView | None:
    """The board and the hand's pose at one moment of rest; None if the board is not seen."""
    frame = still_frame(arm, camera)
    view = board.find(frame.colour, camera.intrinsics)
    return None if view is None else HeldView(arm.state().pose_in_base, view)


def still_frame(arm: Arm, camera: RealSense) -> Frame:
    """An image that was exposed while the arm was at rest.

    Raises:
        RobotError: the arm does not come to rest, or the camera sends nothing.
    """
    give_up = time.monotonic() + SETTLE_S
    while np.abs(arm.state().joint_speeds_radps).max() > STILL_RADPS:
        if time.monotonic() > give_up:
            raise RobotError(f"The arm did not come to rest within {SETTLE_S:.0f} s; let go of it.")
        time.sleep(0.01)
    exposed_s = time.monotonic() + EXPOSED_S
    while camera.latest().time_s < exposed_s:
        if time.monotonic() > exposed_s + SETTLE_S:
            return camera.latest(max_age_s=SETTLE_S)  # which says why there is none
        time.sleep(0.01)
    return camera.latest()


def board_from_touches(touches: FloatArray, board: Board) -> FloatArray:
    """Pose (4, 4) of a board in the base whose outer corners the fingertips have touched.

    Args:
        touches: (4, 3) positions in the base: top left, top right, bottom right, bottom left, as one
            reads the board.

    Raises:
        DataError: they do not fit a board of this size that lies face up.
    """
    width, height = board.size_m
    corners = np.array([(0, 0, 0), (width, 0, 0), (width, height, 0), (0, height, 0)])
    centre, middle = touches.mean(0), corners.mean(0)
    rotation, _ = Rotation.align_vectors(touches - centre, corners - middle)
    found = pose(rotation.as_matrix(), centre - rotation.apply(middle))
    off = np.linalg.norm(rotation.apply(corners) + found[:3, 3] - touches, axis=1)
    if off.max() > MAX_TOUCH_ERROR_M:
        raise DataError(
            f"The touched points are up to {1000 * off.max():.1f} mm from a board of {1000 * width:.0f} x "
            f"{1000 * height:.0f} mm; {1000 * MAX_TOUCH_ERROR_M:.0f} mm at most is allowed. Touch its "
            "corners again: top left, top right, bottom right, bottom left."
        )
    if found[2, 2] > 0:
        raise DataError(
            "By its touched corners the board lies face down. Touch them clockwise, from the top left on."
        )
    return found
