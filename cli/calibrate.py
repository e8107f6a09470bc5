"""``simreal calibrate``: where the camera stands, found from views of a board; and whether it still does."""

from __future__ import annotations

from contextlib import ExitStack
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from simreal_cli.options import Host, LimitsFile, Serial
from simreal_envs.errors import DataError, UsageError

if TYPE_CHECKING:
    from simreal_envs.cameras import Camera
    from simreal_envs.robot.arm import Arm
    from simreal_envs.robot.backends import Backend
    from simreal_envs.robot.camera import RealSense
    from simreal_envs.robot.charuco import Board
    from simreal_envs.robot.handeye import Fit, HeldView
    from simreal_envs.spec import FloatArray

MARKER_PER_SQUARE = 0.75
CORNERS = ("top left", "top right", "bottom right", "bottom left")


def calibrate(
    env: Annotated[str, typer.Option(help="Which robot: rig (the virtual one) or real.")] = "real",
    host: Host = None,
    serial: Serial = None,
    limits: LimitsFile = None,
    shift: Annotated[str, typer.Option(help="Of the rig that is started: how it looks.")] = "none",
    views: Annotated[int, typer.Option(min=8, max=100, help="How many views to take.")] = 15,
    by_hand: Annotated[
        bool, typer.Option("--by-hand", help="Guide the arm to every view yourself; else it turns by itself.")
    ] = False,
    fixed: Annotated[
        bool,
        typer.Option("--fixed", help="The board lies on the table; touch its corners with the fingertips."),
    ] = False,
    square: Annotated[float, typer.Option(min=5, max=200, help="Edge of a printed square in mm.")] = 36.0,
    print_board: Annotated[
        Path | None, typer.Option(help="Write the board as a picture to print at 100 %, and end.")
    ] = None,
    check: Annotated[
        bool,
        typer.Option("--check", help="Lay the simulated robot over the image instead: is it still true?"),
    ] = False,
    picture: Annotated[Path, typer.Option(help="Where --check writes its picture.")] = Path(
        "out/calibration.png"
    ),
) -> None:
    """Find where the camera stands from views of a ChArUco board, and store it for `--env real`.

    Print the board, glue it to something flat and stiff, measure a square, and let the gripper hold it so
    that the camera sees it. Guide the arm until the board is in the middle of the image; the arm then turns
    it about by itself. Fits that are not good enough are refused.

    **Examples**

    `simreal calibrate --print-board board.png`

    `simreal calibrate --host 172.16.0.2 --square 35.8`

    `simreal calibrate --host 172.16.0.2 --check`

    `simreal calibrate --env rig --shift viewpoint`
    """
    from simreal_envs.robot.charuco import Board

    board = Board(square_m=square / 1000, marker_m=MARKER_PER_SQUARE * square / 1000)
    if print_board is not None:
        board.write(print_board)
        width, height = board.size_m
        typer.echo(
            f"{print_board}: {1000 * width:.0f} x {1000 * height:.0f} mm; print it at 100 % and measure it"
        )
        return

    if fixed and env == "rig":
        raise UsageError("The rig's board is in the hand, not on the table: leave --fixed away.")

    from simreal_envs.robot.arm import Arm
    from simreal_envs.robot.safety import load_limits

    with _backend(env, host, shift, serial) as robot, ExitStack() as stack:
        if robot.name == "rig" and not check:
            from simreal_envs.rig.board import HeldBoard

            stack.enter_context(HeldBoard(robot.host))
        camera = stack.enter_context(robot.open_camera(depth=check))
        calibrated = _calibrated(camera) if check else None
        arm = stack.enter_context(Arm(robot.host, load_limits(limits)))
        if calibrated:
            _check(robot, arm, camera, calibrated, picture)
        elif fixed:
            _store(camera, _fit_fixed(arm, camera, board))
        else:
            _store(camera, _fit_held(robot, arm, camera, board, views, by_hand))
        if robot.name == "rig" and not check:
            _compare_with_truth(robot.calibrated(camera), camera.serial)


def _backend(env: str, host: str | None, shift: str, serial: str | None) -> Backend:
    from simreal_envs.robot.backends import Hardware, VirtualRig
    from simreal_envs.spec import check_choice

    if check_choice("env", env, ("rig", "real")) == "real":
        return Hardware(host, shift, serial)
    task = "Lift"
    if host:
        from simreal_envs.rig.control import RigControl

        with RigControl(host) as control:
            task, shift = control.describe()["task"], control.describe()["shift"]
    return VirtualRig(task, host, shift)


# --- the board ----------------------------------------------------------------------------------------


def _fit_held(robot: Backend, arm: Arm, camera: RealSense, board: Board, count: int, by_hand: bool) -> Fit:
    from rich.progress import Progress

    from simreal_envs.robot.handeye import fit_held_board
    from simreal_envs.robot.views import look, take_views

    if robot.name == "rig":
        from simreal_envs.rig.board import HAND_SHOWS_BOARD

        _move_to(arm, HAND_SHOWS_BOARD)
    elif not by_hand:
        _guide(arm, "Guide the arm until the camera sees the whole board, facing it, then let go. Enter")
        typer.confirm(
            "The arm will now turn the board by itself, up to 25 cm around. Is the way free?", abort=True
        )
    if by_hand:
        taken: list[HeldView] = []
        while len(taken) < count:
            _guide(arm, f"View {len(taken) + 1} of {count}: tilt the board another way, then let go. Enter")
            seen = look(arm, camera, board)
            if seen is None:
                typer.echo("The board was not seen.")
            else:
                taken.append(seen)
        return fit_held_board(taken, board, camera.intrinsics)
    with Progress() as progress:
        bar = progress.add_task("views", total=count)

        def say(done: int, what: str) -> None:
            progress.update(bar, completed=done, description=what)

        taken = take_views(arm, camera, board, count, say)
    return fit_held_board(taken, board, camera.intrinsics)


def _fit_fixed(arm: Arm, camera: RealSense, board: Board) -> Fit:
    import numpy as np

    from simreal_envs.robot.handeye import fit_fixed_board
    from simreal_envs.robot.views import board_from_touches, still_frame

    arm.close_gripper()
    touches = []
    for corner in CORNERS:
        _guide(arm, f"Touch the {corner} corner of the board with the closed fingertips. Enter")
        touches.append(arm.state().pose_in_base[:3, 3])
    board_in_base = board_from_touches(np.array(touches), board)
    _guide(arm, "Guide the arm out of the camera's view. Enter")
    view = board.find(still_frame(arm, camera).colour, camera.intrinsics)
    return fit_fixed_board([view] if view else [], board, board_in_base, camera.intrinsics)


def _store(camera: RealSense, fit: Fit) -> None:
    import numpy as np
    from rich.console import Console
    from rich.table import Table

    from simreal_envs.robot.calibration import Calibration, now

    path = Calibration(
        serial=camera.serial,
        pose_camera_in_base=fit.camera_in_base,
        intrinsics=camera.intrinsics,
        views=fit.views,
        reprojection_rms_px=fit.reprojection_rms_px,
        position_std_m=fit.position_std_m,
        rotation_std_rad=fit.rotation_std_rad,
        date=now(),
    ).save()
    table = Table("camera", camera.serial, show_header=True)
    x, y, z = fit.camera_in_base[:3, 3]
    table.add_row("position in the base", f"{x:.4f}, {y:.4f}, {z:.4f} m")
    table.add_row("views", str(fit.views))
    table.add_row("corners are off by (rms)", f"{fit.reprojection_rms_px:.2f} px")
    table.add_row("position uncertain by", f"{1000 * fit.position_std_m:.2f} mm")
    table.add_row("orientation uncertain by", f"{np.rad2deg(fit.rotation_std_rad):.3f} degrees")
    Console().print(table)
    typer.echo(f"stored: {path}")


def _compare_with_truth(truth: Camera, serial: str) -> None:
    import numpy as np
    from scipy.spatial.transform import Rotation

    from simreal_envs.robot.calibration import load_calibration

    found = load_calibration(serial).pose_camera_in_base
    off_m = np.linalg.norm(found[:3, 3] - truth.pose_in_base[:3, 3])
    turned = Rotation.from_matrix(found[:3, :3].T @ truth.pose_in_base[:3, :3]).magnitude()
    typer.echo(f"the rig's true pose is {1000 * off_m:.2f} mm and {np.rad2deg(turned):.3f} degrees from it")


# --- the check ----------------------------------------------------------------------------------------


def _calibrated(camera: RealSense) -> Camera:
    from simreal_envs.cameras import Camera
    from simreal_envs.robot.calibration import load_calibration

    return Camera(camera.size, camera.intrinsics, load_calibration(camera.serial).pose_camera_in_base)


def _check(robot: Backend, arm: Arm, camera: RealSense, calibrated: Camera, picture: Path) -> None:
    from PIL import Image

    from simreal_envs.robot.overlay import GOOD_OVERLAP, Silhouette, compare
    from simreal_envs.robot.views import HAND_IN_VIEW, still_frame

    if robot.name == "rig":
        _move_to(arm, HAND_IN_VIEW)
    else:
        _guide(arm, "Clear the table, guide the empty hand into the camera's view, then let go. Enter")
    frame, state = still_frame(arm, camera), arm.state()
    assert frame.depth_m is not None
    silhouette = Silhouette(calibrated)
    drawn = silhouette.mask(state.joints_rad, state.gripper_width_m)
    silhouette.close()
    overlay = compare(drawn, frame.colour, frame.depth_m, calibrated)
    picture.parent.mkdir(parents=True, exist_ok=True)
    Image.fromarray(overlay.picture).save(picture)
    typer.echo(f"overlap {overlay.overlap:.3f} ({GOOD_OVERLAP} at least is good); {picture}")
    if overlay.overlap < GOOD_OVERLAP:
        raise DataError(
            f"The simulated robot covers the real one by {overlay.overlap:.2f} only. Look at {picture}; run "
            "`simreal calibrate` again if the camera was moved."
        )


def _move_to(arm: Arm, hand_in_base: FloatArray) -> None:
    from simreal_envs.kinematics import inverse

    joints = inverse(hand_in_base, arm.state().joints_rad)
    if joints is None:
        raise UsageError("The rig's arm cannot reach the view from where it is; reset the rig.")
    arm.move_to_joints(joints)


def _guide(arm: Arm, message: str) -> None:
    """The arm is free until the operator presses Enter; a reflex meanwhile is recovered from."""
    while True:
        if fault := arm.state().fault:
            typer.confirm(f"The robot stopped: {fault}. Is the arm free to move?", abort=True)
            arm.recover()
        arm.guide(True)
        typer.prompt(message, default="", show_default=False, prompt_suffix=" ")
        if not arm.state().fault:
            arm.guide(False)
            return
