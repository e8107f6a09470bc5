"""The latest value of something that one process writes and any number of others read, without waiting.

A writer that is killed leaves the last whole value behind; a reader that is killed disturbs nobody. That is
why this is not ``multiprocessing.Array``, whose lock a killed process keeps.
"""

from __future__ import annotations

import os
import time
from pathlib import Path
from types import TracebackType

import numpy as np

_FOLDER = Path("/dev/shm")
_ATTEMPTS = 1000


class Latest:
    """One record of shared memory with a sequence lock: an odd counter while it is being written.

    Args:
        name: of the memory, the same for writer and readers.
        dtype: of the record; structured, with fixed-size fields.
        create: True for the one writer, who also removes the memory when it closes.

    Raises:
        FileNotFoundError: there is no writer (yet).
    """

    def __init__(self, name: str, dtype: np.dtype, create: bool = False) -> None:
        self.path, self._owner = _FOLDER / f"simreal-{name}", create
        whole = np.dtype([("counter", "<u8"), ("value", dtype)])
        if create:  # a new file of full size: readers of a dead writer's memory keep what they have
            new = self.path.with_name(f"{self.path.name}.{os.getpid()}")
            new.write_bytes(bytes(whole.itemsize))
            new.replace(self.path)
        self._memory = np.memmap(self.path, whole, "r+" if create else "r", shape=(1,))

    def write(self, value: np.ndarray) -> None:
        """Publish a record; only the creator may."""
        self._memory["counter"] += 1
        self._memory["value"][0] = value
        self._memory["counter"] += 1

    def read(self) -> np.ndarray:
        """A copy of the latest whole record (zeros before the first).

        Raises:
            TimeoutError: the writer was killed in the middle of writing.
        """
        for _ in range(_ATTEMPTS):
            before = int(self._memory["counter"][0])
            value = self._memory["value"][0].copy()
            if before % 2 == 0 and before == int(self._memory["counter"][0]):
                return value
            time.sleep(1e-4)
        raise TimeoutError(f"{self.path.name}: its writer stopped in the middle of a record.")

    @property
    def written(self) -> int:
        """How many records have been written."""
        return int(self._memory["counter"][0]) // 2

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
