"""Acting by hand: what a device says becomes absolute targets; what a guided arm does becomes actions."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import numpy as np
from scipy.spatial.transform import Rotation

from simreal_agents.operators.devices import Motion
from simreal_datasets.store.recorder import EpisodeRecorder
from simreal_envs.errors import UsageError
from simreal_envs.loop import Step
from simreal_envs.poses import pose, pose_from_action, reachable_action
from simreal_envs.spec import CONTROL_HZ, DELTA_POSITION_M, FloatArray
from simreal_envs.vector import of_one_world
from simreal_envs.wrappers import delta_to_pose, pose_to_delta

OPEN, CLOSED = -1.0, 1.0
MAX_SPEED_MPS = 0.5


def check_speed(speed_mps: float) -> None:
    """Raise UsageError unless the full speed of a device is above 0 and at most 0.5 m/s."""
    if not 0 < speed_mps <= MAX_SPEED_MPS:
        raise UsageError(f"Speed {speed_mps} m/s must be above 0 and at most {MAX_SPEED_MPS}.")


class Teleoperator:
    """An actor that follows a device.

    The *target* is moved on, not the measured pose: an arm that lags or is pushed does not drift. The target
    stays within a full delta action (5 cm, 0.5 rad) of the hand, so that pushing against the table does not
    wind up.
    The state is (target (4, 4), gripper).

    Args:
        motion: what the operator wants now.
        speed_mps: full speed along an axis; turning is scaled alike, 0.1 m/s is 1 rad/s.
    """

    def __init__(self, motion: Callable[[], Motion], speed_mps: float) -> None:
        check_speed(speed_mps)
        self._motion = motion
        self._delta_at_full_speed = speed_mps / CONTROL_HZ / DELTA_POSITION_M

    @of_one_world("robot0_eef_pos", "robot0_eef_quat")
    def predict(
        self,
        observation: Any,
        state: Any = None,
        episode_start: Any = None,
        deterministic: bool = True,
    ) -> tuple[np.ndarray, Any]:
        """A ``pose`` action (7,) float32."""
        hand = hand_pose_in_base(observation)
        if state is None:
            state = (hand, OPEN)
        target, gripper = state
        motion = self._motion()
        gripper = gripper_after(motion, gripper)
        delta = np.r_[self._delta_at_full_speed * motion.velocity, gripper]
        wanted = delta_to_pose(delta, target)
        action = delta_to_pose(pose_to_delta(wanted, hand), hand)
        return action, (pose_from_action(action), gripper)


class GuidedHand:
    """An actor for an arm that a person moves: its action is the pose that the hand has now.

    :class:`GuidedRecorder` replaces this pose in the record by the one that the hand had a step later.
    """

    def __init__(self, motion: Callable[[], Motion]) -> None:
        self._motion = motion

    @of_one_world("robot0_eef_pos", "robot0_eef_quat")
    def predict(
        self,
        observation: Any,
        state: Any = None,
        episode_start: Any = None,
        deterministic: bool = True,
    ) -> tuple[np.ndarray, Any]:
        """A ``pose`` action (7,) float32; the state is the gripper."""
        if state is None:
            state = OPEN
        gripper = gripper_after(self._motion(), state)
        return reachable_action(hand_pose_in_base(observation), gripper), gripper


class GuidedRecorder(EpisodeRecorder):
    """Records each action with the hand's pose one step later, which is where the person guided the hand.

    The last action keeps its own pose.
    """

    def __call__(self, step: Step) -> None:
        if self._steps:
            self._steps[-1].action[:6] = step.action[:6]
        super().__call__(step)


def hand_pose_in_base(observation: dict[str, np.ndarray]) -> FloatArray:
    """(4, 4) pose of the end effector in an observation."""
    rotation = Rotation.from_quat(observation["robot0_eef_quat"]).as_matrix()
    return pose(rotation, observation["robot0_eef_pos"])


def gripper_after(motion: Motion, gripper: float) -> float:
    """The gripper's command after a motion, -1 (open) or 1 (closed)."""
    return {"": gripper, "open": OPEN, "close": CLOSED, "toggle": -gripper}[motion.grip]
