"""Masses and inertias of a real Panda.

Links: Gaz, Cognetti, Oliva, Robuffo Giordano, De Luca, "Dynamic identification of the Franka Emika Panda
robot with retrieval of feasible parameters using penalty-based optimization", 2019. Hand: its data sheet.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

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
