"""Tasks, shifts, encoders and heads that other packages bring."""

from __future__ import annotations

import os
import re
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from simreal_envs.errors import UsageError
from simreal_envs.plugins import Registry
from simreal_envs.tasks import TASKS


def install(folder: Path, package: str, entry_points: str, **modules: str) -> None:
    """What ``pip install`` leaves of a package: its modules, and its entry points beside them."""
    info = folder / f"{package}-1.0.dist-info"
    info.mkdir(parents=True)
    (info / "METADATA").write_text(f"Metadata-Version: 2.1\nName: {package}\nVersion: 1.0\n")
    (info / "entry_points.txt").write_text(entry_points)
    for name, text in modules.items():
        (folder / f"{name}.py").write_text(text)


@pytest.fixture
def numbers(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Registry[type]:
    """Numbers of our own, and of two packages, one of which cannot be imported."""
    names = (
        "three = three_of_it:Three\ntext = three_of_it:TEXT\nlost = three_of_it:Lost\nint = three_of_it:Three"
    )
    install(tmp_path, "good", f"[test.numbers]\n{names}", three_of_it="class Three(int): ...\nTEXT = 'three'")
    install(
        tmp_path,
        "bad",
        "[test.numbers]\nfour = four_of_it:Four\nthree = a:B\nno+name = a:B",
        four_of_it="1 / 0",
    )
    install(tmp_path, "other", "[test.words]\nword = word_of_it:Word")
    monkeypatch.syspath_prepend(str(tmp_path))
    return Registry("number", "test.numbers", {"int": int, "bool": "builtins:bool"}, int)


def test_names_are_known_without_importing_anything(numbers: Registry[type]) -> None:
    assert numbers.names() == [*numbers] == ["int", "bool", "four", "lost", "text", "three"]
    assert len(numbers) == 6
    assert "four" in numbers
    assert "word" not in numbers
    assert numbers["bool"] is bool


def test_a_name_that_is_taken_already_is_left_out_and_said(
    numbers: Registry[type], caplog: pytest.LogCaptureFixture
) -> None:
    assert numbers["int"] is int
    assert numbers.names()
    assert "Number 'int' of package 'good' is left out: simreal has one of that name." in caplog.text
    assert "Number 'no+name' of package 'bad' is left out: its name is no Python identifier." in caplog.text
    assert "Number 'three' of package 'good' is left out: bad has one of that name." in caplog.text


@pytest.mark.parametrize(
    ("name", "message"),
    [
        ("four", "Number 'four' of package 'bad' cannot be loaded: ZeroDivisionError: division by zero"),
        ("lost", "Number 'lost' of package 'good' cannot be loaded: AttributeError"),
        ("text", "Number 'text' of package 'good' is no subclass of int: 'three'"),
        ("five", "Unknown number 'five'. Valid: int, bool, four, lost, text, three."),
    ],
)
def test_what_cannot_be_loaded_is_named_with_its_package(
    numbers: Registry[type], name: str, message: str
) -> None:
    with pytest.raises(UsageError) as error:
        numbers[name]
    assert str(error.value).startswith(message)


def test_the_rest_works(numbers: Registry[type], caplog: pytest.LogCaptureFixture) -> None:
    assert [*numbers.loaded()] == ["int", "bool"]
    assert "Number 'four' of package 'bad' cannot be loaded" in caplog.text


# --- the packages that the documentation shows -------------------------------------------------------

DOCUMENTED = (Path(__file__).parent.parent / "docs" / "environments.md").read_text()


def documented(begins: str) -> str:
    """The one block of code in the documentation that begins so."""
    (block,) = [
        code for code in re.findall(r"```\w+\n(.*?)```", DOCUMENTED, re.DOTALL) if begins in code[:60]
    ]
    return block


@pytest.fixture(scope="module")
def packages(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A folder with the documented package and one that cannot be imported."""
    folder = tmp_path_factory.mktemp("packages")
    groups = re.findall(r'\[project\.entry-points\."(.*?)"\]\n(.*?\n)\n', documented("[project]"), re.DOTALL)
    assert [group for group, _ in groups] == ["simreal.tasks", "simreal.shifts"]
    named = "".join(f"[{group}]\n{lines}" for group, lines in groups).replace('"', "")
    modules = {"can_task": documented('"""Can'), "fog_shift": documented('"""Fog')}
    install(folder, "can-task", named, **modules)
    tasks = "[simreal.tasks]\nCrash = crash_task:Crash\nLift = crash_task:Lift\n"
    install(folder, "crash-task", tasks + "[simreal.shifts]\nsmog = smog:Smog", crash_task="1 / 0")
    return folder


@pytest.fixture
def simreal(packages: Path, tmp_path: Path) -> Callable[..., subprocess.CompletedProcess[str]]:
    """Run the real program, in an empty folder, beside the packages."""

    def run(*arguments: str) -> subprocess.CompletedProcess[str]:
        path = os.pathsep.join([str(packages), os.environ.get("PYTHONPATH", "")])
        return subprocess.run(
            [str(Path(sys.executable).with_name("simreal")), *arguments],
            capture_output=True,
            text=True,
            env=os.environ | {"PYTHONPATH": path, "COLUMNS": "200", "TERM": "dumb"},
            cwd=tmp_path,
            timeout=300,
            check=False,
        )

    return run


@pytest.mark.slow
def test_a_packages_task_and_shift_go_all_the_way(simreal: Any) -> None:
    def done(*arguments: str) -> None:
        finished = simreal(*arguments, "--workers", "1") if arguments[0] != "train" else simreal(*arguments)
        assert finished.returncode == 0, finished.stderr

    small = ("--image-size", "32", "32")
    done("collect", "few", "--task", "Can", "--obs", "state", "--episodes", "1", "--region", "in")
    done("generate", "few", "source", "--episodes", "3", "--region", "all", *small)
    done("collect", "target", "--task", "Can", "--episodes", "2", "--shift", "fog:0.5+light", *small)
    fast = ("--set", "optim.updates=2", "--set", "checkpoint_every=2")
    done("train", "run", "--source", "source", "--target", "target", "--method", "cotrain", *fast)
    done("eval", "run", "--episodes", "2", "--shift", "fog", "--max-steps", "10")
    assert "fog:0.5+light" in simreal("data", "info", "target").stdout


def test_help_and_messages_list_plug_ins_and_name_those_that_fail(simreal: Any) -> None:
    helped = " ".join(simreal("collect", "--help").stdout.split())
    tasks = ", ".join([*TASKS.built_in, "Can", "Crash"])
    assert f"One of {tasks}." in helped
    assert "gains, action-delay, fog, smog. Presets: paper-viewpoint" in helped
    wrong = simreal("collect", "data", "--task", "Cann")
    assert f"Unknown task 'Cann'. Valid: {tasks}." in wrong.stderr
    assert "Task 'Lift' of package 'crash-task' is left out: simreal has one of that name." in wrong.stderr
    crash = simreal("collect", "data", "--task", "Crash")
    assert "error: Task 'Crash' of package 'crash-task' cannot be loaded: ZeroDivisionError" in crash.stderr
    foggy = simreal("collect", "data", "--task", "Lift", "--shift", "fogg")
    assert "Valid: none, viewpoint, texture, light, colour, noise, gains, " in foggy.stderr
    assert "image-delay, fog, smog, paper-viewpoint, paper-texture, real-like, randomise." in foggy.stderr
    smoggy = simreal("collect", "data", "--task", "Lift", "--shift", "smog")
    assert "Shift 'smog' of package 'crash-task' cannot be loaded: ModuleNotFoundError" in smoggy.stderr
    lifted = simreal(
        "collect", "data", "--task", "Lift", "--obs", "state", "--episodes", "1", "--workers", "1"
    )
    assert lifted.returncode == 0, lifted.stderr
    nobody = simreal("demo", "--task", "Crash")
    assert "Task 'Crash' of package 'crash-task' cannot be loaded" in nobody.stderr
