"""Collecting demonstrations from scripted experts."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from functools import partial
from typing import Any

import gymnasium as gym

from simreal_agents.experts import EXPERTS, make_expert
from simreal_datasets.fill import Attempt
from simreal_datasets.recorder import EpisodeRecorder
from simreal_envs.loop import Actor, run_episode
from simreal_envs.parallel import Heartbeat
from simreal_envs.spec import REGIONS, check_choice
from simreal_envs.world import World
from simreal_envs.wrappers import ActionNoise, check_noise


@dataclass(frozen=True)
class ExpertRecorder:
    """The recipe of ``simreal collect --by expert`` that every worker process follows."""

    world: World
    region: str
    noise_m: float = 0.0

    def check(self) -> None:
        """Refuse what cannot work before any process starts.

        Raises:
            UsageError: names what does not fit.
        """
        check_choice("region", self.region, REGIONS)
        check_choice("task with a scripted expert", self.world.task, EXPERTS)
        check_noise(self.noise_m)

    def make_work(self) -> Callable[[int, Heartbeat], Attempt]:
        """What a worker does for each seed."""
        env: gym.Env[Any, Any] = self.world.make(self.region)
        if self.noise_m > 0:
            env = ActionNoise(env, self.noise_m)
        return partial(_record, env, make_expert(env))


def _record(env: gym.Env[Any, Any], actor: Actor, seed: int, heartbeat: Heartbeat) -> Attempt:
    heartbeat()
    recorder = EpisodeRecorder()
    outcome = run_episode(env, actor, seed=seed, recorder=recorder)
    episode = recorder.finish(env, outcome, "expert")
    region = str(outcome.info["placement_region"])
    return Attempt(seed, region, outcome.stage, episode if outcome.success else None)
