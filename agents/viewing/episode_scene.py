"""The scene of a recorded episode, step by step, from the best record there is.

An episode of the simulation holds the model and its states, so the scene is shown as it was. Others hold the
joint angles, and some the objects' poses: the arm is then drawn from its angles in today's scene of the task.
"""

from __future__ import annotations

import re
from functools import lru_cache
from pathlib import Path

import mujoco
import numpy as np
from scipy.spatial.transform import Rotation

import simreal_envs
from simreal_agents.viewing.bodies import Poses, poses_in_base
from simreal_datasets.store.episode import Episode
from simreal_envs.errors import DataError
from simreal_envs.sim.parts import carried_by, robot_geoms
from simreal_envs.sim.physics import Physics, object_body
from simreal_envs.sim.scene import compiled_scene
from simreal_envs.spec import BASE_IN_WORLD_M, FloatArray
from simreal_envs.tasks import get_task

RAISED_M = 0.02
"""Where the recorded hand is farther than this from our arm's, the arm stood elsewhere and is drawn there."""


FAR_AWAY_M = 1000.0
"""Beyond what any camera shows."""


class EpisodeScene:
    """Where every body was at each step.

    Attributes:
        model, data: MuJoCo's, at the step that was asked for last.
        hidden: bodies that nobody knows the place of.
        note: what is not as it was; empty if all is.
    """

    def __init__(self, episode: Episode) -> None:
        self._episode = episode
        self._states = episode.states
        self.hidden: frozenset[int] = frozenset()
        self.note = ""
        if episode.meta.get("env") == "sim" and episode.states is not None and episode.model_xml:
            try:
                self.model = _stored_model(episode.model_xml, episode.states.shape[1])
            except DataError as error:
                self.note = (
                    f"The recorded scene cannot be shown: {error} Arm and objects are drawn from their poses."
                )
                self._prepare_poses()
        else:
            self._prepare_poses()
        self.data = mujoco.MjData(self.model)

    def poses(self, step: int) -> Poses:
        """Where every body is at a step."""
        if self._states is None:
            return self._posed(step)
        nq, nv = self.model.nq, self.model.nv
        state = self._states[step]
        self.data.time, self.data.qpos[:], self.data.qvel[:] = (
            state[0],
            state[1 : 1 + nq],
            state[1 + nq : 1 + nq + nv],
        )
        mujoco.mj_kinematics(self.model, self.data)
        mujoco.mj_camlight(self.model, self.data)
        return poses_in_base(self.data)

    # --- without the recorded scene -----------------------------------------------------------------

    def _prepare_poses(self) -> None:
        self._states = None
        task = get_task(self._episode.meta["task"])
        self.model = compiled_scene(task.name).model
        self._objects = self._episode.datagen.object_poses if self._episode.datagen else {}
        unknown = [name for name in task.objects if name not in self._objects]
        carried = [carried_by(self.model, object_body(self.model, name)) for name in unknown]
        self.hidden = frozenset(np.flatnonzero(np.any(carried, axis=0)).tolist()) if carried else frozenset()
        if unknown and not self.note:
            self.note = "Nobody recorded where the objects were; they are not shown."
        self._physics = Physics(self.model, mujoco.MjData(self.model), task.objects)
        self._robot = np.unique(self.model.geom_bodyid[robot_geoms(self.model)])
        self._offset_m = np.zeros(3)
        self._set_arm(0)
        here_m = self._physics.end_effector_pose_in_base()[:3, 3]
        offset_m = self._episode.observations["robot0_eef_pos"][0] - here_m
        if np.linalg.norm(offset_m) > RAISED_M:
            self._offset_m = offset_m

    def _set_arm(self, step: int) -> None:
        data, seen = self._physics.data, self._episode.observations
        for i, angle_rad in enumerate(seen["robot0_joint_pos"][step]):
            data.qpos[self.model.joint(f"robot0_joint{i + 1}").qposadr[0]] = angle_rad
        for i, at_m in enumerate(seen["robot0_gripper_qpos"][step]):
            data.qpos[self.model.joint(f"gripper0_right_finger_joint{i + 1}").qposadr[0]] = at_m
        mujoco.mj_kinematics(self.model, data)

    def _posed(self, step: int) -> Poses:
        self._set_arm(step)
        positions_m, wxyz = poses_in_base(self._physics.data)
        positions_m[self._robot] += self._offset_m
        for name, poses in self._objects.items():  # an entity's moving part comes after the entity
            body = object_body(self.model, name)
            own = carried_by(self.model, body)
            turn = Rotation.from_quat(wxyz[body], scalar_first=True)
            to = Rotation.from_matrix(poses[step][:3, :3]) * turn.inv()
            positions_m[own] = to.apply(positions_m[own] - positions_m[body]) + poses[step][:3, 3]
            wxyz[own] = (to * Rotation.from_quat(wxyz[own], scalar_first=True)).as_quat(scalar_first=True)
        self._place_geoms(positions_m, wxyz)
        return Poses(positions_m, wxyz)

    def _place_geoms(self, positions_m: FloatArray, wxyz: FloatArray) -> None:
        """Put the geoms of :attr:`data` on their bodies, for whoever renders it; hidden ones far away."""
        model, data = self.model, self.data
        mujoco.mj_kinematics(model, data)
        mujoco.mj_camlight(model, data)
        bodies = model.geom_bodyid
        turn = Rotation.from_quat(wxyz[bodies], scalar_first=True)
        data.geom_xpos[:] = positions_m[bodies] + turn.apply(model.geom_pos) + BASE_IN_WORLD_M
        in_body = Rotation.from_quat(model.geom_quat, scalar_first=True)
        data.geom_xmat[:] = (turn * in_body).as_matrix().reshape(-1, 9)
        data.geom_xpos[np.isin(bodies, sorted(self.hidden))] = FAR_AWAY_M


@lru_cache(maxsize=2)
def _stored_model(xml: str, numbers: int) -> mujoco.MjModel:
    """The model that an episode was recorded with, its meshes and textures from this machine.

    Raises:
        DataError: it does not compile here, or a state of ``numbers`` numbers is not one of its states.
    """
    try:
        model = mujoco.MjModel.from_xml_string(_with_files_of_this_machine(xml))
    except ValueError as error:
        raise DataError(f"its model does not compile here ({error}).") from error
    if numbers != 1 + model.nq + model.nv:
        raise DataError(f"its states have {numbers} numbers, its model {1 + model.nq + model.nv}.")
    return model


def _with_files_of_this_machine(xml: str) -> str:
    """Paths of robosuite's and simreal's own files lead to where these packages are installed."""
    import robosuite

    for package in (robosuite, simreal_envs):
        assert package.__file__ is not None
        folder = Path(package.__file__).parent
        xml = re.sub(rf'file="[^"]*/{folder.name}/([^"]*)"', rf'file="{folder}/\1"', xml)
    return xml
