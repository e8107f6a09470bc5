"""What operator and arm do for ``simreal calibrate``: show the board, touch it, step into view.

On the rig, where nobody guides the arm, it moves to the same places by itself.
"""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path

import numpy as np
import typer
from PIL import Image
from rich.progress import Progress

from simreal_envs.cameras import Camera
from simreal_envs.errors import UsageError
from simreal_envs.kinematics import inverse
from simreal_envs.robot.arm import Arm
from simreal_envs.robot.backends import Backend
from simreal_envs.robot.board_views import HAND_IN_VIEW, board_from_touches, look, still_frame, take_views
from simreal_envs.robot.calibration import load_calibration
from simreal_envs.robot.camera import RealSense
from simreal_envs.robot.charuco import Board
from simreal_envs.robot.handeye import Fit, HeldView, fit_fixed_board, fit_held_board
from simreal_envs.robot.overlay import Silhouette, compare
from simreal_envs.robot.question import ask
from simreal_envs.spec import START_JOINTS_RAD, FloatArray

CORNERS = ("top left", "top right", "bottom right", "bottom left")


@dataclass(frozen=True)
class Station:
    """A connected robot and the camera that looks at it."""

    robot: Backend
    camera: RealSense
    arm: Arm


def fit_held(station: Station, board: Board, count: int, by_hand: bool) -> Fit:
    """Fit the camera's pose to ``count`` views of the board in the hand.

    Raises:
        DataError: the views do not give a good fit.
        RobotError: the arm or the camera stopped.
    """
    arm, camera = station.arm, station.camera
    if by_hand:
        return fit_held_board(_views_by_hand(station, board, count), board, camera.intrinsics)
    if station.robot.name == "rig":
        from simreal_envs.rig.board import HAND_SHOWS_BOARD

        _move_to(arm, HAND_SHOWS_BOARD)
    else:
        _guide(arm, "Guide the arm until the camera sees the whole board, facing it, then let go.")
        ask("The arm will now turn the board by itself, up to 25 cm around. Is the way free?")
    with Progress() as progress:
        bar = progress.add_task("views", total=count)

        def say(done: int, what: str) -> None:
            progress.update(bar, completed=done, description=what)

        views = take_views(arm, camera, board, count, say)
    return fit_held_board(views, board, camera.intrinsics)


def _views_by_hand(station: Station, board: Board, count: int) -> list[HeldView]:
    views: list[HeldView] = []
    while len(views) < count:
        _guide(station.arm, f"View {len(views) + 1} of {count}: tilt the board another way, then let go.")
        seen = look(station.arm, station.camera, board)
        if seen is None:
            typer.echo("The board was not seen.")
        else:
            views.append(seen)
    return views


def fit_fixed(station: Station, board: Board, fingertip_m: float) -> Fit:
    """Fit the camera's pose to one view of a board on the table, whose corners the closed fingertips touch.

    Args:
        fingertip_m: how far the fingertips are beyond the end effector, along the hand's axis.

    Raises:
        DataError: the touches do not fit the board, or it is not seen.
        RobotError: the arm or the camera stopped.
    """
    arm, camera = station.arm, station.camera
    if station.robot.name == "real":
        ask("The hand closes. Are your fingers out of it?")
        typer.echo("The board's top edge begins and ends with a black square, its bottom edge with a marker.")
    arm.close_gripper()
    touches = []
    for corner in range(len(CORNERS)):
        _touch(station, corner)
        hand = arm.state().pose_in_base
        touches.append(hand[:3, 3] + fingertip_m * hand[:3, 2])
    board_in_base = board_from_touches(np.array(touches), board)
    if station.robot.name == "rig":
        arm.move_to_joints(START_JOINTS_RAD)
    else:
        _guide(arm, "Guide the arm out of the camera's view.")
    view = board.find(still_frame(arm, camera).colour, camera.intrinsics)
    return fit_fixed_board([view] if view else [], board, board_in_base, camera.intrinsics)


def _touch(station: Station, corner: int) -> None:
    """Return once the fingertips are at a corner of the board on the table."""
    if station.robot.name == "rig":
        from simreal_envs.rig.board import hands_touching_corners
        from simreal_envs.rig.control import RigControl

        with RigControl(station.robot.host) as control:
            _move_to(station.arm, hands_touching_corners(control.model_xml())[corner])
    else:
        message = f"Touch the {CORNERS[corner]} corner of the board with the closed fingertips."
        _guide(station.arm, message)


def lay_over(station: Station, picture: Path) -> float:
    """Draw the simulated robot over the image of the real one; how well they overlap, 0 to 1.

    Raises:
        DataError: the camera is not calibrated, or the robot is not in view.
        RobotError: the arm or the camera stopped.
    """
    arm, camera = station.arm, station.camera
    pose_in_base = load_calibration(camera.serial).pose_camera_in_base
    calibrated = Camera(camera.size, camera.intrinsics, pose_in_base)
    if station.robot.name == "rig":
        _move_to(arm, HAND_IN_VIEW)
    else:
        _guide(arm, "Clear the table, guide the empty hand into the camera's view, then let go.")
    frame, state = still_frame(arm, camera), arm.state()
    assert frame.depth_m is not None
    silhouette = Silhouette(calibrated)
    drawn = silhouette.mask(state.joints_rad, state.gripper_width_m)
    silhouette.close()
    overlay = compare(drawn, frame.colour, frame.depth_m, calibrated)
    picture.parent.mkdir(parents=True, exist_ok=True)
    Image.fromarray(overlay.picture).save(picture)
    return overlay.overlap


def _move_to(arm: Arm, hand_in_base: FloatArray) -> None:
    joints = inverse(hand_in_base, arm.state().joints_rad)
    if joints is None:
        raise UsageError("The rig's arm cannot reach the view from where it is; reset the rig.")
    arm.move_to_joints(joints)


def _guide(arm: Arm, message: str) -> None:
    """The arm is free until the operator presses Enter; a reflex meanwhile is recovered from."""
    while True:
        if fault := arm.state().fault:
            ask(f"The robot stopped: {fault}. Is the arm free to move?")
            arm.recover()
        arm.guide(True)
        ask(message, meanwhile=arm.state)
        if not arm.state().fault:
            arm.guide(False)
            return
