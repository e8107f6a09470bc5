"""Actors are given the batch of a vector environment, Gymnasium's or Stable-Baselines3's."""

from __future__ import annotations

from collections.abc import Iterator
from functools import partial
from typing import Any

import gymnasium as gym
import numpy as np
import pytest
import torch
from demonstrations import random_episode
from gymnasium.vector import AutoresetMode, SyncVectorEnv
from stable_baselines3.common.evaluation import evaluate_policy
from stable_baselines3.common.vec_env import DummyVecEnv

import simreal_envs  # noqa: F401  registers the tasks
from simreal_agents.actors.experts import make_expert
from simreal_agents.operators.devices import Motion
from simreal_agents.operators.replay import ReplayActor
from simreal_agents.operators.teleoperation import Teleoperator
from simreal_agents.policies.config import load_config
from simreal_agents.policies.policy import Policy, build_network, reads
from simreal_envs.errors import UsageError
from simreal_envs.vector import OneEach
from simreal_envs.world_config import WorldConfig

Env = gym.Env[Any, Any]
LENGTHS = (5, 7, 11)
"""Steps of an episode in each of three worlds."""
STEPS = 24


def make(max_episode_steps: int, obs: str = "state+image") -> Env:
    return gym.make("simreal/Lift-v0", obs=obs, image_size=(32, 32), max_episode_steps=max_episode_steps)


@pytest.fixture(scope="module")
def singles() -> Iterator[list[Env]]:
    made = [make(length) for length in LENGTHS]
    yield made
    for env in made:
        env.close()


@pytest.fixture(scope="module", params=["mse", "flow"])
def policy(request: pytest.FixtureRequest) -> Policy:
    """One that knows nothing yet, whose chunks are shorter than an episode."""
    config = load_config(
        "cpu-image", "source", ["data.source=none", f"head.kind={request.param}", "head.execute=3"]
    )
    network = build_network(config, reads(config, WorldConfig("Lift", image_size=(32, 32)).spec))
    return Policy(network, config, 0, {}, {}, torch.device("cpu"))


def play(actor: Any, envs: SyncVectorEnv, mode: AutoresetMode) -> list[list[tuple[Any, np.ndarray]]]:
    """What each world gave and what was done in it, episode after episode in one list."""
    seen: list[list[tuple[Any, np.ndarray]]] = [[] for _ in range(envs.num_envs)]
    observations, _ = envs.reset(seed=3)
    states, starts, before = None, np.ones(envs.num_envs, bool), np.zeros(envs.num_envs, bool)
    for _ in range(STEPS):
        actions, states = actor.predict(observations, states, starts)
        for i, rows in enumerate(seen):
            if not before[i]:  # else what the last episode ended with, and an action that nobody carries out
                rows.append(({name: values[i].copy() for name, values in observations.items()}, actions[i]))
        observations, _, terminated, truncated, _ = envs.step(actions)
        done = terminated | truncated
        if mode == AutoresetMode.NEXT_STEP:
            starts, before = before, done & ~before
        else:
            starts = done
    return seen


def play_alone(actor: Any, env: Env, seed: int, steps: int) -> list[tuple[Any, np.ndarray]]:
    seen: list[tuple[Any, np.ndarray]] = []
    observation, _ = env.reset(seed=seed)
    state, start = None, True
    for _ in range(steps):
        action, state = actor.predict(observation, state, np.array([start]))
        seen.append((observation, action))
        observation, _, terminated, truncated, _ = env.step(action)
        start = terminated or truncated
        if start:
            observation, _ = env.reset()
    return seen


@pytest.mark.parametrize("mode", [AutoresetMode.NEXT_STEP, AutoresetMode.SAME_STEP])
def test_three_worlds_whose_episodes_end_at_different_times_go_as_three_single_ones(
    singles: list[Env], policy: Policy, mode: AutoresetMode
) -> None:
    envs = SyncVectorEnv([partial(make, length) for length in LENGTHS], autoreset_mode=mode)
    policy.face(envs)
    together = play(policy, envs, mode)
    for i, env in enumerate(singles):
        state = None
        rows = together[i]
        for t, (observation, action) in enumerate(rows):  # what is seen alike is answered alike
            expected, state = policy.predict(observation, state, np.array([t % LENGTHS[i] == 0]))
            np.testing.assert_allclose(action, expected, atol=1e-5)
        if policy.config.head.kind == "mse":  # a flow's noise hangs on the last bit of what is seen
            for (_, action), (_, expected) in zip(
                rows, play_alone(policy, env, 3 + i, len(rows)), strict=True
            ):
                np.testing.assert_allclose(action, expected, atol=1e-3)
    together = play(make_expert(envs), envs, mode)
    for i, env in enumerate(singles):
        alone = play_alone(make_expert(env), env, 3 + i, len(together[i]))
        for (_, action), (_, expected) in zip(together[i], alone, strict=True):
            np.testing.assert_array_equal(action, expected)
    envs.close()


def test_stable_baselines_evaluates_a_policy_and_an_expert(policy: Policy) -> None:
    env = make(120)
    policy.face(env)
    assert evaluate_policy(policy, make(9), n_eval_episodes=2, warn=False) == (0.0, 0.0)
    assert evaluate_policy(make_expert(env), env, n_eval_episodes=2, warn=False) == (1.0, 0.0)
    envs = DummyVecEnv([partial(make, 120, "state"), partial(make, 120, "state")])
    envs.seed(4)
    rewards, lengths = evaluate_policy(
        make_expert(envs), envs, n_eval_episodes=4, warn=False, return_episode_rewards=True
    )
    assert rewards == [1.0] * 4
    assert len(set(lengths)) > 1
    envs.close()


def batch_of(env: Env, count: int) -> dict[str, np.ndarray]:
    return {name: np.stack([value] * count) for name, value in env.reset(seed=0)[0].items()}


def test_episode_start_begins_single_environments_anew(singles: list[Env], policy: Policy) -> None:
    seen = batch_of(singles[0], 3)
    _, states = policy.predict(seen)
    assert [state.step for state in states] == [1, 1, 1]
    actions, again = policy.predict(seen, states, np.array([False, True, False]))
    assert [state.step for state in again] == [2, 1, 2]
    assert [state.step for state in states] == [1, 1, 1]  # nothing was changed in place
    np.testing.assert_array_equal(actions[0], states[0].chunks[-1].at(1))
    assert actions.shape == (3, 7)


def test_states_and_starts_of_another_number_of_environments_are_refused(
    singles: list[Env], policy: Policy
) -> None:
    expert = OneEach([make_expert(env) for env in singles])
    seen = batch_of(singles[0], 3)
    for actor in (policy, expert):
        with pytest.raises(UsageError, match=r"episode_start has shape \(2,\); .* 3"):
            actor.predict(seen, None, np.array([True, False]))
        for state in ([None, None], singles[0].reset(seed=0)[0]["robot0_eef_pos"]):
            with pytest.raises(UsageError, match="state of 3 environments"):
                actor.predict(seen, state)


def test_an_actor_of_one_world_takes_a_batch_of_one_and_refuses_more(singles: list[Env]) -> None:
    env = singles[0]
    alone, _ = env.reset(seed=0)
    replayed = ReplayActor(random_episode(np.random.default_rng(0)), 1.0)
    for actor in (make_expert(env), replayed, Teleoperator(Motion, 0.1)):
        state = states = None
        for start in (True, False, False):
            action, state = actor.predict(alone, state, np.array([start]))
            actions, states = actor.predict(batch_of(env, 1), states, np.array([start]))
            np.testing.assert_array_equal(actions, action[None])
        with pytest.raises(UsageError, match=f"This {type(actor).__name__} acts in one environment .* of 2"):
            actor.predict(batch_of(env, 2))
    with pytest.raises(UsageError, match="actors of 3 environments, and the observations are of 2"):
        OneEach([make_expert(env) for env in singles]).predict(batch_of(env, 2))
