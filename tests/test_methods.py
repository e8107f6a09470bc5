"""What is special about single methods, and that every policy can be trained by every method."""

from __future__ import annotations

import math
import re
from pathlib import Path

import numpy as np
import pytest
import torch
from demonstrations import settings_of, write_dataset
from typer.testing import CliRunner

from simreal_agents.policies.config import load_config
from simreal_agents.policies.methods import METHODS
from simreal_agents.policies.policy import load_policy
from simreal_agents.training.learner import Learner
from simreal_agents.training.phases import learning_rate, phases
from simreal_agents.training.train import load_domains, train
from simreal_cli.main import app
from simreal_envs.errors import UsageError
from simreal_envs.features import ObservationSpec

POLICIES = {
    "image": ("head.kind=flow", "observation.history=2"),
    "pointcloud": ("head.kind=diffusion", "head.channels=[16,32]"),
    "state": ("head.kind=mse",),
}
"""By what they see, settings of policies that every method trains."""


@pytest.fixture(scope="module")
def seen(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Demonstrations of both domains that hold everything that :data:`POLICIES` see."""
    folder = tmp_path_factory.mktemp("seen")
    shown = ObservationSpec(("image", "pointcloud", "state"), (32, 32), points=64)
    write_dataset(folder / "source", 4, 0, shown=shown)
    write_dataset(folder / "target", 3, 1, shown=shown)
    return folder


@pytest.mark.parametrize("obs", POLICIES)
@pytest.mark.parametrize("method", METHODS)
def test_every_method_trains_every_policy_that_has_what_it_aligns(method: str, obs: str, seen: Path) -> None:
    settings = settings_of(seen, f"observation.obs={obs}", *POLICIES[obs])
    if obs == "state" and METHODS[method].alignment != "none":
        with pytest.raises(UsageError, match="Use method source or target or cotrain or token or finetune"):
            load_config("cpu-image", method, settings)
        return
    config = load_config("cpu-image", method, settings)
    learner = Learner(config, *load_domains(config))
    before = {name: weights.clone() for name, weights in learner.network.head.named_parameters()}
    for _ in range(config.optim.updates):
        values = learner.step()
        assert math.isfinite(float(values["loss"]))
    assert any((weights != before[name]).any() for name, weights in learner.network.head.named_parameters())


def test_the_help_names_every_method(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("COLUMNS", "200")
    words = re.findall(r"\w+", CliRunner().invoke(app, ["train", "--help"]).output)
    assert set(METHODS) <= set(words)


# The domain token


def test_the_token_is_the_one_thing_that_the_domain_changes_for_the_head(data: Path, tmp_path: Path) -> None:
    train(load_config("cpu-image", "token", settings_of(data, "encoder.view=none")), tmp_path)
    policy = load_policy(tmp_path)
    given: dict[str, torch.Tensor] = {}
    sample = policy.network.head.sample

    def spied(condition: torch.Tensor, noise: torch.Tensor) -> torch.Tensor:
        given[policy.domain] = condition
        return sample(condition, noise)

    policy.network.head.sample = spied  # type: ignore[method-assign]
    frames = load_domains(policy.config)[1]
    assert frames is not None
    observations = frames.observations(np.arange(5), 1)
    assert policy.domain == "target"
    as_target = policy.chunks(observations)
    policy.domain = "source"
    as_source = policy.chunks(observations)
    assert torch.equal(given["source"][:, :-2], given["target"][:, :-2])
    assert given["source"][:, -2:].tolist() == [[1.0, 0.0]] * 5
    assert given["target"][:, -2:].tolist() == [[0.0, 1.0]] * 5
    assert np.abs(as_target - as_source).max() > 0


def test_in_training_each_sample_has_the_token_of_its_domain(data: Path) -> None:
    config = load_config("cpu-image", "token", settings_of(data))
    learner = Learner(config, *load_domains(config))
    batch = learner.batch(learner.sampler.draw(0))
    features = torch.zeros(len(batch.inputs), learner.network.encoder.size)
    condition = learner.network.condition(features, batch.inputs, batch.from_target[: len(batch.inputs)])
    assert condition[:, -2:].tolist() == [[1.0, 0.0]] * 14 + [[0.0, 1.0]] * 2


def test_other_methods_have_no_token(data: Path) -> None:
    sizes = {}
    for method in ("cotrain", "token"):
        config = load_config("cpu-image", method, settings_of(data))
        learner = Learner(config, *load_domains(config))
        draw = learner.batch(learner.sampler.draw(0))
        features = torch.zeros(len(draw.inputs), learner.network.encoder.size)
        sizes[method] = learner.network.condition(features, draw.inputs, draw.from_target[:16]).shape[1]
    assert sizes["token"] == sizes["cotrain"] + 2


# Fine-tuning


def test_fine_tuning_draws_the_source_and_then_the_target(data: Path) -> None:
    settings = settings_of(data, "optim.updates=20", "finetune.share=0.3")
    config = load_config("cpu-image", "finetune", settings)
    sampler = Learner(config, *load_domains(config)).sampler
    drawn = [sampler.draw(update) for update in range(20)]
    assert [len(draw.clone_source) for draw in drawn] == [16] * 14 + [0] * 6
    assert [len(draw.clone_target) for draw in drawn] == [0] * 14 + [16] * 6
    assert all(len(draw.align_source) == 0 for draw in drawn)


def test_each_phase_has_a_warm_up_and_a_cosine_of_its_own() -> None:
    more = ["optim.updates=1000", "finetune.share=0.25", "finetune.learning_rate_factor=0.2",
            "optim.learning_rate=1e-3", "optim.warmup_updates=9"]  # fmt: skip
    config = load_config("cpu-image", "finetune", more)
    assert [(phase.first, phase.end) for phase in phases(config)] == [(0, 750), (750, 1000)]
    rates = [learning_rate(config, update) for update in range(1000)]
    for first, end, highest in ((0, 750, 1e-3), (750, 1000, 2e-4)):
        assert rates[first] == pytest.approx(highest / 10)
        assert rates[first + 9] == max(rates[first:end]) == pytest.approx(highest)
        middle = first + 9 + (end - first - 9) / 2
        assert (rates[math.floor(middle)] + rates[math.ceil(middle)]) / 2 == pytest.approx(
            highest / 2, rel=1e-6
        )
        assert 0 < rates[end - 1] < 1e-4 * highest
    one_phase = load_config("cpu-image", "cotrain", more[:1])
    assert phases(one_phase)[0][:4] == (0, 1000, True, True)


@pytest.mark.parametrize(("updates", "share"), [(2, 0.01), (2, 0.99), (3, 0.5), (1000, 1e-9)])
def test_both_phases_have_an_update(updates: int, share: float) -> None:
    config = load_config("cpu-image", "finetune", [f"optim.updates={updates}", f"finetune.share={share}"])
    first, second = phases(config)
    assert 0 == first.first < first.end == second.first < second.end == updates


def test_what_cannot_be_two_phases_is_refused() -> None:
    for wrong in (
        "optim.updates=1",
        "finetune.share=0",
        "finetune.share=1",
        "finetune.learning_rate_factor=0",
    ):
        with pytest.raises(UsageError, match=wrong.partition("=")[0].replace(".", r"\.")):
            load_config("cpu-image", "finetune", [wrong])
