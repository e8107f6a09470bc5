"""What a shift is: a class with a hook for each moment of a world's life."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, ClassVar

import numpy as np

from simreal_envs.cameras import CameraSpec
from simreal_envs.gains import Gains

if TYPE_CHECKING:
    import mujoco

    from simreal_envs.tasks.base import Task


@dataclass(frozen=True)
class Shift:
    """A domain shift overrides some of these hooks, one for each moment; the others do nothing.

    A hook draws random numbers only from the generator that it is given. Hooks of a reset are called once an
    episode, those of sensing and acting once a control step.
    """

    strength: float = 1.0
    stream: ClassVar[int]
    """Number of its random streams (:class:`EpisodeDraws`), which no other shift has; a plug-in's comes from
    its name."""
    is_scaled: ClassVar[bool] = True
    """Whether a strength may be given."""
    is_drawn: ClassVar[bool] = False
    """Whether ``reset_camera`` or ``reset_look`` give another result in every episode."""
    sets: ClassVar[str] = ""
    """What it sets, whatever that was before, in words. Two shifts that set the same exclude each other."""

    def of_task(self, task: Task) -> Shift:
        """The shift as it is for a task.

        Raises:
            UsageError: this task does not have it.
        """
        return self

    # --- before the scene is compiled ---------------------------------------------------------------

    def build(self, scene: mujoco.MjSpec) -> None:
        """Change the scene in place: shapes, masses, further objects that are only looked at."""

    # --- at a reset -----------------------------------------------------------------------------------

    def reset_camera(self, camera: CameraSpec, rng: np.random.Generator) -> CameraSpec:
        """The pose of a camera on its mount in this episode; ``camera.mount`` says what that is."""
        return camera

    def reset_look(self, model: mujoco.MjModel, rng: np.random.Generator) -> None:
        """Change lights and materials of the renderer's own model in place, see :data:`LOOKS`."""

    def reset_physics(self, model: mujoco.MjModel, rng: np.random.Generator) -> None:
        """Change friction, masses and the like of the world's own model in place, see :data:`PHYSICS`."""

    def reset_gains(self, gains: Gains, rng: np.random.Generator) -> Gains:
        """The gains with which the arm follows its targets in this episode."""
        return gains

    def reset_image_delay(self, steps: int, rng: np.random.Generator) -> int:
        """How many control steps old all that the cameras show is in this episode."""
        return steps

    # --- at a control step ------------------------------------------------------------------------------

    def sense_image(self, image: np.ndarray, rng: np.random.Generator) -> np.ndarray:
        """What the sensor makes of an RGB image (H, W, 3) uint8."""
        return image

    def sense_depth(self, depth_m: np.ndarray, rng: np.random.Generator) -> np.ndarray:
        """What the sensor makes of a depth image (H, W) float32 metres."""
        return depth_m

    def choose_points(self, count: int, rng: np.random.Generator) -> np.ndarray:
        """Which points of a cloud are seen: ``count`` indices, with repeats for those that are not."""
        return np.arange(count)

    def sense_points(self, points: np.ndarray, rng: np.random.Generator) -> np.ndarray:
        """What becomes of a point cloud (N, 3) float32 metres, base frame."""
        return points

    def act(self, actions: Sequence[np.ndarray], rng: np.random.Generator) -> np.ndarray:
        """The ``pose`` action (7,) for the arm, from the episode's actions so far, the newest last."""
        return actions[-1]


HOOKS = (
    "build", "reset_camera", "reset_look", "reset_physics", "reset_gains", "reset_image_delay",
    "sense_image", "sense_depth", "choose_points", "sense_points", "act",
)  # fmt: skip
"""All hooks of a shift."""

LOOKS = (
    "light_pos", "light_dir", "light_diffuse", "light_ambient", "light_specular",
    "mat_rgba", "mat_specular", "mat_shininess", "mat_emission", "geom_rgba", "geom_matid",
)  # fmt: skip
"""What of a model ``reset_look`` may change, besides ``vis.headlight``."""
PHYSICS = (
    "geom_friction", "geom_solref", "geom_solimp", "body_mass", "body_inertia", "body_ipos",
    "dof_damping", "dof_frictionloss", "dof_armature", "jnt_stiffness",
)  # fmt: skip
"""What of a model ``reset_physics`` may change."""

OF_SIMULATION = ("build", "reset_physics", "reset_gains", "act")
"""Hooks that change the simulated physics; on rig and robot they are not possible."""
OF_THE_RIGS_OWN = ("sense_depth", "reset_image_delay")
"""Hooks that the rig does not call: its depth is that of its own stereo, and its frames come in real time."""


def overridden(kind: type[Shift]) -> set[str]:
    """The hooks that a shift has."""
    return {hook for hook in HOOKS if getattr(kind, hook) is not getattr(Shift, hook)}


def that_override(hook: str, shifts: Sequence[Shift]) -> list[Shift]:
    """The shifts that override a hook; for the others no random stream is made, which would take time."""
    return [shift for shift in shifts if getattr(type(shift), hook) is not getattr(Shift, hook)]


def may_move_cameras(shift: Shift) -> bool:
    """Whether a camera may stand elsewhere in every episode: not if the shift does nothing but repaint."""
    return shift.is_drawn and overridden(type(shift)) != {"reset_look"}
