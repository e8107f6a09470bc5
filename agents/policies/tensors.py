"""Tensors by name: read from a file, and compared with those that a network has."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path

from safetensors import SafetensorError
from safetensors.torch import load_file
from torch import Tensor

from simreal_envs.errors import DataError


def read_tensors(file: Path) -> dict[str, Tensor]:
    """A safetensors file.

    Raises:
        DataError: missing or damaged.
    """
    try:
        tensors: dict[str, Tensor] = load_file(file)
    except (OSError, SafetensorError) as error:
        raise DataError(f"{file} cannot be read: {error}") from error
    return tensors


def misfits(found: Mapping[str, Tensor], wanted: Mapping[str, Tensor], most: int = 5) -> str:
    """What keeps tensors from being those that are wanted, the first few by name; empty if nothing does."""
    problems = [f"there is no {name}" for name in wanted if name not in found]
    problems += [f"{name} has no place" for name in found if name not in wanted]
    problems += [
        f"{name} has shape {list(tensor.shape)} in place of {list(wanted[name].shape)}"
        for name, tensor in found.items()
        if name in wanted and tensor.shape != wanted[name].shape
    ]
    more = [f"and {len(problems) - most} more"] if len(problems) > most else []
    return "; ".join(problems[:most] + more)
