"""Recording sessions: a person at a real terminal, in real time."""

from __future__ import annotations

import time
from pathlib import Path

import numpy as np
import pytest
from operating import Person
from typer.testing import CliRunner

from simreal_cli.main import app
from simreal_datasets.store import Dataset
from simreal_envs.world import World

SPEED_MPS = 0.25


def cube_m(seed: int) -> np.ndarray:
    """Where the cube starts."""
    env = World("Lift", obs="state").make("in")
    _, info = env.reset(seed=seed)
    env.close()
    position: np.ndarray = info["object_poses_in_base"]["cube"][:3, 3]
    return position


def test_a_person_discards_repeats_solves_and_stops(tmp_path: Path) -> None:
    target = cube_m(seed=5)
    command = ["collect", tmp_path, "--task", "Lift", "--by", "keyboard", "--region", "in", "--seed", 5]
    with Person(*command, "--speed", SPEED_MPS, "--episodes", 3) as person:
        person.wait_for("READY")
        person.type("\n")
        person.wait_for("RECORDING")
        person.type("\x7f")
        person.wait_for("DISCARDED")
        person.wait_for("READY  demonstration 1 of 3")

        person.type("a")
        person.wait_for("RECORDING")
        began = time.monotonic()
        person.move_to(target + [0, 0, 0.1], SPEED_MPS)
        person.type("\n")
        person.wait_for("not solved yet")
        person.move_to(target + [0, 0, 0.005], SPEED_MPS)
        person.type("c")
        person.look(0.5)
        person.hold("r", 10, until="KEEP IT?")
        took_s = time.monotonic() - began
        person.type("\n")
        person.wait_for("SAVED  1 of 3")
        person.wait_for("READY  demonstration 2 of 3")
        person.type("q")
        assert person.end() == 0
    assert "holds 1 episodes. This session: 1 discarded, 1 saved." in " ".join(person.screen.split())

    dataset = Dataset(tmp_path)
    assert len(dataset) == 1
    dataset.require(task="Lift", action_kind="pose", obs=["image"])
    episode = dataset.read(0)
    assert episode.meta["actor"] == "keyboard"
    assert episode.meta["seed"] == 5
    assert episode.meta["success"] is True
    assert episode.dones.tolist() == [False] * (len(episode) - 1) + [True]
    assert episode.datagen is not None
    assert episode.states is not None
    assert abs(len(episode) / 20 - took_s) < 0.2 * took_s  # real time, however slow this machine is
    steps_m = np.abs(np.diff(episode.actions[:, :3], axis=0))
    assert steps_m.max() < SPEED_MPS / 20 * 1.01  # the target never jumps


def test_ctrl_c_ends_a_recording_and_gives_the_terminal_back(tmp_path: Path) -> None:
    with Person("collect", tmp_path, "--task", "Lift", "--by", "keyboard", "--obs", "state") as person:
        person.wait_for("READY")
        person.type("w")
        person.wait_for("RECORDING")
        person.type("\x03")
        assert person.end() == 130
    assert "interrupted; what was finished is kept" in " ".join(person.screen.split())
    assert "Traceback" not in person.screen
    assert list(tmp_path.glob("*.hdf5")) == []


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (("--by", "keyboard"), "run this in one, over ssh with `ssh -t`"),
        (("--by", "guiding"), "Guiding needs an arm to take by the hand"),
        (("--by", "keyboard", "--noise", "0.01"), "--noise 0.01"),
        (("--by", "keyboard", "--speed", "0"), "Speed 0.0 m/s must be above 0"),
        (("--by", "magic"), "Valid: expert, keyboard, spacemouse, gamepad, guiding, a run folder."),
        (("--env", "real", "--host", "127.0.0.9"), "reads object poses, which nobody knows on hardware"),
    ],
)
def test_what_cannot_be_recorded_is_refused_before_anything_starts(
    arguments: tuple[str, ...], message: str, tmp_path: Path
) -> None:
    result = CliRunner().invoke(app, ["collect", str(tmp_path / "data"), "--task", "Lift", *arguments])
    assert result.exit_code == 2, result.output
    assert message in result.stderr
    assert not (tmp_path / "data").exists()
