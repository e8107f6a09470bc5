"""Domain shifts: how one world is unlike another. They are named, scaled and composed with ``+``.

``"viewpoint+texture"`` is both at full strength, ``"viewpoint:0.5+light"`` moves the camera half way.
All but ``gains`` change only what is *seen*: the physics stays the same.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any, ClassVar
from zlib import crc32

import numpy as np
from PIL import Image, ImageFilter

from simreal_envs.cameras import OTHER_VIEWPOINT_IN_BASE, CameraSpec, between
from simreal_envs.errors import UsageError, unknown
from simreal_envs.gains import ROBOSUITE, Gains
from simreal_envs.plugins import Registry


@dataclass(frozen=True)
class Shift:
    """One named change; each hook does nothing unless the shift overrides it."""

    strength: float = 1.0
    stream: ClassVar[int]
    """Number of its random streams (:class:`EpisodeDraws`), which no other shift has; a plug-in's comes from
    its name."""
    is_scaled: ClassVar[bool] = True
    """Whether a strength may be given."""
    is_seen: ClassVar[bool] = True
    """Whether images show it; else it is of the simulated physics, which rig and robot have their own of."""

    def move_camera(self, camera: CameraSpec) -> CameraSpec:
        """Where a camera that is not on the hand stands under this shift."""
        return camera

    def repaint(self, model: Any) -> None:
        """Change lights and materials of the renderer's own ``mujoco.MjModel`` in place."""

    def degrade(self, image: np.ndarray, rng: np.random.Generator) -> np.ndarray:
        """What the sensor makes of an RGB image (H, W, 3) uint8."""
        return image

    def degrade_depth(self, depth_m: np.ndarray, rng: np.random.Generator) -> np.ndarray:
        """What the sensor makes of a depth image (H, W) float32 metres."""
        return depth_m

    def change_gains(self, gains: Gains, rng: np.random.Generator) -> Gains:
        """How the arm follows its targets in an episode."""
        return gains


class Viewpoint(Shift):
    """The camera stands elsewhere: 23 degrees and 19 cm away at strength 1."""

    stream = 1

    def move_camera(self, camera: CameraSpec) -> CameraSpec:
        return camera.moved(between(camera.pose_in_mount, OTHER_VIEWPOINT_IN_BASE, self.strength))


class Texture(Shift):
    """The table is of wood instead of ceramic."""

    stream = 2
    is_scaled = False

    def repaint(self, model: Any) -> None:
        model.geom_matid[model.geom("table_visual").id] = model.material("table_wood").id


class Light(Shift):
    """A warmer, dimmer light from the other side."""

    stream = 3

    def repaint(self, model: Any) -> None:
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

    def degrade(self, image: np.ndarray, rng: np.random.Generator) -> np.ndarray:
        return np.ascontiguousarray(image[..., [1, 2, 0]])


class Noise(Shift):
    """A cheap camera: exposure that wanders, a soft lens, photon and read noise; a D435's depth.

    Depth: standard deviation growing with the square of the distance (2 mm at 0.5 m), quantised to 1 mm,
    with holes at random and along depth edges.
    """

    stream = 5

    def degrade(self, image: np.ndarray, rng: np.random.Generator) -> np.ndarray:
        s = self.strength
        radius_px = s * image.shape[1] / 84 * 0.4
        soft = np.asarray(
            Image.fromarray(image).filter(ImageFilter.GaussianBlur(radius_px)), dtype=np.float32
        )
        exposed = soft * np.float32(1 + s * rng.uniform(-0.05, 0.05))
        deviation = s * np.sqrt(2.0 + 0.12 * exposed)
        noisy = exposed + deviation * rng.standard_normal(image.shape, dtype=np.float32)
        return np.clip(noisy + 0.5, 0, 255).astype(np.uint8)

    def degrade_depth(self, depth_m: np.ndarray, rng: np.random.Generator) -> np.ndarray:
        s = self.strength
        deviation_m = s * 0.008 * depth_m**2
        noisy = depth_m + deviation_m * rng.standard_normal(depth_m.shape, dtype=np.float32)
        rows, columns = np.gradient(depth_m)
        edge = np.hypot(rows, columns) > 0.03
        hole = rng.random(depth_m.shape) < np.where(edge, 0.5, 0.01) * min(s, 1.0)
        return np.where(hole, 0.0, np.round(noisy, 3)).astype(np.float32)


class ArmGains(Shift):
    """The arm is softer, turns later, holds its elbow elsewhere, each by an amount drawn anew every episode.

    Nobody knows how a real arm lags behind its targets. A policy that has seen many ways is not thrown off by
    one more, and the other domain's states find their like among them.
    """

    stream = 0
    is_seen = False

    def change_gains(self, gains: Gains, rng: np.random.Generator) -> Gains:
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


def move_camera(camera: CameraSpec, shifts: Sequence[Shift]) -> CameraSpec:
    """Apply every shift's :meth:`Shift.move_camera` in order; a camera on the hand stays where it is."""
    if camera.mount == "base":
        for shift in shifts:
            camera = shift.move_camera(camera)
    return camera


@dataclass(frozen=True)
class EpisodeDraws:
    """What chance does under shifts in one episode.

    Every shift has a random stream of its own for gains, and for the image and the depth of every moment:
    what is drawn for one changes no other's draws, and a moment looks the same however often it is looked at.

    Attributes:
        seed: of the episode.
    """

    seed: int

    def gains(self, shifts: Sequence[Shift]) -> Gains:
        """The arm's: robosuite's, under every shift's :meth:`Shift.change_gains` in order."""
        gains = ROBOSUITE
        for shift in shifts:
            gains = shift.change_gains(gains, self._stream(1, shift))
        return gains

    def image(self, image: np.ndarray, shifts: Sequence[Shift], moment: int, camera: int = 0) -> np.ndarray:
        """What the sensor makes of an RGB image (H, W, 3) uint8, ``moment`` control steps after the reset.

        ``camera`` is its number among the world's cameras, each of which has streams of its own.
        """
        for shift in _that_override("degrade", shifts):
            image = shift.degrade(image, self._stream(2, shift, moment, *_of_camera(camera)))
        return image

    def depth(self, depth_m: np.ndarray, shifts: Sequence[Shift], moment: int, camera: int = 0) -> np.ndarray:
        """The same of a depth image (H, W) float32 metres."""
        for shift in _that_override("degrade_depth", shifts):
            depth_m = shift.degrade_depth(depth_m, self._stream(3, shift, moment, *_of_camera(camera)))
        return depth_m

    def _stream(self, use: int, shift: Shift, *numbers: int) -> np.random.Generator:
        return np.random.default_rng([self.seed, use, shift.stream, *numbers])


def _of_camera(number: int) -> list[int]:
    """What makes the streams of a camera its own; nothing for the first one."""
    return [number] if number else []


def _that_override(hook: str, shifts: Sequence[Shift]) -> list[Shift]:
    """A random stream takes longer to make than most shifts to apply."""
    return [shift for shift in shifts if getattr(type(shift), hook) is not getattr(Shift, hook)]


def parse_seen(text: str) -> list[Shift]:
    """:func:`parse_shift` for a world whose physics cannot be changed.

    Raises:
        UsageError: as there, or a shift that images do not show.
    """
    shifts = parse_shift(text)
    if seen(text) != text:
        raise UsageError(
            f"Shift {text!r} goes with env 'sim' only: a robot's arm has gains of its own. "
            f"Valid here: {seen(text)!r}."
        )
    return shifts


def seen(text: str) -> str:
    """The part of a shift that images show.

    >>> seen("viewpoint:0.5+gains"), seen("gains")
    ('viewpoint:0.5', 'none')
    """
    parts = [part for part in text.split("+") if part == "none" or SHIFTS[part.partition(":")[0]].is_seen]
    return "+".join(parts) or "none"


def canonical(text: str) -> str:
    """The same shift in one way of writing it.

    Shifts that degrade images keep their order, which shows, and so do plug-ins; they come last.

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
            if entry[0] in order and not _that_override("degrade", [entry[1]])
            else len(order)
        )
    )
    return (
        "+".join(name if shift.strength == 1 else f"{name}:{shift.strength:g}" for name, shift in named)
        or "none"
    )
