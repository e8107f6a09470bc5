"""Domain shifts: named changes of a world's look or dynamics, scaled and composed with ``+``.

``"viewpoint+texture"`` is both at full strength, ``"viewpoint:0.5+light"`` moves the camera half way.
A shift has a hook for each moment: before the scene is compiled, at a reset, and at a control step.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, ClassVar
from zlib import crc32

import numpy as np
from PIL import Image, ImageFilter

from simreal_envs.cameras import OTHER_VIEWPOINT_IN_BASE, CameraSpec, between
from simreal_envs.errors import UsageError, unknown
from simreal_envs.gains import ROBOSUITE, Gains
from simreal_envs.plugins import Registry

if TYPE_CHECKING:
    import mujoco


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

    # --- before the scene is compiled ---------------------------------------------------------------

    def build(self, scene: mujoco.MjSpec) -> None:
        """Change the scene in place: shapes, masses, further objects that are only looked at."""

    # --- at a reset -----------------------------------------------------------------------------------

    def reset_camera(self, camera: CameraSpec, rng: np.random.Generator) -> CameraSpec:
        """The pose of a fixed camera in this episode."""
        return camera

    def reset_look(self, model: mujoco.MjModel, rng: np.random.Generator) -> None:
        """Change lights and materials of the renderer's own model in place, see :data:`LOOKS`."""

    def reset_physics(self, model: mujoco.MjModel, rng: np.random.Generator) -> None:
        """Change friction, masses and the like of the world's own model in place, see :data:`PHYSICS`."""

    def reset_gains(self, gains: Gains, rng: np.random.Generator) -> Gains:
        """The gains with which the arm follows its targets in this episode."""
        return gains

    # --- at a control step ------------------------------------------------------------------------------

    def sense_image(self, image: np.ndarray, rng: np.random.Generator) -> np.ndarray:
        """What the sensor makes of an RGB image (H, W, 3) uint8."""
        return image

    def sense_depth(self, depth_m: np.ndarray, rng: np.random.Generator) -> np.ndarray:
        """What the sensor makes of a depth image (H, W) float32 metres."""
        return depth_m

    def sense_points(self, points: np.ndarray, rng: np.random.Generator) -> np.ndarray:
        """What becomes of a point cloud (N, 3) float32 metres, base frame."""
        return points

    def act(self, actions: Sequence[np.ndarray], rng: np.random.Generator) -> np.ndarray:
        """The ``pose`` action (7,) for the arm, from the episode's actions so far, the newest last."""
        return actions[-1]


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


class Viewpoint(Shift):
    """The camera stands elsewhere: 23 degrees and 19 cm away at strength 1."""

    stream = 1

    def reset_camera(self, camera: CameraSpec, rng: np.random.Generator) -> CameraSpec:
        return camera.moved(between(camera.pose_in_mount, OTHER_VIEWPOINT_IN_BASE, self.strength))


class Texture(Shift):
    """The table is of wood instead of ceramic."""

    stream = 2
    is_scaled = False

    def reset_look(self, model: mujoco.MjModel, rng: np.random.Generator) -> None:
        model.geom_matid[model.geom("table_visual").id] = model.material("table_wood").id


class Light(Shift):
    """A warmer, dimmer light from the other side."""

    stream = 3

    def reset_look(self, model: mujoco.MjModel, rng: np.random.Generator) -> None:
        s = self.strength
        direction = np.array([-0.2, -0.2, -1.0]) + s * np.array([0.6, 0.9, 0.2])
        model.light_dir[0] = direction / np.linalg.norm(direction)
        model.light_diffuse[0] *= 1 - s * np.array([0.15, 0.25, 0.40])
        model.vis.headlight.ambient[:] *= 1 - 0.3 * s
        model.vis.headlight.diffuse[:] *= 1 - s * np.array([0.25, 0.35, 0.45])


class Colour(Shift):
    """Red, green and blue change places: RGB becomes GBR."""

    stream = 4
    is_scaled = False

    def sense_image(self, image: np.ndarray, rng: np.random.Generator) -> np.ndarray:
        return np.ascontiguousarray(image[..., [1, 2, 0]])


class Noise(Shift):
    """A cheap camera: exposure that wanders, a soft lens, photon and read noise; a D435's depth.

    Depth: standard deviation growing with the square of the distance (2 mm at 0.5 m), quantised to 1 mm,
    with holes at random and along depth edges.
    """

    stream = 5

    def sense_image(self, image: np.ndarray, rng: np.random.Generator) -> np.ndarray:
        s = self.strength
        radius_px = s * image.shape[1] / 84 * 0.4
        soft = np.asarray(
            Image.fromarray(image).filter(ImageFilter.GaussianBlur(radius_px)), dtype=np.float32
        )
        exposed = soft * np.float32(1 + s * rng.uniform(-0.05, 0.05))
        deviation = s * np.sqrt(2.0 + 0.12 * exposed)
        noisy = exposed + deviation * rng.standard_normal(image.shape, dtype=np.float32)
        return np.clip(noisy + 0.5, 0, 255).astype(np.uint8)

    def sense_depth(self, depth_m: np.ndarray, rng: np.random.Generator) -> np.ndarray:
        s = self.strength
        deviation_m = s * 0.008 * depth_m**2
        noisy = depth_m + deviation_m * rng.standard_normal(depth_m.shape, dtype=np.float32)
        rows, columns = np.gradient(depth_m)
        edge = np.hypot(rows, columns) > 0.03
        hole = rng.random(depth_m.shape) < np.where(edge, 0.5, 0.01) * min(s, 1.0)
        return np.where(hole, 0.0, np.round(noisy, 3)).astype(np.float32)


class ArmGains(Shift):
    """The arm follows position and rotation less firmly and holds its elbow elsewhere, anew in every episode.

    Nobody knows how a real arm lags behind its targets. With source data that lag in many ways, a policy
    tolerates one more, and the target's states have similar states in the source.
    """

    stream = 0

    def reset_gains(self, gains: Gains, rng: np.random.Generator) -> Gains:
        s = self.strength
        position, rotation, posture = np.array([4.0, 6.0, 10.0]) ** (-s * rng.random(3))
        offset_rad = rng.normal(0.0, 0.06 * s, 7)
        return Gains(
            gains.position * float(position),
            gains.rotation * float(rotation),
            gains.posture * float(posture),
            tuple((np.array(gains.posture_offset_rad) + offset_rad).tolist()),
        )


_BUILT_IN = {
    "viewpoint": Viewpoint,
    "texture": Texture,
    "light": Light,
    "colour": Colour,
    "noise": Noise,
    "gains": ArmGains,
}
SHIFTS: Registry[type[Shift]] = Registry("shift", "simreal.shifts", _BUILT_IN, Shift)

STAND_IN = "viewpoint+texture+light+noise"
"""The default stand-in for the real world, where there is no robot."""

MAX_STRENGTH = 1.5
FIRST_FREE_STREAM = 1000
"""Smaller numbers are for the package's own shifts."""


def parse_shift(text: str) -> list[Shift]:
    """Read ``"viewpoint:0.5+texture"``; ``"none"`` is no shift.

    >>> [type(s).__name__ for s in parse_shift("viewpoint:0.5+texture")]
    ['Viewpoint', 'Texture']

    Raises:
        UsageError: an unknown name, one named twice, a strength that is not in (0, 1.5], or one for a shift
            that has none.
    """
    if text == "none":
        return []
    shifts: dict[str, Shift] = {}
    for part in text.split("+"):
        name, colon, number = part.partition(":")
        if name not in SHIFTS:
            raise unknown("shift", name, ["none", *SHIFTS])
        if name in shifts:
            raise UsageError(f"Shift {name!r} is named twice in {text!r}.")
        kind = SHIFTS[name]
        if name not in _BUILT_IN:
            kind.stream = max(FIRST_FREE_STREAM, crc32(name.encode()))
        if colon and not kind.is_scaled:
            raise UsageError(f"Shift {name!r} has no strength: write {name!r} instead of {part!r}.")
        try:
            strength = float(number) if colon else 1.0
        except ValueError:
            strength = np.nan
        if not 0 < strength <= MAX_STRENGTH:
            raise UsageError(
                f"Strength {number!r} of shift {name!r} must be a number above 0, {MAX_STRENGTH} at most."
            )
        shifts[name] = kind(strength)
    return list(shifts.values())


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

    def points(self, points: np.ndarray, shifts: Sequence[Shift], moment: int) -> np.ndarray:
        """The same of a point cloud (N, 3) float32 metres."""
        for shift in that_override("sense_points", shifts):
            points = shift.sense_points(points, self._stream(4, shift, moment))
        return points

    def camera(self, camera: CameraSpec, shifts: Sequence[Shift]) -> CameraSpec:
        """Where a camera stands; one on the hand stays where it is mounted."""
        if camera.mount == "base":
            for shift in that_override("reset_camera", shifts):
                camera = shift.reset_camera(camera, self._stream(5, shift))
        return camera

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


def that_override(hook: str, shifts: Sequence[Shift]) -> list[Shift]:
    """The shifts that override a hook; for the others no random stream is made, which would take time."""
    return [shift for shift in shifts if _overrides(hook, type(shift))]


def _overrides(hook: str, kind: type[Shift]) -> bool:
    return getattr(kind, hook) is not getattr(Shift, hook)


def _is_seen(name: str) -> bool:
    """Whether a shift changes only what is seen, so that the rig can have it too."""
    return not any(_overrides(hook, SHIFTS[name]) for hook in OF_SIMULATION)


def parse_seen(text: str) -> list[Shift]:
    """:func:`parse_shift` for a world whose physics cannot be changed.

    Raises:
        UsageError: as for :func:`parse_shift`, or a shift of the simulated physics.
    """
    shifts = parse_shift(text)
    if seen(text) != text:
        raise UsageError(
            f"Shift {text!r} goes with env 'sim' only: a robot has physics of its own. "
            f"Valid here: {seen(text)!r}."
        )
    return shifts


def seen(text: str) -> str:
    """The part of a shift that images show.

    >>> seen("viewpoint:0.5+gains"), seen("gains")
    ('viewpoint:0.5', 'none')
    """
    parts = [part for part in text.split("+") if part == "none" or _is_seen(part.partition(":")[0])]
    return "+".join(parts) or "none"


def canonical(text: str) -> str:
    """The shift in its canonical notation, so that equal shifts are equal texts.

    Shifts that change the sensor's images keep their order, which matters, and so do plug-ins. Both come
    last.

    >>> canonical("light:1.0+viewpoint:0.50"), canonical("noise:1+colour")
    ('viewpoint:0.5+light', 'noise+colour')
    """
    named = [
        (part.partition(":")[0], shift)
        for part, shift in zip(text.split("+"), parse_shift(text), strict=False)
    ]
    order = [*_BUILT_IN]
    named.sort(
        key=lambda entry: (
            order.index(entry[0])
            if entry[0] in order and not that_override("sense_image", [entry[1]])
            else len(order)
        )
    )
    return (
        "+".join(name if shift.strength == 1 else f"{name}:{shift.strength:g}" for name, shift in named)
        or "none"
    )
