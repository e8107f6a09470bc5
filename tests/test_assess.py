"""What is found out about each checkpoint: the loss on demonstrations that training does not see."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from demonstrations import settings_of

from simreal_agents.policies.actions import policy_inputs
from simreal_agents.policies.checkpoint import ASSESSMENT, TRAINING, find_checkpoint
from simreal_agents.policies.config import load_config
from simreal_agents.policies.policy import load_policy
from simreal_agents.training.demonstrations import load_held_out
from simreal_agents.training.train import DEMONSTRATIONS, load_domains, train
from simreal_datasets.loading.frames import Frames
from simreal_datasets.store.dataset import Dataset
from simreal_envs.errors import UsageError

BUDGETS = ("data.source_demos=4", "data.target_demos=3")


def logged(run: Path) -> list[dict[str, Any]]:
    return [json.loads(line) for line in (run / "log.jsonl").read_text().splitlines()]


def assessments(run: Path) -> dict[int, dict[str, float]]:
    return {int(f.parent.name): json.loads(f.read_text()) for f in sorted(run.rglob(ASSESSMENT))}


@pytest.mark.parametrize("head", ["mse", "flow"])
def test_the_loss_on_what_the_budget_leaves_over_is_logged_and_changes_nothing(
    head: str, data: Path, tmp_path: Path
) -> None:
    settings = settings_of(data, *BUDGETS, f"head.kind={head}", "checkpoint_every=3")
    config = load_config("cpu-image", "uot", settings)
    run = tmp_path / "run"
    train(config, run)
    train(load_config("cpu-image", "uot", [*settings, "data.validation_demos=0"]), tmp_path / "without")
    ours, theirs = (find_checkpoint(r) / TRAINING for r in (run, tmp_path / "without"))
    assert ours.read_bytes() == theirs.read_bytes()

    files = json.loads((run / DEMONSTRATIONS).read_text())
    for domain, budget in (("source", 4), ("target", 3)):
        all_of_it = {info.path.name for info in Dataset(data / domain).infos}
        assert len(files[domain]) == budget
        assert {*files[domain], *files[f"validation_{domain}"]} == all_of_it
        assert not {*files[domain]} & {*files[f"validation_{domain}"]}
    lines = [line for line in logged(run) if "validation_source" in line]
    assert [line["update"] for line in lines] == [3, 6]
    for line in lines:
        values = {name: line[name] for name in ("validation_source", "validation_target", "domain_probe")}
        assert assessments(run)[line["update"]] == values
    if head == "mse":  # by the saved policy and the recorded frames alone
        policy = load_policy(run, 3)
        held = Frames.load(data / "target", files=files["validation_target"])
        frames = np.arange(len(held))
        features = policy.encode(held.observations(frames, 1), "target")
        inputs = policy_inputs({name: held.arrays[name] for name in policy._names}, policy._names)
        positions = held.end_effector_positions_m
        chunks = policy.network.codec.encode(held.actions[held.chunk_indices(frames, 8)], positions)
        from_target = torch.ones(len(frames), dtype=torch.bool)
        condition = policy.network.condition(
            torch.from_numpy(features), torch.from_numpy(inputs), from_target
        )
        wanted = policy.network.actions(torch.from_numpy(chunks))
        loss = (policy.network.head.sample(condition, torch.empty(0)) - wanted).square().mean()
        assert float(loss) == pytest.approx(lines[0]["validation_target"], rel=1e-4)


def test_a_run_that_goes_on_holds_out_the_same_and_assesses_what_it_missed(
    data: Path, tmp_path: Path
) -> None:
    settings = settings_of(data, *BUDGETS, "checkpoint_every=2", "optim.updates=4")
    config = load_config("cpu-image", "cotrain", settings)
    train(config, tmp_path / "whole")
    run = tmp_path / "parts"
    asked = iter(range(9))
    with pytest.raises(KeyboardInterrupt, match="update 2"):
        train(config, run, should_stop=lambda: next(asked) == 1)
    assert assessments(run) == {}  # who stops a run does not wait for this
    train(config, run, resume=True)
    assert assessments(run) == assessments(tmp_path / "whole")
    assert [sorted(line) for line in logged(run)] == [sorted(line) for line in logged(tmp_path / "whole")]


def test_none_is_lost_where_the_budget_takes_all(data: Path, tmp_path: Path) -> None:
    train(load_config("cpu-image", "cotrain", settings_of(data)), tmp_path)
    assert all(
        not name.startswith("validation") for name in json.loads((tmp_path / DEMONSTRATIONS).read_text())
    )
    assert [set(values) for values in assessments(tmp_path).values()] == [{"domain_probe"}]


def test_masks_say_what_is_held_out_and_may_not_overlap(data: Path, tmp_path: Path) -> None:
    config = load_config("cpu-image", "source", settings_of(data, "data.source_validation=valid"))
    source, _ = load_domains(config)
    assert source is not None
    with pytest.raises(UsageError, match=r"'valid'.* Valid: success, all"):
        load_held_out(config, {"source": source})
    config = load_config("cpu-image", "source", settings_of(data, "data.source_validation=all"))
    with pytest.raises(UsageError, match=rf"'all' .* {len(source.files)} of them are trained on"):
        load_held_out(config, {"source": source})
