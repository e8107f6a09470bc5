"""Episodes of an experiment: of every checkpoint for the curves, of two a method for the final test."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from itertools import chain
from pathlib import Path

from simreal_agents.actors.factories import ActorFactory, TrainedPolicy
from simreal_agents.evaluation.episode_log import EpisodeResult
from simreal_agents.evaluation.play import evaluate
from simreal_agents.evaluation.progress import success_bar
from simreal_agents.evaluation.report import Report, pool, report
from simreal_agents.study.experiment import Experiment, checkpoints
from simreal_agents.study.pictures import SuccessCount
from simreal_agents.study.selection import (
    CHOSEN,
    GIVEN,
    GIVEN_BEFOREHAND,
    LAST,
    candidates,
    equal_pairs,
    how_chosen,
)
from simreal_envs.parallel import available_cores
from simreal_envs.tasks import get_task
from simreal_envs.world_config import WorldConfig

EVALUATED_REGIONS = ("in", "ood")


def validate(experiment: Experiment, folder: Path) -> list[SuccessCount]:
    """Evaluate every checkpoint. The points are by method, region and number of updates, seeds pooled."""
    points = {
        (method, updates): method for updates in checkpoints(experiment) for method in experiment.methods
    }
    seeds, world = experiment.selection_seeds, experiment.validation_world
    played = _evaluate(experiment, folder, points, seeds, world, "validation")
    return [
        SuccessCount(method, region, updates, sum(solved), len(solved))
        for (method, updates), results in played.items()
        for region in EVALUATED_REGIONS
        if (solved := [result.success for result in results if result.region == region])
    ]


def final_test(experiment: Experiment, folder: Path, chosen: Mapping[str, int]) -> Report:
    """Judge each method's chosen checkpoint, and its last, on episodes that took no part in choosing it.

    Args:
        chosen: the updates of every method, see :func:`simreal_agents.study.selection.best_checkpoints`.
    """
    methods = experiment.methods
    last = dict.fromkeys(methods, experiment.updates)
    if experiment.test_checkpoint is None:
        by_role: dict[str, Mapping[str, int]] = {CHOSEN: chosen, LAST: last}
        where = f"env {experiment.validation_world.env}"
        note = how_chosen(EVALUATED_REGIONS, experiment.selection_seeds, where)
    else:
        by_role = {GIVEN: dict.fromkeys(methods, experiment.test_checkpoint), LAST: last}
        note = GIVEN_BEFOREHAND
    tested = candidates(methods, by_role)
    names = {(candidate.method, candidate.updates): str(candidate) for candidate in tested}
    played = _evaluate(experiment, folder, names, experiment.test_seeds, experiment.target_world, "test")
    results = list(chain.from_iterable(played.values()))
    return report(results, get_task(experiment.task).stages, equal_pairs(tested), [note])


def _evaluate(
    experiment: Experiment,
    folder: Path,
    names: Mapping[tuple[str, int], str],
    seeds: Sequence[int],
    world: WorldConfig,
    where: str,
) -> dict[tuple[str, int], list[EpisodeResult]]:
    """Results by method and number of updates, all training seeds of a method as one policy.

    Args:
        names: what that policy is called, by method and number of updates.
    """
    actors: dict[str, ActorFactory] = {}
    pooled: dict[tuple[str, int], dict[str, tuple[str, int]]] = {}
    for (wanted, updates), pooled_name in names.items():
        for name, method, seed in experiment.trainings():
            if method == wanted:
                label = f"{name}@{updates}"
                actors[label] = TrainedPolicy.at(folder / "runs" / name, str(updates))
                pooled.setdefault((method, updates), {})[label] = (pooled_name, seed)
    with success_bar(len(actors) * len(EVALUATED_REGIONS) * len(seeds), where) as show:
        results = evaluate(
            actors,
            world,
            EVALUATED_REGIONS,
            seeds,
            folder / where,
            available_cores(),
            show,
        )
    return {
        key: pool((result for result in results if result.name in of_key), of_key)
        for key, of_key in pooled.items()
    }
