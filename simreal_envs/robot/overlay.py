"""Checks a calibration: draws the simulated robot at the real joint angles over the real image."""

from __future__ import annotations

from dataclasses import dataclass

import cv2
import numpy as np

from simreal_envs.cameras import Camera
from simreal_envs.errors import DataError
from simreal_envs.sim import mujoco
from simreal_envs.sim.parts import robot_geoms, without
from simreal_envs.sim.renderer import Renderer
from simreal_envs.sim.scene import TabletopScene
from simreal_envs.spec import FloatArray
from simreal_envs.tasks import get_task

ABOVE_TABLE_M = 0.06
"""What is higher than this (objects are lower), and near the drawn robot, is taken for the robot."""
NEAR_PX = 40
MIN_SHARE = 0.02
"""The robot must cover this share of the image."""
GOOD_OVERLAP = 0.9
"""A camera that is 10 mm or 1 degree off reaches 0.91 on average over directions."""
_TINT, _OUTLINE = (0, 160, 255), (255, 60, 0)
FARTHEST_M = 5.0
"""Nothing was drawn where the depth is greater."""


@dataclass(frozen=True)
class Overlay:
    """How well robot and drawing agree.

    Attributes:
        overlap: intersection over union of drawn and measured robot, 0 to 1, where depth was measured.
        picture: (480, 640, 3) uint8: the image, the drawn robot tinted, the measured one outlined.
    """

    overlap: float
    picture: np.ndarray


class Silhouette:
    """Where a camera should see the robot, by its joint angles."""

    def __init__(self, camera: Camera) -> None:
        self._scene = TabletopScene(get_task("Lift"))
        self._scene.reset()
        model, self._data = self._scene.sim.model._model, self._scene.sim.data._data
        self._model = model
        self._renderer = Renderer(without(model, ~robot_geoms(model)), camera, ())

    def mask(self, joints_rad: FloatArray, gripper_width_m: float) -> np.ndarray:
        """(H, W) bool."""
        for i, angle in enumerate(joints_rad, start=1):
            self._data.joint(f"robot0_joint{i}").qpos[0] = angle
        for finger, side in ((1, 0.5), (2, -0.5)):
            self._data.joint(f"gripper0_right_finger_joint{finger}").qpos[0] = side * gripper_width_m
        mujoco.mj_kinematics(self._model, self._data)
        mujoco.mj_camlight(self._model, self._data)
        _, depth_m = self._renderer.render(self._data, depth=True)
        assert depth_m is not None
        return depth_m < FARTHEST_M

    def close(self) -> None:
        """Free the GPU's copy of the model."""
        self._renderer.close()


def compare(drawn: np.ndarray, colour: np.ndarray, depth_m: np.ndarray, camera: Camera) -> Overlay:
    """Lay a silhouette (H, W) over an image and its depth, taken at the same joint angles.

    Raises:
        DataError: the robot should hardly be in view.
    """
    if drawn.mean() < MIN_SHARE:
        raise DataError(
            f"The robot should cover {100 * drawn.mean():.1f} % of the image; {100 * MIN_SHARE:.0f} % are "
            "needed to judge. Move the hand into the camera's view."
        )
    known = depth_m > 0
    reach = cv2.dilate(drawn.astype(np.uint8), np.ones((2 * NEAR_PX + 1,) * 2, np.uint8)) > 0
    measured = known & reach & (camera.deproject(depth_m)[..., 2] > ABOVE_TABLE_M)
    both, either = drawn & measured, (drawn & known) | measured
    picture = colour.copy()
    picture[drawn] = (picture[drawn] + np.array(_TINT)) // 2
    outlines, _ = cv2.findContours(measured.astype(np.uint8), cv2.RETR_EXTERNAL, cv2.CHAIN_APPROX_NONE)
    cv2.drawContours(picture, outlines, -1, _OUTLINE, 1)
    return Overlay(float(both.sum() / either.sum()), picture)
