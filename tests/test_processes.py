"""Several processes that share a training, through the real program: they train and end as one would."""

from __future__ import annotations

import json
import os
import re
import signal
import subprocess
import sys
import time
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from demonstrations import settings_of
from hypothesis import given
from hypothesis import strategies as st
from safetensors.torch import load_file

from simreal_agents.policies.checkpoint import TRAINING, find_checkpoint, list_checkpoints
from simreal_agents.policies.config import load_config
from simreal_agents.training.batches import Draw
from simreal_agents.training.processes import check_shares
from simreal_agents.training.train import train
from simreal_envs.errors import UsageError

SIMREAL = Path(sys.executable).with_name("simreal")
ACCELERATE = Path(sys.executable).with_name("accelerate")
LAUNCH = "launch --multi_gpu --num_machines 1 --mixed_precision no --dynamo_backend no --num_processes 2"
FEW = ("amp=none", "log_every=1", "checkpoint_every=5")


def options(data: Path, *more: str) -> list[str]:
    return [f"--set={setting}" for setting in settings_of(data, *FEW, *more)]


def program(*arguments: object, **how: Any) -> subprocess.Popen[str]:
    """The program in a group of its own, which gets a Ctrl-C as a terminal sends it."""
    command = [str(argument) for argument in arguments]
    return subprocess.Popen(
        command, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True, start_new_session=True, **how
    )


def wait_for_checkpoint(run: Path, beyond: int, process: subprocess.Popen[str]) -> None:
    deadline = time.monotonic() + 120
    while max(list_checkpoints(run), default=0) <= beyond:
        assert process.poll() is None, process.communicate()
        assert time.monotonic() < deadline
        time.sleep(0.02)


def losses(run: Path) -> dict[int, list[float]]:
    names = ("loss", "clone", "alignment", "plan_mass", "gradient_norm")
    logged = [json.loads(line) for line in (run / "log.jsonl").read_text().splitlines()]
    lines = [line for line in logged if "loss" in line]  # others are what was found out about a checkpoint
    return {line["update"]: [line[name] for name in names] for line in lines}


def errors(said: str) -> list[str]:
    return [line for line in said.splitlines() if "error:" in line or "Traceback" in line]


@pytest.mark.slow
def test_two_processes_give_the_losses_of_one_and_go_on_exactly(data: Path, tmp_path: Path) -> None:
    """One process, two, and two that Ctrl-C stops and accelerate starts again. Head and images are random."""
    settings = ("optim.updates=60", "head.kind=flow", "augment.shift_px=3")
    one, two, parts = (tmp_path / name for name in ("one", "two", "parts"))
    train(load_config("cpu-image", "uot", settings_of(data, *FEW, *settings)), one)
    whole = program(SIMREAL, "train", two, *options(data, *settings), "--processes", 2)
    _, said = whole.communicate(timeout=200)
    assert whole.returncode == 0, said
    ours, theirs = losses(one), losses(two)
    assert list(ours) == list(theirs) == list(range(1, 61))
    for update in ours:
        assert ours[update] == pytest.approx(theirs[update], rel=1e-4), update

    stopped = program(SIMREAL, "train", parts, *options(data, *settings), "--processes", 2)
    wait_for_checkpoint(parts, 0, stopped)
    os.killpg(stopped.pid, signal.SIGINT)
    _, said = stopped.communicate(timeout=100)
    if (last := max(list_checkpoints(parts))) < 60:
        assert stopped.returncode == 130
        (line,) = errors(said)
        assert line.startswith(f"error: stopped at update {last}, which is saved in {parts}")
        again = program(ACCELERATE, *LAUNCH.split(), SIMREAL, "train", parts, "--resume")
        output, said = again.communicate(timeout=200)
        assert again.returncode == 0, said
        assert output.splitlines() == [f"Trained: {find_checkpoint(parts)}"]
    after_two, after_parts = (load_file(find_checkpoint(run) / TRAINING) for run in (two, parts))
    assert after_two.keys() == after_parts.keys()
    assert all(torch.equal(after_two[name], after_parts[name]) for name in after_two)


@pytest.mark.slow
def test_a_killed_process_ends_a_training_and_so_does_divergence(data: Path, tmp_path: Path) -> None:
    """A run that one process began goes on with two."""
    run = tmp_path / "run"
    asked = iter(range(9))
    settings = ("optim.updates=4000",)
    with pytest.raises(KeyboardInterrupt, match="update 3"):
        train(
            load_config("cpu-image", "uot", settings_of(data, *FEW, *settings)),
            run,
            should_stop=lambda: next(asked) == 2,
        )
    killed = program(SIMREAL, "train", run, "--resume", "--processes", 2)
    wait_for_checkpoint(run, 3, killed)
    children = Path(f"/proc/{killed.pid}/task/{killed.pid}/children").read_text().split()
    workers = [int(c) for c in children if "spawn_main" in Path(f"/proc/{c}/cmdline").read_text()]
    assert len(workers) == 2
    os.kill(workers[1], signal.SIGKILL)
    _, said = killed.communicate(timeout=60)
    assert killed.returncode == 1
    (line,) = errors(said)
    assert re.search(rf"Process \d .* SIGKILL.* update {max(list_checkpoints(run))} is intact", line)
    assert not any(Path(f"/proc/{worker}").exists() for worker in workers)

    hot = ("optim.updates=40", "optim.learning_rate=1e30", "checkpoint_every=1")
    diverged = program(SIMREAL, "train", tmp_path / "hot", *options(data, *hot), "--processes", 2)
    _, said = diverged.communicate(timeout=100)
    assert diverged.returncode == 1
    (line,) = errors(said)
    assert "diverged: at update" in line
    assert list_checkpoints(tmp_path / "hot")


def test_a_batch_that_cannot_be_shared_equally_is_refused(data: Path, tmp_path: Path) -> None:
    command = [str(SIMREAL), "train", str(tmp_path / "run"), *options(data), "--processes", "3"]
    refused = subprocess.run(command, capture_output=True, text=True)
    assert refused.returncode == 2
    (line,) = refused.stderr.splitlines()
    assert "batch.size = 16 is no multiple of 3" in line
    assert "2, 4, 8 processes" in line
    assert not (tmp_path / "run").exists()
    check_shares(load_config("cpu-image", "cotrain", ["batch.size=6", "batch.alignment_size=7"]), 3)
    with pytest.raises(UsageError, match="alignment_size = 7"):
        check_shares(load_config("cpu-image", "uot", ["batch.size=6", "batch.alignment_size=7"]), 3)


@given(st.tuples(*[st.integers(0, 5)] * 2), st.integers(0, 3), st.integers(1, 4))
def test_the_shares_of_a_draw_are_the_draw(cloned: tuple[int, int], aligned: int, count: int) -> None:
    sizes = [cloned[0], cloned[1] + -sum(cloned) % count, aligned * count, aligned * count]
    whole = Draw(*(100 * i + np.arange(size) for i, size in enumerate(sizes)))
    shares = [whole.share(index, count) for index in range(count)]
    for i, part in enumerate(whole.parts):
        assert np.array_equal(np.concatenate([share.parts[i] for share, _ in shares]), part)
    assert sorted(np.concatenate([samples for _, samples in shares])) == list(range(sum(sizes)))
    every = np.concatenate(whole.parts)
    for share, samples in shares:
        assert np.array_equal(every[samples], np.concatenate(share.parts))
        assert len(samples) == sum(sizes) // count
