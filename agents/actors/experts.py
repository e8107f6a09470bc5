"""Scripted experts: they read object poses from the world and follow their task's rule."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import gymnasium as gym
import numpy as np

from simreal_envs.errors import UsageError, unknown
from simreal_envs.loop import Actor
from simreal_envs.spec import WORKSPACE_HIGH_M, WORKSPACE_LOW_M
from simreal_envs.stack import check_stack, members
from simreal_envs.tasks import Task, tasks_with
from simreal_envs.tasks.moves import CLOSE, OPEN, Command, Scene
from simreal_envs.tasks.styles import check_style, named_style
from simreal_envs.vector import OneEach, of_one_world


class ScriptedExpert:
    """Acts in one world by its task's rule; needs the world's object poses, so not on the real robot.

    The state between steps is (steps with the fingers closed and at rest, last finger opening, last command
    of the gripper, the episode's style).
    """

    def __init__(self, world: Any, rule: Callable[[Scene], Command], style: str = "plain") -> None:
        self._world, self._rule, self._style = world, rule, check_style(style)
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
        objects = self._world.object_poses_in_base()
        if state is None:
            state = (0, width_m, OPEN, named_style(self._style, objects))
        grip_steps, last_width_m, last_gripper, style = state
        at_rest = abs(width_m - last_width_m) < 5e-4 and 0.01 < width_m < 0.075
        grip_steps = grip_steps + 1 if last_gripper == CLOSE and at_rest else 0
        hand = self._world.end_effector_pose_in_base()
        command = self._rule(Scene(hand, width_m, objects, grip_steps, style))
        position, rotvec = style.target(hand, command.position_in_base, command.yaw)
        position = np.clip(position, WORKSPACE_LOW_M, WORKSPACE_HIGH_M)
        action = np.concatenate([position, rotvec, [command.gripper]]).astype(np.float32)
        return action, (grip_steps, width_m, command.gripper, style)


def expert_rule(task: Task) -> Callable[[Scene], Command]:
    """The task's rule.

    Raises:
        UsageError: it has none.
    """
    if task.expert is None:
        raise unknown("task with a scripted expert", task.name, tasks_with("expert"))
    return task.expert


def make_expert(env: Any, style: str = "plain") -> Actor:
    """The scripted expert of an environment's task; of a vector environment, one for each of its worlds.

    ``style`` is ``plain``, ``varied`` (a manner for each episode) or the number of a manner.

    Raises:
        UsageError: there is no such style, the task has no expert, the environment takes other actions than
            ``pose``, a wrapper changes what the expert reads or does, or the worlds of a vector environment
            are in other processes.
    """
    check_stack(env)
    experts = [_make_one(member, style) for member in members(env)]
    return experts[0] if isinstance(env, gym.Env) else OneEach(experts)


def _make_one(env: gym.Env[Any, Any], style: str) -> ScriptedExpert:
    world: Any = env.unwrapped
    rule = expert_rule(world.task)
    kind = env.get_wrapper_attr("action_kind")
    if kind != "pose":
        raise UsageError(
            f"The scripted expert acts by 'pose' actions, and the environment takes {kind!r} ones."
        )
    return ScriptedExpert(world, rule, style)
