"""Lift: pick up a cube."""

from __future__ import annotations

from collections.abc import Mapping
from typing import TYPE_CHECKING

from simreal_envs.tasks import moves
from simreal_envs.tasks.base import Demo, OtherShape, Subtask, Task
from simreal_envs.tasks.materials import wood
from simreal_envs.tasks.staged import picking
from simreal_envs.tasks.starts import OnTable

if TYPE_CHECKING:
    from robosuite.models.objects import MujocoObject

    from simreal_envs.sim.physics import Physics

CUBE_HALF_SIZE_M = 0.021
"""The middle of robosuite's range of 0.020 to 0.022; fixed, so that a scene is given by its poses alone."""
LIFTED_M = 0.04
REACHED_M = 0.03


class Lift(Task):
    """The cube's centre is to rise 4 cm above the table.

    The target domain's demonstrations come from the right half of the table (y < 0).
    """

    name = "Lift"
    instruction = "Pick up the red cube."
    objects = ("cube",)
    stages = ("reach", "grasp", "lift")
    subtasks = (Subtask("lift", "cube"),)
    starts = {
        "in": {"cube": OnTable(x=(-0.1, 0.1), y=(-0.16, -0.02))},
        "ood": {"cube": OnTable(x=(-0.1, 0.1), y=(0.02, 0.16))},
        "all": {"cube": OnTable(x=(-0.1, 0.1), y=(-0.16, 0.16))},
    }
    object_symmetry = {"cube": 4}
    other_shapes = {"cube": OtherShape((1.2, 1.2, 1.3), is_round=True)}
    human_demonstrations = {
        "lift/panda/demo.hdf5": "694f2701136b57354e6b45c0b06a70f147416030239ce8fbc7a28984c5a2b989",
        "lift/panda/models/model_1.xml": "3076b6b1e4ade819f2625773751a1b3b2557b7ede3624ac00dbfd02bcd4c04d1",
    }
    demo = Demo(25, 6, {"target_demos": 5, "updates": 4000})

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

    def closeness(self, physics: Physics, now: Mapping[str, bool]) -> dict[str, float]:
        cube = physics.object_position_in_base("cube")
        return picking(physics, "cube", cube, now, CUBE_HALF_SIZE_M, LIFTED_M)

    def expert(self, scene: moves.Scene) -> moves.Command:
        return moves.lift(scene, "cube")
