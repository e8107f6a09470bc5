"""What a worker process of ``run_in_processes`` takes, measured in it; apart, so that it imports no tests."""

from __future__ import annotations

import re
import sys
from contextlib import ExitStack
from pathlib import Path
from typing import Any

from simreal_datasets.making.fill import Attempt, Recipe
from simreal_envs.parallel import Heartbeat, Work


class Measured:
    """A recipe whose work returns the attempt, the worker's greatest memory in MB, and torch's imports."""

    def __init__(self, recipe: Recipe) -> None:
        self.recipe = recipe

    def __call__(self, stack: ExitStack) -> Work[int, tuple[Attempt, float, set[str]]]:
        work = self.recipe.make_work(stack)
        return lambda seed, heartbeat: self._measure(work, seed, heartbeat)

    def _measure(self, work: Any, seed: int, heartbeat: Heartbeat) -> tuple[Attempt, float, set[str]]:
        attempt = work(seed, heartbeat)
        peak_kB = re.search(r"VmHWM:\s+(\d+)", Path("/proc/self/status").read_text())
        assert peak_kB is not None
        return attempt, int(peak_kB[1]) / 1024, {"torch", "triton"} & set(sys.modules)
