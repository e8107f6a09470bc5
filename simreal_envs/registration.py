"""``gym.make("simreal/Lift-v0", env="sim", ...)`` after ``import simreal_envs``.

Gymnasium 1.0 dropped the entry points that once registered environments unasked; without the import,
``gym.make("simreal_envs:simreal/Lift-v0")`` does the same.
"""

from __future__ import annotations

from typing import Any

import gymnasium as gym

from simreal_envs.spec import ENVS, HORIZON, check_choice

TASK_NAMES = ("Lift", "Stack")
"""Named here as well, so that registering does not import the tasks."""


def register() -> None:
    """Called once by ``import simreal_envs``."""
    for name in TASK_NAMES:
        gym.register(
            id=f"simreal/{name}-v0",
            entry_point="simreal_envs.registration:make_env",
            max_episode_steps=HORIZON,
            kwargs={"task": name},
        )


def make_env(task: str, env: str = "sim", **kwargs: Any) -> gym.Env[Any, Any]:
    """Make one world of a task.

    Args:
        task: name of the task.
        env: which world.
        kwargs: see :class:`simreal_envs.sim.env.SimEnv`.
    """
    check_choice("env", env, ENVS)
    from simreal_envs.sim.env import SimEnv

    return SimEnv(task, **kwargs)
