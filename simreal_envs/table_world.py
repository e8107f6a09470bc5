"""What an unwrapped world offers besides Gymnasium's calls: to experts, recorders, policies and operators."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any, Protocol, cast

import gymnasium as gym

from simreal_envs.cameras import Camera, CameraSpec
from simreal_envs.features import ObservationSpec, WorldSpec
from simreal_envs.spec import FloatArray, Observation
from simreal_envs.stack import Ledger
from simreal_envs.tasks.base import Task


class TableWorld(Protocol):
    """The interface of every unwrapped world: the simulation, the virtual rig and the robot.

    Attributes:
        task: the task.
        action_kind: what actions mean, see :data:`simreal_envs.spec.ACTION_KINDS`.
        real_time: whether time passes by itself between steps.
        observation_spec: the observations that were asked for.
        world_spec: every array of the observations, and what actions mean.
        cameras: the mounted cameras by name, for the observation's images.
        ledger: what the world itself returned and received last.
    """

    task: Task
    action_kind: str
    real_time: bool
    observation_spec: ObservationSpec
    world_spec: WorldSpec
    cameras: dict[str, CameraSpec]
    ledger: Ledger

    def observe(self) -> Observation:
        """The observation of the present moment, without a history."""

    def begin(self) -> Observation:
        """The observation of an episode that begins now."""

    def camera_now(self, name: str = "agentview") -> Camera:
        """A camera as it stands now, for the observation's images."""

    def end_effector_pose_in_base(self) -> FloatArray:
        """(4, 4)."""

    def object_poses_in_base(self) -> dict[str, FloatArray]:
        """Each object's (4, 4) pose; empty where nobody knows them."""

    def describe(self) -> dict[str, Any]:
        """The world's description, which is stored with every recorded episode; JSON-able."""

    def stop(self) -> None:
        """End control of the arm; it holds itself where it is."""


def table_world(env: gym.Env[Any, Any]) -> TableWorld:
    """The world under all wrappers."""
    return cast(TableWorld, env.unwrapped)


if TYPE_CHECKING:
    from simreal_envs.robot.env import RobotEnv
    from simreal_envs.sim.env import SimEnv

    _KINDS: tuple[type[TableWorld], ...] = (SimEnv, RobotEnv)
