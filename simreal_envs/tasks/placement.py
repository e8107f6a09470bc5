"""How an episode starts: drawn from the seed, with objects where ``reset``'s options want them."""

from __future__ import annotations

from typing import Any

import numpy as np

from simreal_envs.errors import UsageError
from simreal_envs.spec import START_JOINTS_RAD, FloatArray, check_choice
from simreal_envs.tasks.base import Task

Placement = dict[str, tuple[float, float, float]]
"""For each object x and y in metres from the table's centre, and yaw in radians."""

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
    placement = task.sample_placement(region, rng) | asked_placement(task, options)
    return START_JOINTS_RAD + noise_rad, placement


def asked_placement(task: Task, options: dict[str, Any] | None) -> Placement:
    """The objects that ``reset`` was told where to put.

    Raises:
        UsageError: an object that the task does not have, or a place that is not three finite numbers.
    """
    asked = dict((options or {}).get("placement", {}))
    for name, values in asked.items():
        check_choice("object", name, task.objects)
        if len(values) != 3 or not np.isfinite(values).all():
            raise UsageError(f"Placement of {name!r} is {values!r}; it must be (x m, y m, yaw rad).")
    return asked
