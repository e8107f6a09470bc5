"""Whether a task can be solved without meaning to: actors that know nothing of it play whole episodes.

nice -n 19 python benchmarks/idle.py --episodes 200 --output docs/figures/idle.json

This takes 1.5 hours of CPU time. Each episode is noted beside the output, in idle.jsonl, as it ends; the same
command goes on from there.
"""

from __future__ import annotations

import argparse
import json
from collections import Counter
from collections.abc import Callable
from contextlib import ExitStack, closing
from functools import partial
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
from scipy.spatial.transform import Rotation

from simreal_envs.loop import run_episode
from simreal_envs.parallel import Heartbeat, Work, available_cores, run_in_processes
from simreal_envs.poses import pose, reachable_action
from simreal_envs.spec import action_space
from simreal_envs.tasks import TASKS
from simreal_envs.world_config import WorldConfig

STEP_M, TURN_RAD, MEMORY = 0.03, 0.1, 0.9
"""Of the random walk: standard deviations of a step's coordinates, and how much of the last step stays."""
SWITCHES = 0.05
"""How often the walk's fingers turn from closing to opening, or back, a step."""

DOWN = Rotation.from_matrix(np.diag([1.0, -1.0, -1.0]))


def uniform(world: Any, rng: np.random.Generator) -> Callable[[], np.ndarray]:
    """Any action of the action space, each anew."""
    box = action_space("pose")
    return lambda: rng.uniform(box.low, box.high).astype(np.float32)


def walk(world: Any, rng: np.random.Generator) -> Callable[[], np.ndarray]:
    """A smooth random walk of the hand, which points down more or less; fingers close now and then."""
    step, turn, gripper = np.zeros(3), np.zeros(3), 1.0

    def act() -> np.ndarray:
        nonlocal step, turn, gripper
        fresh = np.sqrt(1 - MEMORY**2)
        step = MEMORY * step + fresh * rng.normal(0.0, STEP_M, 3)
        turn = MEMORY * turn + fresh * rng.normal(0.0, TURN_RAD, 3)
        gripper *= -1.0 if rng.random() < SWITCHES else 1.0
        hand = world.end_effector_pose_in_base()
        target = pose((Rotation.from_rotvec(turn) * DOWN).as_matrix(), hand[:3, 3] + step)
        return reachable_action(target, gripper)

    return act


def still(world: Any, rng: np.random.Generator) -> Callable[[], np.ndarray]:
    """Where the hand is at the start, with open fingers."""
    there = reachable_action(world.end_effector_pose_in_base(), -1.0)
    return lambda: there


ACTORS = {"uniform": uniform, "walk": walk, "still": still}


class Trial(NamedTuple):
    """One episode: the task, who plays it, and the reset seed."""

    task: str
    actor: str
    seed: int


class Played(NamedTuple):
    """How it ended."""

    trial: Trial
    success: bool
    stage: str
    steps: int


class _Idle:
    """The actor of one episode after another."""

    def __init__(self, world: Any, actor: str, seed: int) -> None:
        self._world, self._make, self._seed = world, ACTORS[actor], seed

    def predict(
        self, observation: Any, state: Any = None, episode_start: Any = None, deterministic: bool = True
    ) -> tuple[np.ndarray, Any]:
        act = state or self._make(self._world, np.random.default_rng([self._seed, 1]))
        return act(), act


def _player(max_steps: int, stack: ExitStack) -> Work[Trial, Played]:
    envs: dict[str, Any] = {}

    def play(trial: Trial, heartbeat: Heartbeat) -> Played:
        if trial.task not in envs:
            env = WorldConfig(trial.task, obs="state", max_steps=max_steps).make("all")
            envs[trial.task] = stack.enter_context(closing(env))
        env = envs[trial.task]
        actor = _Idle(env.unwrapped, trial.actor, trial.seed)
        outcome = run_episode(env, actor, seed=trial.seed, recorder=lambda step: heartbeat())
        return Played(trial, outcome.success, outcome.stage, outcome.steps)

    return play


def summary(played: list[Played]) -> dict[str, Any]:
    """Of the episodes of one actor in one task."""
    stages = Counter(episode.stage for episode in played)
    return {
        "episodes": len(played),
        "steps": sum(episode.steps for episode in played),
        "solved": sum(episode.success for episode in played),
        "solved_seeds": sorted(episode.trial.seed for episode in played if episode.success),
        "furthest_stage": dict(stages.most_common()),
    }


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawTextHelpFormatter)
    parser.add_argument("--episodes", type=int, default=200, help="of each actor in each task")
    parser.add_argument("--steps", type=int, default=500, help="of an episode")
    parser.add_argument("--tasks", nargs="*", default=list(TASKS.built_in))
    parser.add_argument("--actors", nargs="*", default=list(ACTORS), choices=list(ACTORS))
    parser.add_argument("--workers", type=int, default=available_cores())
    parser.add_argument("--output", type=Path, help="JSON with all of it")
    arguments = parser.parse_args()
    cells = [(task, actor) for task in arguments.tasks for actor in arguments.actors]
    trials = [Trial(*cell, seed) for seed in range(arguments.episodes) for cell in cells]
    played: dict[Trial, Played] = {}
    log = arguments.output.with_suffix(".jsonl") if arguments.output else None
    if log is not None:
        log.parent.mkdir(parents=True, exist_ok=True)
        lines = map(json.loads, log.read_text().splitlines() if log.exists() else ())
        played = {(trial := Trial(*where)): Played(trial, *how) for where, *how in lines}
    missing = [trial for trial in trials if trial not in played]
    with closing(run_in_processes(partial(_player, arguments.steps), missing, arguments.workers)) as playing:
        for episode in playing:
            played[episode.trial] = episode
            if log is not None:
                with log.open("a") as file:
                    file.write(json.dumps(episode) + "\n")
            if episode.success:
                print(f"solved: {episode.trial}, {episode.steps} steps", flush=True)
    of: dict[str, dict[str, Any]] = {task: {} for task in arguments.tasks}
    for task, actor in cells:
        of[task][actor] = summary([played[trial] for trial in trials if trial[:2] == (task, actor)])
        print(f"{task}, {actor}: {json.dumps(of[task][actor])}", flush=True)
    if arguments.output:
        arguments.output.write_text(json.dumps({"max_steps": arguments.steps, "tasks": of}, indent=1) + "\n")


if __name__ == "__main__":
    main()
