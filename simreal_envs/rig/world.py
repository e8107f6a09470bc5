"""The scene that the rig serves: the task's own, with a real Panda's inertia and a millisecond's timestep."""

from __future__ import annotations

from typing import Any

import mujoco
import numpy as np

from simreal_envs.rig import dynamics
from simreal_envs.rig.simulated_arm import TICK_S
from simreal_envs.sim.physics import Physics
from simreal_envs.sim.scene import TabletopScene
from simreal_envs.spec import START_JOINTS_RAD, FloatArray
from simreal_envs.tasks import get_task
from simreal_envs.tasks.placement import asked_placement
from simreal_envs.tasks.progress import conditions

STATE = np.dtype([("time", "<f8"), ("qpos", "<f8", (64,))])
"""Shared with the camera's process as ``rig-<host>-state``: time in s, joint positions of the scene."""


class RigWorld:
    """A task's scene in which the arm is driven by torque.

    Attributes:
        hand: what the flange carries, in its frame.
    """

    def __init__(self, task: str) -> None:
        self.task = get_task(task)
        scene = TabletopScene(self.task)
        scene.reset()
        self.model: mujoco.MjModel = scene.sim.model._model
        self.data: mujoco.MjData = scene.sim.data._data
        self._scene = scene  # owns model and data
        self.model_xml = str(scene.sim.model.get_xml())
        dynamics.give_inertia(self.model, self.data)
        self.model.opt.timestep = TICK_S
        self.physics = Physics(self.model, self.data, self.task.objects)
        self.reset()
        self.hand = dynamics.payload(self.model, self.data)

    def reset(self) -> None:
        """Arm at its start joints, hand open, objects somewhere on the table."""
        placement = self.task.sample_placement("all", np.random.default_rng(0))
        self.physics.reset(START_JOINTS_RAD, placement)

    def place(self, placement: Any) -> None:
        """Put objects at rest where each is asked for, as in ``reset``'s options.

        Nothing else changes: the arm and other objects keep moving as they did.

        Raises:
            UsageError: an unknown object, or a place that is not on the table.
        """
        self.physics.place(asked_placement(self.task, placement))

    def object_poses_in_base(self) -> dict[str, FloatArray]:
        """Each object's (4, 4) pose."""
        return {name: self.physics.object_pose_in_base(name) for name in self.task.objects}

    def stages_reached(self) -> dict[str, bool]:
        """For each of the task's stages, whether its condition holds right now."""
        mujoco.mj_kinematics(self.model, self.data)  # the step left poses of the millisecond before
        return conditions(self.task, self.physics)

    def closeness(self) -> dict[str, float]:
        """For each stage, how close its condition is; empty for a task that does not say."""
        now = self.stages_reached()
        return {} if self.task.closeness is None else self.task.closeness(self.physics, now)
