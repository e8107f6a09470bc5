"""Runs that keep to their budgets, stop, go on and end with the same weights."""

from __future__ import annotations

import json
import os
import re
import shutil
import signal
import subprocess
import sys
import time
from pathlib import Path

import numpy as np
import pytest
import torch
from demonstrations import random_episode, settings_of, write_dataset
from hypothesis import given
from hypothesis import strategies as st
from safetensors.torch import load_file

from simreal_agents.policies.checkpoint import STATE, TRAINING, WEIGHTS, find_checkpoint, list_checkpoints
from simreal_agents.policies.config import load_config
from simreal_agents.policies.methods import METHODS
from simreal_agents.policies.migrations import FORMAT_VERSION
from simreal_agents.policies.policy import load_policy
from simreal_agents.training.batches import clone_counts
from simreal_agents.training.learner import Learner
from simreal_agents.training.phases import phase_at
from simreal_agents.training.train import CONFIG, DEMONSTRATIONS, load_domains, stored_config, train
from simreal_datasets.loading.frames import Frames
from simreal_datasets.store.dataset import Dataset, DatasetWriter
from simreal_envs.errors import DataError, UsageError

TRAIN_IN_A_PROCESS = """
import sys
from simreal_agents.training.train import train, stored_config
from simreal_agents.policies.config import load_config
resumed = sys.argv[2] == "resume"
config = stored_config(sys.argv[1]) if resumed else load_config("cpu-image", "uot", sys.argv[3:])
try:
    train(config, sys.argv[1], resume=resumed)
except KeyboardInterrupt as stopped:
    print(stopped)
    sys.exit(130)
"""


def weights(run: Path) -> dict[str, torch.Tensor]:
    return load_file(find_checkpoint(run) / WEIGHTS) | load_file(find_checkpoint(run) / TRAINING)


def untimed(line: dict[str, float]) -> dict[str, float]:
    """A line of the log without what differs from run to run."""
    return {name: value for name, value in line.items() if not name.endswith(("_ms", "time_s"))}


def assert_same_weights(run: Path, other: Path) -> None:
    ours, theirs = weights(run), weights(other)
    assert ours.keys() == theirs.keys()
    assert all(torch.equal(ours[name], theirs[name]) for name in ours)


@pytest.mark.parametrize("method", ["cotrain", "uot"])
def test_no_demonstration_outside_the_budget_is_touched(method: str, data: Path, tmp_path: Path) -> None:
    """Everything outside the budget is replaced by other demonstrations: the weights stay the same."""
    budget = ("data.source_demos=4", "data.target_demos=2")
    config = load_config("cpu-image", method, settings_of(data, *budget))
    rng = np.random.default_rng(9)
    for domain, demos in (("source", 4), ("target", 2)):
        original = Dataset(data / domain)
        chosen = Frames.load(data / domain, demos, config.seed).files
        assert len(chosen) == demos
        with DatasetWriter(tmp_path / domain) as writer:
            for i, info in enumerate(original.infos):
                writer.add(original.read(i) if info.path.name in chosen else random_episode(rng, 11))
    train(config, tmp_path / "run")
    config = load_config("cpu-image", method, settings_of(tmp_path, *budget))
    train(config, tmp_path / "other")
    assert_same_weights(tmp_path / "run", tmp_path / "other")
    config = load_config(
        "cpu-image", method, settings_of(tmp_path, "data.source_demos=4", "data.target_demos=5")
    )
    train(config, tmp_path / "more")
    assert any(
        not torch.equal(a, b)
        for a, b in zip(weights(tmp_path / "run").values(), weights(tmp_path / "more").values(), strict=True)
    )


def test_a_method_reads_only_the_domains_it_clones(data: Path, tmp_path: Path) -> None:
    config = load_config("cpu-image", "target", [*settings_of(data), f"data.source={tmp_path / 'nothing'}"])
    source, target = load_domains(config)
    assert source is None
    assert target is not None
    with pytest.raises(UsageError, match=r"needs a source dataset: give --source \(data\.source\)"):
        load_domains(load_config("cpu-image", "uot", [f"data.target={data / 'target'}"]))
    with pytest.raises(UsageError, match=r"Budget of 6 .* Valid: 1 to 5"):
        load_domains(load_config("cpu-image", "uot", settings_of(data, "data.target_demos=6")))


# Runs


@pytest.mark.parametrize("method", METHODS)
def test_every_method_trains_and_logs(method: str, data: Path, tmp_path: Path) -> None:
    config = load_config("cpu-image", method, settings_of(data))
    train(config, tmp_path / "run")
    lines = [json.loads(line) for line in (tmp_path / "run" / "log.jsonl").read_text().splitlines()]
    probed = [line["update"] for line in lines if "domain_probe" in line]
    assert [line["update"] for line in lines] == [2, 4, 6, *probed]
    assert probed == ([] if method in ("source", "target") else [6])
    assert all(np.isfinite(value) for line in lines for value in line.values())
    assert ("alignment" in lines[0]) == (config.alignment.kind != "none")
    assert ("plan_mass" in lines[0]) == (config.alignment.kind in ("uot", "ot", "diagonal"))
    assert list((tmp_path / "run" / "tensorboard").glob("events*"))
    demonstrations = json.loads((tmp_path / "run" / "demonstrations.json").read_text())
    assert set(demonstrations) == {
        d for d in ("source", "target") if getattr(METHODS[config.method], f"uses_{d}")
    }


def test_same_seed_same_weights_and_another_seed_others(data: Path, tmp_path: Path) -> None:
    for name, seed in (("a", 0), ("b", 0), ("c", 1)):
        train(load_config("cpu-image", "uot", settings_of(data, f"seed={seed}")), tmp_path / name)
    assert_same_weights(tmp_path / "a", tmp_path / "b")
    a, c = weights(tmp_path / "a"), weights(tmp_path / "c")
    assert not torch.equal(
        a["encoder.agentview_image.feature.weight"], c["encoder.agentview_image.feature.weight"]
    )


class StopAt(Learner):
    """Ctrl-C after the tenth update, as the terminal sends it."""

    def step(self) -> dict[str, torch.Tensor | float]:
        values = super().step()
        if self.update == 10:
            os.kill(os.getpid(), signal.SIGINT)
        return values


@pytest.mark.parametrize(
    ("method", "head"), [("uot", "mse"), ("uot", "flow"), ("dann", "mse"), ("finetune", "mse")]
)
def test_an_interrupted_run_goes_on_to_the_same_weights(
    method: str, head: str, data: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    longer = ("optim.updates=20", f"head.kind={head}", "finetune.share=0.5")
    config = load_config("cpu-image", method, settings_of(data, *longer))
    train(config, tmp_path / "whole")
    with monkeypatch.context() as patch:
        patch.setattr("simreal_agents.training.train.Learner", StopAt)
        with pytest.raises(KeyboardInterrupt, match="stopped at update 10"):
            train(config, tmp_path / "parts")
    assert list_checkpoints(tmp_path / "parts") == [10]
    train(config, tmp_path / "parts", resume=True)
    assert_same_weights(tmp_path / "whole", tmp_path / "parts")
    whole, parts = (
        [json.loads(line) for line in (tmp_path / name / "log.jsonl").read_text().splitlines()]
        for name in ("whole", "parts")
    )
    assert [untimed(line) for line in whole] == [untimed(line) for line in parts]
    assert parts[-1]["time_s"] > parts[0]["time_s"]


def test_a_run_goes_on_with_the_demonstrations_that_it_began_with(data: Path, tmp_path: Path) -> None:
    config = load_config("cpu-image", "cotrain", settings_of(data, "data.source_demos=4"))
    train(config, tmp_path / "whole")
    for domain in ("source", "target"):
        shutil.copytree(data / domain, tmp_path / domain)
    config = load_config("cpu-image", "cotrain", settings_of(tmp_path, "data.source_demos=4"))
    run = tmp_path / "parts"
    asked = iter(range(100))
    with pytest.raises(KeyboardInterrupt, match="stopped at update 3"):
        train(config, run, should_stop=lambda: next(asked) == 2)
    began_with = (run / DEMONSTRATIONS).read_text()
    for domain in ("source", "target"):
        write_dataset(tmp_path / domain, 3, seed=7)
    train(config, run, resume=True)
    assert_same_weights(tmp_path / "whole", run)
    assert (run / DEMONSTRATIONS).read_text() == began_with

    shutil.rmtree(run)
    with pytest.raises(KeyboardInterrupt):
        train(config, run, should_stop=lambda: True)
    lost = json.loads((run / DEMONSTRATIONS).read_text())["target"][0]
    (tmp_path / "target" / lost).unlink()
    with pytest.raises(DataError, match=rf"lacks {lost} \(deleted or damaged\): put it back"):
        train(config, run, resume=True)


def test_a_run_that_failed_before_its_first_checkpoint_is_begun_again(
    data: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    class Fails(Learner):
        def step(self) -> dict[str, torch.Tensor | float]:
            raise DataError("the first update fails")

    wrong = load_config("cpu-image", "cotrain", settings_of(data))
    monkeypatch.setattr("simreal_agents.training.train.Learner", Fails)
    with pytest.raises(DataError, match="first update"):
        train(wrong, tmp_path)
    monkeypatch.undo()
    corrected = load_config("cpu-image", "cotrain", settings_of(data, "seed=1"))
    train(corrected, tmp_path)
    assert stored_config(tmp_path) == corrected


@pytest.mark.slow
def test_a_process_stopped_by_ctrl_c_and_one_that_was_killed_go_on(data: Path, tmp_path: Path) -> None:
    length = ("optim.updates=60", "checkpoint_every=7")
    train(load_config("cpu-image", "uot", settings_of(data, *length)), tmp_path / "whole")
    run = tmp_path / "parts"
    command = [sys.executable, "-c", TRAIN_IN_A_PROCESS, str(run)]
    environment = os.environ | {"PYTHONSAFEPATH": "1"}

    def start_and_wait_for_checkpoint(*arguments: str) -> subprocess.Popen[str]:
        known = list_checkpoints(run)
        process = subprocess.Popen(
            [*command, *arguments], stdout=subprocess.PIPE, text=True, cwd=tmp_path, env=environment
        )
        deadline = time.monotonic() + 60
        while list_checkpoints(run) == known and process.poll() is None and time.monotonic() < deadline:
            time.sleep(0.01)
        return process

    first = start_and_wait_for_checkpoint("start", *settings_of(data, *length))
    first.kill()
    first.wait()
    with (run / "log.jsonl").open("a") as log:
        log.write('{"update": 8, "lo')  # as a crash may leave it
    second = start_and_wait_for_checkpoint("resume")
    second.send_signal(signal.SIGINT)
    output, _ = second.communicate(timeout=60)
    stopped = max(list_checkpoints(run))
    if stopped < 60:  # the signal may come after the last update
        assert second.returncode == 130
        assert f"stopped at update {stopped}" in output
    subprocess.run([*command, "resume"], check=True, cwd=tmp_path, env=environment, timeout=60)
    assert_same_weights(tmp_path / "whole", run)


def test_only_the_newest_checkpoint_keeps_what_training_needs(data: Path, tmp_path: Path) -> None:
    train(load_config("cpu-image", "cotrain", settings_of(data, "checkpoint_every=2")), tmp_path)
    assert list_checkpoints(tmp_path) == [2, 4, 6]
    kept = [(tmp_path / "checkpoints" / f"{update:07d}" / TRAINING).exists() for update in (2, 4, 6)]
    assert kept == [False, False, True]
    assert not list(tmp_path.rglob("*.p*t*h")) + list(tmp_path.rglob("*.pkl"))


def test_a_finished_run_is_left_alone_and_another_one_is_refused(data: Path, tmp_path: Path) -> None:
    run = tmp_path / "run"
    config = load_config("cpu-image", "cotrain", settings_of(data))
    checkpoint = train(config, run)
    written = (checkpoint / WEIGHTS).stat().st_mtime_ns
    assert train(config, run) == checkpoint == train(config, run, resume=True)
    assert (checkpoint / WEIGHTS).stat().st_mtime_ns == written
    with pytest.raises(UsageError, match=r"another configuration \(seed: 0 -> 1\)"):
        train(load_config("cpu-image", "cotrain", settings_of(data, "seed=1")), run)
    (tmp_path / "folder").mkdir()
    (tmp_path / "folder" / "notes.txt").write_text("mine")
    with pytest.raises(UsageError, match="not a run"):
        train(config, tmp_path / "folder")
    with pytest.raises(DataError, match="There is no run"):
        train(config, tmp_path / "nothing", resume=True)
    assert stored_config(run) == config


def test_a_stored_run_says_everything_it_was_trained_with(data: Path, tmp_path: Path) -> None:
    config = load_config("cpu-image", "cotrain", settings_of(data, "head.action_frame=base"))
    train(config, tmp_path)
    written = json.loads((tmp_path / CONFIG).read_text())
    assert written == {"format_version": FORMAT_VERSION} | config.to_dict()
    assert stored_config(tmp_path) == config

    def rewrite(**changes: object) -> None:
        (tmp_path / CONFIG).write_text(json.dumps(written | changes))

    del written["format_version"]  # as earlier versions wrote it
    rewrite(pairing={key: value for key, value in written["pairing"].items() if key != "path"})
    assert stored_config(tmp_path).pairing.path == "executed"
    with pytest.raises(UsageError, match=r"pairing\.path: executed -> commanded"):
        train(config, tmp_path)
    rewrite(head={key: value for key, value in written["head"].items() if key != "action_frame"})
    with pytest.raises(DataError, match=r"config\.json .* lacks head\.action_frame"):
        train(config, tmp_path, resume=True)
    rewrite(format_version=FORMAT_VERSION + 1)
    with pytest.raises(DataError, match=rf"config\.json has format version {FORMAT_VERSION + 1}"):
        stored_config(tmp_path)


POLICY_LACKS = [
    "config.head.action_frame", "config.seed", "world.action_kind", "world.features", "looks", "cameras",
    "update",
]  # fmt: skip


@pytest.mark.parametrize("key", [*POLICY_LACKS, "device", "sampler"])
def test_no_missing_key_of_a_checkpoint_takes_a_default(key: str, data: Path, tmp_path: Path) -> None:
    config = load_config("cpu-image", "cotrain", settings_of(data))
    with pytest.raises(KeyboardInterrupt):
        train(config, tmp_path, should_stop=lambda: True)
    file = find_checkpoint(tmp_path) / STATE
    state = json.loads(file.read_text())
    *path, name = key.split(".")
    part = state
    for outer in path:
        part = part[outer]
    del part[name]
    file.write_text(json.dumps(state))
    lacks = re.escape(key.removeprefix("config.").removeprefix("world."))
    if not key.startswith("config."):  # going on reads config.json
        with pytest.raises(DataError, match=lacks):
            train(config, tmp_path, resume=True)
    if key in POLICY_LACKS:
        with pytest.raises(DataError, match=lacks):
            load_policy(tmp_path)
    else:
        assert load_policy(tmp_path).update == 1


def test_a_run_has_one_training(data: Path, tmp_path: Path) -> None:
    config = load_config("cpu-image", "cotrain", settings_of(data))
    refused = []

    def another_one() -> bool:
        with pytest.raises(DataError, match="Another training is writing") as caught:
            train(config, tmp_path / "run")
        refused.append(caught)
        return False

    train(config, tmp_path / "run", should_stop=another_one)
    assert len(refused) == 6
    lines = [json.loads(line) for line in (tmp_path / "run" / "log.jsonl").read_text().splitlines()]
    assert [line["update"] for line in lines if "loss" in line] == [2, 4, 6]


def test_an_unfinished_run_asks_for_resume(data: Path, tmp_path: Path) -> None:
    config = load_config("cpu-image", "cotrain", settings_of(data, "checkpoint_every=2"))
    checkpoint = train(config, tmp_path / "run")
    for file in checkpoint.iterdir():
        file.unlink()
    checkpoint.rmdir()
    with pytest.raises(UsageError, match="up to update 4 of 6; add --resume"):
        train(config, tmp_path / "run")
    with pytest.raises(DataError, match=r"training\.safetensors cannot be read"):
        train(config, tmp_path / "run", resume=True)


def test_a_stem_that_leaves_no_place_for_keypoints_is_refused(data: Path, tmp_path: Path) -> None:
    for stride in (11, 60):
        config = load_config("cpu-image", "cotrain", settings_of(data, f"encoder.image.stem_stride={stride}"))
        with pytest.raises(UsageError, match=rf"stem_stride = {stride} .* 32 x 32\. Valid: 1 to 10"):
            train(config, tmp_path / "run")
    train(
        load_config("cpu-image", "cotrain", settings_of(data, "encoder.image.stem_stride=10")),
        tmp_path / "run",
    )


def test_two_domains_of_different_worlds_are_refused(data: Path, tmp_path: Path) -> None:
    write_dataset(tmp_path / "target", 2, task="Stack")
    config = load_config("cpu-image", "uot", [*settings_of(data), f"data.target={tmp_path / 'target'}"])
    with pytest.raises(DataError, match="task is 'Stack' instead of 'Lift'"):
        train(config, tmp_path / "run")


@given(size=st.integers(1, 200), paired=st.floats(0, 1), target=st.floats(0, 1))
def test_every_share_of_a_batch_gets_its_samples_or_is_refused(
    size: int, paired: float, target: float
) -> None:
    config = load_config("cpu-image", "cotrain")
    batch = config.batch
    batch.size, batch.target, batch.source_paired = size, target, paired * (1 - target)
    batch.source_unpaired = 1 - batch.target - batch.source_paired
    try:
        counts = clone_counts(config, phase_at(config, 0))
    except UsageError as error:
        assert f"batch.size {size} is too small for batch." in str(error)  # noqa: PT017
    else:
        assert sum(counts) == size
        assert min(counts) >= 0
