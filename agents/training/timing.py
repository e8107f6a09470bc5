"""Where the time of an update goes."""

from __future__ import annotations

import time
from collections import defaultdict
from typing import Any

import torch


class Stopwatch:
    """Adds up the time of named parts. On a GPU it waits for nothing until it is read: it marks its queue.

    >>> watch = Stopwatch(torch.device("cpu"))
    >>> watch.start()
    >>> watch.lap("load")
    >>> list(watch.take())
    ['load_ms']
    """

    def __init__(self, device: torch.device) -> None:
        self._cuda = device.type == "cuda"
        self._marks: list[tuple[str, Any]] = []

    def start(self) -> None:
        """Begin an update; what was between the last lap and this belongs to no part."""
        self._marks.append(("", self._mark()))

    def lap(self, part: str) -> None:
        """End a part that began with the lap before, or with the start."""
        self._marks.append((part, self._mark()))

    def take(self) -> dict[str, float]:
        """Milliseconds of each part in the mean of the updates, as ``<part>_ms``; and begin at zero."""
        if self._cuda:
            torch.cuda.synchronize()
        sums: dict[str, float] = defaultdict(float)
        for (_, before), (part, after) in zip(self._marks, self._marks[1:], strict=False):
            if part:
                sums[part] += before.elapsed_time(after) if self._cuda else 1000 * (after - before)
        updates = sum(not part for part, _ in self._marks)
        self._marks.clear()
        return {f"{part}_ms": total / updates for part, total in sums.items()}

    def _mark(self) -> Any:
        if not self._cuda:
            return time.perf_counter()
        event = torch.cuda.Event(enable_timing=True)
        event.record()
        return event
