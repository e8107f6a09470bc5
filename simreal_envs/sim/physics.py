"""The state of a simulated scene, read and written in the robot base frame."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from graphlib import TopologicalSorter
from typing import Any

import mujoco
import numpy as np

from simreal_envs.errors import UsageError
from simreal_envs.gains import ROBOSUITE, Gains
from simreal_envs.poses import pose
from simreal_envs.sim.controller import ArmController
from simreal_envs.sim.parts import bottom_m, collision_geoms, top_m
from simreal_envs.spec import BASE_IN_WORLD_M, CONTROL_HZ, TABLE_CENTRE_IN_BASE_M, FloatArray
from simreal_envs.tasks.starts import Place

GRIPPER_OPEN_M = 0.04
"""Position of one finger of the open hand."""

GRIP_SITE_IN_HAND = np.array([[0.0, 1.0, 0.0], [-1.0, 0.0, 0.0], [0.0, 0.0, 1.0]])
"""Rotation from robosuite's grip site to the axes of Franka's hand (a quarter turn about z)."""


class Physics:
    """A ``MjModel`` and its ``MjData`` with names resolved once.

    Args:
        objects: names of the task's objects: each robosuite's of an entity, or a body's.
        base_in_world_m: (3,) where the base frame's origin is, for a scene whose table has another height.
    """

    def __init__(
        self,
        model: mujoco.MjModel,
        data: mujoco.MjData,
        objects: Sequence[str],
        base_in_world_m: FloatArray = BASE_IN_WORLD_M,
    ) -> None:
        self.model, self.data, self._base_in_world_m = model, data, base_in_world_m
        self.controller = ArmController(model, data)
        self.substeps = round(1 / CONTROL_HZ / model.opt.timestep)
        self._site = model.site("gripper0_right_grip_site").id
        self._joints = np.array([model.joint(f"robot0_joint{i}").qposadr[0] for i in range(1, 8)])
        fingers = [f"gripper0_right_finger_joint{i}" for i in (1, 2)]
        self._fingers = np.array([model.joint(name).qposadr[0] for name in fingers])
        self._pads = [frozenset({model.geom(f"gripper0_right_finger{i}_pad_collision").id}) for i in (1, 2)]
        self._bodies = {name: object_body(model, name) for name in objects}
        free = [(name, _free_joint(model, body)) for name, body in self._bodies.items()]
        self._free = {name: joint for name, joint in free if joint is not None}
        self._geoms = {name: collision_geoms(model, body) for name, body in self._bodies.items()}
        self._bottoms_m = {name: bottom_m(model, self._bodies[name]) for name in self._free}

    # --- acting -----------------------------------------------------------------------------------

    def reset(
        self,
        joints_rad: FloatArray,
        placement: Mapping[str, Place],
        gains: Gains = ROBOSUITE,
    ) -> None:
        """Start an episode: arm at ``joints_rad``, fingers open, everything placed as :meth:`place` does."""
        mujoco.mj_resetData(self.model, self.data)
        self.data.qpos[self._joints] = joints_rad
        self.data.qpos[self._fingers] = GRIPPER_OPEN_M, -GRIPPER_OPEN_M
        self.place(placement)
        self.controller.reset(gains)

    def place(self, placement: Mapping[str, Place]) -> None:
        """Put entities at rest on the table or on one another and set joints; everything else keeps moving.

        Raises:
            UsageError: a joint's value out of its range.
        """
        on: dict[str, list[str]] = {}  # what has to be in its place before
        for name, place in placement.items():
            if isinstance(place, float):
                self._set_joint(name, place)
            else:
                on[name] = [self._entity_of(other) for other in place[3:] if isinstance(other, str)]
        for name in TopologicalSorter(on).static_order():
            if name in placement:
                self._put(name, *placement[name])  # type: ignore[misc]
        mujoco.mj_forward(self.model, self.data)

    def _set_joint(self, name: str, value: float) -> None:
        joint = self.model.joint(name)
        low, high = joint.range
        if joint.limited[0] and not low <= value <= high:
            raise UsageError(f"Placement of {name!r} is {value}; the joint goes from {low:g} to {high:g}.")
        self.data.qpos[joint.qposadr[0]] = value
        self.data.qvel[joint.dofadr[0]] = self.data.qacc_warmstart[joint.dofadr[0]] = 0.0

    def _put(self, name: str, x: float, y: float, yaw: float, of: str | None = None) -> None:
        at, moves = self._free[name].qposadr[0], self._free[name].dofadr[0]
        if of is None:
            in_world = (
                TABLE_CENTRE_IN_BASE_M + np.array([x, y, -self._bottoms_m[name]]) + self._base_in_world_m
            )
        else:
            mujoco.mj_kinematics(self.model, self.data)
            body = self._bodies[of]
            turn = self.data.xmat[body].reshape(3, 3)
            height_m = top_m(self.model, body) - self._bottoms_m[name]
            in_world = self.data.xpos[body] + turn @ np.array([x, y, height_m])
            yaw += float(np.arctan2(turn[1, 0], turn[0, 0]))
        self.data.qpos[at : at + 3] = in_world
        self.data.qpos[at + 3 : at + 7] = np.cos(yaw / 2), 0.0, 0.0, np.sin(yaw / 2)
        self.data.qvel[moves : moves + 6] = self.data.qacc_warmstart[moves : moves + 6] = 0.0

    def _entity_of(self, name: str) -> str:
        """The free entity that an object is or belongs to, else the object itself."""
        root = self.model.body_rootid[self._bodies[name]]
        return next((entity for entity in self._free if self._bodies[entity] == root), name)

    def step(self, pose_target_in_base: FloatArray, gripper: float) -> None:
        """One control step of 50 ms towards a target end-effector pose (4, 4)."""
        rotation = pose_target_in_base[:3, :3] @ GRIP_SITE_IN_HAND
        self.controller.set_goal(pose_target_in_base[:3, 3] + self._base_in_world_m, rotation, gripper)
        for _ in range(self.substeps):
            mujoco.mj_step1(self.model, self.data)
            self.controller.apply()
            mujoco.mj_step2(self.model, self.data)
        mujoco.mj_kinematics(self.model, self.data)  # poses of the positions just reached

    def get_state(self) -> FloatArray:
        """Time, positions and velocities in one vector, as robosuite and robomimic flatten them."""
        return np.concatenate([[self.data.time], self.data.qpos, self.data.qvel])

    def set_state(self, state: FloatArray) -> None:
        """Show a recorded state (for rendering and measuring; contact history is not restored)."""
        nq, nv = self.model.nq, self.model.nv
        if len(state) != 1 + nq + nv:
            raise ValueError(f"State has length {len(state)}, this scene's is {1 + nq + nv}.")
        self.data.time = state[0]
        self.data.qpos[:] = state[1 : 1 + nq]
        self.data.qvel[:] = state[1 + nq :]
        mujoco.mj_forward(self.model, self.data)

    # --- reading ----------------------------------------------------------------------------------

    @property
    def time_s(self) -> float:
        """Simulated time since the reset."""
        return float(self.data.time)

    @property
    def joint_positions_rad(self) -> FloatArray:
        """The arm's seven joint angles."""
        return self.data.qpos[self._joints]

    @property
    def finger_positions_m(self) -> FloatArray:
        """Both fingers, the second one negative."""
        return self.data.qpos[self._fingers]

    def end_effector_pose_in_base(self) -> FloatArray:
        """(4, 4); the axes are those of Franka's hand."""
        rotation = self.data.site_xmat[self._site].reshape(3, 3) @ GRIP_SITE_IN_HAND.T
        return pose(rotation, self.data.site_xpos[self._site] - self._base_in_world_m)

    def object_pose_in_base(self, name: str) -> FloatArray:
        """(4, 4)."""
        body = self._bodies[name]
        return pose(self.data.xmat[body].reshape(3, 3), self.data.xpos[body] - self._base_in_world_m)

    def object_position_in_base(self, name: str) -> FloatArray:
        """(3,) metres."""
        return self.data.xpos[self._bodies[name]] - self._base_in_world_m

    def object_balls_in_base(self, name: str) -> tuple[FloatArray, FloatArray]:
        """Balls that hold an object's colliding parts: centres (N, 3) and radii (N,), in metres."""
        geoms = sorted(self._geoms[name])
        return self.data.geom_xpos[geoms] - BASE_IN_WORLD_M, self.model.geom_rbound[geoms]

    def object_speed_mps(self, name: str) -> float:
        """Speed of the object's origin."""
        if name in self._free:
            at = self._free[name].dofadr[0]
            return float(np.linalg.norm(self.data.qvel[at : at + 3]))
        velocity, body = np.zeros(6), mujoco.mjtObj.mjOBJ_XBODY
        mujoco.mj_objectVelocity(self.model, self.data, body, self._bodies[name], velocity, 0)
        return float(np.linalg.norm(velocity[3:]))

    def _touching(self, first: frozenset[int], second: frozenset[int]) -> bool:
        for a, b in self.data.contact.geom[: self.data.ncon].tolist():
            if (a in first and b in second) or (b in first and a in second):
                return True
        return False

    def in_contact(self, first: str, second: str) -> bool:
        """Whether two objects touch."""
        return self._touching(self._geoms[first], self._geoms[second])

    def fingers_touching(self, name: str) -> int:
        """How many of the two finger pads touch the object."""
        return sum(self._touching(pad, self._geoms[name]) for pad in self._pads)

    def is_grasped(self, name: str) -> bool:
        """Whether both finger pads touch the object."""
        return all(self._touching(pad, self._geoms[name]) for pad in self._pads)


def object_body(model: mujoco.MjModel, name: str) -> int:
    """The body of an object: the root body of an entity's robosuite model, or the body with this name.

    Raises:
        KeyError: there is none.
    """
    joint = mujoco.mj_name2id(model, mujoco.mjtObj.mjOBJ_JOINT, f"{name}_joint0")
    if joint >= 0 and model.jnt_type[joint] == mujoco.mjtJoint.mjJNT_FREE:
        return int(model.jnt_bodyid[joint])
    root = mujoco.mj_name2id(model, mujoco.mjtObj.mjOBJ_BODY, f"{name}_main")
    return root if root >= 0 else int(model.body(name).id)


def _free_joint(model: mujoco.MjModel, body: int) -> Any:
    """MuJoCo's view of the joint that lets the body go anywhere; None where it has none."""
    joint = model.body_jntadr[body]
    is_free = joint >= 0 and model.jnt_type[joint] == mujoco.mjtJoint.mjJNT_FREE
    return model.joint(joint) if is_free else None
