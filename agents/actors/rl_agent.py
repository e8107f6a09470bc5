"""An agent of reinforcement learning that acts, alone or as the correction of a frozen policy.

The network is Stable-Baselines3's, of numbers alone. This module says what the numbers are: what the agent
reads (:func:`agent_inputs`), and what its actions in [-1, 1] change (:class:`Commands`). An agent reads the
poses of the objects, which nobody knows on a real robot.
"""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import Any

import numpy as np
from gymnasium import spaces
from numpy.typing import NDArray
from scipy.spatial.transform import Rotation

from simreal_agents.policies.checkpoint import WEIGHTS, find_checkpoint, read_state
from simreal_agents.policies.facing import check_world
from simreal_agents.policies.policy import Policy, load_policy
from simreal_agents.policies.rl_config import ActionConfig, PpoSettings, RLConfig
from simreal_agents.policies.tensors import read_tensors
from simreal_envs import spec
from simreal_envs.errors import DataError, UsageError
from simreal_envs.features import WorldSpec
from simreal_envs.loop import Observation
from simreal_envs.vector import states_of

BASE = "base"
"""Folder in the agent's run folder: a run folder with the base policy's checkpoint."""
POINTING_DOWN = np.array([np.pi, 0.0, 0.0])
"""Rotation vector of a hand that points straight down."""

NEAR_M, TABLE_M, OPENING_M = 0.05, 0.2, 0.08
"""Units of the inputs: of distances from the hand, of places on the table, and of the fingers' opening."""

Array = NDArray[np.floating[Any]]


class Commands:
    """Turns an agent's numbers in [-1, 1] into a ``pose`` action: a bounded change of a reference action.

    The reference is the base policy's action. Without one it is to stay: the present position of the hand and
    its orientation (straight down, if the agent does not turn it), with a gripper command of 0.
    """

    def __init__(self, limits: ActionConfig) -> None:
        each = [limits.position_m] * 3 + [limits.rotation_rad] * 3 + [limits.gripper]
        self._limits = np.array(each)
        self._turns = limits.rotation_rad > 0
        self._used = np.flatnonzero(self._limits)

    @property
    def space(self) -> spaces.Box:
        """The agent's actions."""
        return spaces.Box(-1.0, 1.0, (len(self._used),), np.float32)

    def stay(self, moment: Observation) -> Array:
        """The reference action (7,) where there is no base policy."""
        rotvec = POINTING_DOWN
        if self._turns:
            rotvec = Rotation.from_quat(moment["robot0_eef_quat"]).as_rotvec()
        return np.concatenate([moment["robot0_eef_pos"], rotvec, [0.0]])

    def action(self, numbers: Array, reference: Array) -> NDArray[np.float32]:
        """The ``pose`` action (7,) for numbers (n,) and the reference (7,), within the action space."""
        change = np.zeros(7)
        change[self._used] = numbers
        change *= self._limits
        rotvec = reference[3:6]
        if self._turns:
            rotvec = (Rotation.from_rotvec(change[3:6]) * Rotation.from_rotvec(rotvec)).as_rotvec()
        action = np.concatenate([reference[:3] + change[:3], rotvec, reference[6:] + change[6:]])
        box = spec.action_space("pose")
        return np.clip(action, box.low, box.high).astype(np.float32)


def agent_inputs(moment: Observation, reference: Array | None) -> NDArray[np.float32]:
    """What an agent reads of one moment (n,): the hand, each object, and the base policy's action if any.

    The hand's place on the table, its axes and its opening; of each object the place on the table, the place
    from the hand and two of its axes; of the base's action the same from the hand, its axes and the gripper.
    """
    hand_m, fingers_m = moment["robot0_eef_pos"], moment["robot0_gripper_qpos"]
    parts = [
        (hand_m - spec.TABLE_CENTRE_IN_BASE_M) / TABLE_M,
        _axes(Rotation.from_quat(moment["robot0_eef_quat"])),
        [(fingers_m[0] - fingers_m[1]) / OPENING_M],
    ]
    for pose in moment[spec.OBJECT_KEY].reshape(-1, 7):
        parts += [(pose[:3] - spec.TABLE_CENTRE_IN_BASE_M) / TABLE_M, (pose[:3] - hand_m) / NEAR_M]
        parts.append(_axes(Rotation.from_quat(pose[3:])))
    if reference is not None:
        parts += [
            (reference[:3] - hand_m) / NEAR_M,
            _axes(Rotation.from_rotvec(reference[3:6])),
            reference[6:],
        ]
    return np.concatenate(parts).astype(np.float32)


def input_space(world: WorldSpec, has_base: bool) -> spaces.Box:
    """The space of :func:`agent_inputs`."""
    size = 10 + 12 * (world.feature(spec.OBJECT_KEY).shape[0] // 7) + 10 * has_base
    return spaces.Box(-np.inf, np.inf, (size,), np.float32)


def _axes(rotation: Rotation) -> Array:
    """The first two axes (6,): unlike angles and quaternions they make no jumps."""
    return rotation.as_matrix()[:, :2].T.ravel()


def present(observation: Observation, history: int) -> Observation:
    """The last moment of an observation."""
    return observation if history == 1 else {name: values[-1] for name, values in observation.items()}


def network_arguments(config: RLConfig) -> dict[str, Any]:
    """``policy_kwargs`` of Stable-Baselines3 for the agent's networks."""
    return {"net_arch": [config.network.width] * config.network.layers}


class RLAgent:
    """An actor (see :class:`simreal_envs.loop.Actor`) that acts by ``pose`` actions.

    The state between steps holds the network's numbers, for how many steps they are still held, and the base
    policy's state.

    Attributes:
        config: the configuration it was trained with.
        spec: the worlds that it was trained for, and the arrays that it reads.
        base: the policy that it corrects, or None.
    """

    def __init__(self, network: Any, config: RLConfig, world: WorldSpec, base: Policy | None) -> None:
        self.network, self.config, self.spec, self.base = network, config, world, base
        self._commands = Commands(config.action)

    def predict(
        self,
        observation: Observation,
        state: Any = None,
        episode_start: Any = None,
        deterministic: bool = True,
    ) -> tuple[NDArray[np.float32], Any]:
        """Next action (7,); of a vector environment's observations actions (n, 7) and a list of n states.

        ``deterministic``: the middle of the distribution of actions, instead of a draw from it by torch's
        generator.

        Raises:
            UsageError: an array is not there, of another shape or dtype than in training, or not finite.
        """
        count = spec.check_observation(observation, self.spec.space)
        states = states_of(state, episode_start, count)
        each = [
            {name: values if count is None else values[i] for name, values in observation.items()}
            for i in range(len(states))
        ]
        answers = self._held(each, states, deterministic)
        actions = [action for action, _ in answers]
        after = [state for _, state in answers]
        return (actions[0], after[0]) if count is None else (np.stack(actions), after)

    def _held(self, each: list[Observation], states: list[Any], deterministic: bool) -> list[Any]:
        """Of each world the action, and the state after it: numbers, how long they are held, the base's."""
        moments = [present(one, self.spec.history) for one in each]
        held: list[Any] = [(None, 0, None) if state is None else state for state in states]
        based: list[tuple[Any, Any]] = [(None, None)] * len(each)
        if self.base is not None:
            based = [
                self.base.predict(one, of_base, None, deterministic)
                for one, (_, _, of_base) in zip(each, held, strict=True)
            ]
        references = [reference for reference, _ in based]
        fresh = [i for i, (_, left, _) in enumerate(held) if left == 0]
        if fresh:
            inputs = np.stack([agent_inputs(moments[i], references[i]) for i in fresh])
            numbers, _ = self.network.predict(inputs, deterministic=deterministic)
            for i, own in zip(fresh, numbers, strict=True):
                held[i] = (own, self.config.action.repeat, None)
        answers = []
        for moment, (reference, of_base), (own, left, _) in zip(moments, based, held, strict=True):
            about = self._commands.stay(moment) if reference is None else reference
            answers.append((self._commands.action(own, about), (own, left - 1, of_base)))
        return answers

    def face(self, env: Any) -> None:
        """Prepare for a world, as :meth:`Policy.face` does for the base policy.

        Raises:
            DataError: the agent or its base policy is not for this world.
        """
        check_world(self.spec, env)
        if self.base is not None:
            self.base.face(env)


def load_agent(run: Path, checkpoint: str | int = "last") -> RLAgent:
    """The agent of a run on the CPU, at its last checkpoint or that of a given step.

    Raises:
        DataError: no such run, or a checkpoint that is damaged or of another format version.
        UsageError: the run has no such checkpoint.
    """
    folder = find_checkpoint(run, checkpoint)
    state = read_state(folder)
    config, world = (
        read_agent_config(state["config"], f"Checkpoint {folder}"),
        WorldSpec.from_json(state["world"]),
    )
    base = load_policy(run / BASE, device="cpu") if config.base.run else None
    network = make_network(config, input_space(world, base is not None), Commands(config.action).space)
    load_network(network, read_tensors(folder / WEIGHTS), folder)
    return RLAgent(network, config, world, base)


def read_agent_config(values: Mapping[str, Any], where: str) -> RLConfig:
    """A configuration that was stored with a run; a DataError says what is wrong with it."""
    try:
        return RLConfig.from_dict(values)
    except UsageError as error:
        raise DataError(f"{where} was written by another version, or is damaged: {error}") from error


def make_network(config: RLConfig, inputs: spaces.Box, actions: spaces.Box) -> Any:
    """Stable-Baselines3's policy of this configuration, untrained."""
    from stable_baselines3.common.policies import ActorCriticPolicy
    from stable_baselines3.sac.policies import SACPolicy

    kind: Any = ActorCriticPolicy if isinstance(config.algo, PpoSettings) else SACPolicy
    rate = config.algo.learning_rate
    return kind(inputs, actions, lambda remaining: rate, **network_arguments(config)).eval()


def load_network(network: Any, tensors: Mapping[str, Any], where: Path) -> None:
    """Fill a network; a DataError if names or shapes do not fit."""
    try:
        network.load_state_dict(tensors)
    except RuntimeError as error:
        raise DataError(f"The weights in {where} do not fit: {error}") from error
