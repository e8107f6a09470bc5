"""The one episode loop: any actor in any world. Collecting, evaluating and the demo all use it."""

from __future__ import annotations

import logging
from collections.abc import Callable
from dataclasses import dataclass, field
from typing import Any, Protocol

import gymnasium as gym
import numpy as np

from simreal_envs.cleanup import finally_do
from simreal_envs.errors import ActorError
from simreal_envs.spec import Observation as Observation
from simreal_envs.stack import Witness
from simreal_envs.table_world import table_world

log = logging.getLogger("simreal")


class Actor(Protocol):
    """Anything with Stable-Baselines3's ``predict``: experts, humans, trained agents, SB3 models.

    ``episode_start`` is an array holding True on the first step of an episode. The action is of the
    environment's ``action_kind`` and lies in its action space. From the observations of a vector environment,
    with a leading batch axis, an actor makes actions (n, A) and n states; see :mod:`simreal_envs.vector`.
    """

    def predict(
        self,
        observation: Any,
        state: Any = None,
        episode_start: Any = None,
        deterministic: bool = True,
    ) -> tuple[np.ndarray, Any]: ...


@dataclass
class Step:
    """One transition, handed to a recorder: what was seen, what was done, and what came of it.

    The reward is 1 on success and else 0, whatever reward the world or a wrapper gives.
    """

    observation: Observation
    action: np.ndarray
    reward: float
    terminated: bool
    truncated: bool
    info: dict[str, Any]
    """The info returned *with* ``observation`` (before the action)."""
    altered: list[str] = field(default_factory=list)
    """What wrappers changed between the world and the actor, see :class:`simreal_envs.stack.Witness`."""


@dataclass
class Outcome:
    """How an episode ended.

    Attributes:
        success: the task's last stage was reached and nothing broke the episode off.
        steps: number of actions taken.
        stage: name of the furthest stage reached, see :class:`simreal_envs.tasks.progress.Progress`.
        stages_reached: how many of the task's stages were reached.
        interrupted: what broke the episode off (a reflex, a lost link, a lost policy server, ...); empty if
            nothing did.
    """

    seed: int | None
    success: bool
    steps: int
    stage: str
    stages_reached: int
    total_reward: float
    interrupted: str = ""
    info: dict[str, Any] = field(default_factory=dict)


Recorder = Callable[[Step], None]


def run_episode(
    env: gym.Env[Any, Any],
    actor: Actor,
    *,
    seed: int | None = None,
    options: dict[str, Any] | None = None,
    recorder: Recorder | None = None,
    deterministic: bool = True,
) -> Outcome:
    """Reset the world, let the actor act until the episode ends, and say how it went.

    However it ends, by an error or Ctrl-C too, the world is stopped before this returns. An actor that cannot
    go on interrupts the episode like a fault of a robot.

    Raises:
        ActorError: the actor could not even begin.
    """
    world = table_world(env)
    with finally_do(world.stop):
        observation, info = env.reset(seed=seed, options=options)
        witness = Witness(env, observation) if recorder is not None else None
        state: Any = None
        start = np.array([True])
        total_reward, steps, done = 0.0, 0, False
        while not done:
            try:
                action, state = actor.predict(observation, state, start, deterministic)
            except ActorError as error:
                if steps == 0:
                    raise
                log.error("Episode interrupted: %s", error)
                info = {**info, "success": False, "interrupted": str(error)}
                break
            next_observation, reward, terminated, truncated, next_info = env.step(action)
            if recorder is not None and witness is not None:
                altered = witness.step(action, next_observation)
                earned = float(world.ledger.reward)
                recorder(Step(observation, action, earned, terminated, truncated, info, altered))
            total_reward += float(reward)
            steps += 1
            start[0] = False
            observation, info = next_observation, next_info
            done = terminated or truncated
    return Outcome(
        seed=seed,
        success=bool(info["success"]),
        steps=steps,
        stage=str(info["stage"]),
        stages_reached=int(info["stages_reached"]),
        total_reward=total_reward,
        interrupted=str(info.get("interrupted", "")),
        info=info,
    )
