"""Stack: put the red cube on the green block."""

from __future__ import annotations

from typing import TYPE_CHECKING

import numpy as np

from simreal_envs.tasks.base import Range, Subtask, Task
from simreal_envs.tasks.materials import wood

if TYPE_CHECKING:
    from robosuite.models.objects import MujocoObject

    from simreal_envs.sim.physics import Physics

HALF_SIZE_A_M = (0.025, 0.025, 0.025)
HALF_SIZE_B_M = (0.025, 0.05, 0.025)
LIFTED_M = 0.04
REACHED_M = 0.03
RESTING_MPS = 1e-3

_YAW = (-0.1 * np.pi, 0.1 * np.pi)
_A_Y, _B_Y = (-0.15, -0.05), (0.05, 0.15)


def _ranges(x: tuple[float, float]) -> dict[str, Range]:
    return {"cubeA": Range(x, _A_Y, _YAW), "cubeB": Range((-0.1, 0.1), _B_Y, _YAW)}


class Stack(Task):
    """A is to lie on B, released and at rest.

    The target domain's demonstrations have A in the near half of the table (x < 0 from its centre).
    """

    name = "Stack"
    objects = ("cubeA", "cubeB")
    stages = ("reach", "grasp", "lift", "place", "release")
    subtasks = (Subtask("lift", "cubeA", until="lift"), Subtask("place", "cubeB", held="cubeA"))
    ranges = {"in": _ranges((-0.1, 0.0)), "ood": _ranges((0.0, 0.1)), "all": _ranges((-0.1, 0.1))}
    object_symmetry = {"cubeA": 4, "cubeB": 2}

    def robosuite_objects(self) -> dict[str, MujocoObject]:
        from robosuite.models.objects import BoxObject

        red, green = wood("WoodRed", "redwood"), wood("WoodGreen", "greenwood")
        return {
            "cubeA": BoxObject(name="cubeA", size=list(HALF_SIZE_A_M), rgba=[1, 0, 0, 1], material=red),
            "cubeB": BoxObject(name="cubeB", size=list(HALF_SIZE_B_M), rgba=[0, 1, 0, 1], material=green),
        }

    def stages_reached(self, physics: Physics) -> dict[str, bool]:
        cube = physics.object_position_in_base("cubeA")
        hand = physics.end_effector_pose_in_base()[:3, 3]
        grasped = physics.is_grasped("cubeA")
        lifted = bool(cube[2] > LIFTED_M)
        placed = lifted and physics.in_contact("cubeA", "cubeB")
        return {
            "reach": bool(((hand - cube) ** 2).sum() < REACHED_M**2),
            "grasp": grasped,
            "lift": lifted and grasped,
            "place": placed,
            "release": placed and not grasped and physics.object_speed_mps("cubeA") < RESTING_MPS,
        }
