"""What the tests of single tasks share: episodes of standing still, of the expert, and generated ones."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import numpy as np

from simreal_agents.actors.experts import make_expert
from simreal_agents.study.collect import ActorRecorder
from simreal_datasets.making.fill import fill_dataset
from simreal_datasets.making.generate import Generator
from simreal_envs.poses import reachable_action
from simreal_envs.registration import make_env
from simreal_envs.world_config import WorldConfig

REST_S = 10
"""For how long things must lie where they are."""
SETTLING_STEPS = 4
"""Contacts are soft: what is put down sinks by a tenth of a millimetre first."""


@contextmanager
def task_env(task: str, region: str = "all") -> Iterator[Any]:
    env = make_env(task, obs="state", region=region)
    yield env
    env.close()


def assert_nothing_moves(task: str, region: str) -> None:
    """For 10 s no object drifts 0.5 mm, nor moves at 1 mm/s once it has settled; nothing counts as done."""
    with task_env(task, region) as env:
        _, info = env.reset(seed=1)
        start, still = info["object_poses_in_base"], reachable_action(info["end_effector_pose_in_base"], -1.0)
        for step in range(20 * REST_S):
            _, reward, terminated, _, info = env.step(still)
            assert (reward, terminated, info["success"], info["stage"]) == (0.0, False, False, "start")
            for name, pose in info["object_poses_in_base"].items():
                assert np.abs(pose - start[name])[:3].max() < 5e-4, (name, step)
                assert step < SETTLING_STEPS or env.physics.object_speed_mps(name) < 1e-3, (name, step)


def assert_the_expert_solves(task: str, region: str, episodes: int = 5, max_steps: int = 300) -> None:
    """Every seed, and its stages are reached in order and stay reached."""
    env: Any = WorldConfig(task, obs="state", max_steps=max_steps).make(region)
    expert, stages = make_expert(env), env.unwrapped.task.stages
    for seed in range(episodes):
        observation, info = env.reset(seed=seed)
        assert (info["success"], info["stage"], info["placement_region"]) == (False, "start", region)
        state, over, reached = None, False, [0]
        while not over:
            action, state = expert.predict(observation, state)
            observation, _, terminated, truncated, info = env.step(action)
            reached.append(info["stages_reached"])
            over = terminated or truncated
        assert info["success"], (seed, info["stage"])
        assert (np.diff(reached) >= 0).all()
        assert reached[-1] == len(stages)
        assert {1, 2, 3} <= set(reached)  # reach, grasp and lift come one after the other
    env.close()


def assert_generation_succeeds(task: str, folder: Path) -> None:
    """From two demonstrations by the expert, most attempts at others."""
    list(fill_dataset(folder / "few", ActorRecorder(WorldConfig(task, obs="state"), "all"), 2, 0, 1))
    recipe = Generator(folder / "few", WorldConfig(task, obs="state"))
    attempts = list(fill_dataset(folder / "many", recipe, 4, 100, 1))
    assert len(attempts) <= 8
