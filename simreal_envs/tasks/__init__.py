"""The tasks, by name."""

from __future__ import annotations

from simreal_envs.errors import unknown
from simreal_envs.tasks.base import Range, Subtask, Task
from simreal_envs.tasks.lift import Lift
from simreal_envs.tasks.stack import Stack

TASKS: dict[str, Task] = {task.name: task for task in (Lift(), Stack())}


def get_task(name: str) -> Task:
    """The task called ``name``; raises UsageError listing the valid ones."""
    if name not in TASKS:
        raise unknown("task", name, TASKS)
    return TASKS[name]


__all__ = ["TASKS", "Range", "Subtask", "Task", "get_task"]
