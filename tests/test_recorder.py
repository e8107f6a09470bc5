"""What an episode in a real world leaves behind."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path
from typing import Any

import gymnasium as gym
import numpy as np
import pytest

import simreal_envs  # noqa: F401 - registers the worlds
from simreal_datasets.store.dataset import Dataset, DatasetWriter
from simreal_datasets.store.episode import Episode
from simreal_datasets.store.recorder import EpisodeRecorder
from simreal_envs.features import WorldSpec
from simreal_envs.loop import Outcome, run_episode
from simreal_envs.poses import pose_from_action, reachable_action
from simreal_envs.world_config import WorldConfig
from simreal_envs.wrappers import DeltaActions

STEPS = 6


class Descent:
    """Goes straight down; acts on the hand's pose in the observation and needs no state."""

    def predict(
        self, observation: Any, state: Any = None, episode_start: Any = None, deterministic: bool = True
    ) -> tuple[np.ndarray, Any]:
        hand = pose_from_action(np.r_[observation["robot0_eef_pos"] - [0, 0, 0.02], np.pi, 0, 0, 0])
        return reachable_action(hand, -1.0), state


class Still:
    def predict(
        self, observation: Any, state: Any = None, episode_start: Any = None, deterministic: bool = True
    ) -> tuple[np.ndarray, Any]:
        return np.zeros(7, dtype=np.float32), state


@pytest.fixture(scope="module")
def world() -> Iterator[gym.Env[Any, Any]]:
    env = gym.make("simreal/Stack-v0", env="sim", obs="state", max_episode_steps=STEPS)
    yield env
    env.close()


def record(world: gym.Env[Any, Any], seed: int) -> tuple[Episode, Outcome]:
    recorder = EpisodeRecorder()
    outcome = run_episode(world, Descent(), seed=seed, recorder=recorder)
    return recorder.finish(world, outcome, "descent"), outcome


def test_everything_is_recorded_before_its_action(world: gym.Env[Any, Any]) -> None:
    episode, outcome = record(world, seed=3)
    assert len(episode) == outcome.steps == STEPS
    assert episode.dones.tolist() == [False] * (STEPS - 1) + [True]
    first, info = world.reset(seed=3)
    for name, value in first.items():
        np.testing.assert_array_equal(episode.observations[name][0], value)
    assert episode.states is not None
    np.testing.assert_array_equal(episode.states[0], info["sim_state"])
    assert episode.datagen is not None
    for name, pose in info["object_poses_in_base"].items():
        np.testing.assert_array_equal(episode.datagen.object_poses[name][0], pose)
    np.testing.assert_allclose(
        episode.datagen.eef_pose[:, :3, 3], episode.observations["robot0_eef_pos"], atol=1e-6
    )
    np.testing.assert_allclose(episode.datagen.target_pose[:, :3, 3], episode.actions[:, :3])


def test_the_episode_says_where_it_comes_from(world: gym.Env[Any, Any]) -> None:
    meta = record(world, seed=3)[0].meta
    assert meta["task"] == "Stack"
    assert meta["seed"] == 3
    assert meta["actor"] == "descent"
    assert meta["success"] is False
    assert meta["placement_region"] in ("in", "ood")
    assert WorldSpec.from_json(meta) == WorldConfig("Stack", obs="state").spec
    assert {"shift", "region", "cameras", "versions"} <= set(meta)


def test_a_recorded_episode_is_stored_and_replays_from_its_states(
    world: gym.Env[Any, Any], tmp_path: Path
) -> None:
    with DatasetWriter(tmp_path) as writer:
        for seed in (1, 2):
            writer.add(record(world, seed)[0])
    dataset = Dataset(tmp_path)
    assert dataset.spec == WorldConfig("Stack", obs="state").spec
    episode = dataset.read(1)
    assert episode.states is not None
    assert episode.model_xml is not None
    assert episode.model_xml.startswith("<mujoco")
    simulation: Any = world.unwrapped
    for t, state in enumerate(episode.states):
        simulation.set_sim_state(state)
        for name, value in simulation.observe().items():
            # a step leaves the poses of its last substep but one, as robosuite does
            np.testing.assert_allclose(episode.observations[name][t], value, atol=1e-3)


def test_one_recorder_serves_several_episodes(world: gym.Env[Any, Any]) -> None:
    recorder = EpisodeRecorder()
    lengths = []
    for seed in (1, 2):
        outcome = run_episode(world, Descent(), seed=seed, recorder=recorder)
        lengths.append(len(recorder.finish(world, outcome, "descent")))
    assert lengths == [STEPS, STEPS]


def test_other_actions_are_recorded_as_what_they_are(world: gym.Env[Any, Any]) -> None:
    env = DeltaActions(world)
    recorder = EpisodeRecorder()
    outcome = run_episode(env, Still(), seed=1, recorder=recorder)
    episode = recorder.finish(env, outcome, "still")
    assert episode.meta["action_kind"] == "delta"
    np.testing.assert_array_equal(episode.actions, np.zeros((STEPS, 7)))
    assert episode.datagen is None  # a displacement does not say which pose it asked for
