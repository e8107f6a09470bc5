"""Evaluations on hardware: a person at a real terminal says what is solved, gives up, and stops."""

from __future__ import annotations

import json
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest
from demonstrations import write_dataset
from operating import Person
from typer.testing import CliRunner

from simreal_agents.policies.config import load_config
from simreal_agents.training.train import train
from simreal_cli.main import app
from simreal_envs.rig.control import RigControl
from simreal_envs.rig.launch import Rig

BLIND_RIG = [sys.executable, str(Path(__file__).with_name("blind_rig.py"))]
pytestmark = pytest.mark.alone


@pytest.fixture(scope="module")
def run(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A policy that has learnt next to nothing."""
    folder = tmp_path_factory.mktemp("policy")
    overrides = [f"data.source={write_dataset(folder / 'demos', 2)}", "optim.updates=1", "threads=1"]
    train(load_config("cpu-image", "source", overrides), folder / "run")
    return folder / "run"


@pytest.fixture
def rig(rig_camera: None) -> Iterator[RigControl]:
    """A virtual rig, by its own channel."""
    with Rig("Lift") as started, RigControl(started.host) as control:
        yield control


def begin(person: Person) -> None:
    """Agree to the reset and say that the objects are in place."""
    person.wait_for("Is the way free?")
    person.type("\n")
    person.wait_for("Are the objects in place")
    person.type("\n")


def logged(output: Path) -> list[tuple[int, bool, bool]]:
    """Of every episode in the log: seed, success, and whether a fault broke it off."""
    lines = map(json.loads, (output / "episodes.jsonl").read_text().splitlines())
    return [(line["seed"], line["success"], bool(line["interrupted"])) for line in lines]


def test_the_operator_judges_gives_up_and_stops_and_the_same_command_goes_on(
    rig: RigControl, run: Path, patient_limits: Path, tmp_path: Path
) -> None:
    output = tmp_path / "eval"
    where = ["--env", "real", "--host", rig.host, "--limits", patient_limits, "--region", "in"]
    command = ["eval", run, *where, "--episodes", 3, "--max-steps", 300, "--output", output]
    with Person(*command, program=BLIND_RIG) as person:
        begin(person)
        person.wait_for("PLAYING  episode 1 of 3, seed 2000000, run in: 0 of 0 solved")
        person.wait_for("Enter solved, Backspace gives up, q gives up and stops")
        rig.inject("reflex")
        person.wait_for("INTERRUPTED  reflex")
        person.wait_for("The robot stopped: reflex")
        begin(person)
        person.wait_for("PLAYING  episode 2 of 3")
        person.type("\n")
        person.wait_for("SOLVED")
        person.wait_for("run in: 1 of 2 solved")
        begin(person)
        person.wait_for("PLAYING  episode 3 of 3")
        person.type("q")
        assert person.end() == 130, person.screen[-3000:]
    assert "interrupted; what was finished is kept" in " ".join(person.screen.split())
    assert "discard" not in person.screen
    assert logged(output) == [(2000000, False, True), (2000001, True, False)]

    with Person(*command, program=BLIND_RIG) as person:
        begin(person)
        person.wait_for("PLAYING  episode 3 of 3, seed 2000002, run in: 1 of 2 solved")
        person.type("\x7f")
        person.wait_for("FAILED")
        person.wait_for("1/3 = 33 %")
        assert person.end() == 0, person.screen[-3000:]
    assert logged(output)[2:] == [(2000002, False, False)]


def test_without_a_terminal_or_by_rules_nothing_is_evaluated_on_hardware(run: Path, tmp_path: Path) -> None:
    for actor, message in ((str(run), "run this in one, over ssh"), ("expert", "reads object poses")):
        command = ["eval", actor, "--task", "Lift", "--env", "real", "--host", "127.0.0.9"]
        result = CliRunner().invoke(app, [*command, "--output", str(tmp_path / "eval")])
        assert result.exit_code == 2, result.output
        assert message in result.stderr
        assert len(result.stderr.splitlines()) == 1
        assert not (tmp_path / "eval").exists()
