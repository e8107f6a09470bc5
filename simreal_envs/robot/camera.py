"""An Intel RealSense as a source of the latest image and its age."""

from __future__ import annotations

import atexit
import logging
import threading
import time
from types import TracebackType
from typing import Any

import numpy as np

from simreal_envs.errors import RobotError, UsageError
from simreal_envs.robot.frame import Frame, Stamp
from simreal_envs.robot.librealsense import librealsense
from simreal_envs.spec import FloatArray

log = logging.getLogger("simreal.robot")

HEIGHT, WIDTH, FPS = 480, 640, 30
FIRST_FRAME_S = 5.0
"""How long a camera may take to start streaming."""
NO_DISTORTION = 0.01
"""A D435's colour image comes rectified, with coefficients of zero; those of a D455 are larger."""
SILENCE_S = 0.5
"""After so long without a frame the camera is looked for again."""
START_S = 2.0
"""The first frame after a start may take this long."""
STREAM_SILENCE_S = 2.0
"""After so long without a frame of one stream, while the other goes on, the camera is started anew."""
PAUSE_S = 0.1
"""Between attempts to start a camera again."""


class RealSense:
    """A streaming camera: colour, and depth aligned to it, 640 x 480 at 30 fps.

    A thread of its own takes the frames, so that :meth:`latest` never waits. After a stall or an unplugged
    cable it goes on by itself as soon as the camera is back, whatever librealsense says meanwhile.

    Args:
        depth: stream depth too.
        serial: of the camera; needed only if several are plugged in.
        context: ``pyrealsense2.context`` to find cameras in; the default is the machine's.

    Raises:
        RobotError: no camera, or it does not stream; says what to do.
        UsageError: there is no camera with this serial, or several and none was named.
        MissingDependencyError: the extra ``real`` is not installed.
    """

    size = (HEIGHT, WIDTH)

    def __init__(self, depth: bool = True, serial: str | None = None, context: Any = None) -> None:
        self._rs = librealsense()
        self._context = context or self._rs.context()
        self._named = serial
        self._depth = depth
        self._align = self._rs.align(self._rs.stream.color)
        self._frame: Frame | None = None
        self._seen: dict[str, tuple[Stamp, float]] = {}
        self._fault = ""
        self._ended = threading.Event()
        try:
            self.serial = choose_camera(self._serials(), serial)
            self._pipeline = self._started()
        except RuntimeError as error:
            raise RobotError(f"The camera cannot be opened: {error}. Plug it out and in again.") from error
        self._thread = threading.Thread(target=self._run, name="realsense", daemon=True)
        self._thread.start()
        atexit.register(self.close)  # librealsense aborts a program that ends while streaming
        try:
            self._wait_for_first_frame()
        except RobotError:
            self.close()
            raise

    def latest(self, max_age_s: float = np.inf) -> Frame:
        """The newest frame.

        Raises:
            RobotError: it is older than ``max_age_s``; names the cause, and the stream if only one is silent.
        """
        assert self._frame is not None
        frame = self._frame
        if frame.age_s > max_age_s:
            raise RobotError(
                f"Camera {self.serial}: the latest image is {frame.age_s:.2f} s old, "
                f"{max_age_s:.2f} s at most is allowed: {self._fault or frame.why_old(max_age_s)}"
            )
        return frame

    def close(self) -> None:
        """Stop streaming."""
        atexit.unregister(self.close)
        self._ended.set()
        self._thread.join()

    def __enter__(self) -> RealSense:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.close()

    # --- inside -----------------------------------------------------------------------------------

    def _serials(self) -> list[str]:
        number = self._rs.camera_info.serial_number
        return [device.get_info(number) for device in self._context.query_devices()]

    def _started(self) -> Any:
        """A pipeline that streams; sets the intrinsics.

        Raises:
            RobotError: the camera does not stream.
            RuntimeError: it went away meanwhile, or is not whole.
        """
        rs = self._rs
        config, pipeline = rs.config(), rs.pipeline(self._context)
        if self._named:
            config.enable_device(self._named)
        config.enable_stream(rs.stream.color, WIDTH, HEIGHT, rs.format.rgb8, FPS)
        if self._depth:
            config.enable_stream(rs.stream.depth, WIDTH, HEIGHT, rs.format.z16, FPS)
        try:
            profile = pipeline.start(config)
        except RuntimeError as error:
            raise RobotError(
                f"Camera {self.serial} does not stream {WIDTH} x {HEIGHT} at {FPS} fps ({error}). Is another "
                "program using it, and is it plugged into a USB 3 port? `simreal doctor --env real` tests it."
            ) from error
        try:
            self._set_up(profile)
        except BaseException:
            _stop(pipeline)
            raise
        return pipeline

    def _set_up(self, profile: Any) -> None:
        rs, device = self._rs, profile.get_device()
        if (other := device.get_info(rs.camera_info.serial_number)) != self.serial:
            raise RobotError(f"Camera {other} is plugged in where {self.serial} was.")
        for sensor in device.query_sensors():
            if sensor.supports(rs.option.auto_exposure_priority):
                sensor.set_option(rs.option.auto_exposure_priority, 0)  # else dim light lowers the rate
        k = profile.get_stream(rs.stream.color).as_video_stream_profile().get_intrinsics()
        if np.abs(k.coeffs).max() > NO_DISTORTION:
            log.warning("Camera %s: lens distortion %s is not corrected for.", self.serial, k.coeffs)
        self.intrinsics: FloatArray = np.array([[k.fx, 0.0, k.ppx], [0.0, k.fy, k.ppy], [0.0, 0.0, 1.0]])
        self._depth_unit_m = device.first_depth_sensor().get_depth_scale() if self._depth else 0.0

    def _run(self) -> None:
        silent = ""  # the stream for which the camera was started anew
        patience_s = START_S
        while not self._ended.is_set():
            try:
                frames = self._pipeline.wait_for_frames(round(1000 * patience_s))
                self._frame = frame = self._read(frames)
            except RuntimeError as error:  # librealsense's only kind
                self._fault = silent or f"it is plugged in but sends nothing ({error})."
                patience_s = START_S
                self._restart()
                continue
            self._fault, silent, patience_s = "", "", SILENCE_S
            if frame.age_s > STREAM_SILENCE_S:
                self._fault = silent = frame.why_old(SILENCE_S)
                patience_s = START_S
                self._restart()
        _stop(self._pipeline)

    def _read(self, frames: Any) -> Frame:
        arrived_s = time.monotonic()
        stamps = [self._stamp("colour", frames.get_color_frame(), arrived_s)]
        depth_m = None
        if self._depth:
            stamps.append(self._stamp("depth", frames.get_depth_frame(), arrived_s))
            frames = self._align.process(frames)
            raw = np.asanyarray(frames.get_depth_frame().get_data())
            depth_m = raw * np.float32(self._depth_unit_m)
        return Frame(np.array(frames.get_color_frame().get_data()), depth_m, tuple(stamps))

    def _stamp(self, stream: str, image: Any, arrived_s: float) -> Stamp:
        """The stamp of an image: the last stamp again if the image is the last one again."""
        number, device_ms = image.get_frame_number(), image.get_timestamp()
        before = self._seen.get(stream)
        if before is None or (before[0].number, before[1]) != (number, device_ms):
            self._seen[stream] = (Stamp(stream, number, arrived_s), device_ms)
        return self._seen[stream][0]

    def _restart(self) -> None:
        """Close a silent camera and try to open it again, until it is back or this object is closed."""
        _stop(self._pipeline)
        while not self._ended.wait(PAUSE_S):
            try:
                if self.serial in self._serials():
                    self._pipeline = self._started()
                    return
                self._fault = "it is unplugged; check the cable at both ends."
            except (RobotError, RuntimeError) as error:
                # Keep only the error's text: its traceback would hold a device that librealsense must forget.
                self._fault = f"it cannot be started again: {error}"

    def _wait_for_first_frame(self) -> None:
        give_up = time.monotonic() + FIRST_FRAME_S
        while self._frame is None:
            if time.monotonic() > give_up:
                raise RobotError(
                    f"Camera {self.serial} sent no image within {FIRST_FRAME_S:.0f} s: {self._fault} Plug it "
                    "out and in again, into a USB 3 port of the machine itself."
                )
            time.sleep(0.01)


def _stop(pipeline: Any) -> None:
    try:
        pipeline.stop()
    except RuntimeError:  # it was not streaming any more
        return


def choose_camera(plugged: list[str], asked: str | None) -> str:
    """The serial to open.

    >>> choose_camera(["123"], None)
    '123'

    Raises:
        RobotError: none is plugged in.
        UsageError: another than the ones there was asked for, or several are there and none was.
    """
    if not plugged:
        raise RobotError(
            "No RealSense camera found. Plug it into a USB 3 port; if it is plugged in, install "
            "librealsense's udev rules (99-realsense-libusb.rules) and plug it in again."
        )
    if asked is None and len(plugged) > 1:
        raise UsageError(f"Several cameras are plugged in; name one of: {', '.join(plugged)}.")
    if asked is not None and asked not in plugged:
        raise UsageError(f"No camera with serial {asked!r}. Plugged in: {', '.join(plugged)}.")
    return asked or plugged[0]
