"""Progress bars: what every one shows, and that of an evaluation, with the success rate so far."""

from __future__ import annotations

from collections.abc import Callable, Generator, Iterator
from contextlib import ExitStack, closing, contextmanager
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

from simreal_agents.episode_log import EpisodeResult
from simreal_datasets.fill import Attempt, count_files


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


@contextmanager
def success_bar(total: int, title: str = "evaluate") -> Iterator[Callable[[EpisodeResult], None]]:
    """Show a bar on stderr; pass what it yields to :func:`simreal_agents.evaluation.evaluate`."""
    counts: dict[tuple[str, str], list[int]] = {}
    progress = Progress(*bar_columns("{task.fields[rates]}"), console=Console(stderr=True))
    bar = progress.add_task(title, total=total, rates="")

    def show(result: EpisodeResult) -> None:
        if not counts:  # nothing can be wrong with the arguments any more
            stack.enter_context(progress)
        count = counts.setdefault((result.name, result.region), [0, 0])
        count[0] += result.success
        count[1] += 1
        rates = f"{result.name} {result.region} {100 * count[0] / count[1]:.0f} %"
        progress.update(bar, advance=1, rates=rates)

    with ExitStack() as stack:
        yield show
