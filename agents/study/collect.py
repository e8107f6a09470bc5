"""Collecting demonstrations without a person: from scripted experts and trained policies."""

from __future__ import annotations

from contextlib import ExitStack, closing
from dataclasses import dataclass, field
from functools import partial
from typing import Any

import gymnasium as gym

from simreal_agents.actors.experts import expert_rule
from simreal_agents.actors.factories import ActorFactory, Expert
from simreal_agents.evaluation.play import one_torch_thread
from simreal_datasets.making.fill import Attempt
from simreal_datasets.store.recorder import EpisodeRecorder
from simreal_envs.loop import Actor, run_episode
from simreal_envs.parallel import Heartbeat, Work
from simreal_envs.spec import REGIONS, check_choice
from simreal_envs.tasks import get_task
from simreal_envs.tasks.styles import check_style
from simreal_envs.world_config import WorldConfig
from simreal_envs.wrappers import ActionNoise, check_noise


@dataclass(frozen=True)
class ActorRecorder:
    """The recipe of ``simreal collect`` that every worker process follows; ``name`` says who acted."""

    world: WorldConfig
    region: str
    noise_m: float = 0.0
    factory: ActorFactory = field(default_factory=Expert)
    name: str = "expert"

    def check(self) -> None:
        """Refuse what cannot work before any process starts.

        Raises:
            UsageError: names what does not fit.
        """
        check_choice("region", self.region, REGIONS)
        if isinstance(self.factory, Expert):
            expert_rule(get_task(self.world.task))
            check_style(self.factory.style)
        check_noise(self.noise_m)

    def make_work(self, stack: ExitStack) -> Work[int, Attempt]:
        """What a worker does for each seed; ``stack`` closes its world."""
        env: gym.Env[Any, Any] = stack.enter_context(closing(self.world.make(self.region)))
        if self.noise_m > 0:
            env = ActionNoise(env, self.noise_m)
        return partial(_record, self, env, self.factory.make(env))


def _record(
    recipe: ActorRecorder, env: gym.Env[Any, Any], actor: Actor, seed: int, heartbeat: Heartbeat
) -> Attempt:
    heartbeat()
    recorder = EpisodeRecorder()
    with one_torch_thread():
        outcome = run_episode(env, actor, seed=seed, recorder=recorder)
    episode = recorder.finish(env, outcome, recipe.name)
    episode.meta["noise_m"] = recipe.noise_m
    if isinstance(recipe.factory, Expert):
        episode.meta["style"] = recipe.factory.style
    region = str(outcome.info["placement_region"])
    return Attempt(seed, region, outcome.stage, episode if outcome.success else None)
