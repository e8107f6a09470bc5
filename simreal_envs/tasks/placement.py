"""How an episode starts: drawn from the seed, except for the places in ``reset``'s options."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import numpy as np

from simreal_envs.errors import UsageError
from simreal_envs.spec import (
    START_JOINTS_RAD,
    TABLE_CENTRE_IN_BASE_M,
    TABLE_HALF_SIDE_M,
    FloatArray,
    check_choice,
)
from simreal_envs.tasks.base import Task
from simreal_envs.tasks.starts import JointStart, OnTop, Placement, as_place

START_NOISE_RAD = 0.02
"""Standard deviation of each start joint, as robosuite's default."""


def draw_start(
    task: Task, region: str, rng: np.random.Generator, options: dict[str, Any] | None
) -> tuple[FloatArray, Placement]:
    """Start joints (7,) in rad and places of the objects; one seed means the same start in every world.

    Raises:
        UsageError: see :func:`asked_placement`.
    """
    noise_rad = rng.normal(0.0, START_NOISE_RAD, 7)
    for name in options or {}:
        check_choice("option of reset", name, ("placement",))
    asked = asked_placement(task, (options or {}).get("placement", {}))
    return START_JOINTS_RAD + noise_rad, task.sample_placement(region, rng) | asked


def asked_placement(task: Task, asked: Any) -> Placement:
    """Starts that a caller asked for, checked.

    Raises:
        UsageError: the starts are not given by name, a name is none of those in the task's ``starts``, or a
            start is not of the kind that the task has there, or not on the table.
    """
    if not isinstance(asked, Mapping):
        raise UsageError(f"A placement is where things start, by name, not {asked!r}.")
    placement: Placement = {}
    for name, value in asked.items():
        check_choice("object", name, task.starts["all"])
        start, place = task.starts["all"][name], as_place(value)
        if place is None or not start.is_of_kind(place):
            raise UsageError(f"Placement of {name!r} is {value!r}; it must be {start.form}.")
        if isinstance(place, tuple) and not _is_near(*place[:3]):
            raise UsageError(
                f"Placement of {name!r} is {value!r}; it takes m from the middle, at most "
                f"{TABLE_HALF_SIDE_M}, and rad, a full turn at most."
            )
        placement[name] = place
    return placement


def _is_near(x: float, y: float, yaw: float) -> bool:
    return max(abs(x), abs(y)) <= TABLE_HALF_SIDE_M and abs(yaw) <= 2 * np.pi


def placement_of(task: Task, poses: Mapping[str, FloatArray]) -> Placement:
    """The starts of the entities at these object poses (4, 4); those of joints are left out."""
    placement: Placement = {}
    for name, start in task.starts["all"].items():
        if isinstance(start, JointStart) or name not in poses:
            continue
        of = poses[start.of] if isinstance(start, OnTop) else _TABLE_IN_BASE
        pose = np.linalg.inv(of) @ poses[name]
        yaw = float(np.arctan2(pose[1, 0], pose[0, 0]))
        x, y = float(pose[0, 3]), float(pose[1, 3])
        placement[name] = (x, y, yaw, start.of) if isinstance(start, OnTop) else (x, y, yaw)
    return placement


_TABLE_IN_BASE = np.eye(4)
_TABLE_IN_BASE[:3, 3] = TABLE_CENTRE_IN_BASE_M


def table_places(placement: Placement) -> dict[str, tuple[float, float, float]]:
    """The places (x, y, yaw) of entities that lie directly on the table."""
    lying = ((name, place) for name, place in placement.items() if not isinstance(place, float))
    return {name: place for name, place in lying if len(place) == 3}
