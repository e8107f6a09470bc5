"""Recorded episodes executed again."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from scipy.spatial.transform import Rotation
from typer.testing import CliRunner

from simreal_agents.operators.replay import interpolate, pose_actions, recorded_placement, replay
from simreal_agents.study.collect import ActorRecorder
from simreal_cli.main import app
from simreal_datasets.making.fill import fill_dataset
from simreal_datasets.store.dataset import Dataset
from simreal_datasets.store.episode import Episode
from simreal_datasets.store.recorder import EpisodeRecorder
from simreal_envs.loop import run_episode
from simreal_envs.poses import pose
from simreal_envs.rig.launch import Rig
from simreal_envs.world_config import WorldConfig


@pytest.fixture(scope="module")
def dataset(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("replay") / "lift"
    list(fill_dataset(folder, ActorRecorder(WorldConfig("Lift", obs="state"), "ood"), 2, 7, 1))
    return folder


@pytest.fixture(scope="module")
def episode(dataset: Path) -> Episode:
    return Dataset(dataset).read(1)


@pytest.mark.parametrize("speed", [0.25, 1.0])
def test_an_episode_is_solved_again_along_its_path(episode: Episode, speed: float) -> None:
    result = replay(episode, "sim", speed)
    assert result.outcome.success
    assert result.outcome.info["placement_region"] == episode.meta["placement_region"]
    assert result.mean_deviation_m < 0.005
    assert result.max_deviation_m < 0.02
    assert result.outcome.steps > len(episode) / speed


def test_the_objects_are_put_where_they_were_even_without_a_seed(episode: Episode) -> None:
    stranger = Episode(**{**vars(episode), "meta": episode.meta | {"seed": None}})
    placement = recorded_placement(stranger)
    env = WorldConfig("Lift", obs="state").make("all")
    _, info = env.reset(seed=0, options={"placement": placement})
    env.close()
    assert episode.datagen is not None
    np.testing.assert_allclose(
        info["object_poses_in_base"]["cube"], episode.datagen.object_poses["cube"][0], atol=1e-6
    )
    assert replay(stranger, "sim", 1.0).outcome.success


class Circling:
    """Acts in displacements."""

    def predict(
        self, observation: Any, state: Any = None, episode_start: Any = None, deterministic: bool = True
    ) -> tuple[np.ndarray, Any]:
        state = 0 if state is None else state + 1
        return np.array([np.cos(state / 5), np.sin(state / 5), 0.1, 0.2, 0, 0.1, -1], np.float32), state


def test_displacements_and_joint_angles_mean_the_poses_that_they_asked_for() -> None:
    env = WorldConfig("Lift", obs="state", max_steps=20, action_kind="delta").make("all")
    recorder, asked = EpisodeRecorder(), []
    world: Any = env.unwrapped
    step = world.step
    world.step = lambda action: asked.append(action) or step(action)  # what reaches the world
    outcome = run_episode(env, Circling(), seed=1, recorder=recorder)
    recorded = recorder.finish(env, outcome, "circling")
    env.close()
    assert recorded.meta["action_kind"] == "delta"
    np.testing.assert_allclose(pose_actions(recorded)[:, :3], np.stack(asked)[:, :3], atol=1e-5)

    joints = recorded.observations["robot0_joint_pos"].astype(float)
    recorded.actions = np.concatenate([joints, np.full((20, 1), -1.0)], axis=1)
    recorded.meta["action_kind"] = "joint"
    reached = pose_actions(recorded)
    np.testing.assert_allclose(reached[:, :3], recorded.observations["robot0_eef_pos"], atol=2e-3)


angles = st.floats(-1.5, 1.5)
points = st.tuples(*[st.floats(-1, 1)] * 3)


@given(st.tuples(angles, angles, angles), st.tuples(angles, angles, angles), points, points, st.floats(0, 1))
def test_interpolation_starts_and_ends_and_never_turns_back(
    a: tuple[float, ...],
    b: tuple[float, ...],
    start_m: tuple[float, ...],
    end_m: tuple[float, ...],
    part: float,
) -> None:
    start = pose(Rotation.from_rotvec(a).as_matrix(), start_m)
    end = pose(Rotation.from_rotvec(b).as_matrix(), end_m)
    np.testing.assert_allclose(interpolate(start, end, 0.0), start, atol=1e-7)
    np.testing.assert_allclose(interpolate(start, end, 1.0), end, atol=1e-7)
    between = interpolate(start, end, part)

    def angle(x: np.ndarray, y: np.ndarray) -> float:
        return float(Rotation.from_matrix(x[:3, :3].T @ y[:3, :3]).magnitude())

    assert angle(start, between) + angle(between, end) == pytest.approx(angle(start, end), abs=1e-5)


def test_the_command_says_how_it_went(dataset: Path) -> None:
    result = CliRunner().invoke(app, ["replay", str(dataset), "--episode", "1", "--speed", "1"])
    assert result.exit_code == 0, result.output
    assert "Episode 1 on sim at 1 of its speed: solved" in " ".join(result.output.split())


@pytest.mark.alone
@pytest.mark.usefixtures("rig_camera")
def test_on_the_rig_an_episode_is_replayed_and_more_are_generated_from_it(
    dataset: Path, tmp_path: Path
) -> None:
    with Rig("Lift") as rig:
        on_rig = ["--env", "rig", "--host", rig.host]
        replayed = CliRunner().invoke(app, ["replay", str(dataset), "--speed", "0.5", *on_rig])
        assert replayed.exit_code == 0, replayed.output
        assert "Episode 0 on rig at 0.5 of its speed: solved" in " ".join(replayed.output.split())
        command = ["generate", str(dataset), str(tmp_path), "--region", "in", "--episodes", "1", *on_rig]
        made = CliRunner().invoke(app, command)
        assert made.exit_code == 0, made.output
    generated = Dataset(tmp_path).read(0)
    assert generated.meta["env"] == "rig"
    assert generated.meta["generation"]["demonstrations"] == str(dataset)
    assert len(generated.timing["late_s"]) == len(generated)


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (("--episode", "5"), "has no episode 5. Valid: 0-1."),
        (("--speed", "2"), "Speed 2.0 must be from 0.05 to 1"),
        (("--speed", "0"), "Speed 0.0 must be from 0.05 to 1"),
        (("--env", "moon"), "Unknown env 'moon'. Valid: sim, rig, real."),
        (("--env", "real"), "--host 172.16.0.2"),
    ],
)
def test_what_cannot_be_replayed_is_one_line(dataset: Path, arguments: tuple[str, ...], message: str) -> None:
    result = CliRunner().invoke(app, ["replay", str(dataset), *arguments])
    assert result.exit_code == 2
    assert message in result.stderr
