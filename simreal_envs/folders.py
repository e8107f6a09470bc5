"""The folders of cache and settings, and the locks with which processes share a folder.

Locks are the system's (``flock``), which frees a lock when its holder dies. A file system without locks, such
as some network drives, is an error that names the way out: ``SIMREAL_LOCKS=off``.
"""

from __future__ import annotations

import fcntl
import os
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from simreal_envs.errors import DataError
from simreal_envs.spec import check_choice

LOCKS = "SIMREAL_LOCKS"
"""Environment variable, ``on`` or ``off``. With ``off`` no lock is taken; the user then has to make sure that
only one process at a time writes to a folder."""


def cache_dir() -> Path:
    """``$SIMREAL_CACHE``, or ``simreal`` in the user's cache folder (``$XDG_CACHE_HOME`` or ``~/.cache``)."""
    if chosen := os.environ.get("SIMREAL_CACHE"):
        return Path(chosen).expanduser()
    return Path(os.environ.get("XDG_CACHE_HOME") or Path.home() / ".cache") / "simreal"


def config_dir() -> Path:
    """``$SIMREAL_CONFIG``, or ``~/.config/simreal``: calibrations."""
    return Path(os.environ.get("SIMREAL_CONFIG") or Path.home() / ".config" / "simreal").expanduser()


def lock(descriptor: int, path: Path, wait: bool) -> bool:
    """Lock an open file until it is closed or the process dies; False if another one holds it.

    Args:
        path: the file's path, for messages.
        wait: wait until the other process releases the lock.

    Raises:
        DataError: the file system has no locks.
        UsageError: ``SIMREAL_LOCKS`` is neither on nor off.
    """
    if check_choice(LOCKS, os.environ.get(LOCKS, "on"), ("on", "off")) == "off":
        return True
    try:
        fcntl.flock(descriptor, fcntl.LOCK_EX | (0 if wait else fcntl.LOCK_NB))
    except BlockingIOError:
        return False
    except OSError as error:
        raise DataError(
            f"{path} cannot be locked ({error.strerror}): its file system has no locks, which keep two "
            f"processes from writing at once. Use a folder on another one, or set {LOCKS}=off if nothing "
            f"else writes to {path.parent} meanwhile."
        ) from error
    return True


@contextmanager
def only_process(path: Path, busy: str) -> Iterator[None]:
    """Hold a lock file while the context lasts.

    Raises:
        DataError: ``busy``, if another process holds it; or the file system has no locks.
    """
    with path.open("a") as file:
        if not lock(file.fileno(), path, wait=False):
            raise DataError(busy)
        yield


@contextmanager
def taking_turns(path: Path) -> Iterator[None]:
    """Hold a lock file while the context lasts, after any other process (or thread) that holds it.

    Raises:
        DataError: the file system has no locks.
    """
    with path.open("a") as file:
        lock(file.fileno(), path, wait=True)
        yield
