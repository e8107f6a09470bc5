"""Scripted experts: they read object poses from the world, move by simple rules and retry when they fail.

An expert's action depends on what is there now, not on a clock, so it recovers from disturbances and a
policy can imitate it from single observations.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

import gymnasium as gym
import numpy as np
from scipy.spatial.transform import Rotation

from simreal_envs.errors import UsageError, unknown
from simreal_envs.loop import Actor
from simreal_envs.spec import WORKSPACE_HIGH_M, WORKSPACE_LOW_M, FloatArray
from simreal_envs.stack import check_stack, members
from simreal_envs.vector import OneEach, of_one_world

LEAD_M = 0.05
"""The target stays this far ahead of the hand at most; about 0.3 m/s with robosuite's gains."""
LEAD_RAD = 0.3

HOVER_M = 0.10
CLEAR_M = 0.06
ALIGNED_M = 0.012
AT_M = 0.008
HELD_M = 0.025
OPEN, CLOSE = -1.0, 1.0


@dataclass
class Scene:
    """What an expert sees in one step, base frame, metres."""

    hand: FloatArray
    width_m: float
    objects: dict[str, FloatArray]
    grip_steps: int
    """Steps since the gripper was told to close and has stopped moving, else 0."""


@dataclass
class Command:
    """Where the hand shall go and what the fingers shall do."""

    position_in_base: FloatArray
    yaw: float
    gripper: float


def _yaw(pose: FloatArray, symmetry: int) -> float:
    """The object's yaw among its equivalents that is nearest to zero."""
    period = 2 * np.pi / symmetry
    yaw = float(np.arctan2(pose[1, 0], pose[0, 0]))
    return yaw - period * round(yaw / period)


def _raised(position: FloatArray, by_m: float) -> FloatArray:
    return position + np.array([0.0, 0.0, by_m])


def _approach(scene: Scene, target: FloatArray, yaw: float, gripper: float) -> Command:
    """Over the target at a clear height until aligned, then straight down."""
    offset = np.linalg.norm(scene.hand[:2, 3] - target[:2])
    above = _raised(target, CLEAR_M if offset < 2 * ALIGNED_M else HOVER_M)
    return Command(target if offset < ALIGNED_M else above, yaw, gripper)


def _holding(scene: Scene, name: str) -> bool:
    """The object is between the fingers, which have closed on it."""
    distance = np.linalg.norm(scene.objects[name][:3, 3] - scene.hand[:3, 3])
    return scene.grip_steps > 0 and bool(distance < HELD_M)


def _grasp(scene: Scene, name: str) -> Command:
    target = scene.objects[name][:3, 3]
    yaw = _yaw(scene.objects[name], 4)
    at = np.linalg.norm(scene.hand[:3, 3] - target) < AT_M
    closing = scene.width_m < 0.075 and np.linalg.norm(scene.hand[:3, 3] - target) < HELD_M
    if at or closing:
        return Command(target, yaw, CLOSE)
    return _approach(scene, target, yaw, OPEN)


def lift(scene: Scene) -> Command:
    """Grasp the cube and rise."""
    if not _holding(scene, "cube"):
        return _grasp(scene, "cube")
    return Command(_raised(scene.hand[:3, 3], LEAD_M), _yaw(scene.objects["cube"], 4), CLOSE)


STACKED_HEIGHT_M = 0.05
"""Height of A's centre over B's when it lies on it."""


def stack(scene: Scene) -> Command:
    """Grasp A, carry it over B, lower it, let go and rise."""
    a, b = scene.objects["cubeA"][:3, 3], scene.objects["cubeB"][:3, 3]
    hand, yaw = scene.hand[:3, 3], _yaw(scene.objects["cubeB"], 2)
    over_b = np.linalg.norm(a[:2] - b[:2])
    resting = over_b < 0.02 and abs(a[2] - b[2] - STACKED_HEIGHT_M) < 0.004
    if resting:
        if scene.width_m > 0.06:
            return Command(_raised(a, HOVER_M), yaw, OPEN)
        return Command(hand, yaw, OPEN)
    if not _holding(scene, "cubeA"):
        return _grasp(scene, "cubeA")
    in_hand = hand - a  # where the hand is relative to what it holds
    above = _raised(b, STACKED_HEIGHT_M)
    if over_b > ALIGNED_M:
        clear = above[2] + 0.04
        if a[2] < clear - 0.02:  # rise first
            return Command(np.array([hand[0], hand[1], clear + in_hand[2]]), yaw, CLOSE)
        return Command(_raised(above + in_hand, clear - above[2]), yaw, CLOSE)
    return Command(_raised(above + in_hand, -0.005), yaw, CLOSE)


EXPERTS: dict[str, Callable[[Scene], Command]] = {"Lift": lift, "Stack": stack}


class ScriptedExpert:
    """An actor for one world, whose object poses it reads (simulation and rig, not the robot).

    The state it passes on is (steps with the fingers closed and at rest, last finger opening).
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
        """The command as a pose action, no further ahead of the hand than it can follow smoothly."""
        step = command.position_in_base - hand[:3, 3]
        step *= min(1.0, LEAD_M / (np.linalg.norm(step) + 1e-9))
        position = np.clip(hand[:3, 3] + step, WORKSPACE_LOW_M, WORKSPACE_HIGH_M)
        goal = Rotation.from_euler("z", command.yaw) * Rotation.from_matrix(np.diag([1.0, -1.0, -1.0]))
        now = Rotation.from_matrix(hand[:3, :3])
        turn = (goal * now.inv()).as_rotvec()
        turn *= min(1.0, LEAD_RAD / (np.linalg.norm(turn) + 1e-9))
        rotvec = (Rotation.from_rotvec(turn) * now).as_rotvec()
        return np.concatenate([position, rotvec, [command.gripper]]).astype(np.float32)


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
    if world.task.name not in EXPERTS:
        raise unknown("task with a scripted expert", world.task.name, EXPERTS)
    kind = env.get_wrapper_attr("action_kind")
    if kind != "pose":
        raise UsageError(
            f"The scripted expert acts by 'pose' actions, and the environment takes {kind!r} ones."
        )
    return ScriptedExpert(world, EXPERTS[world.task.name])
