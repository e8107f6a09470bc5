"""BoxInBin: put the box into the bin."""

from __future__ import annotations

from collections.abc import Mapping
from typing import TYPE_CHECKING

import numpy as np

from simreal_envs.poses import in_base, in_frame, is_upright
from simreal_envs.tasks import moves
from simreal_envs.tasks.base import Demo, OtherShape, Subtask, Task
from simreal_envs.tasks.materials import wood
from simreal_envs.tasks.moves import ALIGNED_M, CLOSE, HOVER_M, OPEN, Command
from simreal_envs.tasks.shapes import Part, assemble
from simreal_envs.tasks.staged import let_down, picking, released
from simreal_envs.tasks.starts import OnTable, Start
from simreal_envs.tasks.vectors import raised

if TYPE_CHECKING:
    from robosuite.models.objects import MujocoObject

    from simreal_envs.sim.physics import Physics
    from simreal_envs.spec import FloatArray

BOX_SIZE_M = (0.113, 0.045, 0.101)
BOX_DENSITY = 500.0
"""A full carton: 0.26 kg."""
BIN_SIZE_M = (0.224, 0.154, 0.039)
WALL_M = 0.0095
BIN_DENSITY = 1000.0
"""Hard wood: 0.55 kg."""
IN_BIN_M = (0.102, 0.067)
"""Where the box's centre is over the bin's floor: distances from the bin's centre along its sides."""

STANDING_HEIGHT_M = BOX_SIZE_M[2] / 2 + WALL_M - BIN_SIZE_M[2] / 2
"""Height of the box's centre over the bin's when it stands in it; one that leans on a wall is higher."""
GRASP_HEIGHT_M = 0.025
"""Of the fingers over the box's centre. Lower down, the palm would meet the top of the box."""
LIFTED_M = 0.08
"""Height of the centre of the box: its bottom is 3 cm over the table."""
CLEAR_M = 0.03
"""The box is carried at this height over the bin's rim."""
SETTLE_M = 0.015
"""Just over the bin's floor the target is at most so far below the box, which comes down softly: a robot
stops at a contact force."""
RESTING_MPS = 1e-3


def _starts(x: tuple[float, float]) -> dict[str, Start]:
    return {
        "box": OnTable(x, (0.10, 0.14), (-np.pi / 12, np.pi / 12)),
        "bin": OnTable((-0.04, -0.02), (-0.11, -0.09), (-np.pi / 24, np.pi / 24)),
    }


def _grasp_point(box: FloatArray) -> FloatArray:
    """Where the fingers close on the box, given its pose."""
    return in_base(box, [0.0, 0.0, GRASP_HEIGHT_M])


def _tray() -> MujocoObject:
    """The bin: a floor and four walls, none of which overlap, since overlapping faces flicker in images."""
    dark = wood("WoodDark", "darkwood")
    x, y, z = (size / 2 for size in BIN_SIZE_M)
    half_m = WALL_M / 2
    parts = [Part("box", (x - WALL_M, y - WALL_M, half_m), (0.0, 0.0, half_m - z), dark)]
    for side in (-1, 1):
        parts.append(Part("box", (x, half_m, z), (0.0, side * (y - half_m), 0.0), dark))
        parts.append(Part("box", (half_m, y - WALL_M, z), (side * (x - half_m), 0.0, 0.0), dark))
    return assemble("bin", parts, (x, y, z), BIN_DENSITY)


class BoxInBin(Task):
    """The box is to stand on the floor of the bin, which stands too, released and at rest.

    The target domain's demonstrations have the box in the near band (x < -0.01 from the table's centre).
    """

    name = "BoxInBin"
    instruction = "Put the box into the bin."
    objects = ("box", "bin")
    stages = ("reach", "grasp", "lift", "place", "release")
    subtasks = (Subtask("lift", "box", until="lift"), Subtask("place", "bin", held="box"))
    starts = {
        "in": _starts((-0.05, -0.01)),
        "ood": _starts((-0.01, 0.05)),
        "all": _starts((-0.05, 0.05)),
    }
    object_symmetry = {"box": 2, "bin": 2}
    other_shapes = {"box": OtherShape((0.8, 1.15, 1.0))}
    demo = Demo(40, 10, {"max_steps": 300, "preset": "cpu-large", "updates": 12000})

    def robosuite_objects(self) -> dict[str, MujocoObject]:
        from robosuite.models.objects import BoxObject

        box = BoxObject(
            name="box",
            size=[size / 2 for size in BOX_SIZE_M],
            rgba=[1, 1, 1, 1],
            density=BOX_DENSITY,
            material=wood("WoodRed", "redwood"),
        )
        return {"box": box, "bin": _tray()}

    def stages_reached(self, physics: Physics) -> dict[str, bool]:
        box, tray = physics.object_pose_in_base("box"), physics.object_pose_in_base("bin")
        hand = physics.end_effector_pose_in_base()[:3, 3]
        in_box, in_tray = in_frame(box, hand), in_frame(tray, box[:3, 3])
        grasped = physics.is_grasped("box")
        within = bool((np.abs(in_tray[:2]) < IN_BIN_M).all())
        on_floor = bool(abs(in_tray[2] - STANDING_HEIGHT_M) < 0.005)
        standing = is_upright(tray) and is_upright(box)
        placed = within and on_floor and standing and physics.in_contact("box", "bin")
        return {
            "reach": bool((np.abs(in_box) < np.array(BOX_SIZE_M) / 2).all()),
            "grasp": grasped,
            "lift": bool(box[2, 3] > LIFTED_M) and grasped,
            "place": placed,
            "release": placed and not grasped and physics.object_speed_mps("box") < RESTING_MPS,
        }

    def closeness(self, physics: Physics, now: Mapping[str, bool]) -> dict[str, float]:
        box, tray = physics.object_pose_in_base("box"), physics.object_pose_in_base("bin")
        in_tray = in_frame(tray, box[:3, 3])
        carried = now["lift"] or (now["grasp"] and bool((np.abs(in_tray[:2]) < IN_BIN_M).all()))
        beside_m, over_m = float(np.linalg.norm(in_tray[:2])), in_tray[2] - STANDING_HEIGHT_M
        return {
            **picking(physics, "box", _grasp_point(box), now, BOX_SIZE_M[2] / 2, LIFTED_M),
            "place": let_down(beside_m, over_m) if carried else 0.0,
            "release": released(physics, "box", RESTING_MPS) if now["place"] else 0.0,
        }

    def expert(self, scene: moves.Scene) -> Command:
        """Grasp the box across its narrow side, carry it over the bin, lower it, let go and rise."""
        box, tray = scene.objects["box"], scene.objects["bin"]
        hand, yaw = scene.hand[:3, 3], moves.yaw_of(tray, 2)
        held, goal = _grasp_point(box), raised(tray[:3, 3], STANDING_HEIGHT_M)
        off_centre_m, over_m = np.linalg.norm(box[:2, 3] - goal[:2]), box[2, 3] - goal[2]
        if off_centre_m < 0.03 and over_m < 0.004:
            if scene.width_m > 0.06:
                return Command(raised(held, HOVER_M), yaw, OPEN)
            return Command(hand, yaw, OPEN)
        if not moves.holding_at(scene, held):
            return moves.grasp_at(scene, held, moves.yaw_of(box, 2))
        in_hand = hand - box[:3, 3]
        clear_m = BIN_SIZE_M[2] - WALL_M + CLEAR_M
        if off_centre_m > ALIGNED_M:
            if over_m < clear_m - 0.02:  # rise first
                return Command(np.array([hand[0], hand[1], (goal + in_hand)[2] + clear_m]), yaw, CLOSE)
            return Command(raised(goal + in_hand, clear_m), yaw, CLOSE)
        softly_m = max(over_m - SETTLE_M, -0.005)
        return Command(raised(goal + in_hand, softly_m if over_m < CLEAR_M else 0.0), yaw, CLOSE)
