"""Other ways to command a world, as Gymnasium wrappers over the native ``pose`` action.

| wrapper | action |
|---|---|
| :class:`DeltaActions` | ``delta``: [-1, 1]^7 relative to the present pose (teleoperation, RL, old data) |
| :class:`JointActions` | ``joint``: seven absolute joint angles and the gripper, sent as the hand's pose |
| :class:`ActionNoise` | the wrapped world's; it is disturbed, but the intended action is recorded |

Each passes its arguments to Gymnasium's spec, so that a stack can be rebuilt from ``env.spec``.
"""

from __future__ import annotations

from typing import Any

import gymnasium as gym
import numpy as np
from scipy.spatial.transform import Rotation

from simreal_envs import kinematics, spec
from simreal_envs.errors import UsageError
from simreal_envs.poses import pose_from_action, reachable_action
from simreal_envs.spec import FloatArray
from simreal_envs.stack import Commands, Env


def delta_to_pose(delta: FloatArray, end_effector_in_base: FloatArray) -> np.ndarray:
    """A ``delta`` action as ``pose`` action: robosuite's OSC_POSE scale, rotation about the base's axes."""
    target = end_effector_in_base.copy()
    target[:3, 3] += spec.DELTA_POSITION_M * np.asarray(delta[:3], np.float64)
    turn = Rotation.from_rotvec(spec.DELTA_ROTATION_RAD * np.asarray(delta[3:6], np.float64))
    target[:3, :3] = turn.as_matrix() @ end_effector_in_base[:3, :3]
    return reachable_action(target, float(delta[6]))


def pose_to_delta(action: FloatArray, end_effector_in_base: FloatArray) -> np.ndarray:
    """The inverse of :func:`delta_to_pose`, clipped to [-1, 1]."""
    target = pose_from_action(action)
    position = (target[:3, 3] - end_effector_in_base[:3, 3]) / spec.DELTA_POSITION_M
    turn = Rotation.from_matrix(target[:3, :3] @ end_effector_in_base[:3, :3].T).as_rotvec()
    delta = np.concatenate([position, turn / spec.DELTA_ROTATION_RAD, action[6:7]])
    return np.clip(delta, -1.0, 1.0).astype(np.float32)


class DeltaActions(Commands, gym.utils.RecordConstructorArgs):
    """Command displacements: 1.0 is 5 cm along, or 0.5 rad about, an axis of the base frame."""

    action_kind = "delta"

    def __init__(self, env: Env) -> None:
        gym.utils.RecordConstructorArgs.__init__(self)
        super().__init__(_native(env))

    def action(self, action: np.ndarray) -> np.ndarray:
        checked = spec.check_action(action, self.action_kind)
        world: Any = self.unwrapped
        return delta_to_pose(checked, world.end_effector_pose_in_base())


class JointActions(Commands, gym.utils.RecordConstructorArgs):
    """Command joint angles: the end effector goes to their pose, but the elbow does not follow them.

    On rig and robot ``gym.make(..., actions="joint")`` commands the joints themselves.
    """

    action_kind = "joint"

    def __init__(self, env: Env) -> None:
        gym.utils.RecordConstructorArgs.__init__(self)
        super().__init__(_native(env))

    def action(self, action: np.ndarray) -> np.ndarray:
        checked = spec.check_action(action, self.action_kind)
        return reachable_action(kinematics.forward(checked[:7]), float(checked[7]))


class ActionNoise(Commands, gym.utils.RecordConstructorArgs):
    """Disturb the commanded position, so that demonstrations show how to recover.

    The disturbance is a first-order autoregressive process with standard deviation ``std_m`` a coordinate.
    Neither the actor nor the record contains the disturbance (DART: Laskey et al. 2017).
    """

    action_kind = "pose"
    MEMORY = 0.8

    def __init__(self, env: Env, std_m: float = 0.01) -> None:
        check_noise(std_m)
        gym.utils.RecordConstructorArgs.__init__(self, std_m=std_m)
        super().__init__(_native(env))
        self._std_m = std_m
        self._offset_m = np.zeros(3)

    def reset(
        self, *, seed: int | None = None, options: dict[str, Any] | None = None
    ) -> tuple[Any, dict[str, Any]]:
        result = self.env.reset(seed=seed, options=options)
        self._rng = np.random.default_rng(self.unwrapped.np_random.integers(2**63))
        self._offset_m = np.zeros(3)
        return result

    def action(self, action: np.ndarray) -> np.ndarray:
        checked = spec.check_action(action, self.action_kind)
        fresh = self._rng.normal(0.0, self._std_m * np.sqrt(1 - self.MEMORY**2), 3)
        self._offset_m = self.MEMORY * self._offset_m + fresh
        disturbed = checked.astype(np.float32)
        disturbed[:3] = np.clip(disturbed[:3] + self._offset_m, spec.WORKSPACE_LOW_M, spec.WORKSPACE_HIGH_M)
        return disturbed


def check_noise(std_m: float) -> None:
    """Raise UsageError unless the standard deviation is from 0 to 0.05 m."""
    if not 0 <= std_m <= 0.05:
        raise UsageError(f"Action noise {std_m} m must be from 0 to 0.05 m.")


def _native(env: Env) -> Env:
    kind = env.get_wrapper_attr("action_kind")
    if kind != "pose":
        raise UsageError(f"This wrapper needs an environment with 'pose' actions, not {kind!r}.")
    return env
