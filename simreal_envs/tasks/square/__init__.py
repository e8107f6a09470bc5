"""Square: put a square nut onto a square peg."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np

from simreal_envs.poses import in_base, in_frame, is_upright
from simreal_envs.tasks import moves
from simreal_envs.tasks.base import Demo, HumanScene, OtherShape, StandIn, Subtask, Task
from simreal_envs.tasks.materials import add_material, wood
from simreal_envs.tasks.moves import ALIGNED_M, AT_M, CLOSE, OPEN, Command
from simreal_envs.tasks.staged import let_down, picking, released
from simreal_envs.tasks.starts import OnTable, Start
from simreal_envs.tasks.vectors import raised, turned

if TYPE_CHECKING:
    from robosuite.models.objects import MujocoObject

    from simreal_envs.sim.physics import Physics

LIFTED_M = 0.04
REACHED_M = 0.03
ON_PEG_M = 0.03
"""The nut's centre is nearer to the peg than this along both axes of the table."""
DOWN_M = 0.04
"""The nut's underside is lower over the peg's than this; the plate's upper side is at 3 cm."""
NUT_HALF_HEIGHT_M = 0.01
HANDLE_M = np.array([0.061, 0.0, 0.004])
"""Where to hold the nut, in its frame: so high that no finger drags on the table."""

_AT_HANDLE_M = 0.006
"""The nut is thin: fingers that close higher slip off."""
_HELD_WIDTH_M = 0.036
"""Both fingers are at the handle, which is 32 mm wide; one that came first stands still for a moment too."""
_PEG_TOP_M, _PLATE_TOP_M = 0.09, 0.03
_OVER_PEG_M = _PEG_TOP_M + NUT_HALF_HEIGHT_M + 0.015
"""Height of the nut's centre when it is carried."""
_ALIGNED_RAD = np.deg2rad(4)
_HUMAN_PEG_HALF_HEIGHT_M = 0.1
"""Of ``NutAssembly``'s peg, whose frame is in its middle."""
_LET_GO_M = _PLATE_TOP_M + NUT_HALF_HEIGHT_M + 0.004


def _starts(x: tuple[float, float]) -> dict[str, Start]:
    return {
        "nut": OnTable(x, (-0.15, -0.02), (np.pi - np.pi / 12, np.pi + np.pi / 12)),
        "peg": OnTable((-0.02, 0.05), (0.10, 0.15), (-np.pi / 12, np.pi / 12)),
    }


class Square(Task):
    """The nut is to lie around the peg, which stands upright, on its plate, released.

    The peg is held by its plate's weight alone, and the nut's handle points to the robot. In the target
    domain's demonstrations the nut starts around the table's centre; in region ``ood`` it starts up to 10 cm
    farther from the robot.

    The human demonstration is of robosuite's ``NutAssembly``. Its peg is taller and fixed, so our peg's frame
    lies in it where both tops agree: people lower the nut over the top and let go.
    """

    name = "Square"
    instruction = "Put the square nut onto the peg."
    objects = ("nut", "peg")
    stages = ("reach", "grasp", "lift", "place", "release")
    subtasks = (Subtask("lift", "nut", until="lift"), Subtask("place", "peg", held="nut"))
    starts = {"in": _starts((-0.05, 0.05)), "ood": _starts((0.05, 0.15)), "all": _starts((-0.05, 0.15))}
    object_symmetry = {"peg": 4}
    other_shapes = {"peg": OtherShape(is_round=True)}
    human_demonstrations = {
        "nut-assembly/panda/demo.hdf5": "876a5bc9fa6f05f9a3dcd9e0e4f05675f3c8fed76b61122a6ac17ddccd88ce86",
        "nut-assembly/panda/models/model_1.xml": (
            "8e91969d39ae1ca1610586a61533b0d3d6c5401c07d7f4a07c0ef527c82e2cf3"
        ),
    }
    human_scene = HumanScene(
        envs=("NutAssembly", "NutAssemblySquare"),
        stand_ins={
            "nut": StandIn(("SquareNut", "SquareNut0")),  # the second in robosuite 1.0
            "peg": StandIn(("peg1",), at_m=(0.0, 0.0, _HUMAN_PEG_HALF_HEIGHT_M - _PEG_TOP_M)),
        },
    )
    demo = Demo(40, 10, {"noise_m": 0.005, "max_steps": 300, "preset": "cpu-large", "updates": 12000})

    def robosuite_objects(self) -> dict[str, MujocoObject]:
        from robosuite.models.objects import MujocoXMLObject, SquareNutObject

        peg = MujocoXMLObject(str(Path(__file__).parent / "peg.xml"), name="peg")
        add_material(peg, wood("WoodDark", "peg_walnut"))
        return {"nut": SquareNutObject(name="nut"), "peg": peg}

    def stages_reached(self, physics: Physics) -> dict[str, bool]:
        return self._stages(physics, lowest_m=_PLATE_TOP_M)

    def human_stages_reached(self, physics: Physics) -> dict[str, bool]:
        """Without a plate the nut falls to the table, below where our plate would be."""
        return self._stages(physics, lowest_m=-np.inf)

    def _stages(self, physics: Physics, lowest_m: float) -> dict[str, bool]:
        """``lowest_m``: the nut is higher than this over the peg's underside."""
        nut = physics.object_pose_in_base("nut")
        peg = physics.object_pose_in_base("peg")
        hand = physics.end_effector_pose_in_base()[:3, 3]
        grasped = physics.is_grasped("nut")
        apart = np.abs(nut[:3, 3] - peg[:3, 3])
        around = is_upright(peg) and bool((apart[:2] < ON_PEG_M).all())
        height_m = in_frame(peg, nut[:3, 3])[2]
        placed = around and bool(lowest_m < height_m < DOWN_M + NUT_HALF_HEIGHT_M)
        return {
            "reach": bool(((hand - in_base(nut, HANDLE_M)) ** 2).sum() < REACHED_M**2),
            "grasp": grasped,
            "lift": bool(nut[2, 3] > LIFTED_M) and grasped,
            "place": placed,
            "release": placed and not grasped,
        }

    def closeness(self, physics: Physics, now: Mapping[str, bool]) -> dict[str, float]:
        nut, peg = physics.object_pose_in_base("nut"), physics.object_pose_in_base("peg")
        beside_m = float(np.linalg.norm(nut[:2, 3] - peg[:2, 3]))
        over_m = nut[2, 3] - _PLATE_TOP_M - NUT_HALF_HEIGHT_M
        turn = 4 * (moves.yaw_of(peg, 4) - moves.yaw_of(nut, 4))
        carried = now["lift"] or (now["grasp"] and beside_m < ON_PEG_M)
        return {
            **picking(physics, "nut", in_base(nut, HANDLE_M), now, NUT_HALF_HEIGHT_M, LIFTED_M),
            "place": let_down(beside_m, over_m, float(1 + np.cos(turn)) / 2) if carried else 0.0,
            "release": released(physics, "nut", np.inf) if now["place"] else 0.0,
        }

    def expert(self, scene: moves.Scene) -> Command:
        """Grasp the handle, carry the nut over the peg turned as the peg is, lower it and let go."""
        nut, peg = scene.objects["nut"], scene.objects["peg"]
        at, hand, handle = nut[:3, 3], scene.hand[:3, 3], in_base(nut, HANDLE_M)
        yaw, goal = moves.yaw_of(nut, 2), peg[:3, 3]
        apart = np.linalg.norm((goal - at)[:2])
        if apart < ALIGNED_M and at[2] < _LET_GO_M + 0.004:
            return Command(hand, yaw, OPEN)
        if scene.width_m > _HELD_WIDTH_M or not moves.holding_at(scene, handle):
            return moves.grasp_at(scene, handle, yaw, _AT_HANDLE_M)
        turn = moves.yaw_of(peg, 4) - moves.yaw_of(nut, 4)
        turn -= np.pi / 2 * round(turn / (np.pi / 2))
        in_hand = turned(hand - at, turn)
        aligned = apart < AT_M and abs(turn) < _ALIGNED_RAD
        if aligned or (apart < ALIGNED_M and at[2] < _PEG_TOP_M):
            return Command(raised(goal, _LET_GO_M - 0.002) + in_hand, yaw + turn, CLOSE)
        above = raised(goal, _OVER_PEG_M) + in_hand
        if at[2] < _OVER_PEG_M - 0.02:  # rise first
            return Command(np.array([hand[0], hand[1], above[2]]), yaw, CLOSE)
        return Command(above, yaw + turn, CLOSE)
