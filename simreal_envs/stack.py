"""Checks the wrappers between a world and the actor or recorder: which of them change what passes.

An episode is stored with its world's description, and a policy acts in worlds like those it was trained in.
So a wrapper must not change observations, and may change actions only if its ``action_kind`` says what the
actions that it takes mean.
"""

from __future__ import annotations

from itertools import pairwise
from typing import Any

import gymnasium as gym
import numpy as np
from gymnasium import spaces
from gymnasium.wrappers import MaxAndSkipObservation, RepeatAction

from simreal_envs import spec
from simreal_envs.errors import UsageError
from simreal_envs.spec import Observation

Env = gym.Env[Any, Any]

MEND = (
    "Record and act in the environment without it. A wrapper that gives actions another meaning has an "
    f"action_kind ({', '.join(spec.ACTION_KINDS)}) that says so."
)


class Commands(gym.ActionWrapper[Any, np.ndarray, np.ndarray]):
    """A wrapper that takes actions of its own ``action_kind`` and turns them into those of the world below.

    Attributes:
        received: the last action that the wrapper was given.
        sent: the action that the wrapper made of it.
    """

    action_kind: str

    def __init__(self, env: Env) -> None:
        super().__init__(env)
        self.action_space = spec.action_space(self.action_kind)
        self.received = self.sent = np.empty(0)

    def step(self, action: np.ndarray) -> tuple[Any, Any, bool, bool, dict[str, Any]]:
        self.received = np.array(action)
        self.sent = self.action(action)
        return self.env.step(self.sent)


class Ledger:
    """Records what a world itself returned and received last, below all wrappers.

    Attributes:
        observation: a copy of the world's last observation.
        received: the last action that the world carried out.
        reward: of that action, 1 if it led to success and else 0, whatever kind of reward the world gives.
        steps: how many actions the world has carried out.
    """

    def __init__(self) -> None:
        self.observation: Observation = {}
        self.received, self.reward, self.steps = np.empty(0), 0.0, 0

    def gives(self, observation: Observation) -> Observation:
        """Record a copy of the observation and return the observation."""
        self.observation = {name: value.copy() for name, value in observation.items()}
        return observation

    def carried_out(self, action: np.ndarray, reward: float) -> None:
        """Record an action and its reward."""
        self.received, self.reward = np.array(action), reward
        self.steps += 1


class Witness:
    """Compares what passes through an environment with what its world gave and received.

    Args:
        env: the environment, directly after its reset.
        observation: what the reset returned.
    """

    def __init__(self, env: Env, observation: Any) -> None:
        self._layers = layers(env)
        self._ledger: Ledger = self._layers[-1].ledger  # type: ignore[attr-defined]
        self._steps = self._ledger.steps
        self._of_observation = self._compare(observation)

    def step(self, action: Any, next_observation: Any) -> list[str]:
        """What wrappers changed in a step: the observation before the action, or the action."""
        found = self._of_observation
        if not self._arrived(action):
            found = [*found, "the action"]
        taken, self._steps = self._ledger.steps - self._steps, self._ledger.steps
        if taken != 1:
            found = [*found, f"the time ({taken} steps of the world for one)"]
        self._of_observation = self._compare(next_observation)
        return found

    def _compare(self, observation: Any) -> list[str]:
        given = self._ledger.observation
        if not isinstance(observation, dict) or set(observation) != set(given):
            return ["the observation"]
        return [name for name, value in given.items() if not np.array_equal(observation[name], value)]

    def _arrived(self, action: Any) -> bool:
        """Whether the action reached the world unchanged, except by wrappers with an ``action_kind``."""
        for layer in self._layers[:-1]:
            if isinstance(layer, Commands):
                if not np.array_equal(layer.received, action):
                    return False
                action = layer.sent
            elif hasattr(layer, "action_kind"):
                return True  # such a wrapper describes what its actions mean
        return np.array_equal(self._ledger.received, action)


def layers(env: Any) -> list[Any]:
    """The layers of a stack: the wrappers from the outermost on, and last the unwrapped environment."""
    stack = [env]
    while True:
        if isinstance(env, gym.Wrapper | gym.vector.VectorWrapper):
            env = env.env
        elif hasattr(env, "venv"):  # Stable-Baselines3's
            env = env.venv
        else:
            return stack
        stack.append(env)


def members(env: Any) -> list[Env]:
    """The environments of a vector environment, Gymnasium's or Stable-Baselines3's; of a single one itself.

    Raises:
        UsageError: they are in other processes.
    """
    if isinstance(env, gym.Env):
        return [env]
    vector = layers(env)[-1]
    if not hasattr(vector, "envs"):
        raise UsageError(
            f"The environments of a {type(vector).__name__} are in other processes, where nobody reads them. "
            "Valid: a single environment, SyncVectorEnv, DummyVecEnv."
        )
    return list(vector.envs)


def check_stack(env: Any) -> None:
    """Refuse an environment whose wrappers change what its world's description promises.

    Raises:
        UsageError: names each such wrapper and what it changed.
    """
    found = changes(env)
    if found:
        raise UsageError(f"{'; '.join(found)}. {MEND}")


def changes(env: Any) -> list[str]:
    """What each wrapper changes in actions and observations, unless its ``action_kind`` describes the change.

    Wrappers that change neither are left out: TimeLimit, RecordVideo, wrappers of rewards, ...
    """
    outer = layers(env)
    found = _changes(outer)
    for member in members(env):
        stack = layers(member)
        found += _changes(stack) if stack[0] is not outer[0] else []
        found += _changes_in_place(stack[-1], [*outer[:-1], *stack[:-1]])
    return list(dict.fromkeys(found))


def suspects(env: Env) -> str:
    """The wrappers that may have changed what passed: those that are neither Gymnasium's nor simreal's."""
    own = [w for w in layers(env)[:-1] if not type(w).__module__.startswith(("gymnasium.", "simreal_"))]
    return ", ".join(type(wrapper).__name__ for wrapper in own) or str(env)


def _changes(stack: list[Any]) -> list[str]:
    found: list[str] = []
    for wrapper, inner in pairwise(stack):
        changed = [*_changed_observations(wrapper, inner), *_changed_actions(wrapper, inner)]
        if isinstance(wrapper, RepeatAction | MaxAndSkipObservation):
            changed.append("takes several steps of the world for one action")
        found += [f"{type(wrapper).__name__} {change}" for change in changed]
    return found


def _changes_in_place(world: Any, wrappers: list[Any]) -> list[str]:
    """Changes of the world's own spaces, which Stable-Baselines3's VecNormalize overwrites."""
    if not hasattr(world, "world_spec"):
        return []
    described = world.world_spec.space
    found = [
        f"the observation space of the world itself, {difference}"
        for difference in _differences(described, world.observation_space)
    ]
    if world.action_space != spec.action_space(world.action_kind):
        found.append(f"the action space of the world itself to {world.action_space}")
    names = dict.fromkeys(type(wrapper).__name__ for wrapper in wrappers)
    return [f"{' or '.join(names) or 'Somebody'} changed {change}" for change in found]


def _changed_observations(wrapper: Any, inner: Any) -> list[str]:
    before, after = inner.observation_space, wrapper.observation_space
    if before != after:
        return [f"changed the observation space: {', '.join(_differences(before, after))}"]
    if isinstance(wrapper, gym.ObservationWrapper | gym.vector.VectorObservationWrapper):
        return ["makes other observations of those of the world"]
    return []


def _changed_actions(wrapper: Any, inner: Any) -> list[str]:
    kind = getattr(wrapper, "action_kind", None)
    before, after = inner.action_space, wrapper.action_space
    if kind is not None:
        described = spec.action_space(kind)
        return [] if after == described else [f"has action_kind {kind!r} and the action space {after}"]
    if before != after:
        return [f"changed the action space from {before} to {after}"]
    if isinstance(wrapper, gym.ActionWrapper | gym.vector.VectorActionWrapper):
        return ["makes other actions of those that it is given"]
    return []


def _differences(before: spaces.Space[Any], after: spaces.Space[Any]) -> list[str]:
    if not isinstance(before, spaces.Dict) or not isinstance(after, spaces.Dict):
        return [f"from {type(before).__name__} to {after}"]
    old, new = before.spaces, after.spaces
    names = dict.fromkeys([*old, *new])
    return [f"{n} from {old.get(n)} to {new.get(n)}" for n in names if old.get(n) != new.get(n)]
