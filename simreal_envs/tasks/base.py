"""What a task is: its objects, where they start, when it is solved, and the parts it falls into."""

from __future__ import annotations

from abc import ABC, abstractmethod
from dataclasses import dataclass
from typing import TYPE_CHECKING

import numpy as np

from simreal_envs.errors import unknown
from simreal_envs.spec import REGIONS

if TYPE_CHECKING:
    from robosuite.models.objects import MujocoObject

    from simreal_envs.sim.physics import Physics


@dataclass(frozen=True)
class Range:
    """Uniform range of one object's pose on the table, base frame (the table's origin is at x = 0.56 m).

    ``x`` and ``y`` in metres relative to the table's centre, ``yaw`` in radians.
    """

    x: tuple[float, float]
    y: tuple[float, float]
    yaw: tuple[float, float] = (0.0, 0.0)

    def sample(self, rng: np.random.Generator) -> tuple[float, float, float]:
        """Draw (x, y, yaw)."""
        return (float(rng.uniform(*self.x)), float(rng.uniform(*self.y)), float(rng.uniform(*self.yaw)))

    def contains(self, x: float, y: float) -> bool:
        """Whether a table position lies in the range (yaw is not looked at)."""
        return self.x[0] <= x <= self.x[1] and self.y[0] <= y <= self.y[1]


@dataclass(frozen=True)
class Subtask:
    """One object-centric part of a task: how the end effector moves relative to an object.

    Attributes:
        name: of the part.
        reference: the object it moves relative to.
        until: the stage whose completion ends the part; None for the last part.
        held: the object in the hand meanwhile, whose place in the hand differs from grasp to grasp.
    """

    name: str
    reference: str
    until: str | None = None
    held: str | None = None


class Task(ABC):
    """A task. Stateless: everything about the episode is read from the physics.

    Attributes:
        name: as in ``simreal/<name>-v0``.
        objects: names of the objects, in the order of the ``object`` observation.
        stages: what has to happen, in order; the last one is success.
        subtasks: the parts for generation, in order.
        ranges: for each region, the start range of each object.
        object_symmetry: for each object, how many yaw rotations leave it the same (4 for a cube).
    """

    name: str
    objects: tuple[str, ...]
    stages: tuple[str, ...]
    subtasks: tuple[Subtask, ...]
    ranges: dict[str, dict[str, Range]]
    object_symmetry: dict[str, int]

    def sample_placement(
        self, region: str, rng: np.random.Generator
    ) -> dict[str, tuple[float, float, float]]:
        """Draw (x, y, yaw) on the table for every object."""
        if region not in self.ranges:
            raise unknown("region", region, REGIONS)
        return {name: self.ranges[region][name].sample(rng) for name in self.objects}

    def region_of(self, placement: dict[str, tuple[float, float, float]]) -> str:
        """``in`` if the target's demonstrations could start like this, else ``ood``."""
        inside = all(self.ranges["in"][name].contains(*placement[name][:2]) for name in self.objects)
        return "in" if inside else "ood"

    @abstractmethod
    def robosuite_objects(self) -> dict[str, MujocoObject]:
        """robosuite's models of the objects, by name."""

    @abstractmethod
    def stages_reached(self, physics: Physics) -> dict[str, bool]:
        """For each stage, whether its condition holds right now."""
