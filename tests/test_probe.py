"""The domain probe: chance where nothing tells the domains apart, certainty where something does."""

from __future__ import annotations

import json
from pathlib import Path

import numpy as np
import pytest
from demonstrations import settings_of, write_dataset

from simreal_agents.policies.config import load_config
from simreal_agents.policies.policy import load_policy
from simreal_agents.training.learner import Learner
from simreal_agents.training.probe import FRAMES, DomainProbe, domain_probe, features
from simreal_agents.training.train import load_domains, train
from simreal_datasets.loading.frames import Frames
from simreal_datasets.loading.pairing import Pairing, pair
from simreal_envs.features import ObservationSpec


@pytest.fixture(scope="module")
def frames(data: Path) -> tuple[Frames, Frames]:
    return Frames.load(data / "source"), Frames.load(data / "target")


def probe_of(frames: tuple[Frames, Frames]) -> DomainProbe:
    return DomainProbe(*frames, pair(*(each.paths_m(commanded=True) for each in frames)))


def test_equal_features_are_at_chance_and_shifted_ones_are_told(frames: tuple[Frames, Frames]) -> None:
    probe, rng = probe_of(frames), np.random.default_rng(0)
    features = rng.normal(size=(len(probe.frames["source"]), 8))
    assert probe.accuracy(features, features.copy()) == 0.5
    other = rng.normal(size=features.shape)
    assert probe.accuracy(features, other) == pytest.approx(0.5, abs=0.12)
    assert probe.accuracy(features, other + np.r_[8.0, np.zeros(7)]) > 0.99
    assert probe.accuracy(1e6 * features, 1e6 * (other + np.r_[8.0, np.zeros(7)])) > 0.99


def test_it_is_tested_on_demonstrations_it_was_not_fitted_to(frames: tuple[Frames, Frames]) -> None:
    """Features that tell only which demonstration a frame is from tell nothing of the domain."""
    probe, rng = probe_of(frames), np.random.default_rng(1)
    source, target = (np.repeat(rng.normal(size=(len(probe.folds), 64)), FRAMES, axis=0) for _ in range(2))
    shuffled = DomainProbe(*frames, pair(*(each.paths_m(commanded=True) for each in frames)))
    shuffled.folds = np.arange(len(probe.folds))
    told = shuffled.accuracy(source, target)
    assert told is not None
    assert told < 0.8


def test_nearest_demonstrations_are_compared_and_none_twice(frames: tuple[Frames, Frames]) -> None:
    source, target = frames
    distances_m = np.ones((8, 5))
    pairs = {(6, 0), (2, 1), (0, 2), (7, 3), (5, 4)}
    for s, t in pairs:
        distances_m[s, t] = 0.1
    probe = DomainProbe(source, target, Pairing(distances_m, np.zeros((8, len(target)), np.int16)))
    episodes = [
        np.searchsorted(of.starts, probe.frames[name], side="right")[::FRAMES] - 1
        for name, of in (("source", source), ("target", target))
    ]
    assert set(zip(*map(np.ndarray.tolist, episodes), strict=True)) == pairs
    first = probe.frames["source"][:FRAMES]
    e = episodes[0][0]
    assert (first[0], first[-1]) == (source.starts[e], source.starts[e + 1] - 1)
    assert (np.diff(first) >= 0).all()


def test_one_demonstration_leaves_nothing_to_fit(frames: tuple[Frames, Frames], data: Path) -> None:
    source, target = frames[0], Frames.load(data / "target", 1)
    probe = probe_of((source, target))
    features = np.zeros((FRAMES, 4))
    assert probe.accuracy(features, features) is None


def test_features_that_are_not_finite_are_not_probed(frames: tuple[Frames, Frames]) -> None:
    probe = probe_of(frames)
    features = np.full((len(probe.frames["source"]), 4), np.inf)
    assert probe.accuracy(features, np.zeros_like(features)) is None


def test_its_features_are_those_that_the_policy_sees_and_it_disturbs_nothing(
    data: Path, tmp_path: Path
) -> None:
    config = load_config("cpu-image", "cotrain", settings_of(data))
    learner, undisturbed = (Learner(config, *load_domains(config)) for _ in range(2))
    for _ in range(6):
        learner.step()
        told = domain_probe(learner)
        undisturbed.step()
    for name, tensor in learner.network.state_dict().items():
        assert (tensor == undisturbed.network.state_dict()[name]).all()
    assert told is not None
    assert told == domain_probe(undisturbed)

    train(config, tmp_path / "run")
    policy = load_policy(tmp_path / "run")
    for domain in ("source", "target"):
        frames, chosen = learner.domains[domain].frames, np.arange(3, 40)
        seen = policy.encode(frames.observations(chosen, 1), domain)
        assert np.allclose(features(learner, domain, chosen), seen, atol=1e-6)


def test_it_is_logged_at_checkpoints_of_methods_with_two_domains_and_features(
    data: Path, tmp_path: Path
) -> None:
    def logged(method: str, folder: Path, *more: str) -> list[int]:
        every = ("checkpoint_every=4", "log_every=3", *more)
        train(load_config("cpu-image", method, settings_of(folder, *every)), tmp_path / method)
        lines = [json.loads(line) for line in (tmp_path / method / "log.jsonl").read_text().splitlines()]
        assert [line["update"] for line in lines if "loss" in line] == [3, 6]
        assert all(0 <= line.get("domain_probe", 0.5) <= 1 for line in lines)
        return [line["update"] for line in lines if "domain_probe" in line]

    assert logged("cotrain", data) == [4, 6]
    assert logged("source", data) == []
    for domain in ("source", "target"):
        write_dataset(tmp_path / domain, 3, shown=ObservationSpec(("state",)))
    assert logged("token", tmp_path, "observation.obs=state") == []
