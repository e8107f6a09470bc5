"""The rig's camera, through the real librealsense, from a state that the test publishes."""

from __future__ import annotations

import json
import re
import subprocess
import sys
import threading
import time
from collections.abc import Iterator
from typing import Any

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from simreal_envs.errors import DataError, MissingDependencyError, RobotError, UsageError
from simreal_envs.latest import Latest
from simreal_envs.rig.camera import SceneD435
from simreal_envs.rig.stereo import BASELINE_M, DEPTH_INTRINSICS, FAULTS, SUBPIXEL_RMS, stereo_depth_mm
from simreal_envs.rig.world import STATE
from simreal_envs.robot.calibration import Calibration, calibration_file, load_calibration, now
from simreal_envs.robot.camera import RealSense, choose_camera
from simreal_envs.robot.frame import Stamp
from simreal_envs.robot.images import mark_old
from simreal_envs.shifts import parse_shift
from simreal_envs.sim.physics import Physics
from simreal_envs.sim.renderer import Renderer
from simreal_envs.sim.scene import TabletopScene
from simreal_envs.tasks import get_task

HOST, TASK, SHIFT = "127.77.0.1", "Stack", "viewpoint:0.3+texture"
HAND_IN_VIEW_RAD = np.array([0.0, 0.35, 0.0, -1.9, 0.0, 2.3, 0.785])
pytestmark = pytest.mark.alone


@pytest.fixture(scope="module")
def physics() -> Physics:
    task = get_task(TASK)
    scene = TabletopScene(task)
    scene.reset()
    physics = Physics(scene.sim.model._model, scene.sim.data._data, task.objects)
    physics.reset(HAND_IN_VIEW_RAD, {"cubeA": (0.05, 0.05, 0.3), "cubeB": (0.1, -0.1, 0.0)})
    return physics


@pytest.fixture(scope="module")
def drawn(physics: Physics) -> Iterator[tuple[SceneD435, Renderer]]:
    """The rig's camera, and the whole scene through its colour sensor."""
    camera = SceneD435(physics.model, SHIFT, seed=0)
    whole = Renderer(physics.model, camera.camera, parse_shift(SHIFT))
    yield camera, whole
    whole.close()
    camera.close()


class Bench:
    """A camera process, and the state and faults that a rig would publish."""

    def __init__(self, physics: Physics) -> None:
        self.physics = physics
        self._state = Latest(f"rig-{HOST}-state", STATE, create=True)
        self._faults = Latest(f"rig-{HOST}-faults", FAULTS, create=True)
        self.publish(physics.data.qpos)
        arguments = json.dumps({"host": HOST, "task": TASK, "shift": SHIFT})
        command = [sys.executable, "-m", "simreal_envs.rig.process", "camera", arguments]
        self._process = subprocess.Popen(command, stdin=subprocess.PIPE, cwd="/")

    def publish(self, qpos: np.ndarray) -> None:
        record = np.zeros((), STATE)
        record["qpos"][: len(qpos)] = qpos
        self._state.write(record)

    def fault(self, **fields: int) -> None:
        record = np.zeros((), FAULTS)
        for name, value in fields.items():
            record[name] = value
        self._faults.write(record)

    def close(self) -> None:
        self._process.communicate()  # its input ends, and so does it
        self._state.close()
        self._faults.close()


@pytest.fixture(scope="module")
def bench(physics: Physics, rig_camera: None) -> Iterator[Bench]:
    bench = Bench(physics)
    yield bench
    bench.close()


@pytest.fixture(scope="module")
def camera(bench: Bench) -> Iterator[RealSense]:
    from simreal_envs.rig.d435 import SoftwareD435

    give_up = time.monotonic() + 30
    while True:
        try:
            device = SoftwareD435(HOST)
            break
        except RobotError:
            assert time.monotonic() < give_up
            time.sleep(0.1)
    with device, RealSense(context=device.context) as camera:
        yield camera


def wait_for(condition: object, seconds: float = 5.0) -> None:
    give_up = time.monotonic() + seconds
    while not condition():  # type: ignore[operator]
        assert time.monotonic() < give_up
        time.sleep(0.02)


def after_next_frames(camera: RealSense, frames: int = 3) -> np.ndarray:
    number = camera.latest().number
    wait_for(lambda: camera.latest().number >= number + frames)
    return camera.latest().colour


# --- what the sensor measures -------------------------------------------------------------------------


@settings(max_examples=20)
@given(st.floats(0.3, 3.0), st.integers(0, 2**31))
def test_depth_noise_grows_with_the_square_of_the_distance(distance_m: float, seed: int) -> None:
    normal = np.random.default_rng(seed).standard_normal((480, 640), dtype=np.float32)
    depth_mm = stereo_depth_mm(np.full((480, 640), distance_m, np.float32), normal)
    focal_baseline = DEPTH_INTRINSICS[0, 0] * BASELINE_M
    blind = int(np.ceil(focal_baseline / distance_m))
    assert (depth_mm[:, : blind - 1] == 0).all()
    seen = depth_mm[:, blind + 1 :]
    assert (seen > 0).all()
    expected_mm = 1000 * distance_m**2 * SUBPIXEL_RMS / focal_baseline
    assert seen.std() == pytest.approx(expected_mm, rel=0.1, abs=0.3)
    assert seen.mean() == pytest.approx(1000 * distance_m, rel=0.01)


def test_what_a_near_thing_hides_from_the_other_imager_is_a_hole_on_its_left() -> None:
    depth_m = np.full((480, 640), 1.0, np.float32)
    depth_m[100:200, 300:400] = 0.5
    hole = stereo_depth_mm(depth_m, np.zeros_like(depth_m)) == 0
    width = round(DEPTH_INTRINSICS[0, 0] * BASELINE_M * (1 / 0.5 - 1 / 1.0))
    assert hole[150, 300 - width + 1 : 300].all()
    assert not hole[150, 300:].any()
    assert not hole[150, 50 : 300 - width - 1].any()
    assert not hole[50, 50:].any()


def test_drawing_only_what_moves_gives_the_pixels_of_the_whole_scene(
    physics: Physics, drawn: tuple[SceneD435, Renderer]
) -> None:
    camera, whole = drawn
    for cube_x in (0.0, 0.08):
        physics.reset(HAND_IN_VIEW_RAD, {"cubeA": (cube_x, 0.05, 0.3), "cubeB": (0.1, -0.1, 0.0)})
        colour, _ = camera.capture(physics.data.qpos)
        np.testing.assert_array_equal(colour, whole.render(physics.data)[0])


# --- through librealsense -----------------------------------------------------------------------------


def test_images_arrive_at_their_rate_and_are_fresh(camera: RealSense) -> None:
    first, start_s = camera.latest(max_age_s=1.0), time.monotonic()
    time.sleep(2.0)
    last = camera.latest(max_age_s=0.5)
    rate = (last.number - first.number) / (time.monotonic() - start_s)
    assert 15 < rate < 31  # 30 unless others load the machine
    assert 0 <= last.age_s < 0.5
    assert (last.colour.shape, last.colour.dtype) == ((480, 640, 3), np.uint8)


def test_colour_is_what_was_drawn_and_depth_is_aligned_to_it(
    bench: Bench, camera: RealSense, physics: Physics, drawn: tuple[SceneD435, Renderer]
) -> None:
    scene, renderer = drawn
    bench.publish(physics.data.qpos)
    colour = after_next_frames(camera)
    depth_m = camera.latest().depth_m
    assert depth_m is not None
    true_colour, true_depth_m = renderer.render(physics.data, depth=True)
    np.testing.assert_array_equal(colour, true_colour)
    np.testing.assert_allclose(camera.intrinsics, scene.camera.intrinsics, atol=1e-4)
    assert true_depth_m is not None
    read = depth_m > 0
    assert 0.8 < read.mean() < 1.0  # nothing is read at edges and along the left border
    error_m = np.abs(depth_m - true_depth_m)[read]
    assert np.median(error_m) < 0.003
    assert np.mean(error_m < 0.02) > 0.97


def test_what_moves_in_the_rig_moves_in_the_image(bench: Bench, camera: RealSense, physics: Physics) -> None:
    before = after_next_frames(camera)
    qpos = physics.data.qpos.copy()
    qpos[physics.model.joint("cubeA_joint0").qposadr[0]] += 0.05
    bench.publish(qpos)
    assert (after_next_frames(camera) != before).any(axis=-1).sum() > 500
    bench.publish(physics.data.qpos)


@pytest.mark.parametrize(
    ("fault", "cause"), [("camera_stall", "plugged in but sends nothing"), ("camera_unplug", "is unplugged")]
)
def test_a_silent_camera_is_an_error_with_its_cause_until_it_is_back(
    bench: Bench, camera: RealSense, fault: str, cause: str
) -> None:
    bench.fault(**{fault: 1})
    time.sleep(1.5)
    with pytest.raises(RobotError, match=cause):
        camera.latest(max_age_s=0.2)
    old = camera.latest()
    bench.fault()
    wait_for(lambda: camera.latest().number > old.number)
    assert camera.latest(max_age_s=0.5).age_s < 0.5


# --- one stream silent, restarts that fail: a device of librealsense that the test feeds ------------------


class Fed:
    """A software device that sends on the streams in ``alive``; can be unplugged, and replaced by another."""

    SERIAL = "123456789012"

    def __init__(self) -> None:
        from simreal_envs.robot.librealsense import librealsense

        self.rs = librealsense()
        self.context = self.rs.context()
        self.alive = {"colour", "depth"}
        self.device: Any = None
        self._others: list[Any] = []
        self._ended = threading.Event()
        self.plug()
        self._thread = threading.Thread(target=self._feed, daemon=True)
        self._thread.start()

    def plug(self) -> None:
        from simreal_envs.rig.d435 import _Device

        device = _Device(self.rs, self.SERIAL)
        device.plug_into(self.context)
        self._others, self.device = [], device

    def plug_other(self, other: str) -> None:
        """``no serial``: one without a serial number, for which librealsense then raises an error.
        ``another camera``: one with another number; ``in its place``: the same beside a ruin of ours.
        """
        from simreal_envs.rig.d435 import _Device

        self.device, self._others = None, []
        if other != "another camera":
            ruin = self.rs.software_device()
            if other == "in its place":
                ruin.register_info(self.rs.camera_info.serial_number, self.SERIAL)
            ruin.add_to(self.context)
            self._others.append(ruin)
        if other != "no serial":
            whole = _Device(self.rs, "9")
            whole.plug_into(self.context)
            self._others.append(whole)

    def unplug(self) -> None:
        self.device, self._others = None, []

    def _feed(self) -> None:
        number = 0
        while not self._ended.wait(1 / 30):
            number += 1
            if device := self.device:
                colour = np.full((480, 640, 3), number % 256, np.uint8)
                depth_mm = np.full((480, 640), 400 + number, np.uint16)
                alive = self.alive
                device.send(
                    colour if "colour" in alive else None, depth_mm if "depth" in alive else None, number
                )
            del device

    def close(self) -> None:
        self._ended.set()
        self._thread.join()
        self.unplug()


@pytest.fixture
def fed(rig_camera: None) -> Iterator[Fed]:
    device = Fed()
    yield device
    device.close()


def is_fresh(camera: RealSense) -> bool:
    return camera.latest().age_s < 0.2


@pytest.mark.parametrize(("silent", "other"), [("colour", "depth"), ("depth", "colour")])
def test_an_image_is_as_old_as_the_stream_that_is_silent(fed: Fed, silent: str, other: str) -> None:
    with RealSense(context=fed.context) as camera:
        wait_for(lambda: is_fresh(camera))
        fed.alive = {other}
        stopped_s = time.monotonic()
        numbers = set()
        for _ in range(4):
            time.sleep(0.4)
            frame = camera.latest()
            assert frame.age_s == pytest.approx(time.monotonic() - stopped_s, abs=0.3)
            assert frame.oldest.stream == silent
            numbers.add(frame.number)
            going_on = next(stamp for stamp in frame.stamps if stamp.stream == other)
            assert going_on.age_s < 0.3
            assert going_on.number > frame.number
            with pytest.raises(RobotError, match=f"its {silent} stream is silent.*, {other} goes on"):
                camera.latest(max_age_s=0.2)
        assert len(numbers) == 1
        time.sleep(1.5)  # the camera is started anew for it; the message still names the stream
        with pytest.raises(RobotError, match=f"its {silent} stream is silent"):
            camera.latest(max_age_s=0.2)
        fed.alive = {"colour", "depth"}
        wait_for(lambda: is_fresh(camera))
        assert camera.latest(max_age_s=0.5).number > max(numbers)


def test_without_depth_only_colour_is_judged(fed: Fed) -> None:
    with RealSense(depth=False, context=fed.context) as camera:
        fed.alive = {"colour"}
        time.sleep(1.0)
        assert [stamp.stream for stamp in camera.latest(max_age_s=0.3).stamps] == ["colour"]
        fed.alive = {"depth"}
        time.sleep(0.5)
        with pytest.raises(RobotError, match=r"is .* s old"):
            camera.latest(max_age_s=0.2)


REASONS = {
    "nothing": "it is unplugged",
    "another camera": "it is unplugged",
    "no serial": "cannot be started again: info",
    "in its place": "cannot be started again: Camera 9 is plugged in where 123456789012 was",
}


@pytest.mark.parametrize("between", REASONS)
def test_whatever_librealsense_says_while_a_camera_is_started_again_it_comes_back(
    fed: Fed, between: str
) -> None:
    with RealSense(context=fed.context) as camera:
        for _ in range(2):
            wait_for(lambda: is_fresh(camera), 10)
            if between == "nothing":
                fed.unplug()
            else:
                fed.plug_other(between)
            wait_for(lambda: REASONS[between] in old_image(camera), 10)
            fed.unplug()
            wait_for(lambda: "it is unplugged" in old_image(camera), 10)
            fed.plug()
        wait_for(lambda: is_fresh(camera), 10)


def old_image(camera: RealSense) -> str:
    """What is said about an image that is too old."""
    try:
        camera.latest(max_age_s=0.2)
    except RobotError as error:
        return str(error)
    return ""


def test_a_camera_that_is_plugged_in_and_out_all_the_time_comes_back(fed: Fed) -> None:
    with RealSense(context=fed.context) as camera:
        for i in range(12):
            fed.unplug()
            time.sleep(0.05 * (i % 4))
            fed.plug()
            time.sleep(0.05 * (i % 3) + 0.6 * (i % 2))
        wait_for(lambda: is_fresh(camera), 10)


def test_a_camera_that_cannot_be_opened_is_one_clear_error(fed: Fed) -> None:
    fed.plug_other("no serial")
    with pytest.raises(RobotError, match="cannot be opened: info"):
        RealSense(context=fed.context)


def test_doctor_counts_each_stream_and_names_the_silent_one(fed: Fed) -> None:
    from simreal_cli.doctor_robot import _frame_rate

    with RealSense(context=fed.context) as camera:
        wait_for(lambda: is_fresh(camera))
        found = _frame_rate(camera)
        assert re.fullmatch(r"colour \d+ Hz, depth \d+ Hz of 30", found.found)
        fed.alive = {"depth"}
        time.sleep(0.2)
        found = _frame_rate(camera)
        assert found.status == "fail"
        assert "its colour stream is silent" in found.found


def test_an_old_image_is_grey_and_says_so_in_the_live_view() -> None:
    colour = np.zeros((480, 640, 3), np.uint8)
    colour[..., 1] = 200
    marked = mark_old(colour, Stamp("colour", 7, time.monotonic() - 3.0))
    assert marked.shape == colour.shape
    plain = marked[100:]
    assert (plain == plain[..., :1]).all()
    assert (marked[:50] == (255, 64, 64)).all(axis=-1).sum() > 500


@pytest.mark.usefixtures("rig_camera")
def test_without_a_rig_the_error_says_how_to_start_one() -> None:
    from simreal_envs.rig.d435 import SoftwareD435

    with pytest.raises(RobotError, match=r"simreal rig .*--host 127\.77\.0\.9"):
        SoftwareD435("127.77.0.9")


def test_with_a_library_that_has_no_such_camera_the_error_says_which_one_has(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    pytest.importorskip("libusb_package", reason="needs the extra 'real'")
    from simreal_envs.rig import d435

    monkeypatch.setattr(d435, "version", {"pyrealsense2": "2.59.1.11053"}.__getitem__)
    with pytest.raises(MissingDependencyError, match=r"2\.59\.1\.11053: pip install pyrealsense2==2\.54"):
        d435.SoftwareD435("127.77.0.9")


def test_the_camera_is_chosen_by_serial() -> None:
    assert choose_camera(["1", "2"], "2") == "2"
    with pytest.raises(RobotError, match="USB 3"):
        choose_camera([], None)
    with pytest.raises(UsageError, match="1, 2"):
        choose_camera(["1", "2"], None)
    with pytest.raises(UsageError, match=r"'3'.*1, 2"):
        choose_camera(["1", "2"], "3")


# --- the calibration file -----------------------------------------------------------------------------


def test_a_calibration_is_read_as_it_was_written(tmp_path: object, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("SIMREAL_CONFIG", str(tmp_path))
    written = Calibration("123", np.eye(4), np.eye(3), 15, 0.3, 1e-3, 1e-3, now())
    path = written.save()
    read = load_calibration("123")
    np.testing.assert_array_equal(read.pose_camera_in_base, np.eye(4))
    assert (read.views, read.date, read.reprojection_rms_px) == (15, written.date, 0.3)
    path.write_text(json.dumps(json.loads(path.read_text()) | {"intrinsics": [1, 2]}))
    with pytest.raises(DataError, match="intrinsics"):
        load_calibration("123")


def test_a_camera_without_calibration_names_the_command(
    tmp_path: object, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("SIMREAL_CONFIG", str(tmp_path))
    with pytest.raises(DataError, match="simreal calibrate"):
        load_calibration("456")
    assert calibration_file("456").parent.parent == tmp_path
