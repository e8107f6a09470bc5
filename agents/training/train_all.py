"""Several trainings at once, one on a core."""

from __future__ import annotations

import json
import threading
from collections.abc import Callable, Iterator, Mapping
from contextlib import ExitStack, contextmanager
from pathlib import Path

from rich.console import Console
from rich.progress import Progress

from simreal_agents.policies.config import TrainConfig
from simreal_agents.progress import bar_columns
from simreal_agents.training.train import train
from simreal_envs.parallel import Heartbeat, Work, available_cores, run_in_processes

Training = tuple[Path, TrainConfig]
"""Folder of a run, and what is trained there."""


def train_all(configs: Mapping[Path, TrainConfig], console: Console) -> None:
    """Train, or go on with, the run of every folder; as many at once as there are cores.

    Raises:
        SimrealError: one of them cannot be done. The others save where they are and stop.
        KeyboardInterrupt: all have saved where they are.
    """
    with Progress(*bar_columns(), console=console, refresh_per_second=2) as progress:
        bars = {
            run: progress.add_task(run.name, total=config.optim.updates) for run, config in configs.items()
        }

        def show() -> None:
            for run, bar in bars.items():
                progress.update(bar, completed=_updates_logged(run))

        with _watched(show):
            for _ in run_in_processes(_make_trainer, list(configs.items()), available_cores()):
                pass


def _make_trainer(stack: ExitStack) -> Work[Training, None]:
    return train_one


def train_one(training: Training, heartbeat: Heartbeat) -> None:
    """Train, or go on with, one run in a worker process; it stops as soon as the parent wants to."""
    run, config = training

    def parent_stops() -> bool:
        try:
            heartbeat()
        except KeyboardInterrupt:
            return True
        return False

    train(config, run, resume=(run / "config.json").exists(), should_stop=parent_stops)


def _updates_logged(run: Path) -> int:
    """How far a run has come, by the last line of its log."""
    try:
        return int(json.loads((run / "log.jsonl").read_text().splitlines()[-1])["update"])
    except (OSError, IndexError, ValueError):  # not begun, or a line being written
        return 0


@contextmanager
def _watched(look: Callable[[], object], every_s: float = 1.0) -> Iterator[None]:
    """Call ``look`` again and again, and once at the end, while the body runs."""
    stop = threading.Event()

    def watch() -> None:
        while not stop.wait(every_s):
            look()

    thread = threading.Thread(target=watch, daemon=True)
    thread.start()
    try:
        yield
    finally:
        stop.set()
        thread.join()
        look()
