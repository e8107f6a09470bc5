"""Scripted experts: they read object poses from the world and follow their task's rule."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import gymnasium as gym
import numpy as np
from scipy.spatial.transform import Rotation

from simreal_envs.errors import UsageError, unknown
from simreal_envs.loop import Actor
from simreal_envs.spec import WORKSPACE_HIGH_M, WORKSPACE_LOW_M, FloatArray
from simreal_envs.stack import check_stack, members
from simreal_envs.tasks import Task, tasks_with
from simreal_envs.tasks.moves import CLOSE, LEAD_M, OPEN, Command, Scene
from simreal_envs.vector import OneEach, of_one_world

LEAD_RAD = 0.3


class ScriptedExpert:
    """Acts in one world by its task's rule; needs the world's object poses, so not on the real robot.

    The state between steps is (steps with the fingers closed and at rest, last finger opening).
    """

    def __init__(self, world: Any, rule: Callable[[Scene], Command]) -> None:
        self._world, self._rule = world, rule
        self.history = world.observation_spec.history

    @of_one_world("robot0_gripper_qpos")
    def predict(
        self,
        observation: Any,
        state: Any = None,
        episode_start: Any = None,
        deterministic: bool = True,
    ) -> tuple[np.ndarray, Any]:
        """A ``pose`` action (7,) float32."""
        width_m = float(observation["robot0_gripper_qpos"][0] - observation["robot0_gripper_qpos"][1])
        if state is None:
            state = (0, width_m, OPEN)
        grip_steps, last_width_m, last_gripper = state
        at_rest = abs(width_m - last_width_m) < 5e-4 and 0.01 < width_m < 0.075
        grip_steps = grip_steps + 1 if last_gripper == CLOSE and at_rest else 0
        hand = self._world.end_effector_pose_in_base()
        scene = Scene(hand, width_m, self._world.object_poses_in_base(), grip_steps)
        command = self._rule(scene)
        return self._towards(hand, command), (grip_steps, width_m, command.gripper)

    @staticmethod
    def _towards(hand: FloatArray, command: Command) -> np.ndarray:
        """The command as a pose action whose target is no further ahead than the hand can follow smoothly."""
        step = command.position_in_base - hand[:3, 3]
        step *= min(1.0, LEAD_M / (np.linalg.norm(step) + 1e-9))
        position = np.clip(hand[:3, 3] + step, WORKSPACE_LOW_M, WORKSPACE_HIGH_M)
        goal = Rotation.from_euler("z", command.yaw) * Rotation.from_matrix(np.diag([1.0, -1.0, -1.0]))
        now = Rotation.from_matrix(hand[:3, :3])
        turn = (goal * now.inv()).as_rotvec()
        turn *= min(1.0, LEAD_RAD / (np.linalg.norm(turn) + 1e-9))
        rotvec = (Rotation.from_rotvec(turn) * now).as_rotvec()
        return np.concatenate([position, rotvec, [command.gripper]]).astype(np.float32)


def expert_rule(task: Task) -> Callable[[Scene], Command]:
    """The task's rule.

    Raises:
        UsageError: it has none.
    """
    if task.expert is None:
        raise unknown("task with a scripted expert", task.name, tasks_with("expert"))
    return task.expert


def make_expert(env: Any) -> Actor:
    """The scripted expert of an environment's task; of a vector environment, one for each of its worlds.

    Raises:
        UsageError: the task has none, the environment takes other actions than ``pose``, a wrapper changes
            what the expert reads or does, or the worlds of a vector environment are in other processes.
    """
    check_stack(env)
    experts = [_make_one(member) for member in members(env)]
    return experts[0] if isinstance(env, gym.Env) else OneEach(experts)


def _make_one(env: gym.Env[Any, Any]) -> ScriptedExpert:
    world: Any = env.unwrapped
    rule = expert_rule(world.task)
    kind = env.get_wrapper_attr("action_kind")
    if kind != "pose":
        raise UsageError(
            f"The scripted expert acts by 'pose' actions, and the environment takes {kind!r} ones."
        )
    return ScriptedExpert(world, rule)
