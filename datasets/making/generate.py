"""Generates many demonstrations from a few: moves their segments to new scenes, executes, keeps successes.

An attempt is simulated without images; only a success is rendered afterwards, from its recorded states.
"""

from __future__ import annotations

import logging
from collections import deque
from collections.abc import Sequence
from contextlib import ExitStack, closing
from dataclasses import dataclass, replace
from functools import partial
from pathlib import Path
from typing import Any, NamedTuple

import gymnasium as gym
import numpy as np

from simreal_datasets.making.fill import Attempt
from simreal_datasets.making.segments import Segment, bridge, cut, equivalents, move
from simreal_datasets.store.dataset import Dataset
from simreal_datasets.store.episode import Episode
from simreal_datasets.store.metadata import how_it_ended
from simreal_datasets.store.recorder import EpisodeRecorder
from simreal_envs.errors import DataError, UsageError
from simreal_envs.loop import run_episode
from simreal_envs.opengl import leave_out_torch
from simreal_envs.parallel import Heartbeat, Work
from simreal_envs.poses import actions_from_poses
from simreal_envs.spec import REGIONS, WORKSPACE_HIGH_M, WORKSPACE_LOW_M, check_choice
from simreal_envs.tasks import get_task
from simreal_envs.vector import of_one_world
from simreal_envs.world_config import WorldConfig
from simreal_envs.wrappers import ActionNoise, check_noise

SELECTIONS = ("random", "nearest_object", "nearest_robot")
NEAREST = 3
"""A nearest-neighbour selection draws among this many, so that it does not always take the same one."""

MAX_STEPS = 400

AT_M = 0.0015
"""The hand has arrived at the pose where the gripper switches if it is at most this far away."""
MAX_NO_NEARER, MAX_WAIT_STEPS = 3, 20
"""The wait ends if the hand came no nearer in so many steps (a disturbed arm), or after so many steps."""

logger = logging.getLogger(__name__)


def select(
    strategy: str,
    segments: Sequence[Segment],
    reference_now: np.ndarray,
    hand_now: np.ndarray,
    symmetry: int,
    rng: np.random.Generator,
) -> int:
    """Select the demonstration whose segment is used next.

    ``random``: any. ``nearest_object``: one whose object lay nearly as it lies now (distance in metres, plus
    a tenth of the angle in radians). ``nearest_robot``: one whose segment, once moved, starts near the hand.
    Of the ``symmetry`` yaws under which the object is the same, the nearest counts.
    """
    if strategy == "random":
        return int(rng.integers(len(segments)))
    lies = equivalents(reference_now, symmetry)
    if strategy == "nearest_object":
        distances = [min(_distance(s.reference, now) for now in lies) for s in segments]
    else:
        distances = [
            min(_distance(now @ np.linalg.inv(s.reference) @ s.targets[0], hand_now) for now in lies)
            for s in segments
        ]
    nearest = np.argsort(distances, kind="stable")[:NEAREST]
    return int(rng.choice(nearest))


def _distance(a: np.ndarray, b: np.ndarray) -> float:
    cosine = np.clip((np.trace(a[:3, :3].T @ b[:3, :3]) - 1) / 2, -1.0, 1.0)
    return float(np.linalg.norm(a[:3, 3] - b[:3, 3]) + 0.1 * np.arccos(cosine))


class Step(NamedTuple):
    """One step of a plan: its ``pose`` action (7,), and the pose (4, 4) to be at before a switch."""

    action: np.ndarray
    hand: np.ndarray | None = None


class SegmentActor:
    """Acts out one segment after the other, each chosen and moved when its turn comes, then holds still.

    Before the gripper switches, the actor waits until the hand is where the demonstrator's was
    (:data:`AT_M`), since a re-timed path is faster than the arm can follow. It waits no longer once the hand
    comes no nearer.

    Args:
        world: an unwrapped world whose object poses are known.
        demonstrations: for each one its segments, in the order of the task's subtasks.
        selection: one of :data:`SELECTIONS`.
        rng: draws the demonstrations.
    """

    def __init__(
        self,
        world: Any,
        demonstrations: Sequence[Sequence[Segment]],
        selection: str,
        rng: np.random.Generator,
    ) -> None:
        self._world, self._demonstrations = world, demonstrations
        self._selection, self._rng = selection, rng
        self._plan: deque[Step] = deque()
        self._next_subtask = 0
        self._last: tuple[np.ndarray, float] | None = None
        self._waiting = _Waiting()
        self._done = np.empty(0, np.float32)
        """The last action that was given."""

    @of_one_world()
    def predict(
        self, observation: Any, state: Any = None, episode_start: Any = None, deterministic: bool = True
    ) -> tuple[np.ndarray, Any]:
        """A ``pose`` action (7,)."""
        if not self._plan and self._next_subtask < len(self._world.task.subtasks):
            self._plan = self._plan_subtask(self._next_subtask)  # from wherever the hand is
            self._next_subtask += 1
        if self._plan:
            action, hand = self._plan[0]
            if hand is not None and self._waiting.goes_on(self._world.end_effector_pose_in_base(), hand):
                action = _reachable(hand[None], self._waiting.gripper)[0]
            else:
                self._plan.popleft()
                self._waiting = _Waiting(float(action[6]))
            self._done = action
        return self._done, None

    def _plan_subtask(self, index: int) -> deque[Step]:
        world, candidates = self._world, [d[index] for d in self._demonstrations]
        subtask, objects = candidates[0].subtask, world.object_poses_in_base()
        hand, reference = world.end_effector_pose_in_base(), objects[subtask.reference]
        symmetry = world.task.object_symmetry.get(subtask.reference, 1)
        chosen = candidates[select(self._selection, candidates, reference, hand, symmetry, self._rng)]
        held = objects[subtask.held] if subtask.held else None
        segment = move(chosen, reference, symmetry, hand, held)
        start = self._last[0] if self._last else hand
        gripper = self._last[1] if self._last else segment.gripper[0]
        bridged = bridge(start, segment.targets[0])
        self._last = (segment.targets[-1], segment.gripper[-1])
        self._waiting = _Waiting(gripper)
        actions = [*_reachable(bridged, gripper), *_reachable(segment.targets, segment.gripper)]
        waits_at = {len(bridged) + switch.step: switch.hand for switch in segment.switches}
        return deque(Step(action, waits_at.get(i)) for i, action in enumerate(actions))


@dataclass
class _Waiting:
    """Waits for the hand to reach the pose where the gripper is to switch; until then ``gripper`` holds."""

    gripper: float = -1.0
    nearest_m: float = np.inf
    steps: int = 0
    no_nearer: int = 0

    def goes_on(self, hand: np.ndarray, goal: np.ndarray) -> bool:
        """Whether to wait for one more step."""
        apart_m = float(np.linalg.norm(hand[:3, 3] - goal[:3, 3]))
        if apart_m < AT_M or self.steps == MAX_WAIT_STEPS or self.no_nearer == MAX_NO_NEARER:
            return False
        self.steps += 1
        self.no_nearer += apart_m >= self.nearest_m
        self.nearest_m = min(self.nearest_m, apart_m)
        return True


def _reachable(poses: np.ndarray, gripper: np.ndarray | float) -> np.ndarray:
    """Actions (T, 7) float32 that ask for poses (T, 4, 4), positions clipped to the workspace."""
    actions = actions_from_poses(poses, np.broadcast_to(gripper, len(poses)))
    actions[:, :3] = np.clip(actions[:, :3], WORKSPACE_LOW_M, WORKSPACE_HIGH_M)
    return actions.astype(np.float32)


class Demonstrations(NamedTuple):
    """The segments of each usable demonstration of a dataset, and why others are left out."""

    task: str
    segments: list[list[Segment]]
    left_out: list[str]


def load_segments(path: Path | str) -> Demonstrations:
    """Cut a dataset's successful demonstrations.

    Raises:
        DataError: none of them can be cut; says why.
    """
    dataset = Dataset(path)
    dataset.verify()
    task = get_task(dataset.infos[0].meta["task"])
    segments = []
    left_out = [f"{file.name}: damaged, {reason}" for file, reason in dataset.damaged]
    for i, info in enumerate(dataset.infos):
        how, stage = how_it_ended(info.meta), info.meta.get("stage")
        if how != "success":
            left_out.append(f"{info.path.name}: it {_ENDED[how]} after the stage {stage!r}")
            continue
        try:
            datagen = dataset.read(i, keys=()).datagen
            if datagen is None:
                left_out.append(f"{info.path.name}: {_why_unknown(info.meta['action_kind'])}")
            else:
                segments.append(cut(datagen, task, info.path.name))
        except DataError as error:
            left_out.append(str(error))
    if not segments:
        raise DataError(f"Dataset {path} has no demonstration to generate from. {'; '.join(left_out)}")
    return Demonstrations(task.name, segments, left_out)


_ENDED = {"failed": "failed", "interrupted": "was interrupted"}


def _why_unknown(action_kind: str) -> str:
    """Why an episode has no object poses."""
    if action_kind == "pose":
        return "no object poses"
    return f"its actions are {action_kind!r}, and pose actions are needed"


@dataclass(frozen=True)
class Generator:
    """The recipe that every worker process follows; call :meth:`make_work` in the worker.

    Args:
        demonstrations: dataset folder of those that are cut and moved.
        world: what the generated episodes shall show (its ``obs`` may hold images).
        region: where objects start.
        selection: one of :data:`SELECTIONS`.
        noise_m: standard deviation of the disturbance, see :class:`simreal_envs.wrappers.ActionNoise`.
    """

    demonstrations: Path
    world: WorldConfig
    region: str = "all"
    selection: str = "nearest_object"
    noise_m: float = 0.003

    def check(self) -> None:
        """Refuse what cannot work before any process starts; warn of demonstrations that are left out.

        Raises:
            UsageError, DataError: names what does not fit.
        """
        check_choice("selection", self.selection, SELECTIONS)
        check_choice("region", self.region, REGIONS)
        check_noise(self.noise_m)
        found = load_segments(self.demonstrations)
        if found.task != self.world.task:
            raise DataError(
                f"Dataset {self.demonstrations} is of task {found.task!r}, not {self.world.task!r}."
            )
        for reason in found.left_out:
            logger.warning("Not generated from %s", reason)
        if self.world.env == "real":
            raise UsageError("Generation needs object poses, which env 'real' has not. Valid: sim, rig.")

    def make_work(self, stack: ExitStack) -> Work[int, Attempt]:
        """What a worker does for each seed; ``stack`` closes its worlds."""

        def open_world(world: WorldConfig) -> gym.Env[Any, Any]:
            return stack.enter_context(closing(world.make(self.region)))

        leave_out_torch()
        demonstrations = load_segments(self.demonstrations).segments
        world = replace(self.world, history=1)
        if world.env != "sim":  # in real time nothing can be shown afterwards
            live = ActionNoise(open_world(replace(world, max_steps=MAX_STEPS)), self.noise_m)
            return partial(_attempt, self, live, None, demonstrations)
        blind = WorldConfig(world.task, shift=world.shift, obs="state", max_steps=MAX_STEPS)
        env = ActionNoise(open_world(blind), self.noise_m)
        looks = world.obs != "state" or world.shift != "none"
        shown = open_world(world) if looks else None
        return partial(_attempt, self, env, shown, demonstrations)


def _attempt(
    recipe: Generator,
    env: gym.Env[Any, Any],
    shown: gym.Env[Any, Any] | None,
    demonstrations: Sequence[Sequence[Segment]],
    seed: int,
    heartbeat: Heartbeat,
) -> Attempt:
    heartbeat()
    actor = SegmentActor(env.unwrapped, demonstrations, recipe.selection, np.random.default_rng([seed, 1]))
    recorder = EpisodeRecorder()
    outcome = run_episode(env, actor, seed=seed, recorder=recorder)
    region = str(outcome.info["placement_region"])
    episode = recorder.finish(env, outcome, "generate")
    if not outcome.success:
        return Attempt(seed, region, outcome.stage, None)
    if shown is not None:
        episode = show(episode, shown, seed)
    episode.meta["generation"] = {
        "demonstrations": str(recipe.demonstrations),
        "selection": recipe.selection,
        "noise_m": recipe.noise_m,
    }
    return Attempt(seed, region, outcome.stage, episode)


def show(episode: Episode, env: gym.Env[Any, Any], seed: int) -> Episode:
    """The episode as another world of the same task sees it: its states are set and observed one by one."""
    world: Any = env.unwrapped
    assert episode.states is not None
    env.reset(seed=seed)
    seen = []
    for state in episode.states:
        world.set_sim_state(state)
        seen.append(world.observe())
    observations = {name: np.stack([o[name] for o in seen]) for name in seen[0]}
    meta = episode.meta | world.describe()
    return Episode(
        observations,
        episode.actions,
        episode.rewards,
        episode.dones,
        meta,
        episode.states,
        episode.model_xml,
        episode.datagen,
    )
