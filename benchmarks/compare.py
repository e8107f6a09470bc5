"""Compare methods that an experiment tested after schedules of different length, training seeds pooled.

    python benchmarks/compare.py out/long uot@2000 cotrain@32000
    python benchmarks/compare.py out/long uot@2000 mmd@32000 --seeds 0     # of one training each
    python benchmarks/compare.py out/a uot@2000 mmd@32000 --also out/b   # more training seeds

reads the test episodes that ``benchmarks/cotraining.py`` left in the folder, each method's at the checkpoint
named, and compares the first with every other on the same training and reset seeds. An experiment tests each
method's chosen checkpoint and its last: name those of the same role.
"""

from __future__ import annotations

import argparse
import re
import sys
from collections.abc import Sequence
from pathlib import Path

from rich.console import Console

from simreal_agents.evaluation.episode_log import LOG_NAME, EpisodeLog, EpisodeResult
from simreal_agents.evaluation.footing import WORLD
from simreal_agents.evaluation.report import pool, report
from simreal_envs.errors import DataError, SimrealError, UsageError
from simreal_envs.tasks import get_task

NAME = re.compile(r"(\w+)-(\d+)@(\d+)")
"""``<method>-<training seed>@<updates>``"""


def select(
    results: Sequence[EpisodeResult], checkpoints: Sequence[str], seeds: Sequence[int]
) -> list[EpisodeResult]:
    """The results of the policies named as in :data:`NAME`, in the order of ``checkpoints``.

    Args:
        seeds: training seeds that count; all if empty.

    Raises:
        UsageError: there are none of a checkpoint; lists what there is.
    """
    method_of = {}
    for name in {result.name for result in results}:
        method, seed, updates = NAME.fullmatch(name).groups()
        if int(seed) in seeds or not seeds:
            method_of[name] = (f"{method}@{updates}", int(seed))
    pooled = pool((result for result in results if result.name in method_of), method_of)
    known = {method for method, _ in method_of.values()}
    if missing := [checkpoint for checkpoint in checkpoints if checkpoint not in known]:
        raise UsageError(f"No test episodes of {', '.join(missing)}. There are: {', '.join(sorted(known))}.")
    return [result for checkpoint in checkpoints for result in pooled if result.name == checkpoint]


def tested(folder: Path) -> list[EpisodeResult]:
    """The test episodes of an experiment, not of what else was evaluated into the same folder.

    Raises:
        UsageError: there are none.
        DataError: of an episode there are two results, of policies or worlds that differ.
    """
    if not (folder / "test" / LOG_NAME).exists():
        raise UsageError(f"{folder} holds no test: no test/{LOG_NAME} there.")
    with EpisodeLog(folder / "test") as log:
        results = [result for result in log.results if NAME.fullmatch(result.name)]
    if not results:
        raise UsageError(f"{folder} holds no test: no episodes in test/{LOG_NAME}.")
    there: dict[tuple[str, str, int], EpisodeResult] = {}
    for result in results:
        other = there.setdefault((result.name, result.region, result.seed), result)
        if differing := [
            f"{key} {getattr(other, key)!r} and {getattr(result, key)!r}"
            for key in ("actor", *WORLD)
            if getattr(other, key) != getattr(result, key)
        ]:
            raise DataError(
                f"{folder} holds reset seed {result.seed} of {result.name} in region {result.region!r} more "
                f"than once, with {', '.join(differing)}."
            )
    return results


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawTextHelpFormatter)
    parser.add_argument("folder", type=Path)
    parser.add_argument("checkpoints", nargs="+", metavar="METHOD@UPDATES")
    parser.add_argument("--seeds", type=int, nargs="+", default=[], help="training seeds that count")
    parser.add_argument("--also", type=Path, nargs="+", default=[], help="folders with other training seeds")
    arguments = parser.parse_args()
    try:
        results: dict[tuple[str, str, int], EpisodeResult] = {}
        for folder in (arguments.folder, *arguments.also):
            for result in tested(folder):
                if (key := (result.name, result.region, result.seed)) in results:
                    raise UsageError(f"{folder} holds {result.name}, which another folder holds too.")
                results[key] = result
        chosen = select(list(results.values()), arguments.checkpoints, arguments.seeds)
        report(chosen, get_task(chosen[0].task).stages).print(Console())
    except SimrealError as error:
        sys.exit(f"Error: {error}")


if __name__ == "__main__":
    main()
