"""Gives the arm of a task's scene the inertia of a real Panda.

robosuite's Panda has round numbers for masses and rotor inertias of up to 5 kg m^2, under which a controller
tuned on the robot oscillates. Geometry, contacts and objects stay the scene's.
"""

from __future__ import annotations

import mujoco
import numpy as np
from scipy.spatial.transform import Rotation

from simreal_envs.rig.panda import (
    FINGER_MASS_KG,
    FLANGE_IN_LINK7_M,
    HAND_MASS_KG,
    JOINT_DAMPING,
    LINKS,
    ROTOR_INERTIA_KGM2,
    Inertia,
)
from simreal_envs.sim.parts import carried_by, check_every_pair


def give_inertia(model: mujoco.MjModel, data: mujoco.MjData) -> None:
    """Set masses, inertias and friction of arm and hand in place."""
    for i, link in enumerate(LINKS, start=1):
        _set(model, f"robot0_link{i}", link)
        dof = model.joint(f"robot0_joint{i}").dofadr[0]
        model.dof_armature[dof] = ROTOR_INERTIA_KGM2
        model.dof_damping[dof] = JOINT_DAMPING
        model.dof_frictionloss[dof] = 0.0
    tip = 0.001
    for side, number in (("left", 1), ("right", 2)):
        finger = Inertia(FINGER_MASS_KG - tip, np.zeros(3), np.diag([2.4e-6, 2.4e-6, 7.5e-7]))
        _set(model, f"gripper0_right_{side}finger", finger)
        _set(model, f"gripper0_right_finger_joint{number}_tip", Inertia(tip, np.zeros(3), 1e-7 * np.eye(3)))
    body = Inertia(1e-3, np.zeros(3), 1e-7 * np.eye(3))
    _set(model, "gripper0_right_right_gripper", body)
    rest_kg = HAND_MASS_KG - 2 * FINGER_MASS_KG - body.mass_kg
    hand = Inertia(rest_kg, np.array([-0.01, 0.0, 0.03]), np.diag([0.001, 0.0025, 0.0017]))
    _set(model, "robot0_right_hand", hand)
    check_every_pair(model)
    mujoco.mj_setConst(model, data)


def _set(model: mujoco.MjModel, name: str, inertia: Inertia) -> None:
    body = model.body(name).id
    moments, axes = np.linalg.eigh(inertia.inertia_kgm2)
    axes[:, 2] *= np.linalg.det(axes)  # right-handed
    model.body_mass[body], model.body_ipos[body] = inertia.mass_kg, inertia.centre_m
    model.body_inertia[body] = moments
    model.body_iquat[body] = np.roll(Rotation.from_matrix(axes).as_quat(), 1)
    model.body_sameframe[body] = mujoco.mjtSameFrame.mjSAMEFRAME_NONE  # MuJoCo's shortcuts no longer hold
    model.body_simple[body] = 0


def payload(model: mujoco.MjModel, data: mujoco.MjData) -> Inertia:
    """All that the last link carries (hand, fingers) as one body in the flange's frame."""
    link7 = model.body("robot0_link7").id
    flange_rotation = data.xmat[link7].reshape(3, 3)
    flange = data.xpos[link7] + flange_rotation @ FLANGE_IN_LINK7_M
    carried = np.setdiff1d(np.flatnonzero(carried_by(model, link7)), link7)
    masses = model.body_mass[carried]
    centres = (data.xipos[carried] - flange) @ flange_rotation
    centre = masses @ centres / masses.sum()
    inertia = np.zeros((3, 3))
    for body, mass, at in zip(carried, masses, centres - centre, strict=True):
        axes = flange_rotation.T @ data.ximat[body].reshape(3, 3)
        inertia += axes @ np.diag(model.body_inertia[body]) @ axes.T
        inertia += mass * (at @ at * np.eye(3) - np.outer(at, at))  # Steiner
    return Inertia(float(masses.sum()), centre, inertia)
