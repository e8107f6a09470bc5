"""What every progress bar shows, and the bar of a dataset that is filled."""

from __future__ import annotations

from collections.abc import Generator
from contextlib import closing
from pathlib import Path

from rich.console import Console
from rich.progress import (
    BarColumn,
    MofNCompleteColumn,
    Progress,
    ProgressColumn,
    TextColumn,
    TimeRemainingColumn,
)

from simreal_datasets.making.fill import Attempt, count_files


def bar_columns(detail: str = "") -> tuple[ProgressColumn, ...]:
    """What is done, how far it is, the time left; then ``detail``, such as ``{task.fields[loss]:.4f}``."""
    return (
        TextColumn("{task.description}"),
        BarColumn(),
        MofNCompleteColumn(),
        TimeRemainingColumn(),
        TextColumn(detail),
    )


def shown_attempts(
    attempts: Generator[Attempt, None, None], dataset: Path, episodes: int, console: Console
) -> Generator[Attempt, None, None]:
    """Pass attempts on, under a bar of the episodes that are stored; beside it how many attempts succeed.

    Close it (``contextlib.closing``), so that Ctrl-C in the loop over it ends the workers too.
    """
    solved = tried = 0
    with closing(attempts), Progress(*bar_columns("{task.fields[rate]}"), console=console) as progress:
        bar = progress.add_task(dataset.name, total=episodes, completed=count_files(dataset), rate="")
        for attempt in attempts:
            tried += 1
            solved += attempt.episode is not None
            rate = f"{solved}/{tried} succeed"
            progress.update(bar, advance=attempt.episode is not None, rate=rate)
            yield attempt
