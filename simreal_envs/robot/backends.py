"""The two backends of a :class:`simreal_envs.robot.env.RobotEnv`: the hardware and the virtual rig.

The two differ in where the camera's frames come from, who looks after the table, and whether the other end
has to be started first; everything else is the same code.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from contextlib import ExitStack
from typing import Any

import numpy as np

from simreal_envs.cameras import CAMERA_SPECS, Camera
from simreal_envs.errors import UsageError
from simreal_envs.robot.calibration import load_calibration
from simreal_envs.robot.camera import RealSense
from simreal_envs.robot.scene import OperatorScene, RigScene, Scene
from simreal_envs.shifts import EpisodeDraws, Shift, expanded, parse_seen, parse_shift
from simreal_envs.tasks.base import Task

Look = Callable[[], tuple[np.ndarray, Camera]]


class Hardware:
    """A Franka Panda at ``host`` and the RealSense with ``serial`` (or the only one there is)."""

    name = "real"
    shift = "none"
    shifts: Sequence[Shift] = ()
    knows_objects = False
    fingertip_m = 0.0157
    """From the end effector on along the hand: Franka's fingers end 219.2 mm from the last joint."""

    def __init__(self, host: str | None, shift: str = "none", serial: str | None = None) -> None:
        if not host:
            raise UsageError("env 'real' needs the address of the robot, for example host='172.16.0.2'.")
        if parse_shift(shift):
            raise UsageError(f"Shift {shift!r} cannot be had on hardware: the real world looks as it looks.")
        self.host, self._serial = host, serial

    def open_camera(self, depth: bool) -> RealSense:
        """The camera, streaming."""
        return RealSense(depth=depth, serial=self._serial)

    def calibrated(self, camera: RealSense) -> Camera:
        """Intrinsics of the device, pose from its calibration file."""
        pose = load_calibration(camera.serial).pose_camera_in_base
        return Camera(camera.size, camera.intrinsics, pose)

    def open_scene(self, task: Task, look: Look) -> Scene:
        """The operator's table."""
        return OperatorScene(task, look)

    def __enter__(self) -> Hardware:
        return self

    def __exit__(self, *error: object) -> None:
        """Nothing of ours runs there."""


class VirtualRig:
    """A rig at ``host``, or one of our own that is started and ended with the environment."""

    name = "rig"
    knows_objects = True
    fingertip_m = 0.0093
    """robosuite's fingers begin 52.4 mm from its hand, Franka's 58.4 mm."""

    def __init__(self, task: str, host: str | None = None, shift: str = "none") -> None:
        self.shift, self.host = expanded(shift), host or ""
        self._task, self.shifts = task, parse_seen(shift)
        self._open = ExitStack()

    def __enter__(self) -> VirtualRig:
        from simreal_envs.rig.control import RigControl
        from simreal_envs.rig.launch import Rig

        with ExitStack() as stack:
            if not self.host:
                self.host = stack.enter_context(Rig(self._task, self.shift)).host
            self._control = RigControl(self.host)
            about = self._control.describe()
            for what, asked in (("task", self._task), ("shift", self.shift)):
                if about[what] != asked:
                    raise UsageError(
                        f"The rig at {self.host} was started with {what} {about[what]!r}, not {asked!r}: "
                        f"simreal rig --task {self._task} --shift {self.shift} --host {self.host}"
                    )
            self._open = stack.pop_all()
        return self

    def __exit__(self, *error: Any) -> None:
        """End what was started here."""
        self._open.close()

    def open_camera(self, depth: bool) -> RealSense:
        """The rig's frames through a software device of librealsense."""
        from simreal_envs.rig.d435 import SoftwareD435

        device = SoftwareD435(self.host)
        self._open.callback(device.close)
        return RealSense(depth=depth, context=device.context)

    def calibrated(self, camera: RealSense) -> Camera:
        """Where the rig's camera really is."""
        spec = EpisodeDraws(0).camera(CAMERA_SPECS["agentview"], self.shifts)
        return Camera(camera.size, camera.intrinsics, spec.pose_in_mount)

    def open_scene(self, task: Task, look: Look) -> Scene:
        """The rig itself looks after its table."""
        return RigScene(self._control)


Backend = Hardware | VirtualRig
