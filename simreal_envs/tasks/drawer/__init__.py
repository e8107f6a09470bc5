"""Drawer: put a coffee pod into the open drawer and push it shut."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np

from simreal_envs.poses import in_base, in_frame, is_upright
from simreal_envs.spec import FloatArray
from simreal_envs.tasks import moves
from simreal_envs.tasks.base import Demo, OtherShape, Subtask, Task
from simreal_envs.tasks.materials import add_material, wood
from simreal_envs.tasks.moves import ALIGNED_M, CLOSE, OPEN, Command
from simreal_envs.tasks.staged import let_down, near, picking
from simreal_envs.tasks.starts import JointStart, OnTable, Start
from simreal_envs.tasks.vectors import raised

if TYPE_CHECKING:
    from robosuite.models.objects import MujocoObject

    from simreal_envs.sim.physics import Physics

LIFTED_M = 0.04
REACHED_M = 0.03
CLOSED_M = 0.03
"""A drawer that is open less far counts as closed."""

POD_HALF_HEIGHT_M = 0.015
TRAY_LOW_M, TRAY_HIGH_M = np.array([-0.06, -0.062, 0.006]), np.array([0.042, 0.062, 0.036])
"""The space inside the tray, in its frame; the walls end at its upper bound."""
KNOB_M = np.array([-0.086, 0.0, 0.0245])
"""Where the knob is pushed, in the tray's frame."""

_CLEAR_M = 0.13
"""The hand and what it holds pass over everything at this height."""
_LET_GO_M = 0.025
"""Height of the pod's centre over the tray's frame at which it is let go, 4 mm over the bottom."""
_FITS_M = 0.006
"""The pod may be so far off the middle of the slot when it is lowered; twice that once it is inside."""
_PUSH_HEIGHT_M = 0.032
_BEFORE_KNOB_M = 0.035
_AT_HEIGHT_M = 0.015
_AHEAD_M = 0.05


_OPENING_M = (0.05, 0.07)


def _starts(x: tuple[float, float]) -> dict[str, Start]:
    return {
        "cabinet": OnTable((0.15, 0.17), (-0.11, -0.09)),
        "pod": OnTable(x, (0.10, 0.16)),
        "cabinet_slide": JointStart(*_OPENING_M),
    }


class Drawer(Task):
    """The pod is to lie in the drawer, released, and the drawer to be open less than 3 cm.

    The cabinet is held by its weight alone. In the target domain's demonstrations the pod starts beside the
    table's centre; in region ``ood`` it starts up to 6 cm nearer to the robot.
    """

    name = "Drawer"
    instruction = "Put the coffee pod into the drawer and close it."
    objects = ("pod", "cabinet", "cabinet_tray")
    stages = ("reach", "grasp", "lift", "place", "close")
    subtasks = (
        Subtask("lift", "pod", until="lift"),
        Subtask("place", "cabinet_tray", until="place", held="pod"),
        Subtask("close", "cabinet_tray"),
    )
    starts = {"in": _starts((-0.03, 0.03)), "ood": _starts((-0.09, -0.03)), "all": _starts((-0.09, 0.03))}
    object_symmetry = {"pod": 36}
    other_shapes = {"pod": OtherShape((0.8, 0.8, 1.0))}
    demo = Demo(50, 14, {"max_steps": 400, "preset": "cpu-large", "updates": 12000})

    def robosuite_objects(self) -> dict[str, MujocoObject]:
        from robosuite.models.objects import MujocoXMLObject

        here = Path(__file__).parent
        cabinet = MujocoXMLObject(str(here / "cabinet.xml"), name="cabinet")
        for texture, name in (("WoodLight", "cabinet_oak"), ("WoodRed", "cabinet_front")):
            add_material(cabinet, wood(texture, name))
        pod = MujocoXMLObject(str(here / "pod.xml"), name="pod", duplicate_collision_geoms=False)
        return {"pod": pod, "cabinet": cabinet}

    def stages_reached(self, physics: Physics) -> dict[str, bool]:
        tray = physics.object_pose_in_base("cabinet_tray")
        pod = physics.object_position_in_base("pod")
        hand = physics.end_effector_pose_in_base()[:3, 3]
        grasped = physics.is_grasped("pod")
        placed = is_upright(tray) and _is_inside(tray, pod) and not grasped
        return {
            "reach": bool(((hand - pod) ** 2).sum() < REACHED_M**2),
            "grasp": grasped,
            "lift": bool(pod[2] > LIFTED_M) and grasped,
            "place": placed,
            "close": placed and opening_m(tray, physics.object_pose_in_base("cabinet")) < CLOSED_M,
        }

    def closeness(self, physics: Physics, now: Mapping[str, bool]) -> dict[str, float]:
        cabinet, tray = physics.object_pose_in_base("cabinet"), physics.object_pose_in_base("cabinet_tray")
        pod, hand = physics.object_position_in_base("pod"), physics.end_effector_pose_in_base()[:3, 3]
        off = in_frame(tray, pod) - _slot(tray, cabinet)
        carried = now["lift"] or (now["grasp"] and _is_inside(tray, pod))
        shut = (_OPENING_M[1] - opening_m(tray, cabinet)) / (_OPENING_M[1] - CLOSED_M)
        off_knob_m = float(np.linalg.norm(in_frame(tray, hand) - KNOB_M))
        return {
            **picking(physics, "pod", pod, now, POD_HALF_HEIGHT_M, LIFTED_M),
            "place": let_down(float(np.linalg.norm(off[:2])), off[2]) if carried else 0.0,
            "close": 0.4 * near(off_knob_m) + 0.6 * max(0.0, shut) if now["place"] else 0.0,
        }

    def expert(self, scene: moves.Scene) -> Command:
        """Put the pod in front of the cabinet's face, where the tray is open, then push the knob."""
        cabinet, tray = scene.objects["cabinet"], scene.objects["cabinet_tray"]
        pod, hand = scene.objects["pod"][:3, 3], scene.hand[:3, 3]
        yaw = moves.yaw_of(cabinet, 1)
        slot = _slot(tray, cabinet)
        pod_in_tray = in_frame(tray, pod)
        if _is_inside(tray, pod) and pod_in_tray[2] < _LET_GO_M + 0.005:
            return self._close(scene, tray, yaw)
        if not moves.holding(scene, "pod"):
            return moves.grasp_at(scene, pod, yaw)
        in_hand, goal = hand - pod, in_base(tray, slot)
        off = np.abs(pod_in_tray - slot)
        fits_m = _FITS_M if pod_in_tray[2] > TRAY_HIGH_M[2] + POD_HALF_HEIGHT_M else 2 * _FITS_M
        if off[0] < fits_m and off[1] < ALIGNED_M:
            return Command(goal + in_hand, yaw, CLOSE)
        above = in_hand + [goal[0], goal[1], _CLEAR_M]
        if pod[2] < _CLEAR_M - 0.04:  # rise first
            above[:2] = hand[:2]
        return Command(above, yaw, CLOSE)

    @staticmethod
    def _close(scene: moves.Scene, tray: FloatArray, yaw: float) -> Command:
        """Let go, rise, come down before the knob with the fingers closed, and push."""
        hand = in_frame(tray, scene.hand[:3, 3])
        pod = in_frame(tray, scene.objects["pod"][:3, 3])
        before = KNOB_M + [-_BEFORE_KNOB_M, 0.0, _PUSH_HEIGHT_M - KNOB_M[2]]
        beside = np.abs(hand - before)
        is_before_knob = hand[0] < KNOB_M[0] - 0.005 and beside[1] < 2 * ALIGNED_M
        if is_before_knob and hand[2] < _PUSH_HEIGHT_M + _AT_HEIGHT_M:
            goal, gripper = np.array([hand[0] + _AHEAD_M, 0.0, _PUSH_HEIGHT_M]), CLOSE
        elif beside[0] < _BEFORE_KNOB_M / 2 and beside[1] < 2 * ALIGNED_M:
            goal, gripper = before, CLOSE
        elif hand[2] < _CLEAR_M - 0.04:  # let go, then rise
            at_pod = np.linalg.norm(hand - pod) < 0.06
            goal = raised(hand, 0.0 if at_pod and scene.width_m < 0.06 else _AHEAD_M)
            gripper = OPEN if at_pod else CLOSE
        else:
            goal, gripper = np.array([before[0], before[1], _CLEAR_M - 0.02]), CLOSE
        return Command(in_base(tray, goal), yaw, gripper)


def opening_m(tray: FloatArray, cabinet: FloatArray) -> float:
    """How far the drawer is open in m, from the poses (4, 4) of tray and cabinet."""
    return float(-in_frame(cabinet, tray[:3, 3])[0])


def _slot(tray: FloatArray, cabinet: FloatArray) -> FloatArray:
    """Where the pod (3,) is let go, in the tray's frame: in front of the cabinet, where the tray is open."""
    return np.array([TRAY_LOW_M[0] + opening_m(tray, cabinet) / 2, 0.0, _LET_GO_M])


def _is_inside(tray: FloatArray, pod: FloatArray) -> bool:
    """Whether the pod's centre (3,) is inside the tray."""
    at = in_frame(tray, pod)
    return bool((at > TRAY_LOW_M).all() and (at < TRAY_HIGH_M).all())
