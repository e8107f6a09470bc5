"""Attempts at demonstrations as they come, and what came of them."""

from __future__ import annotations

import time
from collections import Counter
from collections.abc import Iterator
from pathlib import Path
from typing import TYPE_CHECKING

from rich.console import Console
from rich.progress import Progress
from rich.table import Table

from simreal_agents.progress import bar_columns

if TYPE_CHECKING:
    from simreal_datasets.fill import Attempt


def show_attempts(attempts: Iterator[Attempt], dataset: Path, episodes: int) -> None:
    """Run through the attempts with a progress bar; then a table by start region."""
    console = Console()
    tried: Counter[str] = Counter()
    solved: Counter[str] = Counter()
    failed_after: Counter[str] = Counter()
    start = time.perf_counter()
    stored = len(list(dataset.glob("episode_*.hdf5"))) if dataset.is_dir() else 0
    with Progress(*bar_columns("{task.fields[rate]}"), console=console) as progress:
        bar = progress.add_task(dataset.name, total=episodes, completed=stored, rate="")
        for attempt in attempts:
            tried[attempt.placement_region] += 1
            if attempt.episode is None:
                failed_after[attempt.stage] += 1
            else:
                solved[attempt.placement_region] += 1
            rate = f"{sum(solved.values())}/{sum(tried.values())} succeed"
            progress.update(bar, advance=attempt.episode is not None, rate=rate)
    if not tried:
        console.print(f"{dataset} already holds {stored} episodes.")
        return
    table = Table("start region", "attempts", "succeeded", "%")
    for region in sorted(tried):
        k, n = solved[region], tried[region]
        table.add_row(region, str(n), str(k), f"{100 * k / n:.0f}")
    k, n = sum(solved.values()), sum(tried.values())
    table.add_row("all", str(n), str(k), f"{100 * k / n:.0f}")
    console.print(table)
    hours = (time.perf_counter() - start) / 3600
    if failed_after:
        reasons = ", ".join(f"{stage}: {count}" for stage, count in failed_after.most_common())
        console.print(f"Furthest stage of the failed attempts: {reasons}")
    console.print(f"{k} episodes in {3600 * hours:.0f} s, {k / hours:.0f} an hour -> {dataset}")
