"""Attempts at demonstrations as they come, and what came of them."""

from __future__ import annotations

import time
from collections import Counter
from collections.abc import Generator
from contextlib import closing
from pathlib import Path

from rich.console import Console
from rich.table import Table

from simreal_agents.progress import shown_attempts
from simreal_datasets.making.fill import Attempt, count_files


def show_attempts(attempts: Generator[Attempt, None, None], dataset: Path, episodes: int) -> None:
    """Run through the attempts with a progress bar; then print a table by start region.

    After an interruption or an error the table shows the attempts made until then.
    """
    console = Console()
    outcomes = Outcomes()
    start = time.perf_counter()
    stored = count_files(dataset)
    try:
        with closing(shown_attempts(attempts, dataset, episodes, console)) as shown:
            for attempt in shown:
                outcomes.add(attempt)
        if not outcomes.tried:
            console.print(f"{dataset} already holds {stored} episodes.")
    finally:
        if outcomes.tried:
            outcomes.print(console)
            solved, took_s = outcomes.solved.total(), time.perf_counter() - start
            speed = f"{solved} episodes in {took_s:.0f} s, {3600 * solved / took_s:.0f} an hour"
            console.print(f"{speed} -> {dataset}" + (f", beside {stored} from before" if stored else ""))


class Outcomes:
    """How many attempts were made and solved from each start region, and how far the others came."""

    def __init__(self) -> None:
        self.tried: Counter[str] = Counter()
        self.solved: Counter[str] = Counter()
        self._failed_after: Counter[str] = Counter()

    def add(self, attempt: Attempt) -> None:
        """Count an attempt."""
        self.tried[attempt.placement_region] += 1
        if attempt.episode is None:
            self._failed_after[attempt.stage] += 1
        else:
            self.solved[attempt.placement_region] += 1

    def print(self, console: Console) -> None:
        """Print the table."""
        table = Table("start region", "attempts", "succeeded", "%")
        rows = [(region, self.tried[region], self.solved[region]) for region in sorted(self.tried)]
        for name, n, k in [*rows, ("all", self.tried.total(), self.solved.total())]:
            table.add_row(name, str(n), str(k), f"{100 * k / n:.0f}")
        console.print(table)
        if self._failed_after:
            reasons = ", ".join(f"{stage}: {count}" for stage, count in self._failed_after.most_common())
            console.print(f"Furthest stage of the failed attempts: {reasons}")
