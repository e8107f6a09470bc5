"""Shares the latest value of a record: one process writes it, any number of others read, nobody waits.

A writer that is killed or paused leaves the last whole value behind; a reader that is killed disturbs nobody.
That is why this is not ``multiprocessing.Array``, whose lock a killed process keeps.
"""

from __future__ import annotations

import os
from pathlib import Path
from types import TracebackType

import numpy as np

_FOLDER = Path("/dev/shm")
_SLOTS = 4


class Latest:
    """Keeps the latest record in shared memory: a new one goes to another slot than the latest.

    Args:
        name: of the memory, the same for writer and readers.
        dtype: of the record; structured, with fixed-size fields.
        create: True for the one writer, who also removes the memory when it closes.

    Raises:
        FileNotFoundError: there is no writer (yet).
    """

    def __init__(self, name: str, dtype: np.dtype, create: bool = False) -> None:
        self.path, self._owner = _FOLDER / f"simreal-{name}", create
        whole = np.dtype([("written", "<u8"), ("slots", dtype, (_SLOTS,))])
        if create:  # a new file of full size: readers of a dead writer's memory keep what they have
            new = self.path.with_name(f"{self.path.name}.{os.getpid()}")
            new.write_bytes(bytes(whole.itemsize))
            new.replace(self.path)
        memory = np.memmap(self.path, whole, "r+" if create else "r", shape=(1,))
        self._written, self._slots = memory["written"], memory["slots"][0]

    def write(self, value: np.ndarray) -> None:
        """Publish a record; only the creator may."""
        self._slots[(self.written + 1) % _SLOTS] = value
        self._written += 1

    def read(self) -> np.ndarray:
        """A copy of the latest whole record (zeros before the first)."""
        while True:
            number = self.written
            value = self._slots[number % _SLOTS].copy()
            if self.written <= number + _SLOTS - 2:  # else the writer may have overwritten the slot meanwhile
                return value

    @property
    def written(self) -> int:
        """How many records have been written."""
        return int(self._written[0])

    def close(self) -> None:
        """The creator removes the memory's name; what is still mapped stays valid."""
        if self._owner:
            self.path.unlink(missing_ok=True)
            self._owner = False

    def __enter__(self) -> Latest:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.close()
