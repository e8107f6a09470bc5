"""Which episodes of a dataset are meant: the successful ones, all of them, or those of a mask.

Masks are robomimic's filter keys: lists of demonstrations under ``mask/`` in the index.
"""

from __future__ import annotations

import logging
from collections import Counter
from collections.abc import Iterable

from simreal_datasets.store.dataset import Dataset
from simreal_datasets.store.index import read_index
from simreal_datasets.store.metadata import how_it_ended
from simreal_envs.errors import DataError, UsageError
from simreal_envs.spec import check_choice

SUCCESS, ALL = "success", "all"

logger = logging.getLogger(__name__)


def choose(dataset: Dataset, which: str = SUCCESS) -> list[int]:
    """Positions of the chosen episodes; logs how many are left out, and why.

    Args:
        which: ``success``, ``all``, or the name of a mask of the dataset.

    Raises:
        UsageError: no such mask; lists those that are there.
        DataError: no episode is chosen.
    """
    chosen = positions(dataset, which)
    endings = [how_it_ended(info.meta) for info in dataset.infos]
    left_out = [endings[i] for i in sorted(set(range(len(dataset))) - set(chosen))]
    used = [endings[i] for i in chosen]
    reason = _unsolved(left_out) if which == SUCCESS else f"not in the mask {which!r}"
    counted = f"{len(left_out)} of {len(dataset)} episodes are left out: {reason}"
    if not chosen:
        valid = ", ".join([SUCCESS, ALL, *masks(dataset)])
        raise DataError(f"Dataset {dataset.path}: {counted}. Episodes can be {valid}.")
    if left_out:
        logger.warning("Dataset %s: %s.", dataset.path, counted)
    if unsolved := _unsolved(used):
        logger.warning("Dataset %s: of %d episodes used, %s.", dataset.path, len(used), unsolved)
    return chosen


def position_of(dataset: Dataset, number: int) -> int:
    """The position of the episode with a number, which is that in its file's name.

    Raises:
        UsageError: there is none; says which there are.
    """
    numbers = [info.number for info in dataset.infos]
    if number not in numbers:
        raise UsageError(f"Dataset {dataset.path} has no episode {number}. Valid: {_ranges(numbers)}.")
    return numbers.index(number)


def masks(dataset: Dataset) -> dict[str, list[int]]:
    """Positions of the episodes of each mask that the index holds."""
    index, position = read_index(dataset.path), {info.path.name: i for i, info in enumerate(dataset.infos)}
    return {
        name: sorted({position[file] for demo in demos if (file := index.files.get(demo)) in position})
        for name, demos in index.masks.items()
    }


def positions(dataset: Dataset, which: str) -> list[int]:
    """Positions of the chosen episodes, see :func:`choose`; says nothing, and there may be none.

    Raises:
        UsageError: no such mask; lists those that are there.
    """
    if which == ALL:
        return list(range(len(dataset)))
    if which == SUCCESS:  # also where there is no index
        return [i for i, info in enumerate(dataset.infos) if how_it_ended(info.meta) == "success"]
    there = masks(dataset)
    names = list(dict.fromkeys([SUCCESS, ALL, *there]))
    return there[check_choice(f"choice of episodes in {dataset.path}", which, names)]


def _ranges(numbers: list[int]) -> str:
    """
    >>> _ranges([0, 1, 2, 5])
    '0-2, 5'
    """
    runs: list[list[int]] = []
    for number in numbers:
        if runs and number == runs[-1][-1] + 1:
            runs[-1].append(number)
        else:
            runs.append([number])
    return ", ".join(f"{run[0]}-{run[-1]}" if len(run) > 1 else str(run[0]) for run in runs)


def _unsolved(endings: Iterable[str]) -> str:
    """``2 failed, 1 interrupted``; empty if there is none."""
    counts = Counter(endings)
    return ", ".join(f"{counts[how]} {how}" for how in ("failed", "interrupted") if counts[how])
