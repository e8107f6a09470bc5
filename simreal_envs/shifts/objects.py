"""Shifts of the objects themselves."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass, replace
from typing import TYPE_CHECKING

import numpy as np
from scipy.spatial.transform import Rotation

from simreal_envs.errors import UsageError
from simreal_envs.shifts.base import Shift
from simreal_envs.tasks.base import OtherShape

if TYPE_CHECKING:
    import mujoco

    from simreal_envs.tasks.base import Task


@dataclass(frozen=True)
class ObjectShape(Shift):
    """The objects have the other shapes that the task declares, see :attr:`Task.other_shapes`.

    The strength is the exponent of the scale: at 0.5 an object of twice the size is 1.4 times as large. What
    is round instead of square is so at any strength. The scene is compiled with these shapes, so they are the
    same in every episode.
    """

    stream = 18
    shapes: tuple[tuple[str, OtherShape], ...] = ()

    def of_task(self, task: Task) -> Shift:
        if not task.other_shapes:
            from simreal_envs.tasks import tasks_with

            raise UsageError(
                f"Task {task.name!r} has no other shapes of its objects for shift 'object-shape'. "
                f"Valid: {', '.join(tasks_with('other_shapes'))}."
            )
        return replace(self, shapes=tuple(task.other_shapes.items()))

    def build(self, scene: mujoco.MjSpec) -> None:
        for name, shape in self.shapes:
            scale = np.array(shape.scale) ** self.strength
            meshes = set()
            for geom in _geoms(scene.body(f"{name}_main") or scene.body(f"{name}_root")):
                geom.pos = geom.pos * scale
                if geom.meshname:
                    meshes.add(geom.meshname)
                    continue
                _scale(geom, scale)
                if shape.is_round:
                    _make_round(geom)
            for mesh in meshes:
                scene.mesh(mesh).scale = scene.mesh(mesh).scale * scale


def _geoms(body: mujoco.MjsBody) -> Iterator[mujoco.MjsGeom]:
    yield from body.geoms
    for below in body.bodies:
        yield from _geoms(below)


def _scale(geom: mujoco.MjsGeom, scale: np.ndarray) -> None:
    """Make a primitive larger along the entity's axes; its own are the same unless the scale is uniform."""
    turn = Rotation.from_quat(np.roll(geom.quat, -1)).as_matrix()
    along = np.linalg.norm(scale[:, None] * turn, axis=0)  # the geom's x, y and z axis
    is_box = geom.type.name == "mjGEOM_BOX"
    geom.size = geom.size * (along if is_box else [(along[0] + along[1]) / 2, along[2], 1.0])


def _make_round(geom: mujoco.MjsGeom) -> None:
    """An upright cylinder as wide and as high as the box."""
    import mujoco

    if geom.type == mujoco.mjtGeom.mjGEOM_BOX:
        geom.type = mujoco.mjtGeom.mjGEOM_CYLINDER
        geom.size = [(geom.size[0] + geom.size[1]) / 2, geom.size[2], 0.0]
