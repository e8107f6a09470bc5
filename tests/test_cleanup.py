"""What goes wrong while cleaning up never hides what went wrong before."""

from __future__ import annotations

import logging
import os
import pty
import resource
import shutil
import signal
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import gymnasium as gym
import pytest
from demonstrations import write_dataset
from typer.testing import CliRunner

from simreal_agents.evaluation.episode_log import EpisodeLog, EpisodeResult
from simreal_agents.operators.terminal import Terminal
from simreal_cli.main import app
from simreal_datasets.making.fill import only_filling
from simreal_datasets.store.dataset import DatasetWriter
from simreal_envs.cleanup import do_after, finally_do
from simreal_envs.errors import DataError, RobotError
from simreal_envs.loop import run_episode


def fail_by(error: BaseException) -> Callable[[], None]:
    def fail() -> None:
        raise error

    return fail


def do_in_exit(clean_up: Callable[[], None]) -> Any:
    """``do_after`` as an ``__exit__`` uses it."""

    @contextmanager
    def manager() -> Iterator[None]:
        first = None
        try:
            yield
        except BaseException as error:
            first = error
            raise
        finally:
            do_after(first, clean_up)

    return manager()


both = pytest.mark.parametrize("manage", [finally_do, do_in_exit])


@both
@pytest.mark.parametrize("first", [RobotError("reflex"), KeyboardInterrupt(), SystemExit(3), ValueError(1)])
def test_the_first_error_is_raised_and_the_second_is_told(
    manage: Any, first: BaseException, caplog: pytest.LogCaptureFixture
) -> None:
    with pytest.raises(type(first)) as raised, manage(fail_by(RobotError("the driver hangs"))):
        raise first
    assert raised.value is first
    assert "RobotError: the driver hangs" in caplog.text


@both
def test_without_an_error_before_that_of_the_cleaning_up_is_raised(manage: Any) -> None:
    with pytest.raises(RobotError, match="the driver hangs"), manage(fail_by(RobotError("the driver hangs"))):
        pass


@both
def test_ctrl_c_while_cleaning_up_is_obeyed_and_the_first_error_told(
    manage: Any, caplog: pytest.LogCaptureFixture
) -> None:
    with pytest.raises(KeyboardInterrupt), manage(fail_by(KeyboardInterrupt())):
        raise RobotError("reflex")
    assert "RobotError: reflex" in caplog.text


class Stuck(gym.Env[Any, Any]):
    """A world that fails by ``error`` and cannot be stopped then."""

    def __init__(self, error: BaseException) -> None:
        self._error = error

    def reset(self, **_: Any) -> Any:
        raise self._error

    def stop(self) -> None:
        raise RobotError("no answer")


@pytest.mark.parametrize("first", [DataError("its file is gone"), KeyboardInterrupt()])
def test_a_world_that_cannot_be_stopped_leaves_the_reason_of_the_failure(
    first: BaseException, caplog: pytest.LogCaptureFixture
) -> None:
    with pytest.raises(type(first)) as raised:
        run_episode(Stuck(first), None)  # type: ignore[arg-type]
    assert raised.value is first
    assert "no answer" in caplog.text


@pytest.mark.parametrize("error", [RobotError("reflex"), KeyboardInterrupt(), GeneratorExit()])
def test_a_dataset_that_goes_away_or_breaks_does_not_hide_why_its_writing_ended(
    error: BaseException, tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    def lose(folder: Path, harm: Callable[[Path], object]) -> None:
        with DatasetWriter(folder), only_filling(folder):
            harm(folder)
            raise error

    for folder, harm in (("gone", shutil.rmtree), ("broken", damage)):
        write_dataset(tmp_path / folder, 1)
        with pytest.raises(type(error)) as raised:
            lose(tmp_path / folder, harm)
        assert raised.value is error
    assert "FileNotFoundError" in caplog.text
    assert "no readable episode" in caplog.text


def damage(dataset: Path) -> None:
    for file in dataset.glob("episode_*.hdf5"):
        file.write_bytes(b"")


def test_a_full_disk_does_not_hide_why_an_evaluation_ended(
    tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    limits = resource.getrlimit(resource.RLIMIT_FSIZE)
    ignored = signal.signal(signal.SIGXFSZ, signal.SIG_IGN)
    result = EpisodeResult("a", "a", "Lift", "sim", "none", "in", 0, True, 1, 1, "", 9)
    first = RobotError("reflex")

    def fill_the_disk() -> None:
        with EpisodeLog(tmp_path) as log:
            resource.setrlimit(resource.RLIMIT_FSIZE, (1, limits[1]))
            with pytest.raises(OSError, match="File too large"):
                log.append(result)
            raise first

    try:
        with pytest.raises(RobotError) as raised:
            fill_the_disk()
    finally:
        resource.setrlimit(resource.RLIMIT_FSIZE, limits)
        signal.signal(signal.SIGXFSZ, ignored)
    assert raised.value is first
    assert "File too large" in caplog.text


def test_a_terminal_that_is_closed_does_not_hide_why_a_session_ended(
    monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    window, program = pty.openpty()
    first = RobotError("reflex")

    def lose_it() -> None:
        with Terminal():
            os.close(window)
            raise first

    with os.fdopen(program) as stdin:
        monkeypatch.setattr("sys.stdin", stdin)
        with pytest.raises(RobotError) as raised:
            lose_it()
    assert raised.value is first
    assert "Input/output error" in caplog.text


def test_on_the_command_line_both_are_lines_and_the_first_one_is_the_error(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    """Where the dataset is taken away while an episode is stored in it."""
    add = DatasetWriter.add

    def add_and_lose(writer: DatasetWriter, episode: Any) -> Path:
        shutil.rmtree(writer.path)
        return add(writer, episode)

    monkeypatch.setattr(DatasetWriter, "add", add_and_lose)
    given = ["collect", str(tmp_path / "d"), "--task", "Lift", "--obs", "state", "--workers", "1"]
    with caplog.at_level(logging.ERROR):
        result = CliRunner().invoke(app, given)
    assert result.exit_code == 1
    assert "error: Cannot store an episode in" in result.stderr
    assert "FileNotFoundError" in caplog.text
