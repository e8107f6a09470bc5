"""MugLift: pick up a mug."""

from __future__ import annotations

from collections.abc import Mapping
from typing import TYPE_CHECKING

import numpy as np

from simreal_envs.tasks import moves
from simreal_envs.tasks.base import OtherShape, Subtask, Task
from simreal_envs.tasks.moves import CLOSE, LEAD_M, Command
from simreal_envs.tasks.mug import HALF_HEIGHT_M, grasp_point, hand_yaw, is_reached, mug
from simreal_envs.tasks.staged import picking
from simreal_envs.tasks.starts import OnTable
from simreal_envs.tasks.vectors import raised

if TYPE_CHECKING:
    from robosuite.models.objects import MujocoObject

    from simreal_envs.sim.physics import Physics

LIFTED_M = 0.08
_X = (-0.1, 0.1)
_YAW = (-0.6 * np.pi, -0.4 * np.pi)
"""The handle points away from the robot, to the camera."""


class MugLift(Task):
    """The mug's middle is to be 8 cm above the table, in the hand: a mug that is flung up does not count.

    The target domain's demonstrations come from the right half of the table (y < 0).
    """

    name = "MugLift"
    instruction = "Pick up the mug."
    objects = ("mug",)
    stages = ("reach", "grasp", "lift")
    subtasks = (Subtask("lift", "mug"),)
    other_shapes = {"mug": OtherShape((0.9, 0.9, 0.9))}
    starts = {
        "in": {"mug": OnTable(_X, (-0.16, -0.02), _YAW)},
        "ood": {"mug": OnTable(_X, (0.02, 0.16), _YAW)},
        "all": {"mug": OnTable(_X, (-0.16, 0.16), _YAW)},
    }

    def robosuite_objects(self) -> dict[str, MujocoObject]:
        return {"mug": mug("mug")}

    def stages_reached(self, physics: Physics) -> dict[str, bool]:
        pose = physics.object_pose_in_base("mug")
        hand = physics.end_effector_pose_in_base()[:3, 3]
        grasped = physics.is_grasped("mug")
        return {
            "reach": is_reached(pose, hand),
            "grasp": grasped,
            "lift": grasped and bool(pose[2, 3] > LIFTED_M),
        }

    def closeness(self, physics: Physics, now: Mapping[str, bool]) -> dict[str, float]:
        held = grasp_point(physics.object_pose_in_base("mug"))
        return picking(physics, "mug", held, now, HALF_HEIGHT_M, LIFTED_M)

    def expert(self, scene: moves.Scene) -> Command:
        """Close the fingers on the mug from both sides and rise."""
        pose = scene.objects["mug"]
        if not moves.holding_at(scene, grasp_point(pose)):
            return moves.grasp_at(scene, grasp_point(pose), hand_yaw(pose))
        return Command(raised(scene.hand[:3, 3], LEAD_M), hand_yaw(pose), CLOSE)
