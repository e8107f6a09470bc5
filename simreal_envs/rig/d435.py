"""The rig's camera as librealsense sees it: a software device in the client's own process.

Everything after the device (pipeline, synchronising, aligning) is the same code as for a camera on USB.
"""

from __future__ import annotations

import atexit
import ctypes
import threading
import time
from importlib.metadata import version
from types import TracebackType
from typing import Any

import numpy as np

from simreal_envs.cameras import Camera
from simreal_envs.errors import MissingDependencyError, RobotError
from simreal_envs.latest import Latest
from simreal_envs.rig.stereo import (
    BASELINE_M,
    COLOUR_INTRINSICS,
    DEPTH_IN_COLOUR,
    DEPTH_INTRINSICS,
    FPS,
    FRAMES,
    serial_number,
)
from simreal_envs.robot.librealsense import librealsense
from simreal_envs.spec import FloatArray

HEIGHT, WIDTH = 480, 640
DEPTH_UNIT_M = 0.001
POLL_S = 0.002
PATIENCE_S = 20.0
PYREALSENSE2 = "2.54.2.5684"
"""Newer ones do not let a pipeline find a software device."""


class SoftwareD435:
    """The camera of the rig at ``host``; give :attr:`context` to ``RealSense(context=...)``.

    Attributes:
        context: ``pyrealsense2.context`` that holds this one camera.
        camera: the colour sensor with its true pose, which on hardware only a calibration gives.

    Raises:
        RobotError: there is no rig at the address.
        MissingDependencyError: the extra ``real`` is not installed, or its librealsense has no such cameras.
    """

    def __init__(self, host: str) -> None:
        self._rs = librealsense()
        if (installed := version("pyrealsense2")) != PYREALSENSE2:
            raise MissingDependencyError(
                f"The virtual rig's camera does not work with pyrealsense2 {installed}: pip install "
                f"pyrealsense2=={PYREALSENSE2} (which needs Python 3.10 or 3.11)"
            )
        try:
            self._frames = Latest(f"rig-{host}-camera", FRAMES)
        except FileNotFoundError as error:
            raise RobotError(
                f"No rig with a camera runs at {host}. Start one, with your task: "
                f"simreal rig --task Stack --host {host}"
            ) from error
        frame = self._first_frame(host)
        self.camera = Camera((HEIGHT, WIDTH), COLOUR_INTRINSICS, frame["pose_camera_in_base"])
        self._serial = serial_number(self.camera.pose_in_base)
        self.context = self._rs.context()
        self._device: _Device | None = _Device(self._rs, self._serial)
        self._device.plug_into(self.context)
        self._ended = threading.Event()
        self._thread = threading.Thread(target=self._run, name="d435", daemon=True)
        self._thread.start()
        atexit.register(self.close)

    def close(self) -> None:
        """Stop feeding frames, and take the device away."""
        atexit.unregister(self.close)
        self._ended.set()
        self._thread.join()
        self._device = None

    def __enter__(self) -> SoftwareD435:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.close()

    def _first_frame(self, host: str) -> np.ndarray:
        opened_s = time.monotonic()
        while (frame := self._frames.read())["time_s"] < opened_s:  # a dead rig's memory holds old ones
            if time.monotonic() > opened_s + PATIENCE_S:
                raise RobotError(f"The camera of the rig at {host} has sent no image in {PATIENCE_S:.0f} s.")
            time.sleep(POLL_S)
        return frame

    def _run(self) -> None:
        records, number = 0, 0
        while not self._ended.wait(POLL_S):
            if self._frames.written == records:
                continue
            records, frame = self._frames.written, self._frames.read()
            if not frame["plugged"]:
                self._device = None  # without a reference to it librealsense removes the device
            elif self._device is None:
                self._device = _Device(self._rs, self._serial)
                self._device.plug_into(self.context)
            if self._device is not None and frame["number"] != number:
                number = int(frame["number"])
                self._device.send(frame["colour"], frame["depth_mm"], number)


class _Device:
    """A librealsense software device with a D435's two sensors."""

    def __init__(self, rs: Any, serial: str) -> None:
        self._rs, self._device = rs, rs.software_device()
        for key, value in (
            (rs.camera_info.name, "Intel RealSense D435 (virtual rig)"),
            (rs.camera_info.serial_number, serial),
            (rs.camera_info.product_line, "D400"),
        ):
            self._device.register_info(key, value)
        self._stereo = self._device.add_sensor("Stereo Module")
        self._rgb = self._device.add_sensor("RGB Camera")
        depth = self._stream(rs.stream.depth, rs.format.z16, 0, 2, DEPTH_INTRINSICS)
        colour = self._stream(rs.stream.color, rs.format.rgb8, 1, 3, COLOUR_INTRINSICS)
        self._depth_profile = self._stereo.add_video_stream(depth).as_video_stream_profile()
        self._colour_profile = self._rgb.add_video_stream(colour).as_video_stream_profile()
        self._stereo.add_read_only_option(rs.option.depth_units, DEPTH_UNIT_M)
        self._stereo.add_read_only_option(rs.option.stereo_baseline, 1000 * BASELINE_M)
        to_colour = rs.extrinsics()
        to_colour.rotation = DEPTH_IN_COLOUR[:3, :3].T.ravel().tolist()  # column by column
        to_colour.translation = DEPTH_IN_COLOUR[:3, 3].tolist()
        self._depth_profile.register_extrinsics_to(self._colour_profile, to_colour)
        self._device.create_matcher(rs.matchers.default)

    def plug_into(self, context: Any) -> None:
        """Let the context find it."""
        self._device.add_to(context)

    def send(self, colour: np.ndarray | None, depth_mm: np.ndarray | None, number: int) -> None:
        """Hand over a pair of frames, taken at the same moment; None where that sensor is silent."""
        time_ms = 1000 * time.time()
        for sensor, profile, pixels in (
            (self._stereo, self._depth_profile, depth_mm),
            (self._rgb, self._colour_profile, colour),
        ):
            if pixels is None:
                continue
            frame = self._rs.software_video_frame()
            frame.pixels = pixels
            frame.stride, frame.bpp = pixels.strides[0], pixels.strides[1]
            frame.timestamp, frame.domain = time_ms, self._rs.timestamp_domain.system_time
            frame.frame_number, frame.profile = number, profile
            _set_depth_unit(frame)
            sensor.on_video_frame(frame)

    def _stream(self, kind: Any, pixels: Any, uid: int, bytes_per_pixel: int, k: FloatArray) -> Any:
        intrinsics = self._rs.intrinsics()
        intrinsics.width, intrinsics.height = WIDTH, HEIGHT
        intrinsics.fx, intrinsics.fy, intrinsics.ppx, intrinsics.ppy = k[0, 0], k[1, 1], k[0, 2], k[1, 2]
        intrinsics.model, intrinsics.coeffs = self._rs.distortion.brown_conrady, [0.0] * 5
        stream = self._rs.video_stream()
        stream.type, stream.fmt, stream.index, stream.uid = kind, pixels, 0, uid
        stream.width, stream.height, stream.fps = WIDTH, HEIGHT, FPS
        stream.bpp, stream.intrinsics = bytes_per_pixel, intrinsics
        return stream


_UNIT_AT = 48
"""Bytes before ``depth_units`` in ``rs2_software_video_frame`` (librealsense 2.54, h/rs_internal.h)."""
_POINTER_AT = 16
"""Bytes before the C struct's address in a pybind11 object."""


def _set_depth_unit(frame: Any) -> None:
    """Metres a count; the Python binding of 2.54 lacks the field, without which aligning sees no depth."""
    struct = ctypes.c_void_p.from_address(id(frame) + _POINTER_AT).value
    assert struct is not None
    ctypes.c_float.from_address(struct + _UNIT_AT).value = DEPTH_UNIT_M
