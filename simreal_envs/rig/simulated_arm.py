"""The arm of the served scene: torques in, measurements out, once a millisecond.

As on the robot, commanded torques come on top of gravity compensation for arm, end effector and configured
load, and external forces are what the robot exerts on its surroundings beyond that.
"""

from __future__ import annotations

import mujoco
import numpy as np
from scipy.linalg.lapack import dposv

from simreal_envs.rig.model_library import ModelLibrary
from simreal_envs.rig.panda import ROTOR_INERTIA_KGM2, Inertia
from simreal_envs.spec import FloatArray

TICK_S = 1e-3

TORQUE_LIMIT_NM = np.array([87.0, 87.0, 87.0, 87.0, 12.0, 12.0, 12.0])
"""Franka's data sheet."""

JOINT_STIFFNESS = np.array([3000.0, 3000.0, 3000.0, 2500.0, 2500.0, 2000.0, 2000.0])
"""N m/rad of the robot's own joint controller, as Franka's examples set it."""

CARTESIAN_STIFFNESS = np.array([3000.0, 3000.0, 3000.0, 300.0, 300.0, 300.0])
"""N/m and N m/rad of the robot's own Cartesian controller."""
APPARENT_INERTIA = np.array([4.0, 4.0, 4.0, 0.2, 0.2, 0.2])
"""kg and kg m^2 that this controller is damped for."""
POSTURE_STIFFNESS, POSTURE_DAMPING = 20.0, 3.0

WRENCH_DAMPING = 1e-3
"""Added to the diagonal of J J^T, so that no small torque looks like a large force near singularities."""

EXTERNAL_FILTER = 0.05
"""Share of the newest value in the filtered external torque (8 Hz at 1 kHz)."""

BRAKE = 10.0
"""1/s: how fast a stopped arm loses its speed; 20 rad/s^2 at most, what Franka's joints can do."""

RESTED_RADPS = 0.02
"""Below this speed of every joint a stopped arm is at rest."""


_PULL_STIFFNESS = np.array([300.0, 300.0, 300.0, 20.0, 20.0, 20.0])
_PULL_DAMPING = np.array([40.0, 40.0, 40.0, 3.0, 3.0, 3.0])
_PULL_LIMIT = np.array([30.0, 30.0, 30.0, 5.0, 5.0, 5.0])
"""A person's hand that holds the end effector."""


class SimulatedArm:
    """Seven joints of a MuJoCo model with a 1 ms timestep.

    Attributes:
        q, dq, ddq: views of the joint angles (rad), speeds and accelerations.
        hold_q, hold_dq: (7,) where a stopped arm is, or is being slowed down.
        torque: (7,) commanded torque without gravity that was applied last.
        torque_rate: (7,) derivative of the measured torque, N m/s.
        measured_torque: (7,) with gravity.
        external_torque: (7,) exerted on the surroundings, filtered.
        external_wrench_in_base: (6,) the same as force and torque at the end effector.
        pose_in_base, jacobian: of the end effector, (4, 4) and (6, 7).
        library: model library, its payload what the robot believes to carry.
    """

    def __init__(self, model: mujoco.MjModel, data: mujoco.MjData, library: ModelLibrary) -> None:
        self.model, self.data, self.library = model, data, library
        self.q, self.dq = data.qpos[:7], data.qvel[:7]
        self._applied = data.qfrc_applied[:7]
        self._constraint, self.ddq = data.qfrc_constraint[:7], data.qacc[:7]
        self.stiffness, self.cartesian_stiffness = JOINT_STIFFNESS.copy(), CARTESIAN_STIFFNESS.copy()
        self.hold_q, self.hold_dq = self.q.copy(), np.zeros(7)
        self.torque, self.torque_rate = np.zeros(7), np.zeros(7)
        self.measured_torque, self._before = np.zeros(7), np.zeros(7)
        self.external_torque, self.external_wrench_in_base = np.zeros(7), np.zeros(6)
        self._external = np.zeros(7)
        self._pull = np.zeros(7)
        self.pull_target_in_base: FloatArray | None = None
        self.library.q[:] = self.q
        self.pose_in_base, self.jacobian = library.end_pose(), library.end_jacobian()

    def set_load(self, hand: Inertia, load: Inertia) -> None:
        """Set what the robot believes to carry: the hand and a load, both in the flange's frame."""
        mass = hand.mass_kg + load.mass_kg
        centre = (hand.mass_kg * hand.centre_m + load.mass_kg * load.centre_m) / mass
        inertia = np.zeros((3, 3))
        for part in (hand, load):
            at = part.centre_m - centre
            inertia += part.inertia_kgm2 + part.mass_kg * (at @ at * np.eye(3) - np.outer(at, at))
        self.library.set_payload(Inertia(mass, centre, inertia))

    def joint_impedance(self, q_target: FloatArray, dq_target: FloatArray | float = 0.0) -> FloatArray:
        """Torques (7,) of the robot's own joint controller, critically damped."""
        damping = 2.0 * np.sqrt(self.stiffness * (self.library.mass_matrix().diagonal() + ROTOR_INERTIA_KGM2))
        return self.stiffness * (q_target - self.q) + damping * (dq_target - self.dq)

    def cartesian_impedance(self, pose_target: FloatArray, q_posture: FloatArray) -> FloatArray:
        """Torques (7,) of the robot's own Cartesian controller; the null space goes to a posture."""
        jacobian = self.jacobian
        velocity = jacobian @ self.dq
        damping = 2.0 * np.sqrt(self.cartesian_stiffness * APPARENT_INERTIA)
        error = difference(pose_target, self.pose_in_base)
        wrench = self.cartesian_stiffness * error - damping * velocity
        posture = POSTURE_STIFFNESS * (q_posture - self.q) - POSTURE_DAMPING * self.dq
        posture -= jacobian.T @ least_squares(jacobian, jacobian @ posture, WRENCH_DAMPING)
        return jacobian.T @ wrench + posture + self.library.coriolis()

    def release(self) -> None:
        """Note that a controller moves the arm now; a later :meth:`rest` will start from here."""
        self.hold_q[:], self.hold_dq[:] = self.q, self.dq

    def rest(self) -> FloatArray:
        """Torques that slow the arm down and hold it."""
        self.hold_dq *= 1.0 - BRAKE * TICK_S
        self.hold_q += TICK_S * self.hold_dq
        return self.joint_impedance(self.hold_q, self.hold_dq)

    @property
    def resting(self) -> bool:
        """Whether a stopped arm has come to stand."""
        return bool(np.abs(self.hold_dq).max() < RESTED_RADPS)

    def step(self, torque: FloatArray) -> None:
        """One millisecond under ``torque`` (7,), N m, without gravity."""
        library = self.library
        self.torque[:] = torque
        np.add(torque, library.gravity(), out=self._applied)
        np.clip(self._applied, -TORQUE_LIMIT_NM, TORQUE_LIMIT_NM, out=self._applied)
        self._before[:] = self.measured_torque
        self.measured_torque[:] = self._applied
        np.subtract(self.measured_torque, self._before, out=self.torque_rate)
        self.torque_rate /= TICK_S
        if self.pull_target_in_base is not None:
            self._pull_towards(self.pull_target_in_base)
        mujoco.mj_step(self.model, self.data)
        library.q[:], library.dq[:] = self.q, self.dq
        library.end_pose()
        library.end_jacobian()
        self._measure()

    def jumped(self) -> None:
        """Forget filters and held pose after the scene was set to another state."""
        self.hold_q[:], self.hold_dq[:] = self.q, 0.0
        self.external_torque[:] = 0.0
        self.library.q[:], self.library.dq[:] = self.q, self.dq
        self.library.end_pose()
        self.library.end_jacobian()

    def _measure(self) -> None:
        """External torque and wrench: contacts push with the constraint force, the robot pushes back."""
        np.add(self._constraint, self._pull, out=self._external)
        self._external += self.external_torque
        self._external *= EXTERNAL_FILTER
        self.external_torque -= self._external
        self.external_wrench_in_base[:] = least_squares(
            self.jacobian, self.jacobian @ self.external_torque, WRENCH_DAMPING
        )

    def _pull_towards(self, target: FloatArray) -> None:
        """A person's hand is a spring between the end effector and a pose (4, 4)."""
        error = difference(target, self.pose_in_base)
        wrench = _PULL_STIFFNESS * error - _PULL_DAMPING * (self.jacobian @ self.dq)
        np.clip(wrench, -_PULL_LIMIT, _PULL_LIMIT, out=wrench)
        self._pull[:] = self.jacobian.T @ wrench
        self._applied += self._pull

    def let_go(self) -> None:
        """End the pull."""
        self.pull_target_in_base = None
        self._pull[:] = 0.0


def difference(target: FloatArray, now: FloatArray) -> FloatArray:
    """Translation and small rotation (6,) that lead from one pose (4, 4) to another, base frame."""
    turn = target[:3, :3] @ now[:3, :3].T
    rotation = [turn[2, 1] - turn[1, 2], turn[0, 2] - turn[2, 0], turn[1, 0] - turn[0, 1]]
    return np.concatenate([target[:3, 3] - now[:3, 3], 0.5 * np.array(rotation)])


def least_squares(jacobian: FloatArray, values: FloatArray, damping: float) -> FloatArray:
    """``(J J^T + damping)^-1 values`` (6,)."""
    square = jacobian @ jacobian.T
    square.flat[::7] += damping
    return dposv(square, values)[1]
