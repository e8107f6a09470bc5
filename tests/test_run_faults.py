"""What goes wrong with a run: full disks, damaged files, divergence; it is said, and nothing is lost."""

from __future__ import annotations

import errno
import itertools
import json
import os
import resource
import shutil
import signal
from pathlib import Path

import pytest
from demonstrations import settings_of, write_dataset
from safetensors.torch import load_file
from typer.testing import CliRunner

from simreal_agents.policies.checkpoint import TRAINING, WEIGHTS, find_checkpoint, list_checkpoints
from simreal_agents.policies.config import load_config
from simreal_agents.training.learner import Learner
from simreal_agents.training.train import DEMONSTRATIONS, train
from simreal_cli.main import app
from simreal_envs.errors import DataError, UsageError


def test_a_full_disk_is_named_and_leaves_earlier_checkpoints(
    data: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    config = load_config("cpu-image", "cotrain", settings_of(data, "checkpoint_every=2"))
    limits = resource.getrlimit(resource.RLIMIT_FSIZE)

    class Full(Learner):
        def save(self, run: Path) -> None:
            if self.update == 4:
                resource.setrlimit(resource.RLIMIT_FSIZE, (100_000, limits[1]))
            super().save(run)

    monkeypatch.setattr("simreal_agents.training.train.Learner", Full)
    try:
        with pytest.raises(DataError, match=r"Cannot write a checkpoint .* Those before are intact"):
            train(config, tmp_path / "run")
    finally:
        resource.setrlimit(resource.RLIMIT_FSIZE, limits)
    assert list_checkpoints(tmp_path / "run") == [2]
    monkeypatch.undo()
    train(config, tmp_path / "run", resume=True)
    assert list_checkpoints(tmp_path / "run") == [2, 4, 6]


def test_a_log_that_finds_the_disk_full_says_how_to_go_on(data: Path, tmp_path: Path) -> None:
    config = load_config("cpu-image", "cotrain", settings_of(data, "checkpoint_every=2", "log_every=1"))
    log = tmp_path / "run" / "log.jsonl"
    limits = resource.getrlimit(resource.RLIMIT_FSIZE)
    ignored = signal.signal(signal.SIGXFSZ, signal.SIG_IGN)
    steps = itertools.count(1)

    def fill_the_disk() -> bool:
        if next(steps) == 3:
            resource.setrlimit(resource.RLIMIT_FSIZE, (log.stat().st_size, limits[1]))
        return False

    try:
        with pytest.raises(DataError, match=r"update 3: File too large; .* update 2 is intact.* --resume"):
            train(config, tmp_path / "run", should_stop=fill_the_disk)
    finally:
        resource.setrlimit(resource.RLIMIT_FSIZE, limits)
        signal.signal(signal.SIGXFSZ, ignored)
    train(config, tmp_path / "run", resume=True)
    lines = [json.loads(line) for line in log.read_text().splitlines()]
    assert [line["update"] for line in lines if "loss" in line] == [1, 2, 3, 4, 5, 6]


def test_a_checkpoint_is_on_the_disk_before_older_ones_lose_anything(
    data: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Where writing the name of the new one fails, training can still go on from the old one."""
    config = load_config("cpu-image", "cotrain", settings_of(data, "checkpoint_every=2"))
    fsync = os.fsync

    def failing(descriptor: int) -> None:
        path = Path(os.readlink(f"/proc/self/fd/{descriptor}"))
        if path.name == "checkpoints" and (path / "0000004").exists():
            raise OSError(errno.EIO, "Input/output error")
        fsync(descriptor)

    monkeypatch.setattr(os, "fsync", failing)
    with pytest.raises(DataError, match=r"Cannot write a checkpoint .*Input/output error"):
        train(config, tmp_path)
    assert (tmp_path / "checkpoints" / "0000002" / TRAINING).exists()


@pytest.mark.parametrize("method", ["cotrain", "uot"])
def test_a_training_that_diverges_says_so_and_keeps_what_is_sound(
    method: str, data: Path, tmp_path: Path
) -> None:
    hot = ("optim.learning_rate=1e30", "optim.updates=50", "checkpoint_every=1")
    config = load_config("cpu-image", method, settings_of(data, *hot))
    with pytest.raises(DataError, match=r"diverged: at update \d+ .* lower optim\.learning_rate"):
        train(config, tmp_path / "run")
    assert list_checkpoints(tmp_path / "run")
    for update in list_checkpoints(tmp_path / "run"):
        saved = load_file(find_checkpoint(tmp_path / "run", update) / WEIGHTS)
        assert all(tensor.isfinite().all() for tensor in saved.values())


def test_a_start_on_a_full_disk_leaves_nothing_in_the_way(data: Path, tmp_path: Path) -> None:
    config = load_config("cpu-image", "cotrain", settings_of(data))
    before = resource.getrlimit(resource.RLIMIT_FSIZE)
    ignored = signal.signal(signal.SIGXFSZ, signal.SIG_IGN)
    resource.setrlimit(resource.RLIMIT_FSIZE, (0, before[1]))
    try:
        with pytest.raises(OSError, match="File too large"):
            train(config, tmp_path / "run")
    finally:
        resource.setrlimit(resource.RLIMIT_FSIZE, before)
        signal.signal(signal.SIGXFSZ, ignored)
    (tmp_path / "run" / ".config.json").write_text("{")  # what a kill would leave
    assert train(config, tmp_path / "run").name == "0000006"


def test_a_damaged_line_of_the_log_does_not_stop_a_run(data: Path, tmp_path: Path) -> None:
    config = load_config("cpu-image", "cotrain", settings_of(data, "log_every=1"))
    steps = iter([False, False, True])
    with pytest.raises(KeyboardInterrupt):
        train(config, tmp_path, should_stop=lambda: next(steps))
    log = tmp_path / "log.jsonl"
    log.write_bytes(log.read_bytes() + b"\x00\xff\n[1]\n")
    train(config, tmp_path, resume=True)
    lines = [json.loads(line) for line in log.read_text().splitlines()]
    assert [line["update"] for line in lines if "loss" in line] == [1, 2, 3, 4, 5, 6]


@pytest.mark.parametrize("name", ["config.json", DEMONSTRATIONS, "checkpoints/0000001/state.json"])
@pytest.mark.parametrize("content", ["[]", "null", '{"source": 1}'])
def test_json_of_another_kind_is_called_damaged(name: str, content: str, data: Path, tmp_path: Path) -> None:
    config = load_config("cpu-image", "cotrain", settings_of(data))
    with pytest.raises(KeyboardInterrupt):
        train(config, tmp_path, should_stop=lambda: True)
    (tmp_path / name).write_text(content)
    with pytest.raises((DataError, UsageError), match=r"damaged|version|source"):
        train(config, tmp_path, resume=True)


def test_a_run_of_another_device_is_not_gone_on_with(data: Path, tmp_path: Path) -> None:
    config = load_config("cpu-image", "cotrain", settings_of(data))
    with pytest.raises(KeyboardInterrupt):
        train(config, tmp_path, should_stop=lambda: True)
    state = find_checkpoint(tmp_path) / "state.json"
    state.write_text(json.dumps(json.loads(state.read_text()) | {"device": "cuda"}))
    with pytest.raises(DataError, match="was trained on cuda"):
        train(config, tmp_path, resume=True)


@pytest.mark.parametrize(
    ("size", "task", "complaint"),
    [
        ((32, 32), "Stack", "task is 'Lift' instead of 'Stack'"),
        ((32, 48), "Lift", "agentview_image uint8 (32, 32, 3) instead of agentview_image uint8 (32, 48, 3)"),
    ],
)
def test_runs_of_different_worlds_are_not_compared(
    size: tuple[int, int], task: str, complaint: str, tmp_path: Path
) -> None:
    for name, world in (("a", ((32, 32), "Lift")), ("b", (size, task))):
        data = write_dataset(tmp_path / f"data-{name}", 2, size=world[0], task=world[1])
        overrides = [f"data.source={data}", "optim.updates=1", "batch.size=4", "threads=1"]
        train(load_config("cpu-image", "source", overrides), tmp_path / name)
    output = tmp_path / "eval"
    result = CliRunner().invoke(
        app, ["eval", str(tmp_path / "a"), str(tmp_path / "b"), "--output", str(output)]
    )
    assert (result.exit_code, result.stdout) == (2, "")
    assert result.stderr == f"error: 'a' and 'b' cannot be compared: {complaint}.\n"
    assert not output.exists()


DOES_NOT_FIT = [
    (("train", "run", "-m", "source", "--source", "empty"), 1, "empty is empty: it holds no episode"),
    (("train", "run", "-m", "source", "--source", "lift", "--source-demos", "9"), 2, "Valid: 1 to 2."),
    (("train", "run", "--source", "lift", "--target", "stack"), 1, "task"),
    (("train", "run", "--source", "lift", "--target", "wide"), 1, "(32, 48, 3) instead"),
    (("train", "run", "-m", "source", "--source", "newer"), 1, "format version"),
    (("generate", "empty", "out"), 1, "Dataset empty is empty"),
    (("eval", "policy", "--checkpoint", "5"), 2, "has no checkpoint '5'. Valid: last, 1."),
    (("eval", "old-policy"), 1, "format version"),
]


@pytest.fixture(scope="module")
def misfits(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Datasets and runs of which no two go together."""
    folder = tmp_path_factory.mktemp("misfits")
    (folder / "empty").mkdir()
    write_dataset(folder / "stack", 2, task="Stack")
    write_dataset(folder / "wide", 2, size=(32, 48))
    write_dataset(folder / "lift", 2)
    with pytest.MonkeyPatch.context() as patch:
        for module in ("episode", "catalogue"):
            patch.setattr(f"simreal_datasets.store.{module}.FORMAT_VERSION", 99)
        write_dataset(folder / "newer", 2)
    overrides = [f"data.source={folder / 'lift'}", "optim.updates=1", "batch.size=4", "threads=1"]
    train(load_config("cpu-image", "source", overrides), folder / "policy")
    shutil.copytree(folder / "policy", folder / "old-policy")
    state = folder / "old-policy" / "checkpoints" / "0000001" / "state.json"
    state.write_text(json.dumps(json.loads(state.read_text()) | {"format_version": 1}))
    return folder


@pytest.mark.parametrize(("arguments", "code", "message"), DOES_NOT_FIT, ids=lambda value: None)
def test_what_does_not_fit_is_one_line_and_touches_nothing(
    arguments: tuple[str, ...], code: int, message: str, misfits: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(misfits)
    before = sorted(misfits.rglob("*"))
    result = CliRunner().invoke(app, arguments)
    assert result.exit_code == code, result.output
    assert message in result.stderr
    assert result.stderr.startswith("error: ")
    assert result.stderr.count("\n") == 1
    assert sorted(misfits.rglob("*")) == before
