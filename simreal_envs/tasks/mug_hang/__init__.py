"""MugHang: hang the mug on the tree by its handle."""

from __future__ import annotations

from collections.abc import Mapping
from typing import TYPE_CHECKING

import numpy as np

from simreal_envs.poses import in_base, in_frame, is_upright
from simreal_envs.tasks import moves
from simreal_envs.tasks.base import Demo, OtherShape, Subtask, Task
from simreal_envs.tasks.materials import wood
from simreal_envs.tasks.moves import CLOSE, HOVER_M, OPEN, Command
from simreal_envs.tasks.mug import (
    HALF_HEIGHT_M,
    LOOP_Y_M,
    LOOP_Z_M,
    grasp_point,
    hand_yaw,
    is_reached,
    mug,
)
from simreal_envs.tasks.shapes import Part, assemble, rod
from simreal_envs.tasks.staged import near, picking, released
from simreal_envs.tasks.starts import OnTable, Start
from simreal_envs.tasks.vectors import raised

if TYPE_CHECKING:
    from robosuite.models.objects import MujocoObject

    from simreal_envs.sim.physics import Physics
    from simreal_envs.spec import FloatArray

BASE_SIZE_M = (0.16, 0.16, 0.03)
TREE_DENSITY = 900.0
"""Wood: the tree's mass is 0.8 kg."""
POST_RADIUS_M, POST_HEIGHT_M = 0.009, 0.155
BRANCH_RADIUS_M, BRANCH_M, BRANCH_HEIGHT_M = 0.005, 0.08, 0.12
"""The branch begins in the post, 12 cm over the base, and rises along the tree's x axis."""
BRANCH_SLOPE = np.deg2rad(15.0)

ROOT_M = np.array([0.0, 0.0, BASE_SIZE_M[2] / 2 + BRANCH_HEIGHT_M])
"""The branch's root in the tree's frame, whose origin is the middle of the base."""
BRANCH = np.array([np.cos(BRANCH_SLOPE), 0.0, np.sin(BRANCH_SLOPE)])

LIFTED_M = 0.08
NEAR_TREE_M = (0.085, 0.05)
"""Distances of the hanging mug's middle from the post, along the branch and across."""
HUNG_M = 0.11
RESTING_MPS = 5e-3

THREAD_FROM_M, THREAD_TO_M = 0.11, 0.045
"""The middle of the handle's opening comes along the branch from and to these distances from the root."""
LOOP_MIDDLE_M = np.array([0.0, sum(LOOP_Y_M) / 2, sum(LOOP_Z_M) / 2])
LOWERED_M = LOOP_Z_M[1] - LOOP_MIDDLE_M[2] - BRANCH_RADIUS_M
"""How far below the branch the middle of the opening is when the handle lies on the branch."""
RELEASED_M = 0.003
"""The fingers open when the handle is this far above the branch."""
ALIGNED_RAD = 0.12


def _starts(x: tuple[float, float]) -> dict[str, Start]:
    yaw = -np.pi / 2
    return {
        "mug": OnTable(x, (-0.15, -0.10), (yaw - 0.1 * np.pi, yaw + 0.1 * np.pi)),
        "tree": OnTable((-0.03, 0.03), (0.08, 0.12), (yaw - 0.05 * np.pi, yaw + 0.05 * np.pi)),
    }


def _threaded_m(cup: FloatArray, tree: FloatArray) -> float | None:
    """How far from its root the branch passes through the mug's handle; None where it does not."""
    root = in_frame(cup, in_base(tree, ROOT_M))
    along = cup[:3, :3].T @ tree[:3, :3] @ BRANCH
    if abs(along[0]) < 0.3:  # nearly in the handle's plane
        return None
    distance_m = -root[0] / along[0]
    _, y, z = root + distance_m * along
    inside = LOOP_Y_M[0] < y < LOOP_Y_M[1] and LOOP_Z_M[0] < z < LOOP_Z_M[1]
    return float(distance_m) if inside and 0 < distance_m < BRANCH_M else None


class MugHang(Task):
    """The mug is to hang on the branch by its handle, released and at rest.

    The target domain's demonstrations have the mug in the near band (x < 0.03 from the table's centre).
    """

    name = "MugHang"
    instruction = "Hang the mug on the tree by its handle."
    objects = ("mug", "tree")
    stages = ("reach", "grasp", "lift", "thread", "hang")
    subtasks = (Subtask("lift", "mug", until="lift"), Subtask("hang", "tree", held="mug"))
    other_shapes = {"mug": OtherShape((0.93, 0.93, 0.93))}
    starts = {
        "in": _starts((-0.03, 0.03)),
        "ood": _starts((0.03, 0.09)),
        "all": _starts((-0.03, 0.09)),
    }
    demo = Demo(45, 12, {"max_steps": 300, "preset": "cpu-large", "updates": 12000})

    def robosuite_objects(self) -> dict[str, MujocoObject]:
        light, dark = wood("WoodLight", "lightwood"), wood("WoodDark", "darkwood")
        half_m = (BASE_SIZE_M[0] / 2, BASE_SIZE_M[1] / 2, BASE_SIZE_M[2] / 2)
        root, tip = ROOT_M.tolist(), (ROOT_M + BRANCH_M * BRANCH).tolist()
        parts = [
            Part("box", half_m, (0.0, 0.0, 0.0), dark),
            rod((0.0, 0.0, 0.0), (0.0, 0.0, half_m[2] + POST_HEIGHT_M), POST_RADIUS_M, light),
            rod(root, tip, BRANCH_RADIUS_M, light),
        ]
        return {"mug": mug("mug"), "tree": assemble("tree", parts, half_m, TREE_DENSITY)}

    def stages_reached(self, physics: Physics) -> dict[str, bool]:
        cup, tree = physics.object_pose_in_base("mug"), physics.object_pose_in_base("tree")
        hand = physics.end_effector_pose_in_base()[:3, 3]
        in_tree = in_frame(tree, cup[:3, 3])
        grasped = physics.is_grasped("mug")
        threaded = is_upright(tree) and _threaded_m(cup, tree) is not None
        hung = threaded and bool((np.abs(in_tree[:2]) < NEAR_TREE_M).all()) and bool(cup[2, 3] > HUNG_M)
        return {
            "reach": is_reached(cup, hand),
            "grasp": grasped,
            "lift": bool(cup[2, 3] > LIFTED_M) and grasped,
            "thread": threaded,
            "hang": hung
            and not grasped
            and physics.in_contact("mug", "tree")
            and physics.object_speed_mps("mug") < RESTING_MPS,
        }

    def closeness(self, physics: Physics, now: Mapping[str, bool]) -> dict[str, float]:
        cup, tree = physics.object_pose_in_base("mug"), physics.object_pose_in_base("tree")
        tip = in_base(tree, ROOT_M + BRANCH_M * BRANCH)
        facing = abs(float(cup[:3, 0] @ tree[:3, :3] @ BRANCH))  # 1: the handle's opening faces the branch
        off_tip_m = float(np.linalg.norm(in_base(cup, LOOP_MIDDLE_M) - tip))
        return {
            **picking(physics, "mug", grasp_point(cup), now, HALF_HEIGHT_M, LIFTED_M),
            "thread": near(off_tip_m) * (0.5 + 0.5 * facing) if now["lift"] else 0.0,
            "hang": self._hanging(physics, _threaded_m(cup, tree)) if now["thread"] else 0.0,
        }

    @staticmethod
    def _hanging(physics: Physics, threaded_m: float | None) -> float:
        """Closeness of the last stage: the handle comes in along the branch, lies on it and is let go."""
        if threaded_m is None:
            return 0.0
        inwards = float(np.clip((BRANCH_M - threaded_m) / (BRANCH_M - THREAD_TO_M), 0.0, 1.0))
        lies = physics.in_contact("mug", "tree")
        return (
            0.5 * inwards
            + 0.1 * lies
            + (0.4 * inwards * released(physics, "mug", RESTING_MPS) if lies else 0)
        )

    def expert(self, scene: moves.Scene) -> Command:
        """Grasp the mug, thread the handle on the branch, lower it, let go and rise."""
        cup, tree = scene.objects["mug"], scene.objects["tree"]
        hand, held = scene.hand[:3, 3], grasp_point(cup)
        yaw = float(np.arctan2(scene.hand[1, 0], scene.hand[0, 0]))
        turn = moves.yaw_of(np.linalg.inv(cup) @ tree, 1)  # the mug may lie askew in the hand
        root, loop = in_base(tree, ROOT_M), in_base(cup, LOOP_MIDDLE_M)
        along, across = tree[:3, :3] @ BRANCH, tree[:3, 1]
        upwards = np.cross(along, across)
        out_m, beside_m, over_m = (float(axis @ (loop - root)) for axis in (along, across, upwards))
        holding, threaded_m = moves.holding_at(scene, held), _threaded_m(cup, tree)

        def bring_loop_to(point: FloatArray) -> Command:
            return Command(hand + point - loop, yaw + turn, CLOSE)

        inmost = root + THREAD_TO_M * along
        if threaded_m is not None and threaded_m < THREAD_TO_M + 0.012:
            if holding and over_m > RELEASED_M - LOWERED_M:
                return bring_loop_to(inmost - (LOWERED_M + 0.01) * upwards)
            return Command(raised(hand, HOVER_M if scene.width_m > 0.077 else 0.0), yaw, OPEN)
        if not holding:
            return moves.grasp_at(scene, held, hand_yaw(cup))
        in_line = abs(beside_m) < 0.006 and abs(over_m) < 0.01 and abs(turn) < ALIGNED_RAD
        if threaded_m is not None or (in_line and out_m < THREAD_FROM_M + 0.02):
            return bring_loop_to(inmost)
        outmost = root + THREAD_FROM_M * along
        if loop[2] < outmost[2] - 0.02:  # rise first
            return Command(np.array([hand[0], hand[1], (hand + outmost - loop)[2]]), yaw, CLOSE)
        return bring_loop_to(outmost)
