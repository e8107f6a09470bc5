"""Recording sessions: a person at a real terminal, in real time."""

from __future__ import annotations

import sys
import time
from collections.abc import Iterator
from pathlib import Path

import numpy as np
import pytest
from operating import Person
from typer.testing import CliRunner

from simreal_cli.main import app
from simreal_datasets.store.dataset import Dataset
from simreal_envs.rig.control import RigControl
from simreal_envs.rig.launch import Rig
from simreal_envs.world_config import WorldConfig

SPEED_MPS = 0.25
pytestmark = pytest.mark.alone


def cube_m(seed: int) -> np.ndarray:
    """Where the cube starts."""
    env = WorldConfig("Lift", obs="state").make("in")
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
    assert dataset.spec == WorldConfig("Lift").spec
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
        (("--by", "guiding:gamepad"), "Guiding needs an arm to take by the hand"),
        (("--by", "keyboard", "--noise", "0.01"), "--noise 0.01"),
        (("--by", "keyboard", "--speed", "0"), "Speed 0.0 m/s must be above 0"),
        (
            ("--by", "magic"),
            "Valid: expert, keyboard, spacemouse, gamepad, guiding, guiding:spacemouse, guiding:gamepad, "
            "a run folder, a model.zip, ws://HOST:PORT of a policy server.",
        ),
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


@pytest.fixture(scope="module")
def rig(rig_camera: None) -> Iterator[RigControl]:
    """A virtual rig, by its own channel."""
    with Rig("Lift") as started, RigControl(started.host) as control:
        yield control


@pytest.fixture
def on_rig(rig: RigControl, patient_limits: Path) -> list[object]:
    """Options that record there."""
    rig.inject("none")
    return ["--env", "rig", "--host", rig.host, "--limits", patient_limits, "--task", "Lift", "--episodes", 1]


def test_a_fault_of_the_robot_keeps_the_episode_apart_and_the_session_goes_on(
    rig: RigControl, on_rig: list[object], tmp_path: Path
) -> None:
    with Person("collect", tmp_path, "--by", "keyboard", *on_rig, "--speed", SPEED_MPS) as person:
        person.wait_for("READY")
        person.type("w")
        person.wait_for("RECORDING")
        person.hold("a", 0.5)
        rig.inject("reflex")
        person.wait_for("INTERRUPTED  reflex")
        person.wait_for("Enter recovers")
        person.type("\n")
        person.wait_for("READY")

        cube = rig.object_poses_in_base()["cube"][:3, 3]
        person.type("a")
        person.wait_for("RECORDING")
        person.move_to(cube + [0, 0, 0.1], SPEED_MPS)
        person.move_to(cube + [0, 0, 0.005], SPEED_MPS)
        person.type("c")
        person.look(1.0)
        person.hold("r", 10, until="KEEP IT?")
        person.type("\n")
        assert person.end() == 0, person.screen[-3000:]
    assert "holds 1 episodes. This session: 1 interrupted, 1 saved." in " ".join(person.screen.split())

    dataset, apart = Dataset(tmp_path), Dataset(tmp_path / "interrupted")
    assert len(dataset) == len(apart) == 1
    assert "reflex" in apart.infos[0].meta["interrupted"]
    solved = dataset.read(0)
    assert solved.meta["env"] == "rig"
    assert solved.meta["success"] is True
    assert solved.timing["late_s"].shape == (len(solved),)


def test_on_hardware_the_operator_places_the_objects_and_says_what_is_solved(
    rig: RigControl, on_rig: list[object], tmp_path: Path
) -> None:
    blind_rig = [sys.executable, str(Path(__file__).with_name("blind_rig.py"))]
    hardware = [*on_rig, "--env", "real"]
    with Person("collect", tmp_path, "--by", "keyboard", *hardware, program=blind_rig) as person:
        person.type("\n")  # too early to be an answer
        person.wait_for("YOUR TURN  Is the way free?")
        person.type("\n")
        person.wait_for("Are the objects in place")
        rig.inject("user_stop")  # to have one's hands near the arm
        person.look(0.5)
        person.type("\n")
        person.wait_for("YOUR TURN  Robot: The robot cannot be recovered: user stop")  # not the log before it
        rig.inject("none")
        person.type("\n")
        person.wait_for("Are the objects in place")
        rig.inject("user_stop")
        person.look(0.5)
        rig.inject("none")
        person.type("\n")
        person.wait_for("READY")
        person.type("\n\n")  # a doubled one begins, and solves nothing
        person.wait_for("RECORDING")
        person.hold("d", 2.0)
        person.type("\n")
        person.wait_for("KEEP IT?")
        person.type("\n")
        person.wait_for("SAVED  1 of 1")
        assert person.end() == 0, person.screen[-3000:]
    episode = Dataset(tmp_path).read(0)
    assert episode.meta["success"] is True
    assert len(episode) > 20
    assert episode.datagen is None  # nobody knows where the objects were
    assert episode.dones[-1]


def test_a_guided_arm_records_where_it_was_led(rig: RigControl, on_rig: list[object], tmp_path: Path) -> None:
    with Person("collect", tmp_path, "--by", "guiding", *on_rig) as person:
        person.wait_for("READY")
        hand = rig.object_poses_in_base()["cube"]
        hand[:3, :3] = np.diag([1.0, -1.0, -1.0])
        person.type("\n")
        person.wait_for("RECORDING")
        for above_m, seconds in ((0.1, 3.0), (0.0, 2.0)):
            led = hand.copy()
            led[2, 3] += above_m
            rig.pull(led)
            person.look(seconds)
        person.type("c")
        person.look(1.5)
        led[2, 3] += 0.2
        rig.pull(led)
        person.wait_for("KEEP IT?", seconds=15)
        rig.pull(None)
        person.type("\n")
        assert person.end() == 0, person.screen[-3000:]
    episode = Dataset(tmp_path).read(0)
    assert episode.meta["actor"] == "guiding"
    reached_m = episode.observations["robot0_eef_pos"]
    np.testing.assert_allclose(episode.actions[:-1, :3], reached_m[1:], atol=1e-6)
    assert episode.timing["late_s"][0] < 0.1  # waiting to begin is not lateness
    assert episode.actions[0, 6] == -1.0
    assert episode.actions[-1, 6] == 1.0
