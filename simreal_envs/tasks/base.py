"""Defines a task: its objects, where they start, when it is solved, and its subtasks."""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any

import numpy as np

from simreal_envs.errors import unknown
from simreal_envs.spec import REGIONS
from simreal_envs.tasks.moves import Command, Scene
from simreal_envs.tasks.starts import Placement, Start

if TYPE_CHECKING:
    from robosuite.models.objects import MujocoObject

    from simreal_envs.sim.physics import Physics


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


@dataclass(frozen=True)
class Demo:
    """The settings of ``simreal demo`` for a task.

    Attributes:
        minutes, quick_minutes: how long the demo, and with ``--quick``, takes on two cores after installing.
        sizes: settings of its :class:`Experiment` by name, where they differ from the usual ones.
    """

    minutes: int
    quick_minutes: int
    sizes: dict[str, Any] = field(default_factory=dict)


@dataclass(frozen=True)
class OtherShape:
    """Another shape of an entity, with which the task's rule and its expert's still hold.

    Attributes:
        scale: how many times as large it is along its x, y and z axis. Where x and y differ, the axes of its
            parts are those of the entity.
        is_round: its boxes become upright cylinders.
    """

    scale: tuple[float, float, float] = (1.0, 1.0, 1.0)
    is_round: bool = False


@dataclass(frozen=True)
class StandIn:
    """A body of another scene that stands for one of a task's objects.

    Attributes:
        names: of the body, without ``_main``; each version of robosuite has one of them.
        at_m: where the object's origin is in the body's frame; the axes are the same.
    """

    names: tuple[str, ...]
    at_m: tuple[float, float, float] = (0.0, 0.0, 0.0)


@dataclass(frozen=True)
class HumanScene:
    """The scene of a task's human demonstrations, where it is another one than the task's own.

    Attributes:
        envs: robosuite's names of the scene.
        stand_ins: for each of the task's objects, the body that stands for it.
    """

    envs: tuple[str, ...]
    stand_ins: dict[str, StandIn]


class Task(ABC):
    """A task defines objects, starts, stages and subtasks; it is stateless and reads all from the physics.

    An object is an entity, with the name of its robosuite model, or a moving part of an entity, with the name
    of its body. An entity is free, with robosuite's free joint, or fixed to the table; both may have hinges
    and slides.

    Attributes:
        name: as in ``simreal/<name>-v0``.
        instruction: what to do, in one sentence.
        objects: names of the objects, in the order of the ``object`` observation.
        stages: what has to happen, in order; the last one is success.
        subtasks: the parts for generation, in order.
        starts: for each region, the start of each free entity, and of hinges and slides by their names in the
            model. An entity or joint has the same kind of start in every region.
        fixed: (x, y, yaw) on the table of each entity that has no free joint.
        object_symmetry: for each object, how many yaw rotations leave it the same (4 for a cube); 1 if not
            named.
        other_shapes: other shapes of free entities, for the shift ``object-shape``.
        human_demonstrations: files of robosuite 1.0.1's human demonstration, ``demo.hdf5`` first, with their
            SHA-256.
        human_scene: the scene that they were recorded in, if it is not robosuite's of the task's name.
        demo: sizes of ``simreal demo``.
        closeness: for ``reward="staged"``, a method of the physics and what :meth:`stages_reached` says now:
            for each stage how close its condition is, from 0 to 1, and 0 as long as the stage has not begun.
            Stages that it leaves out have not begun. See :mod:`simreal_envs.tasks.staged`.
        expert: the rule of a scripted expert, see :mod:`simreal_envs.tasks.moves`; write it as a method.
    """

    name: str
    instruction: str
    objects: tuple[str, ...]
    stages: tuple[str, ...]
    subtasks: tuple[Subtask, ...]
    starts: dict[str, dict[str, Start]]
    fixed: dict[str, tuple[float, float, float]] = {}
    object_symmetry: dict[str, int] = {}
    other_shapes: dict[str, OtherShape] = {}
    human_demonstrations: dict[str, str] = {}
    human_scene: HumanScene | None = None
    demo: Demo | None = None
    closeness: Callable[[Physics, Mapping[str, bool]], dict[str, float]] | None = None
    expert: Callable[[Scene], Command] | None = None

    def sample_placement(self, region: str, rng: np.random.Generator) -> Placement:
        """Draw the starts of all entities and joints in ``starts``."""
        if region not in self.starts:
            raise unknown("region", region, REGIONS)
        return {name: start.sample(rng) for name, start in self.starts[region].items()}

    def region_of(self, placement: Placement) -> str:
        """``in`` if the target's demonstrations could start like this, else ``ood``."""
        starts = self.starts["in"]
        return "in" if all(starts[name].contains(place) for name, place in placement.items()) else "ood"

    @abstractmethod
    def robosuite_objects(self) -> dict[str, MujocoObject]:
        """robosuite's models of the entities, by name."""

    @abstractmethod
    def stages_reached(self, physics: Physics) -> dict[str, bool]:
        """For each stage, whether its condition holds right now."""

    def human_stages_reached(self, physics: Physics) -> dict[str, bool]:
        """The same in :attr:`human_scene`, whose bodies have the names of the task's objects."""
        return self.stages_reached(physics)
