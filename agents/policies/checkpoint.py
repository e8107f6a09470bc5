"""Checkpoints without pickle: tensors in safetensors, everything else in JSON.

A run folder holds ``config.json``, ``demonstrations.json``, ``log.jsonl``, ``tensorboard/`` and
``checkpoints/<update>/`` with

* ``weights.safetensors``   the policy: network, normalisation
* ``state.json``            format version, update, configuration, the world it was trained for, how its
                            domains look and through which cameras, generators
* ``training.safetensors``  what only going on needs (raw weights, optimiser, generators); newest one only
* ``assessment.json``       what was found out about it, see :mod:`simreal_agents.training.assess`

A checkpoint is written aside and renamed, so a folder with that name is complete but for its assessment,
which is added later.
"""

from __future__ import annotations

import json
import shutil
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from safetensors import SafetensorError
from safetensors.torch import save_file
from torch import Tensor

from simreal_agents.policies.migrations import FORMAT_VERSION, READABLE, read_world
from simreal_datasets.store.files import force_to_disk
from simreal_envs.errors import DataError, UsageError
from simreal_envs.features import WorldSpec

WEIGHTS, TRAINING, STATE = "weights.safetensors", "training.safetensors", "state.json"
ASSESSMENT = "assessment.json"
POLICY_KEYS = ("update", "config", "world", "looks", "cameras")
"""What the state of every checkpoint holds; none of it has a default."""
TRAINING_KEYS = ("sampler", "device")
"""What going on needs besides."""


def save_checkpoint(
    run: Path, update: int, weights: dict[str, Tensor], training: dict[str, Tensor], state: dict[str, Any]
) -> Path:
    """Write a checkpoint; on return it is on the disk, and older checkpoints keep only the policy.

    Raises:
        DataError: it cannot be written, for example because the disk is full.
    """
    folder = run / "checkpoints" / f"{update:07d}"
    aside = folder.with_name(f".{folder.name}")
    shutil.rmtree(aside, ignore_errors=True)
    try:
        aside.mkdir(parents=True)
        _write_tensors(weights, aside / WEIGHTS)
        _write_tensors(training, aside / TRAINING)
        values = {"format_version": FORMAT_VERSION, "update": update, **state}
        (aside / STATE).write_text(json.dumps(values, indent=1))
        for path in (*aside.iterdir(), aside):
            force_to_disk(path)
        aside.rename(folder)
        for path in (folder.parent, run):
            force_to_disk(path)
    except (OSError, SafetensorError) as error:
        shutil.rmtree(aside, ignore_errors=True)
        raise DataError(f"Cannot write a checkpoint in {run}: {error}. Those before are intact.") from error
    for other in _folders(run):
        if other != folder:
            (other / TRAINING).unlink(missing_ok=True)
    return folder


def write_json(file: Path, values: Any) -> None:
    """Write aside and rename, so that the file is either complete or not there."""
    aside = file.with_name(f".{file.name}")
    try:
        aside.write_text(json.dumps(values, indent=1))
        aside.replace(file)
    finally:
        aside.unlink(missing_ok=True)


def list_checkpoints(run: Path) -> list[int]:
    """Updates at which there are checkpoints, ascending."""
    return [int(folder.name) for folder in _folders(run)]


def find_checkpoint(run: Path, checkpoint: str | int = "last") -> Path:
    """Folder of a checkpoint: ``last``, or the number of its update.

    Raises:
        DataError: no such run, or a run without checkpoints.
        UsageError: this run has no such checkpoint.
    """
    if not run.is_dir():
        raise DataError(f"There is no run folder {run}.")
    updates = list_checkpoints(run)
    if not updates:
        raise DataError(f"Run {run} has no checkpoints.")
    if checkpoint == "last":
        return run / "checkpoints" / f"{updates[-1]:07d}"
    if not str(checkpoint).isdigit() or int(checkpoint) not in updates:
        raise UsageError(
            f"Run {run} has no checkpoint {checkpoint!r}. Valid: last, {', '.join(map(str, updates))}."
        )
    return run / "checkpoints" / f"{int(checkpoint):07d}"


def read_state(folder: Path, keys: Sequence[str] = POLICY_KEYS) -> dict[str, Any]:
    """Read ``state.json`` of a checkpoint. ``read_config`` has to bring its configuration to today's format.

    Args:
        keys: what must be in it.

    Raises:
        DataError: missing, damaged, of another format version, or without one of the keys.
    """
    try:
        state: dict[str, Any] = json.loads((folder / STATE).read_text())
    except (OSError, ValueError) as error:
        raise DataError(f"Checkpoint {folder} cannot be read: {error}") from error
    if not isinstance(state, dict):
        raise DataError(f"Checkpoint {folder} is damaged: {STATE} holds no JSON object.")
    if state.get("format_version") not in READABLE:
        raise DataError(
            f"Checkpoint {folder} has format version {state.get('format_version')}; "
            f"this simreal reads {' and '.join(map(str, READABLE))}."
        )
    missing = [key for key in keys if key not in state]
    for key in ("config", "world", "looks", "cameras"):
        if not isinstance(state.get(key, {}), dict):
            raise DataError(f"Checkpoint {folder} is damaged: {key!r} of {STATE} is no JSON object.")
    if missing:
        raise DataError(f"Checkpoint {folder} is damaged: {STATE} lacks {', '.join(missing)}.")
    try:
        state = read_world(state)
        WorldSpec.from_json(state["world"])
    except DataError as error:
        raise DataError(f"Checkpoint {folder} is damaged: {STATE}: {error}.") from error
    return state


def _write_tensors(tensors: dict[str, Tensor], file: Path) -> None:
    save_file({name: tensor.contiguous() for name, tensor in tensors.items()}, file)


def _folders(run: Path) -> list[Path]:
    found = (run / "checkpoints").glob("*")
    return sorted((f for f in found if f.name.isdigit()), key=lambda f: int(f.name))
