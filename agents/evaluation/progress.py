"""The progress bar of an evaluation, with the success rate so far."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from contextlib import ExitStack, contextmanager

from rich.console import Console
from rich.progress import Progress

from simreal_agents.evaluation.episode_log import EpisodeResult
from simreal_agents.progress import bar_columns


@contextmanager
def success_bar(total: int, title: str = "evaluate") -> Iterator[Callable[[EpisodeResult], None]]:
    """Show a bar on stderr; pass what it yields to :func:`simreal_agents.evaluation.play.evaluate`."""
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
