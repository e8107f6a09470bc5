"""Plays every policy on the same episodes, in every region from every seed; skips episodes played before."""

from __future__ import annotations

import hashlib
import sys
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import ExitStack, closing, contextmanager
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import Any

import gymnasium as gym

from simreal_agents.actors.factories import ActorFactory
from simreal_agents.evaluation.episode_log import EpisodeLog, EpisodeResult, Key
from simreal_envs.errors import UsageError
from simreal_envs.loop import Actor, run_episode
from simreal_envs.parallel import Heartbeat, Work, run_in_processes
from simreal_envs.spec import REGIONS, check_choice
from simreal_envs.table_world import table_world
from simreal_envs.tasks.progress import failed_at
from simreal_envs.world_config import WorldConfig


@dataclass(frozen=True)
class Trial:
    """One episode to be played: the policy's name and identity, the robot, the region and the reset seed."""

    name: str
    actor: str
    robot: str
    region: str
    seed: int

    def key(self, world: WorldConfig) -> Key:
        there = (world.task, world.env, self.robot, world.shift, world.max_steps)
        return (self.actor, *there, self.region, self.seed)


Attend = Callable[[gym.Env[Any, Any], Trial], gym.Env[Any, Any]]
"""Wraps the environment for one episode, such as for a person who judges it."""


def unattended(env: gym.Env[Any, Any], trial: Trial) -> gym.Env[Any, Any]:
    """Leave the environment as it is: no person attends."""
    return env


def evaluate(
    actors: Mapping[str, ActorFactory],
    world: WorldConfig,
    regions: Sequence[str],
    seeds: Sequence[int],
    output: Path,
    workers: int = 1,
    on_result: Callable[[EpisodeResult], None] = lambda result: None,
    redo_interrupted: bool = False,
    attend: Attend = unattended,
) -> list[EpisodeResult]:
    """Play every actor in every region from every seed, and return how each episode ended.

    Args:
        actors: what to play, by the name that reports shall show.
        world: where.
        regions: ``in``, ``ood`` or ``all``.
        seeds: reset seeds, the same for every actor and region, see :func:`simreal_envs.seeds.seeds_for`.
        output: folder of the log (:class:`EpisodeLog`); episodes found in it are not played again.
        workers: processes; 1 plays in this one. There is only one robot.
        on_result: called for every episode, those found in the log first.
        redo_interrupted: play again the episodes that a fault broke off.
        attend: see :data:`Attend`; picklable if there are several workers.

    Returns:
        The results, ordered by region, actor and seed.

    Raises:
        UsageError, DataError: before anything is played, if an argument names what does not exist, an actor
            does not fit the world, or the log is damaged.
    """
    trials = _plan(actors, world, regions, seeds)
    with EpisodeLog(output) as log:
        found = [log.find(trial.key(world), trial.name) for trial in trials]
        results = {r.key: r for r in found if r is not None and not (redo_interrupted and r.interrupted)}
        missing = [trial for trial in trials if trial.key(world) not in results]
        if missing:
            _check(actors, world, regions[0])
        for result in results.values():
            on_result(result)
        workers = min(workers, world.workers or workers)
        playing = run_in_processes(partial(_make_player, actors, world, attend), missing, workers)
        with closing(playing):  # stops the processes, whatever happens here
            for result in playing:
                log.append(result)
                results[result.key] = result
                on_result(result)
    return [results[trial.key(world)] for trial in trials]


def _plan(
    actors: Mapping[str, ActorFactory], world: WorldConfig, regions: Sequence[str], seeds: Sequence[int]
) -> list[Trial]:
    """Every episode, those of one region one after another.

    Raises:
        UsageError: there are none, one is asked for twice, or a region does not exist.
    """
    for region in regions:
        check_choice("region", region, REGIONS)
    identities = {name: factory.identity() for name, factory in actors.items()}
    robot = _robot(world)
    trials = [
        Trial(name, identities[name], robot, region, seed)
        for region in regions
        for name in actors
        for seed in seeds
    ]
    if not trials or len({trial.key(world) for trial in trials}) != len(trials):
        raise UsageError("An evaluation needs at least one policy, region and seed, and none of them twice.")
    return trials


def _robot(world: WorldConfig) -> str:
    """See :class:`EpisodeResult`; other limits are another robot to a policy."""
    if world.env == "sim":
        return ""
    from simreal_envs.robot.safety import load_limits

    limits = hashlib.sha256(repr(load_limits(world.limits)).encode()).hexdigest()[:12]
    return f"{world.host} {limits}" if world.env == "real" else limits


def _check(actors: Mapping[str, ActorFactory], world: WorldConfig, region: str) -> None:
    """Make the world and every actor once, so that nothing starts that cannot be finished."""
    env = world.make(region)
    try:
        for factory in actors.values():
            factory.make(env)
    finally:
        env.close()


def _make_player(
    actors: Mapping[str, ActorFactory], world: WorldConfig, attend: Attend, stack: ExitStack
) -> Work[Trial, EpisodeResult]:
    return stack.enter_context(closing(_Player(actors, world, attend)))


class _Player:
    """Plays trials one after another; keeps environment and actor while they stay the same."""

    def __init__(self, actors: Mapping[str, ActorFactory], world: WorldConfig, attend: Attend) -> None:
        self._actors, self._world, self._attend = actors, world, attend
        self._env: gym.Env[Any, Any] | None = None
        self._actor: Actor | None = None
        self._set_up_for = ("", "")

    def __call__(self, trial: Trial, heartbeat: Heartbeat) -> EpisodeResult:
        env, actor = self._set_up(trial)
        attended = self._attend(env, trial)
        with one_torch_thread():
            outcome = run_episode(attended, actor, seed=trial.seed, recorder=lambda step: heartbeat())
        stages = table_world(env).task.stages
        return EpisodeResult(
            name=trial.name,
            actor=trial.actor,
            task=self._world.task,
            env=self._world.env,
            shift=self._world.shift,
            region=trial.region,
            seed=trial.seed,
            max_steps=self._world.max_steps,
            success=outcome.success,
            steps=outcome.steps,
            stages_reached=outcome.stages_reached,
            failed_at=failed_at(stages, outcome.stages_reached, outcome.success),
            interrupted=outcome.interrupted,
            robot=trial.robot,
        )

    def close(self) -> None:
        if self._env is not None:
            self._env.close()

    def _set_up(self, trial: Trial) -> tuple[gym.Env[Any, Any], Actor]:
        region, name = self._set_up_for
        if self._env is None or region != trial.region:
            self.close()
            self._env, self._actor = self._world.make(trial.region, render_mode="rgb_array"), None
        if self._actor is None or name != trial.name:
            self._actor = self._actors[trial.name].make(self._env)
        self._set_up_for = (trial.region, trial.name)
        return self._env, self._actor


@contextmanager
def one_torch_thread() -> Iterator[None]:
    """A policy computes in small batches, which more threads slow down; an expert needs no torch."""
    torch = sys.modules.get("torch")
    if torch is None:
        yield
        return
    threads = torch.get_num_threads()
    torch.set_num_threads(1)
    try:
        yield
    finally:
        torch.set_num_threads(threads)
