"""How each evaluated episode ended: one line of JSON an episode, on the disk before the next one counts.

The same as a table for other programs: ``episodes.csv`` gets a row an episode, and is written anew from the
lines when the log is opened.
"""

from __future__ import annotations

import csv
import json
import os
from dataclasses import asdict, dataclass, fields, replace
from pathlib import Path
from types import TracebackType

from simreal_envs.cleanup import do_after
from simreal_envs.errors import DataError
from simreal_envs.folders import lock

LOG_NAME = "episodes.jsonl"


Key = tuple[str, str, str, str, str, int, str, int]
"""Actor, task, env, robot, shift, max_steps, region, seed."""


@dataclass(frozen=True)
class EpisodeResult:
    """How one episode of one policy ended.

    Attributes:
        name: of the policy, as reports show it.
        actor: identity of the actor that played; for a policy its checkpoint and the digest of its weights.
        seed: of the reset.
        max_steps: after which the episode was ended.
        stages_reached: how many of the task's stages.
        failed_at: first stage not reached; empty after success.
        replicate: number of the training where a report pools several trainings of one method; else 0.
        interrupted: what broke it off (a reflex, a lost link, ...); it counts as failed.
        robot: for a robot or rig the digest of its safety limits, after the address of a real one.
    """

    name: str
    actor: str
    task: str
    env: str
    shift: str
    region: str
    seed: int
    success: bool
    steps: int
    stages_reached: int
    failed_at: str
    max_steps: int
    replicate: int = 0
    interrupted: str = ""
    robot: str = ""

    @property
    def key(self) -> Key:
        """Identifies the episode: one with the same key need not be played again."""
        world = (self.task, self.env, self.robot, self.shift, self.max_steps)
        return (self.actor, *world, self.region, self.seed)


class EpisodeLog:
    """Stores the results of an evaluation in a folder, one writer at a time. Use it as a context manager.

    A line that a crash cut short is removed, so its episode is played again. If an episode has several
    lines, the last one counts.

    Raises:
        DataError: another process writes the log, its file system has no locks, or a line is damaged.
    """

    def __init__(self, folder: Path) -> None:
        folder.mkdir(parents=True, exist_ok=True)
        self.path = folder / LOG_NAME
        self._file = self.path.open("a+b")
        try:
            if not lock(self._file.fileno(), self.path, wait=False):
                raise DataError(f"Another evaluation is writing {self.path}; wait for it, or choose another.")
            self._results = {result.key: result for result in self._read()}
        except BaseException:
            self._file.close()
            raise
        self._write_table()

    def __enter__(self) -> EpisodeLog:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        do_after(error, self._file.close)  # what a full disk did not take is tried again

    def find(self, key: Key, name: str) -> EpisodeResult | None:
        """The result of an episode, under the name the policy has today; None if it was not played."""
        result = self._results.get(key)
        return None if result is None else replace(result, name=name)

    def append(self, result: EpisodeResult) -> None:
        """Write a result; it is on the disk when this returns."""
        self._file.write(json.dumps(asdict(result)).encode() + b"\n")
        self._file.flush()
        os.fsync(self._file.fileno())
        again = result.key in self._results
        self._results[result.key] = result
        if again:
            self._write_table()
        else:
            with self._table.open("a", newline="") as file:
                csv.writer(file).writerow(asdict(result).values())

    @property
    def results(self) -> list[EpisodeResult]:
        """All results, each under the name it was played with."""
        return list(self._results.values())

    @property
    def _table(self) -> Path:
        return self.path.with_suffix(".csv")

    def _write_table(self) -> None:
        """All results; aside and renamed, so that the table is complete or as it was."""
        aside = self.path.with_name(".episodes.csv")
        with aside.open("w", newline="") as file:
            writer = csv.writer(file)
            writer.writerow(field.name for field in fields(EpisodeResult))
            writer.writerows(asdict(result).values() for result in self._results.values())
        aside.replace(self._table)

    def _read(self) -> list[EpisodeResult]:
        self._file.seek(0)
        content = self._file.read()
        complete = content.rfind(b"\n") + 1
        if complete < len(content):
            self._file.truncate(complete)
        return [self._parse(line, number) for number, line in enumerate(content[:complete].splitlines(), 1)]

    def _parse(self, line: bytes, number: int) -> EpisodeResult:
        try:
            return EpisodeResult(**json.loads(line))
        except (ValueError, TypeError) as error:
            raise DataError(
                f"{self.path}, line {number} is not the result of an episode ({error}); "
                "delete the line to play that episode again."
            ) from error
