"""Stack: put the red cube on the green block."""

from __future__ import annotations

from collections.abc import Mapping
from typing import TYPE_CHECKING

import numpy as np

from simreal_envs.tasks import moves
from simreal_envs.tasks.base import Demo, OtherShape, Subtask, Task
from simreal_envs.tasks.materials import wood
from simreal_envs.tasks.moves import ALIGNED_M, CLOSE, HOVER_M, OPEN, Command
from simreal_envs.tasks.staged import let_down, picking, released
from simreal_envs.tasks.starts import OnTable, Start
from simreal_envs.tasks.vectors import raised

if TYPE_CHECKING:
    from robosuite.models.objects import MujocoObject

    from simreal_envs.sim.physics import Physics

HALF_SIZE_A_M = (0.025, 0.025, 0.025)
HALF_SIZE_B_M = (0.025, 0.05, 0.025)
LIFTED_M = 0.04
REACHED_M = 0.03
RESTING_MPS = 1e-3
STACKED_HEIGHT_M = 0.05
"""Height of A's centre over B's when it lies on it."""

_YAW = (-0.1 * np.pi, 0.1 * np.pi)
_A_Y, _B_Y = (-0.15, -0.05), (0.05, 0.15)


def _starts(x: tuple[float, float]) -> dict[str, Start]:
    return {"cubeA": OnTable(x, _A_Y, _YAW), "cubeB": OnTable((-0.1, 0.1), _B_Y, _YAW)}


class Stack(Task):
    """A is to lie on B, released and at rest.

    The target domain's demonstrations have A in the near half of the table (x < 0 from its centre).
    """

    name = "Stack"
    instruction = "Put the red cube on the green block."
    objects = ("cubeA", "cubeB")
    stages = ("reach", "grasp", "lift", "place", "release")
    subtasks = (Subtask("lift", "cubeA", until="lift"), Subtask("place", "cubeB", held="cubeA"))
    starts = {"in": _starts((-0.1, 0.0)), "ood": _starts((0.0, 0.1)), "all": _starts((-0.1, 0.1))}
    object_symmetry = {"cubeA": 4, "cubeB": 2}
    other_shapes = {"cubeA": OtherShape((0.75, 1.1, 1.0)), "cubeB": OtherShape((1.2, 0.8, 1.0))}
    human_demonstrations = {
        "stack/panda/demo.hdf5": "6d5dc16f2f32fd87a25f8e71efd6edb405d77ca500aed62733c6c036fd6b3899",
        "stack/panda/models/model_1.xml": "7d0eedd1d3005999df8f55e4b387de62b612f0933206959c2e8cca073c66df34",
    }
    demo = Demo(40, 10, {"max_steps": 300, "preset": "cpu-large", "updates": 12000})

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

    def closeness(self, physics: Physics, now: Mapping[str, bool]) -> dict[str, float]:
        a, b = (physics.object_position_in_base(name) for name in self.objects)
        beside, over_m = a[:2] - b[:2], a[2] - b[2] - STACKED_HEIGHT_M
        return {
            **picking(physics, "cubeA", a, now, HALF_SIZE_A_M[2], LIFTED_M),
            "place": let_down(float(np.linalg.norm(beside)), over_m) if now["lift"] else 0.0,
            "release": released(physics, "cubeA", RESTING_MPS) if now["place"] else 0.0,
        }

    def expert(self, scene: moves.Scene) -> Command:
        """Grasp A, carry it over B, lower it, let go and rise."""
        a, b = scene.objects["cubeA"][:3, 3], scene.objects["cubeB"][:3, 3]
        hand, yaw = scene.hand[:3, 3], moves.yaw_of(scene.objects["cubeB"], 2)
        over_b = np.linalg.norm(a[:2] - b[:2])
        resting = over_b < 0.02 and abs(a[2] - b[2] - STACKED_HEIGHT_M) < 0.004
        if resting:
            if scene.width_m > 0.06:
                return Command(raised(a, HOVER_M), yaw, OPEN)
            return Command(hand, yaw, OPEN)
        if not moves.holding(scene, "cubeA"):
            return moves.grasp(scene, "cubeA")
        in_hand = hand - a  # where the hand is relative to what it holds
        above = raised(b, STACKED_HEIGHT_M)
        if over_b > ALIGNED_M:
            clear = above[2] + 0.04
            if a[2] < clear - 0.02:  # rise first
                return Command(np.array([hand[0], hand[1], clear + in_hand[2]]), yaw, CLOSE)
            return Command(raised(above + in_hand, clear - above[2]), yaw, CLOSE)
        return Command(raised(above + in_hand, -0.005), yaw, CLOSE)
