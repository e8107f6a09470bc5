"""Several processes of this machine train together, started and watched by torch's elastic launcher."""

from __future__ import annotations

import logging
import os
import signal
import threading
import time
from pathlib import Path
from typing import NoReturn

import torch
from rich.console import Console
from torch.distributed.elastic.multiprocessing import SignalException
from torch.distributed.elastic.multiprocessing.errors import ChildFailedError, ProcessFailure
from torch.distributed.launcher.api import LaunchConfig, elastic_launch

from simreal_agents.policies.checkpoint import find_checkpoint, list_checkpoints
from simreal_agents.policies.config import TrainConfig
from simreal_agents.policies.policy import pick_device
from simreal_agents.training.processes import LostProcess, check_shares, launched
from simreal_agents.training.run_folder import check_run, kept, stored_config
from simreal_agents.training.train import train
from simreal_envs.errors import DataError, SimrealError, UsageError

HOST = "127.0.0.1"
NOTICED_S = 5.0
"""In this time the launcher has noticed that a process died; until then the others wait to be ended."""


def launch(config: TrainConfig, run: Path, resume: bool, count: int, console: Console | None = None) -> Path:
    """Train as :func:`simreal_agents.training.train.train` does, with ``count`` processes of this machine.

    Raises:
        UsageError, DataError: as there; or so many processes cannot share a batch, or lack a device each.
        SimrealError: a process was ended from outside.
        KeyboardInterrupt: after Ctrl-C, once a checkpoint is written.
    """
    if launched() > 1:
        raise UsageError(f"A launcher has started {launched()} processes already; leave out --processes.")
    check_shares(config, count)
    if pick_device(config.device).type == "cuda" and count > torch.cuda.device_count():
        raise UsageError(f"{count} processes need a GPU each, and there are {torch.cuda.device_count()}.")
    config.complete()
    check_run(config, run, resume, stored_config, config.optim.updates)
    options = LaunchConfig(
        1, 1, count,
        run_id="simreal", rdzv_backend="c10d", rdzv_endpoint=f"{HOST}:0", local_addr=HOST,
        max_restarts=0, start_method="spawn",
    )  # fmt: skip
    os.environ.setdefault("OMP_NUM_THREADS", str(config.threads))
    blocked = _interrupts_to_another_thread()
    try:
        logging.disable(logging.ERROR)  # what the launcher logs is said below
        elastic_launch(options, _train_together)(config, run, resume, console is not None)
    except SignalException as stopped:
        updates = list_checkpoints(run)
        if not updates:  # it had not begun
            raise KeyboardInterrupt from stopped
        raise KeyboardInterrupt(f"stopped at update {updates[-1]}, which is saved in {run}") from stopped
    except ChildFailedError as failed:
        _explain(*failed.get_first_failure(), run)
    finally:
        logging.disable(logging.NOTSET)
        signal.pthread_sigmask(signal.SIG_SETMASK, blocked)
    return find_checkpoint(run)


def _train_together(config: TrainConfig, run: Path, resume: bool, shown: bool) -> None:
    """What each process does. What it raises is told to the launcher by a file, and printed there."""
    signal.pthread_sigmask(signal.SIG_UNBLOCK, {signal.SIGINT})
    try:
        train(config, run, resume, Console(stderr=True) if shown else None)
    except LostProcess:
        time.sleep(NOTICED_S)
        raise


def _interrupts_to_another_thread() -> set[int | signal.Signals]:
    """Block Ctrl-C in this thread, and thus in the processes that it starts, until they can save.

    The system gives the signal to the other thread; Python handles it in the main thread all the same.

    Returns:
        What was blocked before.
    """
    threading.Thread(target=threading.Event().wait, daemon=True).start()
    return set(signal.pthread_sigmask(signal.SIG_BLOCK, {signal.SIGINT}))


def _explain(process: int, failure: ProcessFailure, run: Path) -> NoReturn:
    """Raise what the process raised that failed first; or say which signal ended it."""
    if failure.exitcode < 0:
        cause = failure.signal_name()
        if cause == "SIGKILL":
            cause += ", as the system does where memory runs out"
        raise SimrealError(
            f"Process {process} of the training in {run} was ended by {cause}; {kept(run)}. Go on with "
            "--resume, or with fewer --processes."
        )
    told = failure.error_file_data.get("message")
    if not isinstance(told, dict):
        raise RuntimeError(f"Process {process} of the training in {run} exited with {failure.exitcode}.")
    kind, _, message = told["message"].partition(": ")
    for known in (UsageError, DataError, SimrealError, LostProcess):
        if kind == known.__name__:
            raise known(message)
    raise RuntimeError(f"Process {process} failed:\n{told['extraInfo']['py_callstack']}")
