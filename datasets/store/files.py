"""Writes files of a dataset folder that are whole or not there, even if the writer dies meanwhile."""

from __future__ import annotations

import errno
import os
from collections.abc import Iterator
from contextlib import AbstractContextManager, contextmanager
from pathlib import Path

from simreal_envs.errors import DataError
from simreal_envs.folders import taking_turns

ASIDE = ".aside"
"""The file being written. A writer that finds it when it takes the lock knows that a crash left it."""


def locked(folder: Path) -> AbstractContextManager[None]:
    """Hold the dataset's lock while the context lasts: its writers take turns."""
    return taking_turns(folder / ".lock")


def write_durably(folder: Path, name: str, content: bytes, aside_name: str = ASIDE) -> None:
    """Write aside, force to disk, rename, force the name to disk.

    Call it under the folder's lock, or with an ``aside_name`` that no other process writes.
    """
    aside = folder / aside_name
    try:
        with aside.open("wb") as file:
            file.write(content)
            file.flush()
            os.fsync(file.fileno())
        aside.replace(folder / name)
    finally:
        aside.unlink(missing_ok=True)
    force_to_disk(folder)


def force_to_disk(path: Path) -> None:
    """The content of a file, or the names in a folder."""
    descriptor = os.open(path, os.O_RDONLY)
    try:
        os.fsync(descriptor)
    finally:
        os.close(descriptor)


@contextmanager
def explain_os_errors(what: str) -> Iterator[None]:
    """Raise a DataError that begins with ``what`` for an OSError."""
    try:
        yield
    except OSError as error:
        full = error.errno in (errno.ENOSPC, errno.EDQUOT, errno.EFBIG)
        advice = " Episodes stored before are intact: free some space and go on." if full else ""
        raise DataError(f"{what}: {error.strerror or error}.{advice}") from error
