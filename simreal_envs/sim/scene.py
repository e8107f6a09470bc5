"""The robosuite environment that a task lives in: Panda on a table, the task's objects, the camera."""

from __future__ import annotations

import ctypes
import gc
import logging
from contextlib import suppress
from functools import cache
from typing import TYPE_CHECKING, Any, NamedTuple

import mujoco
import numpy as np
from scipy.spatial.transform import Rotation

from simreal_envs.cameras import THIRD_PERSON
from simreal_envs.shifts import Shift
from simreal_envs.sim.physics import Physics
from simreal_envs.spec import (
    BASE_IN_WORLD_M,
    CONTROL_HZ,
    START_JOINTS_RAD,
    TABLE_CENTRE_IN_BASE_M,
    TABLE_HALF_SIDE_M,
)
from simreal_envs.tasks import get_task
from simreal_envs.tasks.progress import Progress

logging.disable(logging.WARNING)  # robosuite's import warns about optional parts of no use here
from robosuite.controllers import load_composite_controller_config  # noqa: E402
from robosuite.environments.manipulation.manipulation_env import ManipulationEnv  # noqa: E402
from robosuite.models.arenas import TableArena  # noqa: E402
from robosuite.models.objects import MujocoObject  # noqa: E402
from robosuite.models.tasks import ManipulationTask  # noqa: E402
from robosuite.utils.mjcf_utils import CustomMaterial, array_to_string, new_element  # noqa: E402

logging.disable(logging.NOTSET)
logging.getLogger("robosuite_logs").setLevel(logging.ERROR)

if TYPE_CHECKING:
    from simreal_envs.tasks.base import Task

_FLIP_CAMERA = np.diag([1.0, -1.0, -1.0])
"""From OpenCV's camera axes to MuJoCo's (y up, looking along -z)."""


class TabletopScene(ManipulationEnv):
    """A robosuite environment, complete and steppable, whose objects come from the task.

    simreal steps and renders it faster by itself; its own ``step`` remains the reference in tests.
    """

    def __init__(self, task: Task, **kwargs: Any) -> None:
        self.task = task
        self.task_objects: dict[str, MujocoObject] = {}
        controller = load_composite_controller_config(controller="BASIC", robot="Panda")
        arm = controller["body_parts"]["right"]
        arm["input_type"], arm["input_ref_frame"] = "absolute", "base"
        options: dict[str, Any] = {
            "robots": "Panda",
            "controller_configs": controller,
            "control_freq": CONTROL_HZ,
            "has_renderer": False,
            "has_offscreen_renderer": False,
            "use_camera_obs": False,
            "camera_names": "agentview",
            "hard_reset": False,
            "horizon": 10**9,
        }
        super().__init__(base_types="NullMount", **(options | kwargs))

    def _load_model(self) -> None:
        super()._load_model()
        robot = self.robots[0].robot_model
        robot.set_base_xpos(BASE_IN_WORLD_M)
        self.robots[0].init_qpos = START_JOINTS_RAD.copy()
        side_m = 2 * TABLE_HALF_SIDE_M
        arena = TableArena(table_full_size=(side_m, side_m, 0.05), table_friction=(1.0, 5e-3, 1e-4))
        arena.set_origin([0, 0, 0])
        wood = CustomMaterial(
            texture="WoodLight",
            tex_name="tex-table-wood",
            mat_name="table_wood",
            tex_attrib={"type": "cube"},
            mat_attrib={"texrepeat": "1 1", "specular": "0.2", "shininess": "0.0"},
            shared=True,
        )
        arena.asset.append(new_element(tag="texture", **wood.tex_attrib))
        arena.asset.append(new_element(tag="material", **wood.mat_attrib))
        pose = THIRD_PERSON.pose_in_base
        xyzw = Rotation.from_matrix(pose[:3, :3] @ _FLIP_CAMERA).as_quat()
        fovy = 2 * np.rad2deg(np.arctan(THIRD_PERSON.size[0] / 2 / THIRD_PERSON.intrinsics[1, 1]))
        arena.set_camera(
            "agentview",
            pos=pose[:3, 3] + BASE_IN_WORLD_M,
            quat=xyzw[[3, 0, 1, 2]],
            camera_attribs={"fovy": str(fovy)},
        )
        self.task_objects = self.task.robosuite_objects()
        for name, (x, y, yaw) in self.task.fixed.items():
            entity, on_table = self.task_objects[name], TABLE_CENTRE_IN_BASE_M + BASE_IN_WORLD_M
            position = on_table + [x, y, -entity.bottom_offset[2]]
            entity.get_obj().set("pos", array_to_string(position))
            entity.get_obj().set("quat", array_to_string([np.cos(yaw / 2), 0.0, 0.0, np.sin(yaw / 2)]))
        self.model = ManipulationTask(
            mujoco_arena=arena, mujoco_robots=[robot], mujoco_objects=list(self.task_objects.values())
        )

    def reward(self, action: Any = None) -> float:
        """1 when the task is solved."""
        return float(self._check_success())

    def _check_success(self) -> bool:
        physics = Physics(self.sim.model._model, self.sim.data._data, self.task.objects)
        progress = Progress(self.task.stages)
        progress.update(self.task.stages_reached(physics))
        return progress.success


class CompiledScene(NamedTuple):
    """A task's scene as MuJoCo steps it, and its MJCF."""

    model: mujoco.MjModel
    xml: str


@cache
def compiled_scene(task: str, shifts: tuple[Shift, ...] = ()) -> CompiledScene:
    """The scene of a task, compiled once a process: a model takes 60 MB, and compiling it two seconds.

    All worlds of the task share this model, each with its own ``MjData``, so the model must not be changed.
    ``shifts`` can change the scene before it is compiled, see :meth:`simreal_envs.shifts.Shift.build`.
    """
    if shifts:
        scene_spec = mujoco.MjSpec.from_string(compiled_scene(task).xml)
        for shift in shifts:
            shift.build(scene_spec)
        return CompiledScene(scene_spec.compile(), scene_spec.to_xml())
    mujoco.mj_setCacheCapacity(mujoco.mj_getCache(), 0)  # of meshes and textures, which are read once
    scene = TabletopScene(get_task(task))
    scene.reset()
    compiled = CompiledScene(scene.sim.model._model, str(scene.sim.model.get_xml()))
    del scene
    _forget_what_compiling_left()
    return compiled


def _forget_what_compiling_left() -> None:
    """Free 250 MB: robosuite's objects, and the last model's XML and assets, which MuJoCo keeps."""
    gc.collect()  # robosuite's objects refer to one another
    mujoco.MjModel.from_xml_string("<mujoco/>")
    with suppress(AttributeError):  # musl's C library has no such call, and gives memory back by itself
        ctypes.CDLL(None).malloc_trim(0)
