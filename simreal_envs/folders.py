"""Where simreal keeps what is not the user's data, and how a process has a folder to itself."""

from __future__ import annotations

import fcntl
import os
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from simreal_envs.errors import DataError


def cache_dir() -> Path:
    """``$SIMREAL_CACHE``, or ``simreal`` in the user's cache folder (``$XDG_CACHE_HOME`` or ``~/.cache``)."""
    if chosen := os.environ.get("SIMREAL_CACHE"):
        return Path(chosen).expanduser()
    return Path(os.environ.get("XDG_CACHE_HOME") or Path.home() / ".cache") / "simreal"


def config_dir() -> Path:
    """``$SIMREAL_CONFIG``, or ``~/.config/simreal``: calibrations."""
    return Path(os.environ.get("SIMREAL_CONFIG") or Path.home() / ".config" / "simreal").expanduser()


@contextmanager
def only_process(lock: Path, busy: str) -> Iterator[None]:
    """Hold a lock file while the context lasts; the system frees it when the process dies.

    Raises:
        DataError: ``busy``, if another process holds it.
    """
    with lock.open("a") as file:
        try:
            fcntl.flock(file, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError as error:
            raise DataError(busy) from error
        yield
