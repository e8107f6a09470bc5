"""Evaluation on hardware, where no rule says what is solved: a person watches, and judges or gives up."""

from __future__ import annotations

from collections import Counter
from collections.abc import Mapping, Sequence
from contextlib import closing
from pathlib import Path
from typing import Any

import gymnasium as gym
import numpy as np

from simreal_agents.actors.factories import ActorFactory, Expert
from simreal_agents.evaluation.episode_log import EpisodeResult
from simreal_agents.evaluation.play import Trial, evaluate
from simreal_agents.operators.attended import STOP, AttendedWorld, Operator, SessionOver
from simreal_agents.operators.live_view import State, choose_view
from simreal_agents.operators.terminal import Terminal
from simreal_envs.errors import UsageError
from simreal_envs.loop import Observation
from simreal_envs.world_config import WorldConfig


def evaluate_attended(
    actors: Mapping[str, ActorFactory],
    world: WorldConfig,
    regions: Sequence[str],
    seeds: Sequence[int],
    output: Path,
    redo_interrupted: bool = False,
) -> list[EpisodeResult]:
    """:func:`evaluate` with an operator, at the terminal and before the live view.

    Raises:
        KeyboardInterrupt: the operator stops; what was finished is in the log.
        UsageError: there is no terminal, or an actor is the scripted expert; before the robot is contacted.
    """
    if any(isinstance(factory, Expert) for factory in actors.values()):
        raise UsageError(
            f"The scripted expert reads object poses, which nobody knows in env {world.env!r}: "
            "evaluate run folders there."
        )
    with Terminal() as terminal, closing(choose_view()) as view:
        judge = Judge(Operator(terminal, view), len(actors) * len(regions) * len(seeds))
        return evaluate(actors, world, regions, seeds, output, 1, judge.count, redo_interrupted, judge.attend)


class JudgedWorld(AttendedWorld):
    """An attended world in which giving up is a failure; stopping leaves the episode unfinished."""

    acting = State.PLAYING
    ways_out = f"Backspace gives up, {STOP} gives up and stops"

    def step(self, action: np.ndarray) -> tuple[Observation, float, bool, bool, dict[str, Any]]:
        """As ever.

        Raises:
            SessionOver: the operator stops.
        """
        transition = super().step(action)
        if self.ended_by == STOP:
            raise SessionOver
        return transition


class Judge:
    """Shows the operator of an evaluation which episode is played, and how each one ended.

    Args:
        operator: who judges.
        total: number of episodes.
    """

    def __init__(self, operator: Operator, total: int) -> None:
        self._operator, self._total = operator, total
        self._ended: Counter[tuple[str, str]] = Counter()
        self._solved: Counter[tuple[str, str]] = Counter()
        self._world: JudgedWorld | None = None

    def attend(self, env: gym.Env[Any, Any], trial: Trial) -> gym.Env[Any, Any]:
        """The environment for one episode, with the operator in it."""
        self._world = JudgedWorld(env, self._operator, by_hand=False)
        self._world.progress = (
            f"episode {self._ended.total() + 1} of {self._total}, seed {trial.seed}, "
            f"{self._score(trial.name, trial.region)}"
        )
        return self._world

    def count(self, result: EpisodeResult) -> None:
        """Count an episode, and say how it ended unless it was found in the log."""
        self._ended[result.name, result.region] += 1
        self._solved[result.name, result.region] += result.success
        if self._world is None:
            return
        state = State.SOLVED if result.success else State.FAILED
        state = State.INTERRUPTED if result.interrupted else state
        parts = [result.interrupted, f"{result.steps} steps", self._score(result.name, result.region)]
        self._world.tell(state, ", ".join(part for part in parts if part))

    def _score(self, name: str, region: str) -> str:
        return f"{name} {region}: {self._solved[name, region]} of {self._ended[name, region]} solved"
