"""The tasks, by name: one folder each, which is found by its name, and those of other packages."""

from __future__ import annotations

from pkgutil import iter_modules

from simreal_envs.errors import UsageError
from simreal_envs.plugins import Registry
from simreal_envs.tasks import moves
from simreal_envs.tasks.base import Demo, HumanScene, OtherShape, StandIn, Subtask, Task
from simreal_envs.tasks.starts import JointStart, OnTable, OnTop


def _folders() -> dict[str, str]:
    """``pick_place/`` holds the class ``PickPlace``, which is also the task's name."""
    folders = [module.name for module in iter_modules(__path__) if module.ispkg]
    names = ["".join(part.capitalize() for part in folder.split("_")) for folder in folders]
    return {name: f"{__name__}.{folder}:{name}" for name, folder in zip(names, folders, strict=True)}


TASKS: Registry[type[Task]] = Registry("task", "simreal.tasks", _folders(), Task)


def get_task(name: str) -> Task:
    """The task called ``name``.

    Raises:
        UsageError: an unknown name, whose message lists the valid ones; a plug-in that cannot be loaded or
            calls its task otherwise.
    """
    task = TASKS[name]()
    if task.name != name:
        raise UsageError(f"Task {name!r} calls itself {task.name!r}; both names must be the same.")
    return task


def tasks_with(attribute: str) -> list[str]:
    """Names of the tasks that have an attribute, such as ``expert`` or ``human_demonstrations``."""
    return [name for name, task in TASKS.loaded().items() if getattr(task, attribute)]


__all__ = [
    "TASKS", "Demo", "HumanScene", "JointStart", "OnTable", "OnTop", "OtherShape", "StandIn", "Subtask",
    "Task", "get_task", "moves", "tasks_with",
]  # fmt: skip
