"""``simreal calibrate``: where the camera stands, found from views of a board; and whether it still does."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import AbstractContextManager, contextmanager, nullcontext
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from simreal_cli.options import LimitsFile, Serial
from simreal_envs.errors import DataError

if TYPE_CHECKING:
    from simreal_cli.calibrate_steps import Station
    from simreal_envs.rig.board import Place
    from simreal_envs.robot.backends import Backend
    from simreal_envs.robot.charuco import Board
    from simreal_envs.robot.handeye import Fit

app = typer.Typer(
    no_args_is_help=True,
    rich_markup_mode="markdown",
    help="Find where the camera stands, and see whether it still stands there.",
)

MARKER_PER_SQUARE = 0.75

CalibratedEnv = Annotated[str, typer.Option(help="Which robot: real, or rig (the virtual one).")]
RobotHost = Annotated[str | None, typer.Option(help="Address of the robot; only a rig is started for you.")]
Shift = Annotated[str, typer.Option(help="Of the rig that is started: how it looks.")]
Square = Annotated[float, typer.Option(min=5, max=200, help="Edge of a printed square in mm.")]


@app.command("board")
def print_board(
    picture: Annotated[Path, typer.Argument(help="PNG file to write.", show_default=False)],
    square: Square = 36.0,
) -> None:
    """Write the ChArUco board as a picture to print at 100 %.

    Glue it to something flat and stiff, measure a square, and pass it to `held` or `fixed` as `--square`.

    **Examples**

    `simreal calibrate board board.png`

    `simreal calibrate board board.png --square 30`
    """
    board = _board(square)
    board.write(picture)
    width, height = board.size_m
    typer.echo(f"{picture}: {1000 * width:.0f} x {1000 * height:.0f} mm; print it at 100 % and measure it")


@app.command()
def held(
    env: CalibratedEnv = "real",
    host: RobotHost = None,
    serial: Serial = None,
    limits: LimitsFile = None,
    shift: Shift = "none",
    square: Square = 36.0,
    views: Annotated[int, typer.Option(min=8, max=100, help="How many views to take.")] = 15,
    by_hand: Annotated[
        bool, typer.Option("--by-hand", help="Guide the arm to every view yourself; else it turns by itself.")
    ] = False,
) -> None:
    """Calibrate from views of the board in the gripper, and store the camera's pose for `--env real`.

    Guide the arm until the board is in the middle of the image; the arm then turns it about by itself. Fits
    that are not good enough are refused.

    **Examples**

    `simreal calibrate held --host 172.16.0.2 --square 35.8`

    `simreal calibrate held --env rig --shift viewpoint`
    """
    from simreal_cli.calibrate_steps import fit_held

    with _station(env, host, serial, limits, shift) as station, _board_there(station.robot, "hand"):
        _store(station, fit_held(station, _board(square), views, by_hand))


@app.command()
def fixed(
    env: CalibratedEnv = "real",
    host: RobotHost = None,
    serial: Serial = None,
    limits: LimitsFile = None,
    shift: Shift = "none",
    square: Square = 36.0,
    fingertip: Annotated[
        float | None,
        typer.Option(
            min=0,
            max=150,
            help="How far the fingertips are beyond the end effector, in mm.",
            show_default="15.7: Franka's fingers",
        ),
    ] = None,
) -> None:
    """Calibrate from a board on the table, whose four corners you touch with the closed fingertips.

    Quick, and only as good as the touches: `held` is better.

    **Examples**

    `simreal calibrate fixed --host 172.16.0.2 --square 35.8`

    `simreal calibrate fixed --env rig`
    """
    from simreal_cli.calibrate_steps import fit_fixed

    with _station(env, host, serial, limits, shift) as station, _board_there(station.robot, "table"):
        fingertip_m = station.robot.fingertip_m if fingertip is None else fingertip / 1000
        _store(station, fit_fixed(station, _board(square), fingertip_m))


@app.command()
def check(
    env: CalibratedEnv = "real",
    host: RobotHost = None,
    serial: Serial = None,
    limits: LimitsFile = None,
    shift: Shift = "none",
    picture: Annotated[Path, typer.Option(help="Where the picture goes.")] = Path("out/calibration.png"),
) -> None:
    """Draw the simulated robot over the camera's image: does the stored calibration still hold?

    **Examples**

    `simreal calibrate check --host 172.16.0.2`

    `simreal calibrate check --env rig --host 127.0.0.2 --picture out/rig.png`
    """
    from simreal_cli.calibrate_steps import lay_over
    from simreal_envs.robot.overlay import GOOD_OVERLAP

    with _station(env, host, serial, limits, shift, depth=True) as station:
        overlap = lay_over(station, picture)
    typer.echo(f"overlap {overlap:.3f} ({GOOD_OVERLAP} at least is good); {picture}")
    if overlap < GOOD_OVERLAP:
        raise DataError(
            f"The simulated robot covers the real one by {overlap:.2f} only. Look at {picture}; run "
            "`simreal calibrate held` again if the camera was moved."
        )


# --- what the commands share --------------------------------------------------------------------------


def _board(square_mm: float) -> Board:
    from simreal_envs.robot.charuco import Board

    return Board(square_m=square_mm / 1000, marker_m=MARKER_PER_SQUARE * square_mm / 1000)


@contextmanager
def _station(
    env: str, host: str | None, serial: str | None, limits: Path | None, shift: str, depth: bool = False
) -> Iterator[Station]:
    """Robot, camera and arm, connected."""
    from simreal_cli.calibrate_steps import Station
    from simreal_envs.robot.arm import Arm
    from simreal_envs.robot.safety import load_limits

    with (
        _backend(env, host, shift, serial) as robot,
        robot.open_camera(depth=depth) as camera,
        Arm(robot.host, load_limits(limits)) as arm,
    ):
        yield Station(robot, camera, arm)


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


def _board_there(robot: Backend, place: Place) -> AbstractContextManager[Any]:
    """The rig is given a board while this lasts; on hardware a person has put it there."""
    if robot.name == "real":
        return nullcontext()
    from simreal_envs.rig.board import ShownBoard

    return ShownBoard(robot.host, place)


def _store(station: Station, fit: Fit) -> None:
    import numpy as np
    from rich.console import Console
    from rich.table import Table

    from simreal_envs.robot.calibration import Calibration, now

    camera = station.camera
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
    if station.robot.name == "rig":
        _compare_with_truth(station, fit)


def _compare_with_truth(station: Station, fit: Fit) -> None:
    import numpy as np
    from scipy.spatial.transform import Rotation

    truth = station.robot.calibrated(station.camera).pose_in_base
    off_m = np.linalg.norm(fit.camera_in_base[:3, 3] - truth[:3, 3])
    turned = Rotation.from_matrix(fit.camera_in_base[:3, :3].T @ truth[:3, :3]).magnitude()
    typer.echo(f"the rig's true pose is {1000 * off_m:.2f} mm and {np.rad2deg(turned):.3f} degrees from it")
