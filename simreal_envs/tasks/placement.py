"""Where the user of ``reset`` wants the objects: ``options={"placement": {"cube": (x, y, yaw)}}``."""

from __future__ import annotations

from typing import Any

import numpy as np

from simreal_envs.errors import UsageError
from simreal_envs.spec import check_choice
from simreal_envs.tasks.base import Task

Placement = dict[str, tuple[float, float, float]]
"""For each object x and y in metres from the table's centre, and yaw in radians."""


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
