"""The trainer: one network, one loss, the same loop for every method.

A run can be stopped at any update and goes on to the same weights, bit for bit on one machine with as many
threads: a checkpoint holds weights, optimiser and the state of every generator.
"""

from __future__ import annotations

import logging
import math
import signal
import threading
from collections.abc import Callable, Iterator, Mapping
from contextlib import ExitStack, contextmanager, nullcontext
from pathlib import Path

import torch
from rich.console import Console
from rich.progress import Progress
from torch import Tensor

from simreal_agents.policies.checkpoint import ASSESSMENT, find_checkpoint, list_checkpoints, write_json
from simreal_agents.policies.config import TrainConfig
from simreal_agents.policies.migrations import FORMAT_VERSION
from simreal_agents.progress import bar_columns
from simreal_agents.training.assess import assess
from simreal_agents.training.demonstrations import VALIDATION, load_domains, load_held_out
from simreal_agents.training.learner import Learner
from simreal_agents.training.log import Log
from simreal_agents.training.processes import Processes
from simreal_agents.training.run_folder import (
    CONFIG,
    DEMONSTRATIONS,
    LOCK,
    check_run,
    demonstrations,
    kept,
    stored_config,
)
from simreal_datasets.loading.frames import Frames
from simreal_envs.errors import DataError, UsageError
from simreal_envs.folders import only_process

MAX_PLAN_ERROR = 0.01
"""A larger error of the transport plan is warned of, once for each start or resume."""

logger = logging.getLogger(__name__)


def train(
    config: TrainConfig,
    run: Path | str,
    resume: bool = False,
    console: Console | None = None,
    should_stop: Callable[[], bool] = lambda: False,
) -> Path:
    """Train, or go on with, the run in folder ``run``; returns the folder of its last checkpoint.

    Of several processes that a launcher started, each calls this with the same arguments; ``run`` and the
    datasets are folders that all of them see.

    A finished run of the same configuration is left as it is. One that goes on reads the demonstrations that
    it began with, whatever was added to the datasets since.

    Args:
        console: where to show progress; None shows none.
        should_stop: asked after every update; stops the run as Ctrl-C does.

    Raises:
        UsageError: the folder holds a run of another configuration, or an unfinished one and ``resume`` is
            not set; or a budget larger than the data.
        DataError: data or a checkpoint that cannot be used, or another process trains in the folder.
        KeyboardInterrupt: after Ctrl-C, SIGTERM or ``should_stop``, once a checkpoint is written.
    """
    run = Path(run)
    config.complete()
    processes = Processes(config)
    with processes.together():
        done = check_run(config, run, resume, stored_config, config.optim.updates)
        if done == config.optim.updates:
            return find_checkpoint(run)
        processes.wait()  # until all have looked, before the first one writes
        learner, used = _prepare(config, demonstrations(run) if done else None, processes)
        run.mkdir(parents=True, exist_ok=True)
        taken = f"Another training is writing {run}; wait for it, or choose another folder."
        with only_process(run / LOCK, taken) if processes.first else nullcontext():
            if processes.first and done != check_run(
                config, run, resume, stored_config, config.optim.updates
            ):
                raise UsageError(f"Run {run} was trained by another process meanwhile; start again.")
            if done:
                learner.restore(find_checkpoint(run))
            elif processes.first:
                write_json(run / CONFIG, {"format_version": FORMAT_VERSION} | config.to_dict())
                write_json(run / DEMONSTRATIONS, {name: frames.files for name, frames in used.items()})
            _update_until_done(learner, run, console, should_stop)
    return find_checkpoint(run)


def _prepare(
    config: TrainConfig, stored: Mapping[str, list[str]] | None, processes: Processes
) -> tuple[Learner, dict[str, Frames]]:
    """The learner, and the demonstrations that it uses by what ``demonstrations.json`` calls them.

    Args:
        stored: names of the episodes' files of a run that goes on.
    """
    source, target = load_domains(config, stored or {})
    used = {name: frames for name, frames in (("source", source), ("target", target)) if frames}
    files = None if stored is None else {name: stored.get(VALIDATION + name, []) for name in used}
    held_out = load_held_out(config, used, files)
    learner = Learner(config, source, target, held_out, fresh=stored is None, processes=processes)
    return learner, used | {VALIDATION + name: frames for name, frames in held_out.items()}


def _update_until_done(
    learner: Learner, run: Path, console: Console | None, should_stop: Callable[[], bool]
) -> None:
    """Do all updates that are left, in every process of the training; the first one writes and judges."""
    config, processes = learner.config, learner.processes
    with ExitStack() as stack:
        log = stack.enter_context(Log(run, learner.update)) if processes.first else None
        show = stack.enter_context(_progress(console if log else None, config, learner.update))
        stop = stack.enter_context(stop_signals())
        warned = False
        if learner.update and log and not stop.is_set():  # stopped before its checkpoint was assessed
            _assess(learner, run, log)
        while learner.update < config.optim.updates:
            values = _step(learner, run)
            finished = learner.update == config.optim.updates
            stopped = processes.any(stop.is_set() or should_stop())
            saves = learner.update % config.checkpoint_every == 0 or finished or stopped
            logs = learner.update % config.log_every == 0 or finished
            if saves or logs:
                means = processes.mean(values)
                _require_finite(means, learner.update, run, config)
            if logs and log:
                _write(log, learner.update, means | learner.objective.stopwatch.take(), run)
                warned = warned or _warn_of_plan(means, learner.update)
            show(learner.update, float(values["clone"]))
            if saves and log:
                learner.save(run)
                if not stopped:
                    _assess(learner, run, log)
            if saves:
                processes.wait()
            if stopped and not finished:
                raise KeyboardInterrupt(f"stopped at update {learner.update}, which is saved in {run}")


def _assess(learner: Learner, run: Path, log: Log) -> None:
    """Assess the checkpoint that was saved last, unless it is done, or none of those that come regularly."""
    config, file = learner.config, find_checkpoint(run, learner.update) / ASSESSMENT
    regular = learner.update % config.checkpoint_every == 0 or learner.update == config.optim.updates
    if regular and not file.exists():
        if values := assess(learner):
            _write(log, learner.update, values, run)
        write_json(file, values)


def _step(learner: Learner, run: Path) -> dict[str, Tensor | float]:
    try:
        return learner.step()
    except torch.linalg.LinAlgError as error:  # features that are not finite, or all alike
        raise _diverged(learner.update + 1, run) from error


def _write(log: Log, update: int, values: Mapping[str, float], run: Path) -> None:
    try:
        log.write(update, values)
    except OSError as error:
        again = "go on with --resume" if list_checkpoints(run) else "run the same command again"
        raise DataError(
            f"Cannot write the log of {run} at update {update}: {error.strerror or error}; {kept(run)}. "
            f"Free some space and {again}."
        ) from error


def _warn_of_plan(values: Mapping[str, float], update: int) -> bool:
    """Warn if the solver missed the transport plan that was asked for; returns whether it warned."""
    error = values.get("plan_error", 0.0)
    if error <= MAX_PLAN_ERROR:
        return False
    logger.warning(
        "The transport plan did not converge at update %d: its rows and columns have %.2g of mass 1 too much "
        "or too little (plan_error in the log). Give alignment.max_iterations or alignment.epsilon more.",
        update, error,
    )  # fmt: skip
    return True


def _require_finite(values: Mapping[str, float], update: int, run: Path, config: TrainConfig) -> None:
    """Raise a DataError if loss or gradient are not finite, before such weights are saved.

    With fp16 a gradient that overflows is left out, and the loss scaled less from then on.
    """
    names = ("loss",) if config.amp == "fp16" else ("loss", "gradient_norm")
    if not all(math.isfinite(values[name]) for name in names):
        raise _diverged(update, run)


def _diverged(update: int, run: Path) -> DataError:
    return DataError(
        f"The training in {run} diverged: at update {update} its loss is no finite number; {kept(run)}. "
        "Train in another folder with a lower optim.learning_rate."
    )


@contextmanager
def _progress(
    console: Console | None, config: TrainConfig, update: int
) -> Iterator[Callable[[int, float], None]]:
    """A progress bar; yields what to call after each update with the cloning loss."""
    columns = bar_columns("loss {task.fields[loss]:.4f}")
    with Progress(*columns, console=console, disable=console is None, refresh_per_second=2) as bar:
        task = bar.add_task(f"train {config.method}", total=config.optim.updates, completed=update, loss=0.0)
        yield lambda done, loss: bar.update(task, completed=done, loss=loss)


@contextmanager
def stop_signals() -> Iterator[threading.Event]:
    """An event that SIGINT and SIGTERM set, so that an update is never cut in two."""
    event = threading.Event()
    if threading.current_thread() is not threading.main_thread():  # only the main one may handle signals
        yield event
        return
    before = {
        number: signal.signal(number, lambda *_: event.set()) for number in (signal.SIGINT, signal.SIGTERM)
    }
    try:
        yield event
    finally:
        for number, handler in before.items():
            signal.signal(number, handler)
