"""Pairing by where objects truly started."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
from demonstrations import random_episode, settings_of

from simreal_agents.policies.config import load_config
from simreal_agents.training.batches import Sampler
from simreal_agents.training.pairs import pairing_for
from simreal_agents.training.train import load_domains, train
from simreal_datasets.loading.oracle import object_places_m
from simreal_datasets.store.dataset import Dataset, DatasetWriter
from simreal_datasets.store.episode import DatagenInfo
from simreal_envs.errors import DataError

STARTS_M = {"source": (0.00, 0.10, 0.20, 0.30), "target": (0.31, 0.01)}
"""Where the cube starts along x in each demonstration."""


def write(path: Path, starts_m: tuple[float, ...], seed: int, objects: tuple[str, ...] = ("cube",)) -> None:
    rng = np.random.default_rng(seed)
    with DatasetWriter(path) as writer:
        for start_m in starts_m:
            episode = random_episode(rng, int(rng.integers(15, 26)))
            still = np.tile(np.eye(4), (len(episode), 1, 1))
            poses = {}
            for name in objects:
                poses[name] = still.copy()
                poses[name][:, 0, 3] = start_m + np.linspace(0, 0.5, len(episode))  # moved after the start
            gripper = episode.actions[:, -1:]
            episode.datagen = DatagenInfo(still, poses, {}, still, gripper) if objects else None
            writer.add(episode)


@pytest.fixture
def posed(tmp_path: Path) -> Path:
    for seed, (domain, starts_m) in enumerate(STARTS_M.items()):
        write(tmp_path / domain, starts_m, seed)
    return tmp_path


def test_demonstrations_are_as_far_apart_as_their_objects_at_the_start(posed: Path) -> None:
    config = load_config("cpu-image", "uot", settings_of(posed, "pairing.kind=oracle"))
    source, target = load_domains(config)
    pairing = pairing_for(config, source, target)
    assert pairing is not None
    expected = np.abs(np.subtract.outer(STARTS_M["source"], STARTS_M["target"]))
    assert pairing.distances_m == pytest.approx(expected)
    temporal = pairing_for(load_config("cpu-image", "uot", settings_of(posed)), source, target)
    assert temporal is not None
    assert (pairing.matches == temporal.matches).all()
    assert np.abs(temporal.distances_m - expected).max() > 0.01

    assert source is not None
    assert target is not None
    draw = Sampler(config, source, target, pairing, np.random.default_rng(0)).draw(0)
    episode, episode_target = (
        np.searchsorted(frames.starts, drawn, side="right") - 1
        for frames, drawn in ((source, draw.align_source), (target, draw.align_target))
    )
    assert (episode == np.array([3, 0])[episode_target]).all()


def test_training_by_the_oracle_runs(posed: Path) -> None:
    train(load_config("cpu-image", "uot", settings_of(posed, "pairing.kind=oracle")), posed / "run")


def test_demonstrations_without_object_poses_are_refused_by_name(posed: Path) -> None:
    write(posed / "target", (0.1,), 5, objects=())
    config = load_config("cpu-image", "uot", settings_of(posed, "pairing.kind=oracle"))
    lacking = Dataset(posed / "target").infos[-1].path.name
    with pytest.raises(DataError, match=rf"oracle.*{lacking} holds no object poses.* temporal or none"):
        train(config, posed / "run")
    assert not (posed / "run").exists()


def test_other_objects_are_refused_by_name(posed: Path) -> None:
    write(posed / "source", (0.1,), 5, objects=("cube", "lid"))
    files = [info.path.name for info in Dataset(posed / "source").infos]
    with pytest.raises(DataError, match=rf"{files[-1]} holds the poses of cube, lid; .* those of cube"):
        object_places_m(posed / "source", files)
