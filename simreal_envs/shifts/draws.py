"""All random draws of one episode's shifts."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING

import numpy as np

from simreal_envs.cameras import CameraSpec
from simreal_envs.features import POINTS_KEY
from simreal_envs.gains import ROBOSUITE, Gains
from simreal_envs.shifts.base import Shift, that_override
from simreal_envs.spec import Observation

if TYPE_CHECKING:
    import mujoco


@dataclass(frozen=True)
class EpisodeDraws:
    """Applies the shifts of one episode with all their random draws.

    Every shift has its own random stream for each of its hooks and for each moment. So one shift's draws do
    not change another's, and a moment looks the same however often it is rendered.

    Attributes:
        seed: seed of the episode.
    """

    seed: int

    def gains(self, shifts: Sequence[Shift]) -> Gains:
        """The arm's gains: robosuite's, changed by every shift's :meth:`Shift.reset_gains` in order."""
        gains = ROBOSUITE
        for shift in that_override("reset_gains", shifts):
            gains = shift.reset_gains(gains, self._stream(1, shift))
        return gains

    def image(self, image: np.ndarray, shifts: Sequence[Shift], moment: int, camera: int = 0) -> np.ndarray:
        """What the sensor makes of an RGB image (H, W, 3) uint8, ``moment`` control steps after the reset.

        ``camera`` is its number among the world's cameras, each of which has streams of its own.
        """
        for shift in that_override("sense_image", shifts):
            image = shift.sense_image(image, self._stream(2, shift, moment, *_of_camera(camera)))
        return image

    def depth(self, depth_m: np.ndarray, shifts: Sequence[Shift], moment: int, camera: int = 0) -> np.ndarray:
        """The same of a depth image (H, W) float32 metres."""
        for shift in that_override("sense_depth", shifts):
            depth_m = shift.sense_depth(depth_m, self._stream(3, shift, moment, *_of_camera(camera)))
        return depth_m

    def cloud(self, arrays: Observation, shifts: Sequence[Shift], moment: int) -> Observation:
        """The same of a point cloud: the arrays of an observation that hold it or its colours."""
        for shift in that_override("choose_points", shifts):
            count = len(next(iter(arrays.values())))
            chosen = shift.choose_points(count, self._stream(10, shift, moment))
            arrays = {key: array[chosen] for key, array in arrays.items()}
        if POINTS_KEY in arrays:
            points = arrays[POINTS_KEY]
            for shift in that_override("sense_points", shifts):
                points = shift.sense_points(points, self._stream(4, shift, moment))
            arrays = arrays | {POINTS_KEY: points}
        return arrays

    def camera(self, camera: CameraSpec, shifts: Sequence[Shift], number: int = 0) -> CameraSpec:
        """Where a camera is on its mount; ``number`` is its own among the world's cameras.

        What is drawn anew in every episode comes last: a camera jitters about the place that it is given.
        """
        moving = that_override("reset_camera", shifts)
        for shift in sorted(moving, key=lambda shift: shift.is_drawn):
            camera = shift.reset_camera(camera, self._stream(5, shift, *_of_camera(number)))
        return camera

    def image_delay(self, shifts: Sequence[Shift]) -> int:
        """How many control steps old all that the cameras show is."""
        steps = 0
        for shift in that_override("reset_image_delay", shifts):
            steps = shift.reset_image_delay(steps, self._stream(9, shift))
        return steps

    def look(self, model: mujoco.MjModel, shifts: Sequence[Shift]) -> None:
        """Change a renderer's model, which looks as without shifts, in place."""
        for shift in that_override("reset_look", shifts):
            shift.reset_look(model, self._stream(6, shift))

    def physics(self, model: mujoco.MjModel, shifts: Sequence[Shift]) -> None:
        """Change a world's model, which is as without shifts, in place."""
        for shift in that_override("reset_physics", shifts):
            shift.reset_physics(model, self._stream(7, shift))

    def action(
        self, action: np.ndarray, shifts: Sequence[Shift], before: dict[int, list[np.ndarray]]
    ) -> np.ndarray:
        """The action that the arm is given for a ``pose`` action.

        ``before`` holds, by stream, the actions that each shift has received so far; this action is added.
        """
        for shift in that_override("act", shifts):
            came = before.setdefault(shift.stream, [])
            came.append(action)
            action = shift.act(came, self._stream(8, shift, len(came) - 1))
        return action

    def _stream(self, use: int, shift: Shift, *numbers: int) -> np.random.Generator:
        return np.random.default_rng([self.seed, use, shift.stream, *numbers])


def _of_camera(number: int) -> list[int]:
    """The part of a stream's key that belongs to a camera; empty for the first camera."""
    return [number] if number else []
