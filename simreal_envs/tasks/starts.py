"""Starts are ranges from which the place of an entity or the value of a joint is drawn."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import numpy as np

Place = float | tuple[float, float, float] | tuple[float, float, float, str]
"""How one thing starts: what a :data:`Start` draws."""

Placement = dict[str, Place]
"""The start of each thing, by the name of its entity or of its joint."""

Limits = tuple[float, float]


@dataclass(frozen=True)
class OnTable:
    """Uniform range of an entity's pose on the table: places (x, y, yaw).

    ``x`` and ``y`` in metres from the table's centre along the base frame's axes, ``yaw`` in radians.
    """

    x: Limits
    y: Limits
    yaw: Limits = (0.0, 0.0)
    form = "(x m, y m, yaw rad)"

    def sample(self, rng: np.random.Generator) -> Place:
        """Draw a place."""
        return (float(rng.uniform(*self.x)), float(rng.uniform(*self.y)), float(rng.uniform(*self.yaw)))

    def is_of_kind(self, place: Any) -> bool:
        """Whether something is a place of this kind, wherever it is."""
        return isinstance(place, tuple) and len(place) == 3

    def contains(self, place: Any) -> bool:
        """Whether a place lies in the range (yaw is not looked at)."""
        return self.is_of_kind(place) and _is_within(place, self.x, self.y)


@dataclass(frozen=True)
class OnTop:
    """Uniform range of an entity's pose on top of the object ``of``: places (x, y, yaw, of).

    ``x``, ``y`` and ``yaw`` are relative to that object: from its origin, along its axes.
    """

    of: str
    x: Limits = (0.0, 0.0)
    y: Limits = (0.0, 0.0)
    yaw: Limits = (0.0, 0.0)

    @property
    def form(self) -> str:
        """What places look like."""
        return f"(x m, y m, yaw rad, {self.of!r})"

    def sample(self, rng: np.random.Generator) -> Place:
        """Draw a place."""
        x, y, yaw = (float(rng.uniform(*limits)) for limits in (self.x, self.y, self.yaw))
        return (x, y, yaw, self.of)

    def is_of_kind(self, place: Any) -> bool:
        """Whether something is a place of this kind, wherever it is."""
        return isinstance(place, tuple) and place[3:] == (self.of,)

    def contains(self, place: Any) -> bool:
        """Whether a place lies in the range (yaw is not looked at)."""
        return self.is_of_kind(place) and _is_within(place, self.x, self.y)


@dataclass(frozen=True)
class JointStart:
    """Uniform range of a hinge's angle in radians, or of a slide's displacement in metres."""

    low: float
    high: float
    form = "a number"

    def sample(self, rng: np.random.Generator) -> Place:
        """Draw a value."""
        return float(rng.uniform(self.low, self.high))

    def is_of_kind(self, place: Any) -> bool:
        """Whether something is a joint's value."""
        return isinstance(place, float)

    def contains(self, place: Any) -> bool:
        """Whether a value lies in the range."""
        return self.is_of_kind(place) and self.low <= place <= self.high


Start = OnTable | OnTop | JointStart


def as_place(value: Any) -> Place | None:
    """Convert a caller's start to the form of samples; None if it is not a start."""
    try:
        numbers, of = ([value], ()) if np.ndim(value) == 0 else (value[:3], (*value[3:],))
        place = tuple(map(float, numbers))
    except (TypeError, ValueError):
        return None
    if len(place) not in (1, 3) or not np.isfinite(place).all():
        return None
    return place[0] if np.ndim(value) == 0 else (*place, *of)  # type: ignore[return-value]


def _is_within(place: Any, x: Limits, y: Limits) -> bool:
    return x[0] <= place[0] <= x[1] and y[0] <= place[1] <= y[1]
