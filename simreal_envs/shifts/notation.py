"""Shifts as texts: ``"viewpoint:0.5+texture"``, presets, and which of them go where."""

from __future__ import annotations

from zlib import crc32

import numpy as np

from simreal_envs.errors import UsageError, unknown
from simreal_envs.plugins import Registry
from simreal_envs.shifts.base import OF_SIMULATION, OF_THE_RIGS_OWN, Shift, overridden
from simreal_envs.shifts.cameras import CameraJitter, Viewpoint, ViewpointTeaser
from simreal_envs.shifts.dynamics import ActionDelay, ArmGains, Friction, ImageDelay, Mass
from simreal_envs.shifts.looks import (
    Light,
    ObjectTexture,
    RandomLight,
    RandomObjectTexture,
    RandomTexture,
    Texture,
)
from simreal_envs.shifts.objects import ObjectShape
from simreal_envs.shifts.sensors import Blur, Colour, Depth, Exposure, Jpeg, Noise, Points, SensorNoise
from simreal_envs.tasks.base import Task

_BUILT_IN: dict[str, type[Shift]] = {
    "viewpoint": Viewpoint,
    "texture": Texture,
    "light": Light,
    "colour": Colour,
    "noise": Noise,
    "gains": ArmGains,
    "viewpoint-teaser": ViewpointTeaser,
    "camera-jitter": CameraJitter,
    "random-texture": RandomTexture,
    "random-light": RandomLight,
    "object-texture": ObjectTexture,
    "random-object-texture": RandomObjectTexture,
    "object-shape": ObjectShape,
    "exposure": Exposure,
    "blur": Blur,
    "sensor-noise": SensorNoise,
    "jpeg": Jpeg,
    "depth": Depth,
    "points": Points,
    "friction": Friction,
    "mass": Mass,
    "action-delay": ActionDelay,
    "image-delay": ImageDelay,
}
SHIFTS: Registry[type[Shift]] = Registry("shift", "simreal.shifts", _BUILT_IN, Shift)

PRESETS = {
    "paper-viewpoint": "viewpoint",
    "paper-texture": "texture",
    "real-like": "texture+light+exposure:0.5+blur:0.5+sensor-noise:0.5+jpeg:0.5+depth+points"
    "+friction:0.5+mass:0.5+gains:0.5+action-delay:0.5+image-delay:0.5",
    "randomise": "camera-jitter+random-texture+random-light+random-object-texture"
    "+exposure+blur:0.5+sensor-noise:0.5+depth+points+friction+mass+gains",
}
"""Names of compositions. What is recorded is the composition, so a preset may change."""

STAND_IN = "viewpoint+texture+light+noise"
"""The default stand-in for the real world, where there is no robot."""

MAX_STRENGTH = 1.5
FIRST_FREE_STREAM = 1000
"""Smaller numbers are for the package's own shifts."""


def expanded(text: str) -> str:
    """The shift with each preset replaced by its composition; all else stays as it is written.

    A preset's strength multiplies that of each of its shifts that has one.

    >>> expanded("paper-texture+light:0.50"), expanded("paper-viewpoint:0.5")
    ('texture+light:0.50', 'viewpoint:0.5')

    Raises:
        UsageError: a strength that is not in (0, 1.5], or one for a preset none of whose shifts has any.
    """
    if not isinstance(text, str):
        raise UsageError(f"A shift is names joined by '+', or 'none', not {text!r}.")
    parts: list[str] = []
    for part in text.split("+"):
        name, colon, number = part.partition(":")
        if name not in PRESETS:
            parts.append(part)
        elif not colon:
            parts += PRESETS[name].split("+")
        else:
            inner = [_parsed(inner) for inner in PRESETS[name].split("+")]
            if not any(shift.is_scaled for _, shift in inner):
                raise _no_strength("Preset", name, part)
            factor = _strength(number, f"preset {name!r}")
            parts += [
                _written(name, type(shift)(shift.strength * factor) if shift.is_scaled else shift)
                for name, shift in inner
            ]
    return "+".join(parts)


def parse_shift(text: str) -> list[Shift]:
    """Read ``"viewpoint:0.5+texture"``; ``"none"`` is no shift.

    >>> [type(s).__name__ for s in parse_shift("viewpoint:0.5+texture")]
    ['Viewpoint', 'Texture']

    Raises:
        UsageError: an unknown name, one named twice, two that exclude each other, a strength that is not in
            (0, 1.5], or one for a shift that has none.
    """
    return list(_named(text).values())


def shifts_of(text: str, task: Task) -> list[Shift]:
    """:func:`parse_shift` for a task.

    Raises:
        UsageError: as for :func:`parse_shift`, or a shift that the task does not have.
    """
    return [shift.of_task(task) for shift in parse_shift(text)]


def _named(text: str) -> dict[str, Shift]:
    """The shifts by name, in the order in which they are written."""
    if text == "none":
        return {}
    shifts: dict[str, Shift] = {}
    full = expanded(text)
    where = repr(text) if full == text else f"{text!r}, which is {full!r}"
    setting: dict[str, str] = {}
    for part in full.split("+"):
        name, shift = _parsed(part)
        if name in shifts:
            raise UsageError(f"Shift {name!r} is named twice in {where}.")
        if shift.sets and (other := setting.setdefault(shift.sets, name)) != name:
            raise UsageError(f"Shifts {other!r} and {name!r} in {where} both set {shift.sets}. Choose one.")
        shifts[name] = shift
    return shifts


def _parsed(part: str) -> tuple[str, Shift]:
    """One shift and its name, from ``"name"`` or ``"name:strength"``."""
    name, colon, number = part.partition(":")
    if name == "none":
        raise UsageError(
            f"Shift 'none' stands alone and has no strength: leave {part!r} out, or write 'none' only."
        )
    if name not in SHIFTS:
        raise unknown("shift", name, ["none", *SHIFTS, *PRESETS])
    kind = SHIFTS[name]
    if name not in _BUILT_IN:
        kind.stream = max(FIRST_FREE_STREAM, crc32(name.encode()))
    if colon and not kind.is_scaled:
        raise _no_strength("Shift", name, part)
    return name, kind(_strength(number, f"shift {name!r}") if colon else 1.0)


def _strength(number: str, of: str) -> float:
    try:
        strength = float(number)
    except ValueError:
        strength = np.nan
    if not 0 < strength <= MAX_STRENGTH:
        raise UsageError(f"Strength {number!r} of {of} must be a number above 0, {MAX_STRENGTH} at most.")
    return strength


def _no_strength(what: str, name: str, part: str) -> UsageError:
    return UsageError(f"{what} {name!r} has no strength: write {name!r} instead of {part!r}.")


def _written(name: str, shift: Shift) -> str:
    return name if shift.strength == 1 else f"{name}:{shift.strength:g}"


def parse_seen(text: str) -> list[Shift]:
    """:func:`parse_shift` for a world whose physics cannot be changed.

    Raises:
        UsageError: as for :func:`parse_shift`, or a shift of the simulated physics, or one that the rig's
            camera does not have.
    """
    named = _named(text)
    valid = {name: shift for name, shift in named.items() if _is_seen(shift) and not _is_the_rigs_own(shift)}
    if valid != named:
        refused = [name for name in named if name not in valid]
        raise UsageError(
            f"Shift {'+'.join(refused)!r} goes with env 'sim' only: a robot has physics of its own, and its "
            "camera a depth and a delay of its own. "
            f"Valid here: {'+'.join(_written(*entry) for entry in valid.items()) or 'none'!r}."
        )
    return list(valid.values())


def seen(text: str) -> str:
    """The part of a shift that images show.

    >>> seen("viewpoint:0.5+gains"), seen("gains")
    ('viewpoint:0.5', 'none')
    """
    parts = [p for p in expanded(text).split("+") if p == "none" or _is_seen(_parsed(p)[1])]
    return "+".join(parts) or "none"


def _is_seen(shift: Shift) -> bool:
    """Whether a shift changes only what is seen, so that data of it look otherwise and move alike."""
    return not overridden(type(shift)) & set(OF_SIMULATION)


def _is_the_rigs_own(shift: Shift) -> bool:
    """Whether all that a shift changes is something that the rig's camera does by itself."""
    hooks = overridden(type(shift))
    return bool(hooks) and hooks <= set(OF_THE_RIGS_OWN)


def canonical(text: str) -> str:
    """The shift in its canonical notation, so that equal shifts are equal texts.

    Presets are written out. Shifts whose order matters keep it: those that change the same of what is sensed
    or done, and plug-ins.

    >>> canonical("light:1.0+viewpoint:0.50"), canonical("noise:1+colour")
    ('viewpoint:0.5+light', 'noise+colour')
    """
    rest, ordered = list(_named(text).items()), []
    while rest:
        free = [
            entry
            for number, entry in enumerate(rest)
            if all(_commute(entry, before) for before in rest[:number])
        ]
        first = min(free, key=_place)
        ordered.append(_written(*first))
        rest.remove(first)
    return "+".join(ordered) or "none"


def _place(named: tuple[str, Shift]) -> int:
    order = [*_BUILT_IN]
    return order.index(named[0]) if named[0] in order else len(order)


def _commute(one: tuple[str, Shift], other: tuple[str, Shift]) -> bool:
    """Whether two shifts do the same in either order."""
    shared = overridden(type(one[1])) & overridden(type(other[1]))
    if all(name in _BUILT_IN for name, _ in (one, other)):
        return not any(hook.startswith(("sense", "choose", "act")) for hook in shared)
    return not shared
