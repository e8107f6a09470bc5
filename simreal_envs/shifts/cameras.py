"""Shifts of where the cameras stand."""

from __future__ import annotations

from dataclasses import dataclass
from typing import ClassVar

import numpy as np
from scipy.spatial.transform import Rotation

from simreal_envs.cameras import OTHER_VIEWPOINT_IN_BASE, TEASER_VIEWPOINT_IN_BASE, CameraSpec, between
from simreal_envs.poses import pose
from simreal_envs.shifts.base import Shift
from simreal_envs.spec import FloatArray


@dataclass(frozen=True)
class Viewpoint(Shift):
    """The camera beside the table stands elsewhere: 23 degrees and 19 cm away at strength 1."""

    stream = 1
    sets = "where the camera stands"
    there_in_base: ClassVar[FloatArray] = OTHER_VIEWPOINT_IN_BASE

    def reset_camera(self, camera: CameraSpec, rng: np.random.Generator) -> CameraSpec:
        if camera.mount == "hand":
            return camera
        return camera.moved(between(camera.pose_in_mount, self.there_in_base, self.strength))


class ViewpointTeaser(Viewpoint):
    """The same with another place: 11 degrees and 12 cm away at strength 1."""

    stream = 6
    there_in_base = TEASER_VIEWPOINT_IN_BASE


class CameraJitter(Shift):
    """Every camera is a little beside its place, anew in every episode.

    At strength 1 by up to 3 degrees about each of its axes and 20 mm along each of them. A camera on the hand
    moves a quarter as far.
    """

    stream = 7
    is_drawn = True

    def reset_camera(self, camera: CameraSpec, rng: np.random.Generator) -> CameraSpec:
        share = self.strength * (0.25 if camera.mount == "hand" else 1.0)
        turn_rad, offset_m = (
            share * np.deg2rad(3.0) * rng.uniform(-1, 1, 3),
            share * 0.02 * rng.uniform(-1, 1, 3),
        )
        return camera.moved(camera.pose_in_mount @ pose(Rotation.from_rotvec(turn_rad).as_matrix(), offset_m))
