"""The configuration of a reinforcement learning run, and what an agent needs of it to act."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field
from typing import Annotated, Any

from simreal_agents.policies.overrides import (
    NOT_NEGATIVE,
    Choice,
    Count,
    Limit,
    Positive,
    Tagged,
    assign_all,
    complete,
    plain,
    split_override,
)  # fmt: skip
from simreal_envs.errors import UsageError
from simreal_envs.seeds import DEMONSTRATIONS, SEEDS
from simreal_envs.spec import REGIONS, check_choice
from simreal_envs.tasks import TASKS

Share = Annotated[float, NOT_NEGATIVE, Limit(lambda x: x <= 1, "be at most 1")]


@dataclass
class Algorithm(Tagged):
    """Settings that both algorithms have; the names are Stable-Baselines3's."""

    learning_rate: Positive = 5e-4
    """Of Adam, constant."""
    batch_size: Count = 128
    """Transitions that one gradient step looks at."""
    gamma: Share = 0.95
    """Discount of what is earned one step later; a step of the agent takes `action.repeat` times 50 ms."""


@dataclass
class SacSettings(Algorithm):
    """Soft actor-critic (Haarnoja et al. 2018); it makes an update for every step, after each episode."""

    tau: Share = 0.005
    """How far the target critics follow the critics in one update."""
    buffer_size: Count = 100_000
    """Transitions that are kept to learn from."""
    learning_starts: int = 1000
    """Steps with random actions before the first update."""
    n_steps: Count = 3
    """Steps of which a critic's target adds up the rewards, before it trusts the target critics."""
    entropy_weight: Positive = 0.05
    """Weight of the actions' entropy at the start; it is learnt. With Stable-Baselines3's 1, the entropy of
    the steps to come is worth several times as much as solving the task."""


@dataclass
class PpoSettings(Algorithm):
    """Proximal policy optimisation (Schulman et al. 2017)."""

    envs: Count = 4
    """Worlds that are played by turns."""
    n_steps: Count = 512
    """Steps in each world between two rounds of updates."""
    n_epochs: Count = 10
    """How often a round of updates looks at each step."""
    gae_lambda: Share = 0.95
    """Of generalised advantage estimation."""
    clip_range: Positive = 0.2
    """How far a round of updates may change the probability of an action, relative to 1."""
    ent_coef: float = 0.0
    """Weight of the entropy of the actions."""


ALGORITHMS: dict[str, type[Algorithm]] = {"sac": SacSettings, "ppo": PpoSettings}


@dataclass
class LearningWorldConfig:
    """The worlds that the agent learns in."""

    task: str = ""
    """Name of the task."""
    shift: str = "none"
    """Domain shifts, as `simreal eval --shift` takes them."""
    region: str = "all"
    """Where objects start: in, ood or all."""
    max_steps: Count = 80
    """End of an episode, in steps of 50 ms. Time that runs out is no failure: values go on beyond it."""
    reward_scale: Positive = 10.0
    """Factor of the staged reward, whose sum over a solved episode is 1."""


@dataclass
class ActionConfig:
    """Largest change that the agent can make to what it acts on, see :class:`.rl_agent.Commands`."""

    position_m: float = 0.05
    """Along each axis of the base frame."""
    rotation_rad: float = 0.0
    """About each axis of the base frame. With 0, actions have no rotation; the hand then points straight
    down, or as the base policy says."""
    repeat: Count = 2
    """For how many steps of 50 ms the agent's numbers are held. What they change is new in each of them."""
    gripper: float = 1.0
    """Of the gripper's command, which closes above 0 and opens below. With 0, it is the base policy's."""


@dataclass
class NetworkConfig:
    """Actor and critics: networks of layers of equal width."""

    width: Count = 128
    layers: Count = 2


@dataclass
class BaseConfig:
    """The frozen policy whose actions the agent corrects."""

    run: str = ""
    """Run folder that it was taken from; empty: there is none. The agent's run holds a copy."""
    checkpoint: str = "last"
    """Its checkpoint."""


@dataclass
class RLConfig:
    """Everything that decides what a run of reinforcement learning computes, and how it runs."""

    seed: Annotated[int, NOT_NEGATIVE, Limit(lambda n: n < 2**31, "be below 2**31")] = 0
    """Seed of everything random: starts of episodes, weights, actions, batches."""
    env_steps: Count = 20_000
    """Length of the run, in steps of the agent over all worlds, each of `action.repeat` times 50 ms. The last
    episode, or round of PPO, is finished."""
    threads: Count = 1
    """Threads of a CPU run."""
    device: str = "cpu"
    """auto takes cuda if there is one, else cpu. Networks this small are no faster on a GPU."""
    log_every: Count = 1000
    """Steps between lines of the log."""
    checkpoint_every: Count = 5000
    """Steps between checkpoints."""
    algo: Algorithm = field(default_factory=Choice("sac", ALGORITHMS, Algorithm))
    world: LearningWorldConfig = field(default_factory=LearningWorldConfig)
    action: ActionConfig = field(default_factory=ActionConfig)
    network: NetworkConfig = field(default_factory=NetworkConfig)
    base: BaseConfig = field(default_factory=BaseConfig)

    def to_dict(self) -> dict[str, Any]:
        """Nested plain values, as written to ``config.json``."""
        return plain(self)

    @classmethod
    def from_dict(cls, values: Mapping[str, Any]) -> RLConfig:
        """The inverse of :meth:`to_dict`; a key that is missing never takes its default.

        Raises:
            UsageError: a key that does not exist or is missing, or a value of another type or out of range.
        """
        return _checked(complete(cls(), values))


RESIDUAL = {
    "action.position_m": 0.03, "action.gripper": 1.5, "world.region": "in", "world.max_steps": 120,
}  # fmt: skip
"""Defaults that differ where there is a base policy. A gripper's correction below 1 would change nothing, and
policies that were shown how are slower than agents that found out."""


def load_rl_config(overrides: Iterable[str] = ()) -> RLConfig:
    """The default configuration with ``key=value`` overrides, in any order.

    >>> load_rl_config(["world.task=Lift", "algo.tau=0.01"]).algo.tau
    0.01

    Raises:
        UsageError: an unknown key, or a value that does not fit.
    """
    own = dict(split_override(override) for override in overrides)
    config = RLConfig()
    if own.get("base.run"):
        assign_all(config, RESIDUAL)
    assign_all(config, own)
    return _checked(config)


def _checked(config: RLConfig) -> RLConfig:
    check_choice("world.task", config.world.task, TASKS)
    check_choice("world.region", config.world.region, REGIONS)
    action, base = config.action, config.base.run
    if action.position_m == 0:
        raise UsageError(
            "action.position_m = 0 leaves the agent no way to move the hand; it must be positive."
        )
    if action.gripper == 0 and not base:
        raise UsageError("action.gripper = 0 leaves the gripper to a base policy, and base.run names none.")
    if config.seed >= len(SEEDS[DEMONSTRATIONS]):
        raise UsageError(f"seed = {config.seed} must be below {len(SEEDS[DEMONSTRATIONS])}.")
    if (
        isinstance(config.algo, PpoSettings)
        and config.algo.batch_size > config.algo.envs * config.algo.n_steps
    ):
        raise UsageError(
            f"algo.batch_size = {config.algo.batch_size} exceeds algo.envs x algo.n_steps = "
            f"{config.algo.envs * config.algo.n_steps}, the steps of one round."
        )
    return config


def is_rl(values: Mapping[str, Any]) -> bool:
    """Whether a stored configuration is that of an agent, not of a policy trained from demonstrations."""
    return "algo" in values
