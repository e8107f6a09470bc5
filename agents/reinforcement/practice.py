"""The world as a learning algorithm sees it: numbers in, numbers out, a reward for progress."""

from __future__ import annotations

from typing import Any

import gymnasium as gym
import numpy as np

from simreal_agents.actors.rl_agent import Commands, agent_inputs, input_space, present
from simreal_agents.policies.policy import Policy
from simreal_agents.policies.rl_config import RLConfig
from simreal_envs.features import ObservationSpec, WorldSpec
from simreal_envs.seeds import DEMONSTRATIONS, SEEDS
from simreal_envs.tasks import get_task
from simreal_envs.world_config import WorldConfig

APART = 100_003
"""Between the first reset seeds of runs whose own seeds are neighbours; a prime, so that they meet late."""


def learning_world(config: RLConfig, base: Policy | None) -> WorldConfig:
    """The world that shows what agent and base read."""
    of_base = base.spec.features if base else ()
    history = base.spec.history if base else 1
    state = ObservationSpec(("state",)).features(len(get_task(config.world.task).objects))
    features = {feature.key: feature for feature in (*state, *of_base)}
    needed = WorldSpec(config.world.task, "pose", tuple(features.values()), history)
    return WorldConfig.showing(needed, shift=config.world.shift, max_steps=config.world.max_steps)


class PracticeWorld(gym.Wrapper[np.ndarray, np.ndarray, Any, Any]):
    """Wraps a world of ``pose`` actions and the staged reward for a learning algorithm.

    One step takes ``action.repeat`` steps of the world below, in which the numbers are held.

    Where objects start follows from the run's seed and the number of the episode; a seed that is given to
    :meth:`reset` is ignored. ``info["is_success"]`` says at the end of an episode whether it was solved.

    Args:
        env: the world.
        config: says what actions change, and how much a reward is.
        base: the policy whose actions are corrected, or None; it is asked in every step.
        episode: number of the first episode.
        stride: the numbers of later ones are so many apart, as several worlds take turns.

    Attributes:
        episode: number of the present episode.
    """

    def __init__(
        self, env: gym.Env[Any, Any], config: RLConfig, base: Policy | None, episode: int = 0, stride: int = 1
    ) -> None:
        super().__init__(env)
        self._config, self._base = config, base
        self._commands = Commands(config.action)
        self._world: WorldSpec = env.unwrapped.world_spec  # type: ignore[attr-defined]
        self.action_space = self._commands.space
        self.observation_space = input_space(self._world, base is not None)
        self._stride = stride
        self.go_to(episode)
        if base is not None:
            base.face(env)

    def go_to(self, episode: int) -> None:
        """Make the episode of this number the next one."""
        self.episode = episode - self._stride

    def reset(
        self, *, seed: int | None = None, options: dict[str, Any] | None = None
    ) -> tuple[np.ndarray, dict[str, Any]]:
        self.episode += self._stride
        number = self._config.seed * APART + self.episode
        observation, info = self.env.reset(seed=number % len(SEEDS[DEMONSTRATIONS]), options=options)
        self._state: Any = None
        return self._inputs(observation), info

    def step(self, action: np.ndarray) -> tuple[np.ndarray, float, bool, bool, dict[str, Any]]:
        earned = 0.0
        for _ in range(self._config.action.repeat):
            command = self._commands.action(action, self._reference)
            observation, reward, terminated, truncated, info = self.env.step(command)
            inputs = self._inputs(observation)
            earned += float(reward)
            if terminated or truncated:
                break
        info = info | {"is_success": info["success"]}
        return inputs, earned * self._config.world.reward_scale, terminated, truncated, info

    def _inputs(self, observation: Any) -> np.ndarray:
        """What the agent reads; the reference of its next action is kept."""
        moment = present(observation, self._world.history)
        if self._base is None:
            self._reference = self._commands.stay(moment)
            return agent_inputs(moment, None)
        self._reference, self._state = self._base.predict(observation, self._state)
        return agent_inputs(moment, self._reference)
