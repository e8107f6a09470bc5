"""A recorded episode executed again, slowly first: in simulation, on the virtual rig or on the robot."""

from __future__ import annotations

import math
from contextlib import closing
from dataclasses import dataclass
from typing import Any

import numpy as np
from scipy.spatial.transform import Rotation, Slerp

from simreal_agents.operators.teleoperation import hand_pose_in_base
from simreal_datasets.store.episode import Episode
from simreal_envs import kinematics
from simreal_envs.errors import RobotError, UsageError
from simreal_envs.loop import Outcome, run_episode
from simreal_envs.poses import pose, pose_from_action, reachable_action
from simreal_envs.spec import REGIONS, FloatArray
from simreal_envs.tasks import get_task
from simreal_envs.tasks.placement import placement_of
from simreal_envs.tasks.starts import Placement
from simreal_envs.vector import of_one_world
from simreal_envs.world_config import WorldConfig
from simreal_envs.wrappers import delta_to_pose

LEAD_IN_STEPS = 30
"""At full speed the hand takes 1.5 s to where it was at the recorded start, wherever it is."""
HOLD_STEPS = 20
"""The last target is held for a second."""


class ReplayActor:
    """Follows the targets of an episode at a fraction of their speed; between them it interpolates.

    Attributes:
        deviations_m: distance of the hand from the recorded path, at every step after it reached the path.
    """

    def __init__(self, episode: Episode, speed: float) -> None:
        actions = pose_actions(episode)
        self._poses = np.stack([pose_from_action(action) for action in actions])
        self._gripper = actions[:, 6]
        self._start = hand_pose_in_base({name: values[0] for name, values in episode.observations.items()})
        self._path_m = episode.observations["robot0_eef_pos"]
        self._speed = speed
        self._lead_in_steps = math.ceil(LEAD_IN_STEPS / speed)
        self.deviations_m: list[float] = []

    def steps(self) -> int:
        """How many control steps the replay takes."""
        return self._lead_in_steps + math.ceil((len(self._poses) - 1) / self._speed) + 1 + HOLD_STEPS

    @of_one_world("robot0_eef_pos", "robot0_eef_quat")
    def predict(
        self,
        observation: Any,
        state: Any = None,
        episode_start: Any = None,
        deterministic: bool = True,
    ) -> tuple[np.ndarray, Any]:
        """A ``pose`` action (7,) float32; the state is (step, where the hand started)."""
        if state is None:
            state = (0, hand_pose_in_base(observation))
            self.deviations_m = []
        step, start = state
        if step < self._lead_in_steps:
            target = interpolate(start, self._start, (step + 1) / self._lead_in_steps)
            return reachable_action(target, float(self._gripper[0])), (step + 1, start)
        last = len(self._poses) - 1
        phase = min((step - self._lead_in_steps) * self._speed, last)
        now = int(phase)
        away_m = np.linalg.norm(self._path_m - observation["robot0_eef_pos"], axis=1)
        self.deviations_m.append(float(away_m.min()))
        target = interpolate(self._poses[now], self._poses[min(now + 1, last)], phase - now)
        return reachable_action(target, float(self._gripper[now])), (step + 1, start)


@dataclass(frozen=True)
class Replay:
    """How a replay went: its outcome, and the distance in m to the recorded path (mean, and at most)."""

    outcome: Outcome
    mean_deviation_m: float
    max_deviation_m: float


def replay(
    episode: Episode,
    env: str,
    speed: float,
    host: str | None = None,
    serial: str | None = None,
    limits: str | None = None,
) -> Replay:
    """Put the objects where they were and execute the recorded actions again.

    Args:
        episode: what was recorded, in any world.
        env: where to execute it: ``sim``, ``rig`` or ``real``.
        speed: 1 for the recorded speed, less for slower.
        host, serial, limits: of the robot, see :class:`simreal_envs.world_config.WorldConfig`.

    Raises:
        UsageError: an argument is not one of the valid ones, or the task was solved before the path began.
        RobotError: the robot stopped; names the cause.
    """
    if not 0.05 <= speed <= 1:
        raise UsageError(f"Speed {speed} must be from 0.05 to 1, the recorded speed.")
    meta = episode.meta
    actor = ReplayActor(episode, speed)
    obs = "image" if env == "real" else "state"
    world = WorldConfig(
        meta["task"], env, obs=obs, max_steps=actor.steps(), host=host, serial=serial, limits=limits
    )
    region = meta["region"] if meta.get("region") in REGIONS else "all"
    with closing(world.make(region)) as made:
        placement = recorded_placement(episode)
        options = {"placement": placement} if placement else None
        outcome = run_episode(made, actor, seed=meta.get("seed"), options=options)
    if outcome.interrupted:
        raise RobotError(f"The replay was interrupted: {outcome.interrupted}.")
    if not actor.deviations_m:
        raise UsageError("The task counts as solved before the recorded path began: nothing was replayed.")
    return Replay(outcome, float(np.mean(actor.deviations_m)), float(np.max(actor.deviations_m)))


def pose_actions(episode: Episode) -> FloatArray:
    """The episode's actions as ``pose`` actions (T, 7), whatever their kind."""
    kind = episode.meta["action_kind"]
    if kind == "pose":
        return episode.actions
    if kind == "joint":
        return np.stack([reachable_action(kinematics.forward(a[:7]), float(a[7])) for a in episode.actions])
    seen = [{name: values[t] for name, values in episode.observations.items()} for t in range(len(episode))]
    return np.stack(
        [delta_to_pose(a, hand_pose_in_base(o)) for a, o in zip(episode.actions, seen, strict=True)]
    )


def recorded_placement(episode: Episode) -> Placement:
    """Where the objects started; empty if that was not recorded, so that the seed has to decide."""
    if episode.datagen is None:
        return {}
    starts = {name: poses[0] for name, poses in episode.datagen.object_poses.items()}
    return placement_of(get_task(episode.meta["task"]), starts)


def interpolate(start: FloatArray, end: FloatArray, part: float) -> FloatArray:
    """The pose (4, 4) at ``part`` of the way, straight and by the shortest turn."""
    turn = Slerp([0.0, 1.0], Rotation.from_matrix([start[:3, :3], end[:3, :3]]))
    return pose(turn(part).as_matrix(), start[:3, 3] + part * (end[:3, 3] - start[:3, 3]))
