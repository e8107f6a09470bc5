"""Filling a dataset with successful episodes, in the order of their seeds, however many processes help."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path

from simreal_datasets.episode import Episode
from simreal_datasets.store import Dataset, DatasetWriter
from simreal_envs.errors import DataError, UsageError
from simreal_envs.parallel import Heartbeat, run_in_processes

LAST_SEED = 1_000_000
"""Seeds from here on are for evaluation."""

MIN_YIELD = 0.02
PATIENCE = 100
"""After this many attempts a recipe that succeeds less often than ``MIN_YIELD`` is given up."""


@dataclass(frozen=True)
class Attempt:
    """One try at an episode: its seed, where it started, how far it came; the episode if it succeeded."""

    seed: int
    placement_region: str
    stage: str
    episode: Episode | None


def fill_dataset(
    path: Path,
    make_work: Callable[[], Callable[[int, Heartbeat], Attempt]],
    episodes: int,
    first_seed: int,
    workers: int,
) -> Iterator[Attempt]:
    """Store successful episodes until the dataset holds ``episodes``; yields every attempt.

    Seeds are tried upwards from ``first_seed``; what is stored depends on nothing else, however many workers
    there are. A dataset that was begun is continued after its last seed.

    Raises:
        UsageError: the number or the seed is out of range.
        DataError: the dataset is of another kind, or attempts keep failing.
    """
    stored, next_seed = resume_point(path, episodes, first_seed)
    attempts = successes = 0
    with DatasetWriter(path) as writer:
        while stored < episodes:
            seeds = range(next_seed, next_seed + max(episodes - stored, workers))
            next_seed = seeds.stop
            for attempt in _in_order(run_in_processes(make_work, seeds, workers), seeds):
                if stored == episodes:
                    break
                attempts += 1
                if attempt.episode is not None:
                    writer.add(attempt.episode)
                    stored += 1
                    successes += 1
                yield attempt
            if attempts >= PATIENCE and successes < MIN_YIELD * attempts:
                raise DataError(
                    f"Only {successes} of {attempts} attempts succeeded (the last one came to stage "
                    f"{attempt.stage!r}); {stored} episodes are stored."
                )


def resume_point(path: Path, episodes: int, first_seed: int) -> tuple[int, int]:
    """How many of ``episodes`` are there, and which seed comes next.

    Raises:
        UsageError: the number or the seed is out of range.
    """
    if episodes < 1:
        raise UsageError(f"{episodes} episodes: at least 1 is needed.")
    if not 0 <= first_seed < LAST_SEED:
        raise UsageError(
            f"Seed {first_seed} must be from 0 to {LAST_SEED - 1}; later ones are for evaluation."
        )
    if not path.is_dir() or not any(path.glob("episode_*.hdf5")):
        return 0, first_seed
    infos = Dataset(path).infos
    seeds = [info.meta["seed"] for info in infos if info.meta.get("seed") is not None]
    return len(infos), max([first_seed, *(seed + 1 for seed in seeds)])


def _in_order(attempts: Iterator[Attempt], seeds: Sequence[int]) -> Iterator[Attempt]:
    """The attempts, which come as they finish, in the order of their seeds."""
    waiting: dict[int, Attempt] = {}
    due = iter(seeds)
    seed = next(due)
    for attempt in attempts:
        waiting[attempt.seed] = attempt
        while seed in waiting:
            yield waiting.pop(seed)
            following = next(due, None)
            if following is None:
                return
            seed = following
