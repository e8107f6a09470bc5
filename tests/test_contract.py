"""One door: what is recorded, and what is acted in, is what the world's description promises."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from typing import Any

import gymnasium as gym
import numpy as np
import pytest
import torch
from demonstrations import random_episode
from gymnasium import spaces, wrappers
from gymnasium.wrappers import vector as vector_wrappers
from stable_baselines3.common.monitor import Monitor
from stable_baselines3.common.vec_env import DummyVecEnv, VecMonitor, VecNormalize, VecTransposeImage

import simreal_envs  # noqa: F401  registers the tasks
from simreal_agents.actors.experts import make_expert
from simreal_agents.operators.replay import ReplayActor
from simreal_agents.policies.config import load_config
from simreal_agents.policies.policy import Policy, build_network, reads
from simreal_datasets.store.episode import Episode
from simreal_datasets.store.recorder import EpisodeRecorder
from simreal_envs.errors import DataError, SimrealError, UsageError
from simreal_envs.loop import run_episode
from simreal_envs.poses import reachable_action
from simreal_envs.stack import check_stack
from simreal_envs.world_config import WorldConfig
from simreal_envs.wrappers import ActionNoise, DeltaActions, JointActions

Env = gym.Env[Any, Any]
Wrap = Callable[[Env], Any]
STEPS = 4


def make(**kwargs: Any) -> Env:
    kwargs = {"obs": "state+image", "image_size": (32, 32), "max_episode_steps": STEPS} | kwargs
    return gym.make("simreal/Lift-v0", **kwargs)


@pytest.fixture(scope="module")
def world() -> Iterator[Env]:
    env = make(render_mode="rgb_array")
    yield env
    env.close()


@pytest.fixture(scope="module")
def policy() -> Policy:
    """One that knows nothing yet."""
    config = load_config("cpu-image", "source", ["data.source=none"])
    network = build_network(config, reads(config, WorldConfig("Lift", image_size=(32, 32)).spec))
    return Policy(network, config, 0, {}, {}, torch.device("cpu"))


class Holds:
    """Stays where it is, in the actions of any kind."""

    def __init__(self, env: Env, action: np.ndarray | None = None) -> None:
        self.world: Any = env.unwrapped
        self.action = action

    def predict(
        self, observation: Any, state: Any = None, episode_start: Any = None, deterministic: bool = True
    ) -> tuple[np.ndarray, Any]:
        if self.action is not None:
            return self.action, state
        return reachable_action(self.world.end_effector_pose_in_base(), -1.0), state


def record(env: Env, action: np.ndarray | None = None) -> Episode:
    recorder = EpisodeRecorder()
    outcome = run_episode(env, Holds(env, action), seed=3, recorder=recorder)
    return recorder.finish(env, outcome, "me")


def image_becomes(function: Callable[[np.ndarray], np.ndarray], box: spaces.Box) -> Wrap:
    def wrap(env: Env) -> Env:
        there: Any = env.observation_space
        space = spaces.Dict(dict(there.spaces) | {"agentview_image": box})
        return wrappers.TransformObservation(
            env, lambda o: o | {"agentview_image": function(o["agentview_image"])}, space
        )

    return wrap


def of_image(wrapper: Callable[..., Any], *args: Any) -> Wrap:
    """Gymnasium's image wrappers take an environment of images alone."""
    return lambda env: wrapper(_ImageAlone(env), *args)


class _ImageAlone(gym.ObservationWrapper[Any, Any, Any]):
    def __init__(self, env: Env) -> None:
        super().__init__(env)
        self.observation_space = env.observation_space["agentview_image"]  # type: ignore[index]

    def observation(self, observation: Any) -> Any:
        return observation["agentview_image"]


REFUSED: dict[str, tuple[Wrap, str]] = {
    "RescaleAction": (lambda env: wrappers.RescaleAction(env, -1, 1), "action space from"),
    "ClipAction": (wrappers.ClipAction, "action space from"),
    "TransformAction": (lambda env: wrappers.TransformAction(env, lambda a: 0.5 * a, None), "other actions"),
    "StickyAction": (lambda env: wrappers.StickyAction(env, 0.5), "other actions"),
    "RepeatAction": (lambda env: wrappers.RepeatAction(env, 2), "several steps"),
    "MaxAndSkipObservation": (of_image(wrappers.MaxAndSkipObservation, 2), "several steps"),
    "TransformObservation": (
        image_becomes(lambda i: (i / 255).astype(np.float32), spaces.Box(0, 1, (32, 32, 3), np.float32)),
        r"agentview_image from Box\(0, 255, \(32, 32, 3\), uint8\) to Box\(0.0, 1.0",
    ),
    "halved TransformObservation": (
        image_becomes(lambda i: i[::2, ::2], spaces.Box(0, 255, (16, 16, 3), np.uint8)),
        r"to Box\(0, 255, \(16, 16, 3\), uint8\)",
    ),
    "darker TransformObservation": (
        image_becomes(lambda i: i // 2, spaces.Box(0, 255, (32, 32, 3), np.uint8)),
        "other observations",
    ),
    "DelayObservation": (of_image(wrappers.DelayObservation, 1), "other observations"),
    "FrameStackObservation": (lambda env: wrappers.FrameStackObservation(env, 2), r"\(2, 32, 32, 3\)"),
    "FlattenObservation": (wrappers.FlattenObservation, "from Dict to Box"),
    "DtypeObservation": (of_image(wrappers.DtypeObservation, np.float64), "float64"),
    "GrayscaleObservation": (of_image(wrappers.GrayscaleObservation), r"\(32, 32\)"),
    "ResizeObservation": (of_image(wrappers.ResizeObservation, (64, 64)), r"\(64, 64, 3\)"),
    "FilterObservation": (
        lambda env: wrappers.FilterObservation(env, ["robot0_eef_pos"]),
        "agentview_image from Box.* to None",
    ),
    "TimeAwareObservation": (lambda env: wrappers.TimeAwareObservation(env, False), "time from None to Box"),
}
HARMLESS: dict[str, Wrap] = {
    "nothing": lambda env: env,
    "TimeLimit": lambda env: wrappers.TimeLimit(env, 100),
    "RecordEpisodeStatistics": wrappers.RecordEpisodeStatistics,
    "PassiveEnvChecker": wrappers.PassiveEnvChecker,
    "OrderEnforcing": wrappers.OrderEnforcing,
    "Autoreset": wrappers.Autoreset,
    "TransformReward": lambda env: wrappers.TransformReward(env, lambda r: r - 7.0),
    "NormalizeReward": wrappers.NormalizeReward,
    "RenderCollection": wrappers.RenderCollection,
    "Monitor": Monitor,
}


@pytest.mark.parametrize("name", REFUSED)
def test_a_wrapper_that_changes_what_the_world_describes_is_refused_by_name(
    world: Env, policy: Policy, name: str
) -> None:
    wrap, change = REFUSED[name]
    wrapped, message = wrap(world), f"{name.split()[-1]} .*{change}"
    for refuse in (check_stack, make_expert, policy.face):
        with pytest.raises(SimrealError, match=message):
            refuse(wrapped)
    outcome = run_episode(world, Holds(world), seed=0, recorder=(recorder := EpisodeRecorder()))
    with pytest.raises(UsageError, match=message):
        recorder.finish(wrapped, outcome, "me")


def test_every_wrapper_that_changes_something_is_named(world: Env) -> None:
    both = wrappers.RescaleAction(REFUSED["TransformObservation"][0](world), -1, 1)
    with pytest.raises(UsageError, match=r"RescaleAction .*TransformObservation .*agentview_image"):
        check_stack(wrappers.TimeLimit(both, 9))


@pytest.mark.parametrize("name", HARMLESS)
def test_harmless_wrappers_are_recorded_as_the_world_alone(world: Env, policy: Policy, name: str) -> None:
    wrapped = HARMLESS[name](world)
    policy.face(wrapped)
    make_expert(wrapped)
    episode, alone = record(wrapped), record(world)
    np.testing.assert_array_equal(episode.actions, alone.actions)
    np.testing.assert_array_equal(episode.rewards, alone.rewards)  # 1 on success, as the contract says
    for key, values in alone.observations.items():
        np.testing.assert_array_equal(episode.observations[key], values)


class Own(gym.Wrapper[Any, Any, Any, Any]):
    """A wrapper of somebody's own that says nothing of itself."""

    def __init__(self, env: Env, what: str) -> None:
        super().__init__(env)
        self.what, self.taken = what, 0

    def reset(self, **kwargs: Any) -> tuple[Any, dict[str, Any]]:
        observation, info = self.env.reset(**kwargs)
        return self.seen(observation), info

    def step(self, action: Any) -> Any:
        self.taken += 1
        if self.what == "action":
            action = action + np.float32([0, 0, 0.01, 0, 0, 0, 0])
        if self.what == "twice":
            self.env.step(action)
        observation, *rest = self.env.step(action)
        return self.seen(observation), *rest

    def seen(self, observation: Any) -> Any:
        if self.what == "in place":
            observation["agentview_image"] //= 2
        if self.what == "position":
            return observation | {"robot0_eef_pos": observation["robot0_eef_pos"] + np.float32(0.1)}
        if self.what == "fewer":
            return {name: value for name, value in observation.items() if name != "object"}
        return observation


@pytest.mark.parametrize(
    ("what", "changed"),
    [
        ("action", "the action"),
        ("twice", r"the time \(2 steps"),
        ("in place", "agentview_image"),
        ("position", "robot0_eef_pos"),
        ("fewer", "the observation"),
    ],
)
def test_what_a_wrapper_of_ones_own_changes_on_the_way_is_refused(
    world: Env, what: str, changed: str
) -> None:
    with pytest.raises(UsageError, match=f"step 0 .*{changed}.*: Own\\."):
        record(Own(world, what))


def test_a_wrapper_of_ones_own_that_only_looks_on_is_recorded(world: Env) -> None:
    env = Own(world, "nothing")
    assert len(record(env)) == env.taken == STEPS


def test_below_a_wrapper_with_an_action_kind_nothing_is_changed_unseen(world: Env) -> None:
    still = np.zeros(7, np.float32)
    assert record(DeltaActions(world), still).meta["action_kind"] == "delta"
    with pytest.raises(UsageError, match=r"the action.*: Own\."):
        record(DeltaActions(Own(world, "action")), still)
    with pytest.raises(UsageError, match=r"the action.*: Own\."):
        record(Own(DeltaActions(world), "action"), still)


class Millimetres(gym.ActionWrapper[Any, Any, Any]):
    """Somebody's own displacements."""

    action_kind = "delta"

    def __init__(self, env: Env, most: float = 1.0) -> None:
        super().__init__(env)
        self.action_space = spaces.Box(-most, most, (7,), np.float32)

    def action(self, action: np.ndarray) -> np.ndarray:
        world: Any = self.unwrapped
        pose = world.end_effector_pose_in_base()
        pose[:3, 3] += 0.05 * action[:3]
        return reachable_action(pose, float(action[6]))


def test_a_wrapper_of_ones_own_says_by_its_action_kind_what_its_actions_mean(
    world: Env, policy: Policy
) -> None:
    assert record(Millimetres(world), np.zeros(7, np.float32)).meta["action_kind"] == "delta"
    with pytest.raises(UsageError, match=r"Millimetres has action_kind 'delta' and the action space Box\(-5"):
        check_stack(Millimetres(world, 5.0))
    for wrapper, kind in ((Millimetres, "delta"), (DeltaActions, "delta"), (JointActions, "joint")):
        with pytest.raises(DataError, match=f"action_kind is '{kind}'"):
            policy.face(wrapper(world))
        with pytest.raises(UsageError, match=f"takes '{kind}'"):
            make_expert(wrapper(world))


def test_noise_is_no_change_and_what_was_intended_is_recorded(world: Env, policy: Policy) -> None:
    env = ActionNoise(world, 0.02)
    policy.face(env)
    episode = record(env)
    np.testing.assert_allclose(episode.actions[0, :3], episode.observations["robot0_eef_pos"][0], atol=1e-6)
    env.reset(seed=0)
    with pytest.raises(UsageError, match=r"component x = 0\.1"):
        env.step(np.float32([0.1, 0, 0.2, 3.14, 0, 0, -1]))


# --- what is handed to predict ----------------------------------------------------------------------


def images(function: Callable[[np.ndarray], Any]) -> Callable[[dict[str, Any]], Any]:
    return lambda seen: seen | {"agentview_image": function(seen["agentview_image"])}


@pytest.mark.parametrize(
    ("change", "complaint"),
    [
        (images(lambda i: (i / 255).astype(np.float32)), "agentview_image has .*float32"),
        (images(lambda i: i.repeat(2, 0).repeat(2, 1)), r"agentview_image has shape \(64, 64, 3\)"),
        (images(lambda i: i.transpose(2, 0, 1)), r"agentview_image has shape \(3, 32, 32\)"),
        (images(lambda i: np.stack([i, i])), r"agentview_image has shape \(2, 32, 32, 3\)|as the other"),
        (images(torch.from_numpy), "agentview_image is a Tensor"),
        (lambda o: {k: v for k, v in o.items() if k != "agentview_image"}, "agentview_image is not there"),
        (lambda o: o | {"robot0_eef_pos": o["robot0_eef_pos"].astype(float)}, "robot0_eef_pos has .*float64"),
        (
            lambda o: o | {"robot0_gripper_qpos": np.full(2, np.nan, np.float32)},
            "robot0_gripper_qpos holds nan",
        ),
        (lambda o: o["agentview_image"], "observation is a ndarray"),
    ],
)
def test_a_policy_refuses_observations_of_another_kind_at_every_step(
    world: Env, policy: Policy, change: Callable[[dict[str, Any]], Any], complaint: str
) -> None:
    seen, _ = world.reset(seed=0)
    _, state = policy.predict(seen)
    assert state.chunks  # nothing is predicted at the next step, which is checked all the same
    for queue in (None, state):
        with pytest.raises(UsageError, match=complaint):
            policy.predict(change(seen), queue)


def test_other_actors_refuse_what_they_cannot_read(world: Env) -> None:
    seen, _ = world.reset(seed=0)
    replayed = ReplayActor(random_episode(np.random.default_rng(0)), 1.0)
    for actor, name in ((make_expert(world), "robot0_gripper_qpos"), (replayed, "robot0_eef_pos")):
        actor.predict(seen)
        for bad in (np.full_like(seen[name], np.nan), seen[name][:1], seen[name].astype(float), None):
            with pytest.raises(UsageError, match=name):
                actor.predict(seen | {name: bad})


# --- vector environments ------------------------------------------------------------------------------


def test_a_vector_environment_is_faced_if_nothing_of_it_is_changed(policy: Policy) -> None:
    dummy, sync = DummyVecEnv([make]), gym.vector.SyncVectorEnv([make, make])
    for envs in (dummy, VecMonitor(dummy), VecNormalize(dummy, norm_obs=False), sync):
        policy.face(envs)
        make_expert(envs)
    sb3_rescaled = DummyVecEnv([lambda: wrappers.RescaleAction(make(), -1, 1)])
    changed = vector_wrappers.TransformAction(sync, lambda a: a)
    for envs, name in (
        (VecTransposeImage(dummy), "VecTransposeImage .*agentview_image"),
        (VecNormalize(dummy), "VecNormalize"),
        (sb3_rescaled, "RescaleAction changed the action space"),
        (vector_wrappers.FlattenObservation(sync), "FlattenObservation"),
        (changed, "TransformAction"),
    ):
        with pytest.raises(DataError, match=name):
            policy.face(envs)
        with pytest.raises(UsageError, match=name):
            make_expert(envs)
    for made in (dummy, sync, sb3_rescaled):
        made.close()


def test_worlds_that_look_differently_are_not_faced_at_once(policy: Policy) -> None:
    envs = gym.vector.SyncVectorEnv([make, lambda: make(shift="texture")])
    with pytest.raises(DataError, match="differ in look"):
        policy.face(envs)
    envs.close()


def test_worlds_in_other_processes_are_refused(policy: Policy) -> None:
    envs = gym.vector.AsyncVectorEnv([lambda: gym.make("CartPole-v1")])
    for refuse in (policy.face, make_expert):
        with pytest.raises(UsageError, match="AsyncVectorEnv are in other processes"):
            refuse(envs)
    envs.close()
