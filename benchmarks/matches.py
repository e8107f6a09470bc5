"""What the alignment matches: ``python benchmarks/matches.py SOURCE TARGET --target-demos 5``

Draws batches as training does and solves their transport by labels alone, without features. Then, by the
object poses that datagen_info holds and training never sees: how far apart the objects of matched frames are,
and how far off a view would be that is right for every match, where the target was shown and where not.
"""

from __future__ import annotations

import argparse

import numpy as np
import torch
from numpy.typing import NDArray

from simreal_agents.policies.alignments import UnbalancedTransport
from simreal_agents.policies.config import TrainConfig, load_config
from simreal_agents.training.alignments.base import squared_distances
from simreal_agents.training.alignments.transport import solve
from simreal_agents.training.batches import Draw
from simreal_agents.training.learner import Learner
from simreal_agents.training.train import load_domains
from simreal_datasets.loading.oracle import object_places_m
from simreal_envs.errors import SimrealError, UsageError
from simreal_envs.spec import TABLE_CENTRE_IN_BASE_M
from simreal_envs.tasks import get_task
from simreal_envs.tasks.placement import table_places

BATCHES = 200
POINTS = 500
"""Drawn from each start region."""


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawTextHelpFormatter)
    parser.add_argument("source")
    parser.add_argument("target")
    parser.add_argument("--target-demos", type=int)
    parser.add_argument("--preset", default="cpu-image")
    parser.add_argument("--set", dest="overrides", action="append", default=[], metavar="KEY=VALUE")
    asked = parser.parse_args()
    overrides = [f"data.source={asked.source}", f"data.target={asked.target}", *asked.overrides]
    if asked.target_demos is not None:
        overrides.append(f"data.target_demos={asked.target_demos}")
    try:
        report(load_config(asked.preset, "uot", overrides))
    except SimrealError as error:
        parser.error(str(error))


def report(config: TrainConfig) -> None:
    """Print the distances of one configuration's matches."""
    source, target = load_domains(config)
    assert source is not None
    assert target is not None
    learner = Learner(config, source, target)
    source_places_m, target_places_m = (
        np.concatenate(object_places_m(path, frames.files))[..., :2]
        for path, frames in ((config.data.source, source), (config.data.target, target))
    )
    shown, matched, masses, apart = [], [], [], []
    for _ in range(BATCHES):
        draw = learner.sampler.draw(learner.update)
        plan = plan_by_labels(learner, draw)
        mass = plan.sum(0)
        there, here = source_places_m[draw.align_source], target_places_m[draw.align_target]
        apart.append((plan[..., None] * np.linalg.norm(there[:, None] - here, axis=-1)).sum() / plan.sum())
        shown.append(here)
        matched.append(np.einsum("st,sod->tod", plan, there) / np.maximum(mass, 1e-12)[:, None, None])
        masses.append(mass)
    view = fit(np.concatenate(shown), np.concatenate(matched), np.concatenate(masses))
    objects = source_places_m.shape[1]
    print(f"matched objects are {1000 * np.mean(apart) / objects:.1f} mm apart")
    for region in ("in", "ood"):
        points_m = start_places_m(source.spec.task, region)
        off_mm = 1000 * np.linalg.norm(np.c_[points_m, np.ones(len(points_m))] @ view - points_m, axis=1)
        print(f"a view fitted to the matches is {off_mm.mean():.1f} mm off where objects start {region}")


def plan_by_labels(learner: Learner, draw: Draw) -> NDArray[np.float64]:
    """Transport plan (n, m) of a batch as it would be if all features were equal."""
    options = learner.config.alignment
    if not isinstance(options, UnbalancedTransport):
        raise UsageError(f"alignment.kind = {options.kind!r}. Valid here: uot.")
    x = torch.from_numpy(learner.domains["source"].labels[draw.align_source])
    x_target = torch.from_numpy(learner.domains["target"].labels[draw.align_target])
    plan, _, _ = solve(options, options.label_cost * squared_distances(x, x_target))
    return plan.double().numpy()


def fit(
    shown_m: NDArray[np.float64], matched_m: NDArray[np.float64], mass: NDArray[np.float64]
) -> NDArray[np.float64]:
    """Affine map (3, 2) of places (N, objects, 2) to those of their matches, by mass (N,)."""
    weight = np.sqrt(np.repeat(mass, shown_m.shape[1]))[:, None]
    places, goals = shown_m.reshape(-1, 2), matched_m.reshape(-1, 2)
    return np.linalg.lstsq(weight * np.c_[places, np.ones(len(places))], weight * goals, rcond=None)[0]


def start_places_m(task: str, region: str) -> NDArray[np.float64]:
    """Where the task's objects start in a region, (N, 2), base frame."""
    rng = np.random.default_rng(0)
    placements = [get_task(task).sample_placement(region, rng) for _ in range(POINTS)]
    on_table = [placed[:2] for placement in placements for placed in table_places(placement).values()]
    return TABLE_CENTRE_IN_BASE_M[:2] + np.array(on_table)


if __name__ == "__main__":
    main()
