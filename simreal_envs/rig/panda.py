"""Gives the arm of a task's scene the inertia of a real Panda.

robosuite's Panda has round numbers for masses and rotor inertias of up to 5 kg m^2, under which a controller
tuned on the robot oscillates. Geometry, contacts and objects stay the scene's.

Links: Gaz, Cognetti, Oliva, Robuffo Giordano, De Luca, "Dynamic identification of the Franka Emika Panda
robot with retrieval of feasible parameters using penalty-based optimization", 2019. Hand: its data sheet.
"""

from __future__ import annotations

from dataclasses import dataclass

import mujoco
import numpy as np
from scipy.spatial.transform import Rotation

from simreal_envs.spec import FloatArray

ROTOR_INERTIA_KGM2 = 0.1
"""What remains of the rotors' inertia under the robot's inner torque loop (MuJoCo Menagerie's value)."""

JOINT_DAMPING = 0.5
"""N m s/rad: the friction that the robot's own compensation leaves."""

FLANGE_IN_LINK7_M = np.array([0.0, 0.0, 0.107])


@dataclass(frozen=True)
class Inertia:
    """A rigid body.

    Attributes:
        centre_m: (3,) centre of mass in the body's frame.
        inertia_kgm2: (3, 3) about the centre of mass, in the frame's axes.
    """

    mass_kg: float
    centre_m: FloatArray
    inertia_kgm2: FloatArray

    def numbers(self) -> FloatArray:
        """Mass, centre and inertia (row-major) in one vector (13,)."""
        return np.concatenate([[self.mass_kg], self.centre_m, self.inertia_kgm2.ravel()])


def _link(mass: float, centre: tuple[float, ...], moments: tuple[float, ...]) -> Inertia:
    xx, yy, zz, xy, xz, yz = moments
    return Inertia(mass, np.array(centre), np.array([[xx, xy, xz], [xy, yy, yz], [xz, yz, zz]]))


LINKS = (
    _link(
        4.970684,
        (0.003875, 0.002081, -0.04762),
        (0.70337, 0.70661, 0.009117, -0.000139, 0.006772, 0.019169),
    ),
    _link(
        0.646926,
        (-0.003141, -0.02872, 0.003495),
        (0.007962, 0.02811, 0.025995, -0.003925, 0.010254, 0.000704),
    ),
    _link(
        3.228604,
        (0.027518, 0.039252, -0.066502),
        (0.037242, 0.036155, 0.01083, -0.004761, -0.011396, -0.012805),
    ),
    _link(
        3.587895,
        (-0.05317, 0.104419, 0.027454),
        (0.025853, 0.019552, 0.028323, 0.007796, -0.001332, 0.008641),
    ),
    _link(
        1.225946,
        (-0.011953, 0.041065, -0.038437),
        (0.035549, 0.029474, 0.008627, -0.002117, -0.004037, 0.000229),
    ),
    _link(
        1.666555,
        (0.060149, -0.014117, -0.010517),
        (0.001964, 0.004354, 0.005433, 0.000109, -0.001158, 0.000341),
    ),
    _link(
        0.735522,
        (0.010517, -0.004252, 0.061597),
        (0.012516, 0.010027, 0.004815, -0.000428, -0.001196, -0.000741),
    ),
)

HAND_MASS_KG = 0.73
"""Franka's hand with its fingers."""

FINGER_MASS_KG = 0.015


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
    carried = [b for b in range(model.nbody) if b != link7 and _hangs_on(model, b, link7)]
    masses = model.body_mass[carried]
    centres = (data.xipos[carried] - flange) @ flange_rotation
    centre = masses @ centres / masses.sum()
    inertia = np.zeros((3, 3))
    for body, mass, at in zip(carried, masses, centres - centre, strict=True):
        axes = flange_rotation.T @ data.ximat[body].reshape(3, 3)
        inertia += axes @ np.diag(model.body_inertia[body]) @ axes.T
        inertia += mass * (at @ at * np.eye(3) - np.outer(at, at))  # Steiner
    return Inertia(float(masses.sum()), centre, inertia)


def _hangs_on(model: mujoco.MjModel, body: int, root: int) -> bool:
    while body > 0 and body != root:
        body = int(model.body_parentid[body])
    return body == root
