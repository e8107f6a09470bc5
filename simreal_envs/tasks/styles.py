"""Manners of moving: how fast, and along what path, a scripted expert goes where its rule sends the hand."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

from simreal_envs.errors import UsageError
from simreal_envs.spec import FloatArray
from simreal_envs.tasks.vectors import raised, turned

LEAD_M = 0.05
"""The target stays this far ahead of the hand at most; about 0.3 m/s with robosuite's gains."""

LEAD_RAD = 0.3
"""The target is turned this far ahead of the hand at most."""

FREE_FROM_M, FREE_AT_M = 0.06, 0.16
"""A style bends the path where the goal is farther away than the first, in full from the second on."""


@dataclass(frozen=True)
class Style:
    """A manner of moving. Manners differ in pace and in the path to what is far away, not in the last 6 cm.

    Attributes:
        pace: part of the full speed.
        bow_rad: the hand sets out so far to the left of the straight way.
        arch_m: the hand aims so much higher than the straight way.
        hover: part of the usual height at which the hand comes over an object.
    """

    pace: float = 1.0
    bow_rad: float = 0.0
    arch_m: float = 0.0
    hover: float = 1.0

    @classmethod
    def drawn(cls, rng: np.random.Generator) -> Style:
        """One of many manners."""
        return cls(
            float(rng.uniform(0.55, 1.0)),
            float(rng.uniform(-0.6, 0.6)),
            float(rng.uniform(0.0, 0.06)),
            float(rng.uniform(0.7, 1.4)),
        )

    def target(
        self, hand: FloatArray, position_in_base: FloatArray, yaw: float
    ) -> tuple[FloatArray, FloatArray]:
        """Where the hand (4, 4) is sent next on its way to a position (3,) in m, pointing down at a yaw.

        Returns:
            A position (3,) in m and a rotation vector (3,), base frame, no farther ahead than the hand can
                follow smoothly.
        """
        from scipy.spatial.transform import Rotation

        step = position_in_base - hand[:3, 3]
        distance_m = float(np.linalg.norm(step[:2]))
        freedom = float(np.clip((distance_m - FREE_FROM_M) / (FREE_AT_M - FREE_FROM_M), 0.0, 1.0))
        step = raised(turned(step, freedom * self.bow_rad), freedom * self.arch_m)
        step = step * min(1.0, self.pace * LEAD_M / (float(np.linalg.norm(step)) + 1e-9))
        goal = Rotation.from_euler("z", yaw) * Rotation.from_matrix(np.diag([1.0, -1.0, -1.0]))
        now = Rotation.from_matrix(hand[:3, :3])
        turn = (goal * now.inv()).as_rotvec()
        turn *= min(1.0, self.pace * LEAD_RAD / (float(np.linalg.norm(turn)) + 1e-9))
        return hand[:3, 3] + step, (Rotation.from_rotvec(turn) * now).as_rotvec()


PLAIN = Style()
STYLES = ("plain", "varied", "a number of 0 or more")


def check_style(name: str) -> str:
    """Return the name of a style.

    Raises:
        UsageError: it names none; lists the valid ones.
    """
    if name not in ("plain", "varied") and not (name.isascii() and name.isdigit()):
        raise UsageError(f"Unknown style {name!r}; valid: {', '.join(STYLES)}.")
    return name


def named_style(name: str, start: dict[str, FloatArray]) -> Style:
    """``plain``, the manner with a number, or, with ``varied``, one drawn from where the objects start."""
    if check_style(name) == "plain":
        return PLAIN
    if name == "varied":
        places = np.concatenate([start[key][:3].ravel() for key in sorted(start)])
        return Style.drawn(np.random.default_rng(np.round(places * 1e6).astype(np.int64).view(np.uint64)))
    return Style.drawn(np.random.default_rng(int(name)))
