"""The folder of a run: what it was begun with, how far it has come, and whether a training may write it."""

from __future__ import annotations

import json
from collections.abc import Callable
from pathlib import Path
from typing import Any, TypeVar

from simreal_agents.policies.checkpoint import list_checkpoints
from simreal_agents.policies.config import TrainConfig, differences
from simreal_agents.policies.migrations import READABLE, read_config
from simreal_envs.errors import DataError, UsageError

CONFIG = "config.json"
DEMONSTRATIONS = "demonstrations.json"
"""In a run folder: names of the episodes' files that it is trained on, and of those that are held out, by
domain."""
LOCK = ".lock"

C = TypeVar("C")


def stored_config(run: Path | str) -> TrainConfig:
    """The configuration of the run in a folder.

    Raises:
        DataError: no run there, or one that is damaged or of another version.
    """
    file = Path(run) / CONFIG
    values = read_json(file)
    version = values.pop("format_version", min(READABLE))  # which was not written into this file
    return read_config(values, version, str(file))


def demonstrations(run: Path) -> dict[str, list[str]]:
    """Names of the files that a run is trained on, and of those that are held out, by domain.

    Raises:
        DataError: no run there, or a damaged one.
    """
    files: dict[str, list[str]] = read_json(run / DEMONSTRATIONS)
    if not all(isinstance(names, list) for names in files.values()):
        raise DataError(f"{run / DEMONSTRATIONS} is damaged: lists of file names are expected.")
    return files


def read_json(file: Path) -> dict[str, Any]:
    try:
        values: dict[str, Any] = json.loads(file.read_text())
    except OSError as error:
        raise DataError(f"There is no run in {file.parent}: {file.name}: {error.strerror}.") from error
    except ValueError as error:
        raise DataError(f"{file} is damaged: {error}") from error
    if not isinstance(values, dict):
        raise DataError(f"{file} is damaged: it holds no JSON object.")
    return values


def check_run(config: C, run: Path, resume: bool, stored: Callable[[Path], C], total: int) -> int:
    """The update that the folder's run has reached; 0 if there is none.

    Args:
        stored: reads the configuration of a run.
        total: updates of the finished run.

    Raises:
        UsageError: the folder belongs to something else.
    """
    if not (run / CONFIG).exists() and not resume:
        if run.exists() and (
            not run.is_dir() or any(not file.name.startswith(".") for file in run.iterdir())
        ):
            raise UsageError(
                f"{run} exists and is not a run; choose a folder that is empty or does not exist."
            )
        return 0
    changed = differences(stored(run), config)
    updates = list_checkpoints(run)
    if not updates:  # it failed, or was killed, before anything worth keeping
        return 0
    if changed:
        raise UsageError(
            f"{run} holds a run of another configuration ({'; '.join(changed)}); use another folder."
        )
    done = updates[-1]
    if done < total and not resume:
        raise UsageError(
            f"{run} holds this run up to update {done} of {total}; add --resume to go on with it."
        )
    return done


def kept(run: Path) -> str:
    """What is left of a run that broke off, for errors."""
    saved = list_checkpoints(run)
    return f"the checkpoint at update {saved[-1]} is intact" if saved else "nothing was saved"
