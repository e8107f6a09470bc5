"""Lift: pick up a cube."""

from __future__ import annotations

from typing import TYPE_CHECKING

from simreal_envs.tasks.base import Range, Subtask, Task
from simreal_envs.tasks.materials import wood

if TYPE_CHECKING:
    from robosuite.models.objects import MujocoObject

    from simreal_envs.sim.physics import Physics

CUBE_HALF_SIZE_M = 0.021
"""The middle of robosuite's 0.020 to 0.022, always: a scene is its poses."""
LIFTED_M = 0.04
REACHED_M = 0.03


class Lift(Task):
    """The cube's centre is to rise 4 cm above the table.

    The target domain's demonstrations come from the right half of the table (y < 0).
    """

    name = "Lift"
    objects = ("cube",)
    stages = ("reach", "grasp", "lift")
    subtasks = (Subtask("lift", "cube"),)
    ranges = {
        "in": {"cube": Range(x=(-0.1, 0.1), y=(-0.16, -0.02))},
        "ood": {"cube": Range(x=(-0.1, 0.1), y=(0.02, 0.16))},
        "all": {"cube": Range(x=(-0.1, 0.1), y=(-0.16, 0.16))},
    }
    object_symmetry = {"cube": 4}

    def robosuite_objects(self) -> dict[str, MujocoObject]:
        from robosuite.models.objects import BoxObject

        cube = BoxObject(
            name="cube", size=[CUBE_HALF_SIZE_M] * 3, rgba=[1, 0, 0, 1], material=wood("WoodRed", "redwood")
        )
        return {"cube": cube}

    def stages_reached(self, physics: Physics) -> dict[str, bool]:
        cube = physics.object_position_in_base("cube")
        hand = physics.end_effector_pose_in_base()[:3, 3]
        return {
            "reach": bool(((hand - cube) ** 2).sum() < REACHED_M**2),
            "grasp": physics.is_grasped("cube"),
            "lift": bool(cube[2] > LIFTED_M),
        }
