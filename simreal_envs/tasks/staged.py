"""A staged reward: how far the scene has come through a task's stages, from 0 to 1, and its change a step.

The share of the task that is done is ``max_i (i - 1 + c_i) / n`` over those of the ``n`` stages that have
begun. ``c_i`` is 1 if the condition of stage ``i`` holds now, else 0.9 times its closeness, which the task
defines. The rest of a stage's share is given when its condition holds.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING

import numpy as np

from simreal_envs.errors import unknown
from simreal_envs.spec import FloatArray, check_choice

if TYPE_CHECKING:
    from simreal_envs.sim.physics import Physics
    from simreal_envs.tasks.base import Task

REWARDS = ("sparse", "staged")
SPARSE, STAGED = REWARDS

SHAPED = 0.9
"""What closeness can give of a stage's share."""
REACH_M = 0.1
"""Distances of this size are seen best; as in robosuite's shaped rewards."""
GRASP_M = 0.03
"""The grasp is seen to come closer from this distance on."""
FIT_M = 0.02
"""The same for what is to be let down into its place."""


def near(distance_m: float, scale_m: float = REACH_M) -> float:
    """1 at no distance and close to 0 beyond three times the scale."""
    return float(1 - np.tanh(distance_m / scale_m))


def picking(
    physics: Physics, name: str, at: FloatArray, now: Mapping[str, bool], rest_m: float, lifted_m: float
) -> dict[str, float]:
    """Closeness of the stages ``reach``, ``grasp`` and ``lift``.

    Args:
        name: of the object.
        at: where the hand shall grasp it (3,), base frame.
        now: whether the stages' conditions hold.
        rest_m, lifted_m: height of the object's origin on the table, and when it counts as lifted.
    """
    distance_m = float(np.linalg.norm(physics.end_effector_pose_in_base()[:3, 3] - at))
    fingers_on = 0.25 * physics.fingers_touching(name)
    risen = (physics.object_position_in_base(name)[2] - rest_m) / (lifted_m - rest_m)
    return {
        "reach": near(distance_m),
        "grasp": 0.5 * max(0.0, 1 - distance_m / GRASP_M) + fingers_on if now["reach"] else 0.0,
        "lift": float(risen) if now["grasp"] else 0.0,
    }


def let_down(beside_m: float, over_m: float, fits: float = 1.0) -> float:
    """Closeness of something that is carried over its goal and then let down: height counts only over it.

    Args:
        beside_m, over_m: horizontal and vertical distance from the goal.
        fits: how well it is turned as it has to be, 0 to 1.
    """
    return 0.5 * near(beside_m) + 0.5 * near(beside_m, FIT_M) * near(abs(over_m)) * fits


def released(physics: Physics, name: str, resting_mps: float) -> float:
    """Closeness of a release: both fingers are off the object, and it comes to rest."""
    touching = physics.fingers_touching(name)
    if touching:
        return 0.25 * (2 - touching)
    return 0.5 + 0.5 * min(1.0, resting_mps / max(physics.object_speed_mps(name), resting_mps))


def share_done(stages: Sequence[str], now: Mapping[str, bool], closeness: Mapping[str, float]) -> float:
    """The share of the task that is done, 0 to 1; 1 only if the last stage's condition holds.

    Args:
        stages: of the task, in order.
        now: for each stage, whether its condition holds.
        closeness: see :attr:`simreal_envs.tasks.base.Task.closeness`; clipped to 0 to 1.

    >>> share_done(("reach", "lift"), {"reach": True, "lift": False}, {"lift": 0.5})
    0.725
    """
    begun = {
        stage: 1.0 if now[stage] else SHAPED * min(1.0, max(0.0, closeness.get(stage, 0.0)))
        for stage in stages
    }
    return max(
        ((i + begun[stage]) / len(stages) for i, stage in enumerate(stages) if begun[stage]), default=0.0
    )


class StagedReward:
    """The reward of each step is the change of the share that is done since the step before.

    An episode's sum is 0 if nothing has changed, never more than 1, and 1 exactly at success. What is given
    for progress is taken back if it is lost; nothing is given for staying.

    Args:
        start: the share at the reset, which counts as 0.
    """

    def __init__(self, start: float) -> None:
        self._start = start
        self.earned = 0.0
        """The sum of the rewards so far."""

    def step(self, share: float) -> float:
        """The reward for the share that is done now."""
        before = self.earned
        self.earned = (share - self._start) / (1 - self._start) if self._start < 1 else 0.0
        return self.earned - before


def check_reward(reward: str, task: Task, knows_objects: bool = True) -> str:
    """Return the kind of reward if this task can give it in such a world.

    Raises:
        UsageError: it is none of :data:`REWARDS`, the task does not say how close its stages are, or nobody
            knows where the objects are.
    """
    check_choice("reward", reward, REWARDS)
    if reward == STAGED and not knows_objects:
        raise unknown("reward of a robot, where nobody knows object poses,", reward, (SPARSE,))
    if reward == STAGED and task.closeness is None:
        raise unknown(f"reward of {task.name}, which has no `closeness`,", reward, (SPARSE,))
    return reward
