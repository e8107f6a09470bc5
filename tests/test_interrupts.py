"""Ctrl-C in a command: exit code 130 and one line, nothing is lost, and what the line advises works."""

from __future__ import annotations

import json
import os
import re
import shutil
import signal
import socket
import subprocess
import sys
import time
from collections.abc import Callable
from contextlib import suppress
from pathlib import Path

import h5py
import pytest
from demonstrations import settings_of
from typer.testing import CliRunner

from simreal_agents.study.collect import ActorRecorder
from simreal_cli.main import app
from simreal_datasets.making.fetch import fetch_demonstrations
from simreal_datasets.making.fill import fill_dataset
from simreal_datasets.store.dataset import Dataset, DatasetWriter
from simreal_datasets.store.episode import Episode
from simreal_envs.world_config import WorldConfig

SIMREAL = Path(sys.executable).with_name("simreal")
GOES_ON = "error: interrupted; what was finished is kept, and the same command goes on from there."


@pytest.fixture(scope="module")
def recorded(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Two state demonstrations of Lift."""
    folder = tmp_path_factory.mktemp("recorded")
    list(fill_dataset(folder, ActorRecorder(WorldConfig("Lift", obs="state"), "all"), 2, 0, 1))
    return folder


def interrupted(
    *arguments: object, cwd: Path, when: Callable[[], bool], **environment: str
) -> tuple[str, str]:
    """Start the real program, send Ctrl-C once ``when`` holds; what it printed, and its last error line."""
    process = subprocess.Popen(
        [SIMREAL, *map(str, arguments)], cwd=cwd, env=os.environ | {"COLUMNS": "200"} | environment,
        stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True, start_new_session=True,
    )  # fmt: skip
    try:
        deadline = time.monotonic() + 120
        while not when():
            assert process.poll() is None, process.communicate()
            assert time.monotonic() < deadline
            time.sleep(0.05)
        os.killpg(process.pid, signal.SIGINT)  # as a terminal does: parent and workers
        output, errors = process.communicate(timeout=30)
    finally:
        process.kill()
    assert process.returncode == 130, errors
    assert "Traceback" not in output + errors
    return output, errors.splitlines()[-1]


def holds(dataset: Path, episodes: int) -> Callable[[], bool]:
    return lambda: len(list(dataset.glob("episode_*.hdf5"))) >= episodes


@pytest.mark.slow
@pytest.mark.parametrize("command", ["collect", "generate"])
def test_demonstrations_are_kept_counted_and_added_to(command: str, recorded: Path, tmp_path: Path) -> None:
    what = ["--task", "Lift"] if command == "collect" else []
    given = [command, *([recorded] if command == "generate" else []), tmp_path / "d", *what, "--obs", "state"]
    output, error = interrupted(*given, "--episodes", 5000, cwd=tmp_path, when=holds(tmp_path / "d", 3))
    assert error == GOES_ON
    dataset = Dataset(tmp_path / "d")
    kept = len(dataset)
    assert kept >= 3
    assert dataset.damaged == []
    seeds = [info.meta["seed"] for info in dataset.infos]
    assert seeds == sorted(set(seeds))
    assert "start region" in output
    counted = re.search(r"\n(\d+) episodes in", output)
    assert counted is not None, output
    assert kept - 1 <= int(counted[1]) <= kept  # one may have been stored and not yet counted
    more = CliRunner().invoke(app, [*map(str, given), "--episodes", str(kept + 2), "--workers", "1"])
    assert more.exit_code == 0, more.output
    assert "\n2 episodes in" in more.output
    assert f"beside {kept} from before" in " ".join(more.output.split())
    assert len(Dataset(tmp_path / "d")) == kept + 2


@pytest.mark.slow
def test_a_command_that_is_killed_loses_no_finished_episode(recorded: Path, tmp_path: Path) -> None:
    given = ["generate", str(recorded), "d", "--obs", "state", "--workers", "2", "--episodes"]
    process = subprocess.Popen([SIMREAL, *given, "5000"], cwd=tmp_path, start_new_session=True)
    deadline = time.monotonic() + 120
    while not holds(tmp_path / "d", 4)():
        assert process.poll() is None
        assert time.monotonic() < deadline
        time.sleep(0.01)
    os.killpg(process.pid, signal.SIGKILL)
    process.wait()
    dataset = Dataset(tmp_path / "d")
    kept = len(dataset)
    assert kept >= 4
    assert dataset.damaged == []
    subprocess.run([SIMREAL, *given, str(kept + 2)], cwd=tmp_path, check=True, timeout=60)
    dataset = Dataset(tmp_path / "d")
    assert (len(dataset), dataset.damaged) == (kept + 2, [])
    seeds = [info.meta["seed"] for info in dataset.infos]
    assert len(set(seeds)) == len(seeds)


PRESS = """
def press(*_, **__):
    raise KeyboardInterrupt
"""
PRESS_WHERE_ERRORS_ARE_IGNORED = """
class Forgotten: pass

def press(*_, times=[], **__):
    if not times:
        times.append(1)
        forgotten = Forgotten()
        kept = weakref.ref(forgotten, interrupt)
        del forgotten

def interrupt(_):
    raise KeyboardInterrupt
"""


@pytest.mark.parametrize("press", [PRESS, PRESS_WHERE_ERRORS_ARE_IGNORED], ids=["raised", "ignored"])
def test_everything_is_closed_wherever_it_comes(press: str, tmp_path: Path) -> None:
    code = f"""
import weakref
import rich.progress
from simreal_cli.main import main
{press}
rich.progress.Progress.update = press
if __name__ == "__main__":
    main()
"""
    (tmp_path / "pressed.py").write_text(code)
    given = ["collect", tmp_path / "d", "--task", "Lift", "--obs", "state", "--episodes", "500"]
    command = [sys.executable, tmp_path / "pressed.py", *given]
    ended = subprocess.run(command, capture_output=True, text=True, timeout=60, check=False)
    assert (ended.returncode, ended.stderr) == (130, GOES_ON + "\n")
    assert Dataset(tmp_path / "d").damaged == []


def test_an_import_keeps_what_was_stored_and_adds_the_rest(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    human = shutil.copytree(fetch_demonstrations(["Lift"])["Lift"].parent, tmp_path / "human")
    demo = human / "demo.hdf5"
    with h5py.File(demo, "r+") as file:
        file.copy("data/demo_1", "data/demo_2")
    add = DatasetWriter.add

    def press_after(writer: DatasetWriter, episode: Episode) -> Path:
        add(writer, episode)
        raise KeyboardInterrupt

    given = ["data", "import", str(demo), str(tmp_path / "d")]
    with monkeypatch.context() as patch:
        patch.setattr(DatasetWriter, "add", press_after)
        result = CliRunner().invoke(app, given)
    assert (result.exit_code, result.stderr) == (130, GOES_ON + "\n")
    result = CliRunner().invoke(app, given)
    assert result.exit_code == 0, result.output
    assert "demo_1: already there\ndemo_2: " in result.output
    assert len(Dataset(tmp_path / "d")) == 2


@pytest.mark.slow
def test_a_training_goes_on_by_the_command_that_it_names(data: Path, tmp_path: Path) -> None:
    log = tmp_path / "run" / "log.jsonl"

    def updates() -> int:
        lines = log.read_text().splitlines() if log.exists() else []
        return max((json.loads(line)["update"] for line in lines if line.endswith("}")), default=0)

    given = [f"--set={setting}" for setting in settings_of(data, "optim.updates=100000")]
    _, error = interrupted("train", "run", *given, cwd=tmp_path, when=lambda: updates() > 0)
    stopped = r"error: stopped at update (\d+), which is saved in run\. Go on with: simreal (.*)"
    advice = re.fullmatch(stopped, error)
    assert advice is not None, error
    before = int(advice[1])
    _, error = interrupted(*advice[2].split(), cwd=tmp_path, when=lambda: updates() > before)
    again = re.fullmatch(stopped, error)
    assert again is not None, error
    assert int(again[1]) > before


def test_a_training_that_did_not_begin_is_not_said_to_be_saved(
    data: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def press(*_: object) -> None:
        raise KeyboardInterrupt

    given = ["train", str(tmp_path / "run"), *(f"--set={setting}" for setting in settings_of(data))]
    with monkeypatch.context() as patch:
        patch.setattr("simreal_agents.training.train.load_domains", press)
        result = CliRunner().invoke(app, given)
    assert (result.exit_code, result.stderr) == (130, GOES_ON + "\n")
    assert CliRunner().invoke(app, given).exit_code == 0


@pytest.mark.slow
def test_the_demo_goes_on_where_it_was(tmp_path: Path) -> None:
    source = tmp_path / "out" / "demo-lift-quick" / "source"
    _, error = interrupted("demo", "--quick", cwd=tmp_path, when=holds(source, 2))
    assert error == GOES_ON
    kept = Dataset(source)
    assert kept.damaged == []
    _, error = interrupted("demo", "--quick", cwd=tmp_path, when=holds(source, len(kept) + 2))
    assert error == GOES_ON


def test_a_download_leaves_nothing_behind(tmp_path: Path) -> None:
    with socket.create_server(("127.0.0.1", 0)) as silent:
        silent.setblocking(False)
        asked: list[socket.socket] = []

        def pip_waits() -> bool:
            with suppress(BlockingIOError):
                asked.append(silent.accept()[0])
            return bool(asked)

        _, error = interrupted(
            "data", "fetch", "Lift", cwd=tmp_path, when=pip_waits, SIMREAL_CACHE=str(tmp_path / "cache"),
            PIP_CONFIG_FILE="/dev/null", PIP_FIND_LINKS="", PIP_EXTRA_INDEX_URL="",
            PIP_INDEX_URL=f"http://127.0.0.1:{silent.getsockname()[1]}/",
        )  # fmt: skip
    assert error == GOES_ON
    assert [path for path in (tmp_path / "cache").rglob("*") if path.is_file()] == []


def test_where_nothing_is_kept_nothing_is_promised(
    recorded: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def press(*_: object) -> None:
        raise KeyboardInterrupt

    monkeypatch.setattr("simreal_agents.operators.replay.replay", press)
    monkeypatch.setattr("simreal_cli.doctor.examine", press)
    monkeypatch.setattr("simreal_envs.robot.charuco.Board.write", press)
    monkeypatch.setattr("simreal_cli.data.summarise", press)
    assert CliRunner().invoke(app, ["data", "info", str(recorded)]).exit_code == 130
    for given in (["replay", str(recorded)], ["doctor"], ["calibrate", "board", str(tmp_path / "b.png")]):
        result = CliRunner().invoke(app, given)
        assert (result.exit_code, result.stderr) == (130, "error: interrupted.\n")


def test_what_is_left_of_dropped_episodes_can_be_read(
    recorded: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    dataset = shutil.copytree(recorded, tmp_path / "d")
    unlink = Path.unlink

    def press_after(path: Path, missing_ok: bool = False) -> None:
        unlink(path, missing_ok)
        raise KeyboardInterrupt

    with monkeypatch.context() as patch:
        patch.setattr(Path, "unlink", press_after)
        result = CliRunner().invoke(app, ["data", "drop", str(dataset), "0", "1"])
    assert result.exit_code == 130
    assert result.stderr == f"error: interrupted; `simreal data info {dataset}` says what is left of it.\n"
    info = json.loads(CliRunner().invoke(app, ["data", "info", str(dataset), "--json"]).stdout)
    assert (info["episodes"], info["damaged"]) == (1, {})
