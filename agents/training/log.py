"""The log of a run: what was measured at which update, as lines of JSON and for TensorBoard."""

from __future__ import annotations

import json
import math
import time
from collections.abc import Mapping
from contextlib import nullcontext, suppress
from pathlib import Path
from types import TracebackType

from torch.utils.tensorboard import SummaryWriter


class Log:
    """``log.jsonl``, one line of losses every so many updates, and the same for TensorBoard.

    When a run goes on from an update, what was logged after it is dropped: it will come again. So is a line
    that a crash of the machine damaged.
    """

    def __init__(self, run: Path, update: int) -> None:
        path = run / "log.jsonl"
        lines = (
            path.read_text(errors="replace").split("\n")[:-1] if path.exists() else []
        )  # a crash may cut the last one
        kept = [line for line in lines if _update_of(line) <= update]
        aside = path.with_name(".log.jsonl")
        aside.write_text("".join(f"{line}\n" for line in kept))
        aside.replace(path)
        self._before_s = float(json.loads(kept[-1])["time_s"]) if kept else 0.0
        self._started = time.perf_counter()
        self._file = path.open("a", buffering=1)
        self._board = SummaryWriter(run / "tensorboard", purge_step=update + 1)

    def __enter__(self) -> Log:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        for part in (self._file, self._board):
            with suppress(OSError) if error else nullcontext():  # a full disk has been told of
                part.close()

    def write(self, update: int, values: Mapping[str, float]) -> None:
        """Add a line; ``time_s`` is the training time up to here over all sittings."""
        time_s = self._before_s + time.perf_counter() - self._started
        self._file.write(json.dumps({"update": update, "time_s": round(time_s, 3), **values}) + "\n")
        for name, value in values.items():
            self._board.add_scalar(name, value, update)


def _update_of(line: str) -> float:
    """The update of a line of the log; infinite for a damaged line."""
    try:
        values = json.loads(line)
        return float(values["update"]) if "time_s" in values else math.inf
    except (ValueError, TypeError, KeyError):
        return math.inf
