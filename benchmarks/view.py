"""Has a run found the target's camera? ``python benchmarks/view.py runs/uot [...]``

Compares the map of view that a policy has learnt (``encoder.view=domain``) with the one that the camera
poses of both domains give, which training never sees: the best affine map, for points of the table where
objects start, from the target's image to the source's. Errors are in pixels of the image.
"""

from __future__ import annotations

import argparse
from pathlib import Path

import numpy as np
import torch

from simreal_agents.policies.encoders import DomainView, move
from simreal_agents.policies.policy import load_policy
from simreal_datasets.store.dataset import Dataset
from simreal_envs.cameras import Camera
from simreal_envs.errors import SimrealError, UsageError
from simreal_envs.spec import TABLE_CENTRE_IN_BASE_M
from simreal_envs.tasks import get_task
from simreal_envs.tasks.placement import table_places

POINTS = 500
"""Drawn from each start region."""
HEIGHT_M = 0.02
"""Of the middle of an object above the table."""


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawTextHelpFormatter)
    parser.add_argument("runs", nargs="+", type=Path)
    for run in parser.parse_args().runs:
        try:
            compare(run)
        except SimrealError as error:
            parser.error(str(error))


def compare(run: Path) -> None:
    """Print both maps of a run and how far they are apart.

    Raises:
        UsageError: the policy has no map of its own for the target.
    """
    policy = load_policy(run, device="cpu")
    branch, data = policy.network.encoder["agentview_image"], policy.config.data
    view = branch.view
    if not isinstance(view, DomainView):
        raise UsageError(f"Run {run} has encoder.view = {policy.config.encoder.view!r}. Valid here: domain.")
    source, target = camera(data.source), camera(data.target)
    points_m = {region: table_points_m(policy.spec.task, region) for region in ("in", "ood")}
    seen = {region: (keypoints(target, p), keypoints(source, p)) for region, p in points_m.items()}
    learnt = (view.SPEED * view.change).detach().numpy()
    given = fit(*(np.concatenate(parts) for parts in zip(*seen.values(), strict=True)))
    print(f"{run}\n  learnt  {learnt.round(2)}\n  cameras {given.round(2)}")
    height, width = source.size
    for region, (from_target, from_source) in seen.items():
        for name, change in (("learnt", learnt), ("cameras", given)):
            apart = (moved(from_target, change) - from_source) * [(width - 1) / 2, (height - 1) / 2]
            print(f"  {name:7} {region:3} off by {np.linalg.norm(apart, axis=1).mean():.1f} px")


def camera(dataset: str) -> Camera:
    """Of a dataset's first episode."""
    return Camera.from_json(Dataset(dataset).infos[0].meta["cameras"]["agentview"])


def table_points_m(task: str, region: str) -> np.ndarray:
    """Where the task's objects start in a region, (N, 3), base frame."""
    rng = np.random.default_rng(0)
    placements = [get_task(task).sample_placement(region, rng) for _ in range(POINTS)]
    on_table = [
        [*placed[:2], HEIGHT_M] for placement in placements for placed in table_places(placement).values()
    ]
    return TABLE_CENTRE_IN_BASE_M + np.array(on_table)


def keypoints(camera: Camera, points_m: np.ndarray) -> np.ndarray:
    """Where a camera sees points, (N, 2), as the encoder counts: the image spans [-1, 1]."""
    height, width = camera.size
    return 2 * camera.project(points_m) / [width - 1, height - 1] - 1


def fit(points: np.ndarray, goals: np.ndarray) -> np.ndarray:
    """Change (6,) of the affine map that takes points (N, 2) nearest to goals (N, 2)."""
    matrix = np.linalg.lstsq(np.c_[points, np.ones(len(points))], goals, rcond=None)[0].T
    return (matrix - np.eye(2, 3)).ravel()


def moved(points: np.ndarray, change: np.ndarray) -> np.ndarray:
    """Points (N, 2) under identity plus change (6,)."""
    return move(torch.tensor(points.T.reshape(1, -1)), torch.tensor(change[None])).numpy().reshape(2, -1).T


if __name__ == "__main__":
    main()
