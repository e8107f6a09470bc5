"""One update: what it looks at, and what it learns from it."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
import torch
from demonstrations import settings_of

from simreal_agents.policies.config import load_config
from simreal_agents.training.batches import Sampler, clone_counts
from simreal_agents.training.learner import Learner
from simreal_agents.training.phases import phase_at
from simreal_agents.training.train import load_domains
from simreal_datasets.loading.pairing import pair
from simreal_envs.errors import DataError


def test_shares_of_the_batch_follow_the_method() -> None:
    def counts(preset: str, method: str, update: int = 0) -> tuple[int, int, int]:
        config = load_config(preset, method)
        return clone_counts(config, phase_at(config, update))

    assert counts("cpu-image", "cotrain") == (0, 56, 8)
    assert counts("cpu-image", "source") == (0, 64, 0)
    assert counts("cpu-image", "target") == (0, 0, 64)
    assert counts("paper-image", "uot") == (58, 57, 13)
    assert counts("paper-image", "finetune") == (0, 128, 0)
    assert counts("paper-image", "finetune", 149_999) == (0, 0, 128)


def test_aligned_frames_are_near_their_match(data: Path) -> None:
    config = load_config(
        "cpu-image", "uot", settings_of(data, "pairing.window=2", "batch.alignment_size=500")
    )
    source, target = load_domains(config)
    assert source is not None
    assert target is not None
    pairing = pair(source.paths_m(commanded=True), target.paths_m(commanded=True))
    draw = Sampler(config, source, target, pairing, np.random.default_rng(0)).draw(0)
    episodes = np.searchsorted(source.starts, draw.align_source, side="right") - 1
    matched = source.starts[episodes] + pairing.matches[episodes, draw.align_target]
    offsets = draw.align_source - matched
    assert np.abs(offsets).max() == 2
    assert len(np.unique(offsets)) == 5
    assert len(np.unique(draw.align_target)) > 0.5 * len(target)


def test_near_demonstrations_are_paired_more_often(data: Path) -> None:
    config = load_config("cpu-image", "uot", settings_of(data, "batch.alignment_size=4000"))
    source, target = load_domains(config)
    assert source is not None
    assert target is not None
    pairing = pair(source.paths_m(commanded=True), target.paths_m(commanded=True))
    draw = Sampler(config, source, target, pairing, np.random.default_rng(0)).draw(0)
    s = np.searchsorted(source.starts, draw.align_source, side="right") - 1
    t = np.searchsorted(target.starts, draw.align_target, side="right") - 1
    drawn = np.zeros_like(pairing.distances_m)
    np.add.at(drawn, (s, t), 1 / 4000)
    weights = pairing.weights()
    assert np.abs(drawn - weights / weights.sum()).max() < 0.03
    nearest = pairing.distances_m.argmin(axis=0)
    assert drawn[nearest, np.arange(5)].sum() > 2 / 8


@pytest.mark.parametrize("path", ["commanded", "executed"])
def test_a_disturbed_arm_is_paired_by_its_commands_unless_told_otherwise(path: str, data: Path) -> None:
    config = load_config("cpu-image", "uot", settings_of(data, f"pairing.path={path}"))
    source, target = load_domains(config)
    assert source is not None
    assert target is not None
    undisturbed = pair(source.paths_m(commanded=False), target.paths_m(commanded=False))
    where_it_went_m = source.arrays["robot0_eef_pos"]
    where_it_went_m += np.random.default_rng(0).normal(0, 0.05, where_it_went_m.shape)
    pairing = Learner(config, source, target).sampler.pairing
    assert pairing is not None
    same = np.allclose(pairing.distances_m, undisturbed.distances_m, atol=1e-5)
    assert same == (path == "commanded")


@pytest.mark.parametrize("label", ["eef_path", "eef_pos", "action"])
def test_alignment_does_not_change_what_is_cloned_at_weight_zero(label: str, data: Path) -> None:
    frames = load_domains(load_config("cpu-image", "uot", settings_of(data)))
    settings = settings_of(data, "alignment.weight=0", f"alignment.label={label}")
    values = Learner(load_config("cpu-image", "uot", settings), *frames).step()
    assert float(values["loss"]) == float(values["clone"])
    assert float(values["alignment"]) > 0


def test_goals_teach_the_encoder_where_the_hand_is_sent(data: Path) -> None:
    config = load_config(
        "cpu-image", "source", settings_of(data, "encoder.goal_weight=2", "optim.updates=300")
    )
    frames, _ = load_domains(config)
    assert frames is not None
    images = np.zeros(
        (len(frames), 32, 32, 3), np.uint8
    )  # a spot where the hand is sent next, and nothing else
    goals_m = frames.commanded_positions_m[frames.keyframes()[:, 0], :2]
    low, high = goals_m.min(axis=0), goals_m.max(axis=0)
    for image, (row, column) in zip(
        images, (4 + 23 * (goals_m - low) / (high - low)).astype(int), strict=True
    ):
        image[row - 2 : row + 3, column - 2 : column + 3] = 255
    learner = Learner(config, replace(frames, arrays=frames.arrays | {"agentview_image": images}), None)
    first = learner.step()
    assert float(first["loss"]) == pytest.approx(float(first["clone"]) + 2 * float(first["goal"]))
    losses = [float(learner.step()["goal"]) for _ in range(150)]
    assert np.mean(losses[-10:]) < 0.75 * np.mean(losses[:5])


def test_calibrated_views_need_one_camera_a_domain(data: Path) -> None:
    config = load_config("cpu-image", "uot", settings_of(data, "encoder.view=calibrated"))
    with pytest.raises(
        DataError, match="one calibrated camera agentview in the source demonstrations, which have 0"
    ):
        Learner(config, *load_domains(config))


def test_averaged_weights_follow_the_trained_ones_and_keep_no_graph_of_the_updates(data: Path) -> None:
    config = load_config("cpu-image", "source", settings_of(data))
    learner = Learner(config, *load_domains(config))
    before = [average.clone() for average in learner.average.parameters()]
    for _ in range(3):
        learner.step()
    averages = [*learner.average.parameters()]
    assert not any(average.requires_grad for average in averages)
    assert not all(torch.equal(*pair) for pair in zip(before, averages, strict=True))


def test_cloning_loss_falls(data: Path) -> None:
    config = load_config(
        "cpu-image", "source", settings_of(data, "optim.updates=300", "optim.warmup_updates=5")
    )
    learner = Learner(config, *load_domains(config))
    losses = [float(learner.step()["clone"]) for _ in range(120)]
    assert np.mean(losses[-10:]) < 0.75 * np.mean(losses[:5])
