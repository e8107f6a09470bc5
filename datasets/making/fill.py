"""Filling a dataset with successful episodes, in the order of their seeds, however many processes help."""

from __future__ import annotations

import logging
from collections.abc import Generator, Iterator, Sequence
from contextlib import AbstractContextManager, ExitStack, closing
from dataclasses import dataclass
from pathlib import Path
from typing import Protocol

from simreal_datasets.store.dataset import Dataset, DatasetWriter, refuse_other_kind
from simreal_datasets.store.episode import Episode
from simreal_envs.errors import DataError, UsageError
from simreal_envs.folders import only_process
from simreal_envs.parallel import Work, run_in_processes
from simreal_envs.seeds import DEMONSTRATIONS, SEEDS
from simreal_envs.world_config import WorldConfig

LAST_SEED = SEEDS[DEMONSTRATIONS].stop
"""Seeds from here on are for evaluation (:mod:`simreal_envs.seeds`)."""

FILLING = ".filling"
"""Locked by the process that fills the folder."""

MIN_YIELD = 0.02
PATIENCE = 100
"""After this many attempts, filling stops if a smaller share than ``MIN_YIELD`` of them succeeded."""

logger = logging.getLogger(__name__)


@dataclass(frozen=True)
class Attempt:
    """The result of one attempt: seed, start region, furthest stage, and the episode if it succeeded."""

    seed: int
    placement_region: str
    stage: str
    episode: Episode | None


class Recipe(Protocol):
    """A recipe makes attempts at episodes in worker processes, so it is picklable."""

    @property
    def world(self) -> WorldConfig: ...

    @property
    def region(self) -> str: ...

    def make_work(self, stack: ExitStack) -> Work[int, Attempt]:
        """The function that a worker calls with each seed; ``stack`` closes what it opens."""


def fill_dataset(
    path: Path, recipe: Recipe, episodes: int, first_seed: int, workers: int
) -> Generator[Attempt, None, None]:
    """Store successful episodes until the dataset holds ``episodes``; returns an iterator over the attempts.

    Seeds are tried upwards from ``first_seed``; what is stored depends on nothing else, however many workers
    there are. A dataset that was begun is continued after its last seed.

    Raises:
        UsageError: at once: the number or the seed is out of range.
        DataError: at once: the dataset is of another kind; later: another process fills it, attempts keep
            failing, or no seed is left.
    """
    begun = count_files(path)
    stored, next_seed = resume_point(path, recipe.world, recipe.region, episodes, first_seed)
    return _fill(path, recipe, episodes, begun, stored, next_seed, workers)


def count_files(path: Path) -> int:
    """Episodes in a folder, readable or not; 0 without a folder."""
    return sum(1 for _ in path.glob("episode_*.hdf5"))


def only_filling(path: Path) -> AbstractContextManager[None]:
    """Lock a dataset for filling: two processes would use the same seeds, so the second gets a DataError."""
    return only_process(
        path / FILLING, f"Another process is filling {path}; wait for it, or choose another folder."
    )


def _fill(
    path: Path, recipe: Recipe, episodes: int, begun: int, stored: int, next_seed: int, workers: int
) -> Generator[Attempt, None, None]:
    attempts = successes = 0
    with DatasetWriter(path) as writer, only_filling(path):
        if count_files(path) != begun:
            raise DataError(f"Another process has added to {path} meanwhile; start again.")
        if stored >= episodes:
            return
        seeds = range(next_seed, LAST_SEED)
        with closing(run_in_processes(recipe.make_work, seeds, workers)) as results:
            for attempt in _in_order(results, seeds):
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
                if stored >= episodes:
                    return
        raise no_seed_left(stored, episodes)


def no_seed_left(stored: int, episodes: int) -> DataError:
    """Those from :data:`LAST_SEED` on are for evaluation."""
    return DataError(f"No seed below {LAST_SEED} is left; {stored} of {episodes} are stored.")


def resume_point(
    path: Path, world: WorldConfig, region: str, episodes: int, first_seed: int
) -> tuple[int, int]:
    """How many episodes are stored already, and which seed comes next.

    Warns if the stored episodes have another env, shift or region.

    Raises:
        UsageError: the number is out of range, or there are too few seeds from the first one on.
        DataError: the dataset holds episodes of another kind than this world makes.
    """
    if episodes < 1:
        raise UsageError(f"{episodes} episodes: at least 1 is needed.")
    if not 0 <= first_seed < LAST_SEED:
        raise UsageError(
            f"Seed {first_seed} must be from 0 to {LAST_SEED - 1}; later ones are for evaluation."
        )
    stored, next_seed = 0, first_seed
    if count_files(path):
        dataset = Dataset(path)
        _check_same_kind(dataset, world, region)
        seeds = [info.meta["seed"] for info in dataset.infos if info.meta.get("seed") is not None]
        stored, next_seed = len(dataset), max([first_seed, *(seed + 1 for seed in seeds)])
    if stored < episodes and next_seed + episodes - stored > LAST_SEED:
        raise UsageError(
            f"Seeds from {next_seed} on are too few for {episodes - stored} episodes: those from {LAST_SEED} "
            "on are for evaluation. Choose a lower one, and a new folder if this one came so far."
        )
    return stored, next_seed


def _check_same_kind(dataset: Dataset, world: WorldConfig, region: str) -> None:
    refuse_other_kind(dataset.path, dataset.spec, world.spec.one_moment)
    for key, value in {"env": world.env, "shift": world.shift, "region": region}.items():
        others = {str(info.meta.get(key)) for info in dataset.infos} - {value}
        if others:
            logger.warning(
                "Dataset %s holds episodes of %s %s; this is %s. A folder of its own is better.",
                dataset.path, key, ", ".join(sorted(others)), value,
            )  # fmt: skip


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
