"""The staged reward: bounded, earned by progress alone, and 1 in total exactly at success."""

from __future__ import annotations

from contextlib import closing
from pathlib import Path
from typing import Any

import gymnasium as gym
import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from stable_baselines3.common.env_checker import check_env

import simreal_envs  # noqa: F401
from simreal_agents.actors.experts import make_expert
from simreal_datasets.store.recorder import EpisodeRecorder
from simreal_envs.errors import UsageError
from simreal_envs.loop import run_episode
from simreal_envs.poses import reachable_action
from simreal_envs.registration import make_env
from simreal_envs.tasks import TASKS
from simreal_envs.tasks.lift import Lift
from simreal_envs.tasks.staged import StagedReward, check_reward, near, share_done

STAGES = ("reach", "grasp", "lift", "place")
NOW = st.fixed_dictionaries(dict.fromkeys(STAGES, st.booleans()))
CLOSENESS = st.dictionaries(st.sampled_from(STAGES), st.floats(-1, 2))


@given(NOW, CLOSENESS)
def test_the_share_is_bounded_and_whole_only_at_success(
    now: dict[str, bool], closeness: dict[str, float]
) -> None:
    share = share_done(STAGES, now, closeness)
    assert 0 <= share <= 1
    assert (share == 1) == now["place"]
    for i, stage in enumerate(STAGES, start=1):
        assert not now[stage] or share >= i / len(STAGES)
        assert share >= share_done(STAGES, now, closeness | {stage: 0.0})


@given(st.lists(st.floats(0, 1), min_size=1))
def test_rewards_sum_to_what_is_done_and_staying_earns_nothing(shares: list[float]) -> None:
    start, *later = shares
    staged = StagedReward(start)
    total = sum(staged.step(share) for share in later)
    assert total <= 1 + 1e-9
    assert staged.step(later[-1] if later else start) == 0
    assert total + staged.step(start) == pytest.approx(0, abs=1e-6)
    if start < 0.99:
        assert staged.step(1.0) + staged.earned - 1.0 == pytest.approx(1, abs=1e-6)


@pytest.mark.slow
@pytest.mark.parametrize("task", TASKS.built_in)
def test_experts_earn_one_and_others_next_to_nothing(task: str) -> None:
    with closing(gym.make(f"simreal/{task}-v0", obs="state", reward="staged")) as env:
        expert = make_expert(env)
        observation, info = env.reset(seed=1)
        assert info["progress"] < 0.02
        state, rewards, shares, over = None, [], [], False
        while not over:
            action, state = expert.predict(observation, state)
            observation, reward, over, truncated, info = env.step(action)
            assert not truncated
            rewards.append(float(reward))
            shares.append(info["progress"])
        assert info["success"]
        assert sum(rewards) == pytest.approx(1, abs=1e-6)
        lost = -sum(reward for reward in rewards if reward < 0)
        assert lost < 0.12
        quarters = [np.mean(part) for part in np.array_split(shares, 4)]
        assert quarters == sorted(quarters)
        n = len(env.unwrapped.task.stages)  # type: ignore[attr-defined]
        between = [share * n % 1 for share in shares]
        assert sum(0 < part < 0.999 for part in between) > 0.6 * len(shares)  # it grows within stages too

        world: Any = env.unwrapped
        env.reset(seed=0)
        still = reachable_action(world.end_effector_pose_in_base(), -1.0)
        assert abs(sum(float(env.step(still)[1]) for _ in range(40))) < 0.002
        env.reset(seed=0)
        env.action_space.seed(0)
        earned = np.cumsum([float(env.step(env.action_space.sample())[1]) for _ in range(60)])
        assert earned.max() < 0.25
        assert abs(earned[-1]) < 0.15


def test_what_falls_is_taken_back() -> None:
    with closing(gym.make("simreal/Lift-v0", obs="state", reward="staged")) as env:
        expert, state, total = make_expert(env), None, 0.0
        observation, info = env.reset(seed=0)
        while info["progress"] < 0.7:
            action, state = expert.predict(observation, state)
            observation, reward, *_, info = env.step(action)
            total += float(reward)
        assert total > 0.69
        for _ in range(20):  # open, and go
            action[2], action[6] = 0.3, -1.0
            _, reward, *_, info = env.step(action)
            total += float(reward)
        assert total < 0.1


def test_nothing_else_changes_and_sparse_is_the_default() -> None:
    actions = np.random.default_rng(0).uniform([0.5, -0.1, 0.1], [0.6, 0.1, 0.3], (5, 3))
    seen = []
    for arguments in ({}, {"reward": "sparse"}, {"reward": "staged"}):
        with closing(gym.make("simreal/Stack-v0", obs="state", **arguments)) as env:
            env.reset(seed=3)
            turned = [0.0, 3.0, 0.0, -1.0]
            seen.append([env.step(np.array([*xyz, *turned], np.float32)) for xyz in actions])
    for plain, sparse, staged in zip(*seen, strict=True):
        assert plain[1] == sparse[1] == 0.0
        assert staged[1] != 0.0
        assert "progress" not in plain[4]
        for key, value in plain[0].items():
            np.testing.assert_array_equal(value, sparse[0][key])
            np.testing.assert_array_equal(value, staged[0][key])
        assert staged[4]["subtask_signals"] == plain[4]["subtask_signals"]


def test_datasets_hold_the_sparse_reward() -> None:
    with closing(gym.make("simreal/Lift-v0", obs="state", reward="staged")) as env:
        recorder = EpisodeRecorder()
        outcome = run_episode(env, make_expert(env), seed=0, recorder=recorder)
        episode = recorder.finish(env, outcome, "expert")
    assert outcome.total_reward == pytest.approx(1, abs=1e-6)
    np.testing.assert_array_equal(episode.rewards, [*[0.0] * (outcome.steps - 1), 1.0])


@pytest.mark.filterwarnings("ignore::UserWarning")
def test_stable_baselines_checker_passes() -> None:
    with closing(gym.make("simreal/Lift-v0", obs="state", reward="staged")) as env:
        check_env(env)


class Undescribed(Lift):
    """A task that does not say how close its stages are."""

    closeness = None  # type: ignore[assignment]


def test_rewards_that_nobody_can_give_are_refused() -> None:
    with pytest.raises(UsageError, match=r"Unknown reward 'dense'\. Valid: sparse, staged"):
        make_env("Lift", obs="state", reward="dense")
    with pytest.raises(UsageError, match="where nobody knows object poses"):
        make_env("Lift", env="real", host="127.0.0.99", reward="staged")
    with pytest.raises(UsageError, match="which has no `closeness`"):
        check_reward("staged", Undescribed())
    assert check_reward("sparse", Undescribed()) == "sparse"


def test_the_rig_says_how_close_the_stages_are(rig: Any) -> None:
    hand = rig.world.physics.end_effector_pose_in_base()[:3, 3]
    cube = rig.world.object_poses_in_base()["cube"][:3, 3]
    closeness = rig.operations["closeness"]()
    assert closeness["reach"] == pytest.approx(near(float(np.linalg.norm(hand - cube))), rel=0.01)
    assert (closeness["grasp"], closeness["lift"]) == (0.0, 0.0)


@pytest.mark.alone
def test_an_expert_on_the_rig_earns_one(rig_camera: None, patient_limits: Path) -> None:
    where: dict[str, Any] = {"env": "rig", "limits": patient_limits}
    with closing(gym.make("simreal/Lift-v0", obs="state", reward="staged", **where)) as env:
        outcome = run_episode(env, make_expert(env), seed=0)
    assert outcome.success
    assert outcome.total_reward == pytest.approx(1, abs=1e-6)
