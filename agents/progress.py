"""The progress bar of an evaluation, with the success rate so far."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from contextlib import ExitStack, contextmanager

from rich.console import Console
from rich.progress import BarColumn, MofNCompleteColumn, Progress, TextColumn, TimeRemainingColumn

from simreal_agents.episode_log import EpisodeResult


@contextmanager
def success_bar(total: int, title: str = "evaluate") -> Iterator[Callable[[EpisodeResult], None]]:
    """Show a bar on stderr; pass what it yields to :func:`simreal_agents.evaluation.evaluate`."""
    columns = (
        TextColumn("{task.description}"), BarColumn(), MofNCompleteColumn(), TimeRemainingColumn(),
        TextColumn("{task.fields[rates]}"),
    )  # fmt: skip
    counts: dict[tuple[str, str], list[int]] = {}
    progress = Progress(*columns, console=Console(stderr=True))
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
