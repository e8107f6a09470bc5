"""Compiles the model that a robosuite demonstration was recorded in, to read what its states mean.

Only kinematics and the boxes that touch are needed, so meshes, textures and cameras are dropped first and the
model compiles on any machine.
"""

from __future__ import annotations

import re
from typing import NamedTuple
from xml.etree import ElementTree

import numpy as np

from simreal_envs.errors import DataError
from simreal_envs.sim import mujoco
from simreal_envs.sim.physics import Physics
from simreal_envs.spec import BASE_IN_WORLD_M, TABLE_CENTRE_IN_BASE_M
from simreal_envs.tasks import StandIn, Task

_LAYOUT_TOLERANCE_M = 0.002
_KEPT_SECTIONS = ("compiler", "option", "default", "worldbody", "actuator")


class Scene(NamedTuple):
    """A recorded scene: its physics has the task's objects, and things that the task does not have.

    Attributes:
        physics: with the base frame's origin on the table top, however high the table is.
        others: names of the things that can be moved and are none of the task's objects.
    """

    physics: Physics
    others: list[str]


def recorded_scene(xml: str, task: Task) -> Scene:
    """The scene of an MJCF.

    Raises:
        DataError: not an MJCF, something of the task is not there, or arm or table stand elsewhere.
    """
    stand_ins = task.human_scene.stand_ins if task.human_scene else {}
    model = kinematic_model(xml, stand_ins)
    try:
        data = mujoco.MjData(model)
        mujoco.mj_kinematics(model, data)
        known = {*task.objects, *(name for stand_in in stand_ins.values() for name in stand_in.names)}
        others = [name for name in _free_things(model) if name not in known]
        base = np.array([*BASE_IN_WORLD_M[:2], data.site("table_top").xpos[2]])
        _check_layout(data)
        return Scene(Physics(model, data, (*task.objects, *others), base), others)
    except (KeyError, ValueError) as error:
        raise DataError(f"its model does not fit the task: {error.args[0]}") from error


def kinematic_model(xml: str, stand_ins: dict[str, StandIn] | None = None) -> mujoco.MjModel:
    """Compile any robosuite version's MJCF without its files, under the names of robosuite 1.5.

    Args:
        stand_ins: for each object, the body that is to bear its name and have its frame.

    Raises:
        DataError: not an MJCF, or a body is not there.
    """
    # 1.0 ... 1.4 wrote gripper0_x and finger1_tip_collision, 1.0 also bodies without _main and x_jnt0.
    xml = re.sub(r"\bgripper0_(?!right_)", "gripper0_right_", xml).replace("_tip_collision", "_pad_collision")
    xml = re.sub(r"_jnt0\b", "_joint0", xml)
    try:
        root = ElementTree.fromstring(xml)
        for section in list(root):
            if section.tag not in _KEPT_SECTIONS:
                root.remove(section)
        for parent in list(root.iter()):
            for child in list(parent):
                if child.tag in ("camera", "light") or child.get("mesh") is not None:
                    parent.remove(child)
            parent.attrib.pop("material", None)
        for name, stand_in in (stand_ins or {}).items():
            _stand_in(root, name, stand_in)
        for body in root.iter("body"):
            joint = body.find("joint")
            if joint is not None and joint.get("type") == "free":
                body.set("name", body.get("name", "").removesuffix("_main") + "_main")
        compiler = ElementTree.SubElement(root, "compiler")
        compiler.attrib.update(boundmass="1e-6", boundinertia="1e-9")  # links that were meshes only
        return mujoco.MjModel.from_xml_string(ElementTree.tostring(root, encoding="unicode"))
    except (ElementTree.ParseError, ValueError) as error:
        raise DataError(f"its model does not compile: {error}") from error


def _stand_in(root: ElementTree.Element, name: str, stand_in: StandIn) -> None:
    """Put a body with the object's name and frame into the one that stands for it; the geoms go along."""
    bodies = {body.get("name", "").removesuffix("_main"): body for body in root.iter("body")}
    body = next((bodies[known] for known in stand_in.names if known in bodies), None)
    if body is None:
        raise DataError(
            f"its model has no body {' or '.join(stand_in.names)}, which would stand for the object {name!r}"
        )
    at, back = (" ".join(str(sign * x) for x in stand_in.at_m) for sign in (1.0, -1.0))
    geoms = body.findall("geom")
    inside = ElementTree.SubElement(ElementTree.SubElement(body, "body", name=name, pos=at), "body", pos=back)
    for geom in geoms:
        body.remove(geom)
        inside.append(geom)


def _free_things(model: mujoco.MjModel) -> list[str]:
    """Names of the bodies that can go anywhere, without ``_main``."""
    bodies = model.jnt_bodyid[model.jnt_type == mujoco.mjtJoint.mjJNT_FREE]
    return [model.body(body).name.removesuffix("_main") for body in bodies]


def _check_layout(data: mujoco.MjData) -> None:
    """The arm must stand behind the table where robosuite puts it, for the base frame to be ours."""
    table, arm = data.site("table_top").xpos, data.body("robot0_link0")
    off_m = np.r_[table - BASE_IN_WORLD_M - TABLE_CENTRE_IN_BASE_M, arm.xpos - BASE_IN_WORLD_M]
    off_m = off_m[[0, 1, 3, 4]]  # heights differ
    if np.abs(off_m).max() > _LAYOUT_TOLERANCE_M or not np.allclose(arm.xmat, np.eye(3).ravel(), atol=1e-3):
        raise DataError(
            f"the table top is at {table} and the arm at {arm.xpos}, rotation {arm.xmat}; only robosuite's "
            "default can be read: table at (0, 0), arm at (-0.56, 0), not rotated."
        )
