"""Finding the camera's pose: from made-up corners, from rendered boards, and with the rig's robot."""

from __future__ import annotations

import time
from collections.abc import Iterator
from pathlib import Path

import cv2
import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from PIL import Image
from scipy.spatial.transform import Rotation
from typer.testing import CliRunner

from simreal_cli.main import app
from simreal_envs.cameras import THIRD_PERSON, Camera
from simreal_envs.errors import DataError
from simreal_envs.kinematics import forward, inverse
from simreal_envs.poses import pose
from simreal_envs.rig.board import BOARD, BOARD_IN_HAND, HAND_SHOWS_BOARD, model_with_board
from simreal_envs.rig.camera import SceneD435
from simreal_envs.rig.stereo import colour_camera
from simreal_envs.robot.board_views import HAND_IN_VIEW, board_from_touches, poses_around
from simreal_envs.robot.calibration import load_calibration
from simreal_envs.robot.charuco import Board, View
from simreal_envs.robot.handeye import HeldView, fit_fixed_board, fit_held_board
from simreal_envs.robot.overlay import GOOD_OVERLAP, Silhouette, compare
from simreal_envs.sim.renderer import Renderer
from simreal_envs.sim.scene import TabletopScene
from simreal_envs.spec import START_JOINTS_RAD
from simreal_envs.tasks import get_task

K = THIRD_PERSON.intrinsics
POSITION_M, ROTATION_DEG = 0.003, 0.3
"""What calibrating must reach."""


def distance(a: np.ndarray, b: np.ndarray) -> tuple[float, float]:
    """Between two poses, in m and degrees."""
    turned = Rotation.from_matrix(a[:3, :3].T @ b[:3, :3]).magnitude()
    return float(np.linalg.norm(a[:3, 3] - b[:3, 3])), float(np.rad2deg(turned))


def hands(count: int) -> list[np.ndarray]:
    return [hand for hand, _ in zip(poses_around(HAND_SHOWS_BOARD), range(count), strict=False)]


def made_up_views(camera: np.ndarray, held: np.ndarray, count: int, noise_px: float = 0.0) -> list[HeldView]:
    """What a camera would see of a board in the hand."""
    rng = np.random.default_rng(0)
    ids = np.arange(len(BOARD.corners_m))
    views = []
    for hand in hands(count):
        board = hand @ held
        pixels = Camera((480, 640), K, camera).project(BOARD.corners_m @ board[:3, :3].T + board[:3, 3])
        views.append(HeldView(hand, View(ids, pixels + noise_px * rng.standard_normal(pixels.shape))))
    return views


# --- the board ----------------------------------------------------------------------------------------


def test_corners_are_found_where_they_are() -> None:
    scale, per_square, margin = 8, 24, 40
    large = np.pad(BOARD.draw(per_square * scale), margin * scale, constant_values=200)
    small = cv2.resize(large, None, fx=1 / scale, fy=1 / scale, interpolation=cv2.INTER_AREA)
    view = BOARD.find(np.repeat(small[..., None], 3, axis=2), K)
    assert view is not None
    assert len(view.ids) == len(BOARD.corners_m)
    true = BOARD.corners_m[view.ids, :2] / BOARD.square_m * per_square + margin - 0.5
    np.testing.assert_allclose(view.pixels, true, atol=0.05)


def test_a_printed_board_says_how_large_it_is(tmp_path: Path) -> None:
    file = tmp_path / "board.png"
    done = CliRunner().invoke(app, ["calibrate", "board", str(file), "--square", "30"])
    assert done.exit_code == 0
    assert "150 x 120 mm" in done.output
    with Image.open(file) as picture:
        width_mm = picture.width / picture.info["dpi"][0] * 25.4
    assert width_mm == pytest.approx(150, abs=0.5)


# --- the fit ------------------------------------------------------------------------------------------


@settings(max_examples=15)
@given(
    st.lists(st.floats(-0.1, 0.1), min_size=6, max_size=6),
    st.lists(st.floats(-0.3, 0.3), min_size=6, max_size=6),
)
def test_exact_corners_give_the_exact_poses(camera_step: list[float], board_step: list[float]) -> None:
    camera = THIRD_PERSON.pose_in_base @ _step(camera_step)
    held = BOARD_IN_HAND @ _step([*board_step[:3], *(0.1 * np.array(board_step[3:]))])
    fit = fit_held_board(made_up_views(camera, held, 10), BOARD, K)
    np.testing.assert_allclose(fit.camera_in_base, camera, atol=1e-5)


def _step(values: list[float]) -> np.ndarray:
    return pose(Rotation.from_rotvec(values[:3]).as_matrix(), values[3:])


def test_the_uncertainty_is_that_of_repeated_calibrations() -> None:
    views = made_up_views(THIRD_PERSON.pose_in_base, BOARD_IN_HAND, 15, noise_px=0.3)
    fit = fit_held_board(views, BOARD, K)
    off_m, off_deg = distance(fit.camera_in_base, THIRD_PERSON.pose_in_base)
    assert off_m < 4 * fit.position_std_m < POSITION_M
    assert off_deg < 4 * np.rad2deg(fit.rotation_std_rad)
    assert fit.reprojection_rms_px == pytest.approx(0.3 * np.sqrt(2), rel=0.15)


def test_bad_views_are_refused_with_the_reason() -> None:
    camera = THIRD_PERSON.pose_in_base
    views = made_up_views(camera, BOARD_IN_HAND, 15)
    with pytest.raises(DataError, match="Only 5 views"):
        fit_held_board(views[:5], BOARD, K)
    still = [HeldView(views[0].hand_in_base, v.view) for v in views]
    with pytest.raises(DataError, match="turned too little"):
        fit_held_board(still, BOARD, K)
    with pytest.raises(DataError, match=r"is 36\.00 mm long, not 36\.72 mm"):
        fit_held_board(views, Board(square_m=1.02 * BOARD.square_m, marker_m=BOARD.marker_m), K)
    slipped = made_up_views(camera, BOARD_IN_HAND @ _step([0.02, 0.03, 0.03, 0, 0, 0]), 15)
    with pytest.raises(DataError, match="Did anything move"):
        fit_held_board([*views[:8], *slipped[8:]], BOARD, K)


def test_a_fixed_board_that_was_touched_gives_the_camera() -> None:
    board_in_base = pose(Rotation.from_euler("zx", [1.4, np.pi]).as_matrix(), [0.55, -0.1, 0.002])
    width, height = BOARD.size_m
    corners = np.array([(0, 0, 0), (width, 0, 0), (width, height, 0), (0, height, 0)])
    touches = corners @ board_in_base[:3, :3].T + board_in_base[:3, 3]
    found = board_from_touches(touches + 0.0005 * np.random.default_rng(0).standard_normal((4, 3)), BOARD)
    off_m, off_deg = distance(found, board_in_base)
    assert off_m < 0.002
    assert off_deg < 0.6
    pixels = THIRD_PERSON.project(BOARD.corners_m @ board_in_base[:3, :3].T + board_in_base[:3, 3])
    fit = fit_fixed_board([View(np.arange(len(pixels)), pixels)], BOARD, board_in_base, K)
    np.testing.assert_allclose(fit.camera_in_base, THIRD_PERSON.pose_in_base, atol=1e-5)
    with pytest.raises(DataError, match="mm from a board"):
        board_from_touches(touches[[1, 0, 2, 3]], BOARD)
    with pytest.raises(DataError, match="face down"):
        board_from_touches(touches[[1, 0, 3, 2]], BOARD)
    with pytest.raises(DataError, match="not seen"):
        fit_fixed_board([], BOARD, board_in_base, K)


# --- from rendered images -----------------------------------------------------------------------------


@pytest.fixture(scope="module")
def scene() -> TabletopScene:
    scene = TabletopScene(get_task("Lift"))
    scene.reset()
    return scene


@pytest.mark.parametrize("shift", ["none", "viewpoint+texture+light+noise"])
def test_rendered_boards_give_the_true_pose(scene: TabletopScene, shift: str) -> None:
    camera = SceneD435(model_with_board(str(scene.sim.model.get_xml()), "hand"), shift, seed=0)
    qpos = scene.sim.data.qpos.copy()
    views = []
    for hand in hands(24):
        joints = inverse(hand, START_JOINTS_RAD)
        if joints is not None:
            qpos[:7] = joints
            view = BOARD.find(camera.capture(qpos)[0], K)
            views += [HeldView(forward(joints), view)] if view else []
    camera.close()
    fit = fit_held_board(views, BOARD, K)
    off_m, off_deg = distance(fit.camera_in_base, colour_camera(shift).pose_in_base)
    assert off_m < POSITION_M / 3
    assert off_deg < ROTATION_DEG / 3


@pytest.fixture(scope="module")
def look(scene: TabletopScene) -> Iterator[tuple[np.ndarray, np.ndarray, np.ndarray]]:
    """Joints, and colour and depth of the robot in view."""
    joints = inverse(HAND_IN_VIEW, START_JOINTS_RAD)
    assert joints is not None
    scene.sim.data.qpos[:7] = joints
    scene.sim.forward()
    renderer = Renderer(scene.sim.model._model, THIRD_PERSON, ())
    colour, depth_m = renderer.render(scene.sim.data._data, depth=True)
    renderer.close()
    assert depth_m is not None
    return joints, colour, np.where(depth_m < 3, depth_m, 0).astype(np.float32)


def overlap(look: tuple[np.ndarray, np.ndarray, np.ndarray], step: list[float]) -> float:
    """With a calibration that is off by a step in the camera's frame."""
    joints, colour, depth_m = look
    camera = THIRD_PERSON.moved(THIRD_PERSON.pose_in_base @ _step(step))
    silhouette = Silhouette(camera)
    drawn = silhouette.mask(joints, gripper_width_m=0.04)
    silhouette.close()
    return compare(drawn, colour, depth_m, camera).overlap


def test_the_drawn_robot_covers_the_real_one_only_if_the_calibration_holds(
    look: tuple[np.ndarray, np.ndarray, np.ndarray],
) -> None:
    assert overlap(look, [0, 0, 0, 0, 0, 0]) > 0.97
    assert overlap(look, [0, 0, 0, 0.025, 0, 0]) < GOOD_OVERLAP
    assert overlap(look, [0, np.deg2rad(3), 0, 0, 0, 0]) < GOOD_OVERLAP


def test_a_robot_out_of_view_cannot_be_checked() -> None:
    nothing = np.zeros((480, 640))
    with pytest.raises(DataError, match="into the camera's view"):
        compare(nothing > 0, np.zeros((480, 640, 3), np.uint8), nothing, THIRD_PERSON)


# --- with the rig's robot -----------------------------------------------------------------------------


SHIFT = "viewpoint:0.2"
"""Where the rig's camera stands."""


@pytest.fixture(scope="module")
def host(rig_camera: None) -> Iterator[str]:
    """Address of a virtual rig with a camera."""
    from simreal_envs.rig.launch import Rig

    with Rig("Lift", SHIFT) as rig:
        yield rig.host


@pytest.fixture
def config(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """The folder that calibrations are stored in."""
    monkeypatch.setenv("SIMREAL_CONFIG", str(tmp_path))
    return tmp_path


def off(shift: str = SHIFT) -> tuple[float, float]:
    """How far the stored pose of the rig's camera is from the true one, in m and degrees."""
    from simreal_envs.rig.stereo import serial_number

    true = colour_camera(shift).pose_in_base
    return distance(load_calibration(serial_number(true)).pose_camera_in_base, true)


def press(*_: object) -> None:
    """Ctrl-C."""
    raise KeyboardInterrupt


@pytest.mark.slow
@pytest.mark.alone
@pytest.mark.usefixtures("rig_camera", "config")
def test_a_board_that_the_rigs_fingertips_touch_gives_its_camera() -> None:
    """In a rig that the program starts itself."""
    found = CliRunner().invoke(app, ["calibrate", "fixed", "--env", "rig"])
    assert found.exit_code == 0, found.output
    off_m, off_deg = off("none")
    assert off_m < 0.005  # one oblique view; with the end effector in the fingertips' place 0.011
    assert off_deg < 2 * ROTATION_DEG


@pytest.mark.slow
@pytest.mark.alone
def test_calibrating_and_checking_on_the_rig(
    host: str, config: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    run, picture = CliRunner().invoke, config / "check.png"
    at = ["--env", "rig", "--host", host]
    unknown = run(app, ["calibrate", "check", *at])
    assert unknown.exit_code == 1
    assert "Run `simreal calibrate held`" in " ".join(unknown.output.split())
    found = run(app, ["calibrate", "held", *at, "--views", "8"])
    assert found.exit_code == 0, found.output
    off_m, off_deg = off()
    assert off_m < POSITION_M
    assert off_deg < ROTATION_DEG
    with monkeypatch.context() as patch:
        patch.setattr("simreal_cli.calibrate_steps.lay_over", press)
        stopped = run(app, ["calibrate", "check", *at, "--picture", str(picture)])
    assert (stopped.exit_code, stopped.stderr) == (130, "error: interrupted.\n")
    assert not picture.exists()
    checked = run(app, ["calibrate", "check", *at, "--picture", str(picture)])
    assert checked.exit_code == 0, checked.output
    with Image.open(picture) as drawn:
        assert drawn.size == (640, 480)


@pytest.mark.slow
@pytest.mark.alone
def test_ctrl_c_while_the_arm_turns_the_board_stores_nothing(host: str, config: Path) -> None:
    from operating import Person

    with Person("calibrate", "held", "--env", "rig", "--host", host) as person:
        person.wait_for("views")
        person.type("\x03")
        assert person.end() == 130
    assert "error: interrupted." in person.screen
    assert "Traceback" not in person.screen
    assert list(config.iterdir()) == []


@pytest.mark.slow
@pytest.mark.alone
def test_a_person_who_leads_the_arm_from_view_to_view_calibrates(host: str, config: Path) -> None:
    from operating import Person

    from simreal_envs.rig.control import RigControl

    by_hand = ("calibrate", "held", "--env", "rig", "--host", host, "--by-hand", "--views", "8")
    with RigControl(host) as control, Person(*by_hand) as person:
        for answered, hand in enumerate(hands(24)):  # some do not show the board
            give_up_s = time.monotonic() + 60
            while person.look(0.1).count("View") == answered and "stored: " not in person.screen:
                assert time.monotonic() < give_up_s, person.screen
            if "stored: " in person.screen:
                break
            control.pull(hand)
            person.look(2.5)
            control.pull(None)
            person.type("\n")
        assert person.end() == 0, person.screen
    off_m, off_deg = off()
    assert off_m < POSITION_M
    assert off_deg < ROTATION_DEG
