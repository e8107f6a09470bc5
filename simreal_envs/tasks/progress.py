"""How far an episode has come through the stages of its task, and whether it is solved."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from simreal_envs.sim.physics import Physics
    from simreal_envs.tasks.base import Task

START = "start"
"""How far an episode has come that has reached no stage."""


def conditions(task: Task, physics: Physics) -> dict[str, bool]:
    """For each stage, whether its condition holds right now; a Python bool, which JSON takes, of any task."""
    return {stage: bool(holds) for stage, holds in task.stages_reached(physics).items()}


class Progress:
    """The stages that an episode has reached: all up to the last one whose condition has held.

    A stage counts as soon as its condition, or that of a later one, holds, and then for good. The episode is
    solved as soon as its last stage is reached, which ends it.

    >>> progress = Progress(("reach", "grasp", "lift"))
    >>> progress.update({"reach": False, "grasp": True, "lift": False})
    >>> progress.reached, progress.furthest, progress.success
    (('reach', 'grasp'), 'grasp', False)
    """

    def __init__(self, stages: Sequence[str]) -> None:
        self._stages = tuple(stages)
        self._count = 0

    def update(self, now: Mapping[str, bool]) -> None:
        """Take note of which stages' conditions hold at one moment."""
        for count, stage in enumerate(self._stages, start=1):
            if now[stage]:
                self._count = max(self._count, count)

    @property
    def reached(self) -> tuple[str, ...]:
        """The stages reached, in order."""
        return self._stages[: self._count]

    @property
    def furthest(self) -> str:
        """The last of them, or :data:`START`."""
        return self.reached[-1] if self.reached else START

    @property
    def success(self) -> bool:
        """Whether all stages are reached."""
        return self._count == len(self._stages)

    def to_json(self) -> dict[str, Any]:
        """``success``, ``stage`` and ``stages_reached``, as ``info`` and an episode's metadata hold them."""
        return {"success": self.success, "stage": self.furthest, "stages_reached": self._count}


def failed_at(stages: Sequence[str], stages_reached: int, success: bool) -> str:
    """The first stage that an episode did not reach; empty after success.

    One that was interrupted at the moment of success failed at the last stage.

    >>> failed_at(("reach", "grasp", "lift"), 1, success=False)
    'grasp'
    """
    return "" if success else stages[min(stages_reached, len(stages) - 1)]
