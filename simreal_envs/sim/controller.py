"""robosuite's operational-space controller, without the overhead: same torques, a tenth of the time.

The law (Khatib, "A unified approach for motion and force control of robot manipulators", 1987), as
robosuite's ``OSC_POSE`` applies it with position and orientation decoupled::

    F   = Lambda_pos (kp_pos e_pos - kd_pos v)   Lambda_pos = (J_pos M^-1 J_pos^T)^+
    T   = Lambda_ori (kp_ori e_ori - kd_ori w)   Lambda_ori = (J_ori M^-1 J_ori^T)^+
    tau = J^T [F; T] + bias + N^T M (kp_null (q_null - q) - kd_null qd)

with ``N = I - M^-1 J^T Lambda J`` the null space of the task and ``kd = 2 sqrt(kp)``, critical damping. A
test holds it to robosuite's own torques.
"""

from __future__ import annotations

import mujoco
import numpy as np
from numba import njit

from simreal_envs.gains import ROBOSUITE, Gains
from simreal_envs.spec import FloatArray

GRIPPER_SPEED = 0.2
"""Change of the normalised finger command a control step (robosuite's PandaGripper)."""

ARM_DOF = 7


@njit(cache=True)
def osc_torques(
    mass: np.ndarray,
    jacobian: np.ndarray,
    position: np.ndarray,
    rotation: np.ndarray,
    velocity: np.ndarray,
    goal_position: np.ndarray,
    goal_rotation: np.ndarray,
    q: np.ndarray,
    qd: np.ndarray,
    q_null: np.ndarray,
    bias: np.ndarray,
    kp_pos: float,
    kp_ori: float,
    kp_null: float,
) -> np.ndarray:  # pragma: no cover - compiled
    """Joint torques (7,) in N m.

    ``mass`` (nv, nv) and ``jacobian`` (6, nv) are of the whole scene, whose first degrees of freedom are the
    arm's. Positions in m, world frame; ``velocity`` is (v, w) of the site (6,). Stiffness in 1/s^2.
    """
    mass = np.ascontiguousarray(mass[:ARM_DOF, :ARM_DOF])
    jacobian = np.ascontiguousarray(jacobian[:, :ARM_DOF])
    mass_inv = np.linalg.inv(mass)
    j_pos = np.ascontiguousarray(jacobian[:3])
    j_ori = np.ascontiguousarray(jacobian[3:])
    mass_inv_jt = mass_inv @ jacobian.T
    lambda_full = np.linalg.pinv(jacobian @ mass_inv_jt)
    lambda_pos = np.linalg.pinv(j_pos @ np.ascontiguousarray(mass_inv_jt[:, :3]))
    lambda_ori = np.linalg.pinv(j_ori @ np.ascontiguousarray(mass_inv_jt[:, 3:]))

    error = np.zeros(3)
    for k in range(3):  # half the sum of the cross products of the axes
        a, b = rotation[:, k], goal_rotation[:, k]
        error[0] += 0.5 * (a[1] * b[2] - a[2] * b[1])
        error[1] += 0.5 * (a[2] * b[0] - a[0] * b[2])
        error[2] += 0.5 * (a[0] * b[1] - a[1] * b[0])

    wrench = np.empty(6)
    wrench[:3] = lambda_pos @ (kp_pos * (goal_position - position) - 2.0 * np.sqrt(kp_pos) * velocity[:3])
    wrench[3:] = lambda_ori @ (kp_ori * error - 2.0 * np.sqrt(kp_ori) * velocity[3:])

    nullspace = np.eye(ARM_DOF) - mass_inv_jt @ lambda_full @ jacobian
    posture = mass @ (kp_null * (q_null - q) - 2.0 * np.sqrt(kp_null) * qd)
    return jacobian.T @ wrench + bias + nullspace.T @ posture


class ArmController:
    """Turns a target pose of the grip site into torques, substep by substep, and drives the fingers."""

    def __init__(self, model: mujoco.MjModel, data: mujoco.MjData) -> None:
        self._model, self._data = model, data
        # The arm's joints come first in robosuite's models, so slices select them.
        for i in range(ARM_DOF):
            joint = model.joint(f"robot0_joint{i + 1}")
            assert joint.qposadr[0] == joint.dofadr[0] == i == model.actuator(f"robot0_torq_j{i + 1}").id
        self._torque_low, self._torque_high = model.actuator_ctrlrange[:ARM_DOF].T.copy()
        fingers = ["gripper0_right_gripper_finger_joint1", "gripper0_right_gripper_finger_joint2"]
        self._fingers = np.array([model.actuator(name).id for name in fingers])
        low, high = model.actuator_ctrlrange[self._fingers].T
        self._finger_centre, self._finger_half = (low + high) / 2, (high - low) / 2
        self._site = model.site("gripper0_right_grip_site").id
        self._mass = np.empty((model.nv, model.nv))
        self._jacobian = np.empty((6, model.nv))
        self._goal_position, self._goal_rotation = np.zeros(3), np.eye(3)
        self._finger_command = np.array([1.0, -1.0])
        self._q_null = np.zeros(ARM_DOF)
        self._gains = ROBOSUITE

    def reset(self, gains: Gains = ROBOSUITE) -> None:
        """Take the gains, and the present joints as posture; open the fingers."""
        self._gains = gains
        self._q_null = self._data.qpos[:ARM_DOF] + np.array(gains.posture_offset_rad)
        self._finger_command = np.array([1.0, -1.0])

    def set_goal(self, position_in_world: FloatArray, rotation_in_world: FloatArray, gripper: float) -> None:
        """Take a new target once a control step; ``gripper`` -1 opens, 1 closes."""
        self._goal_position = np.ascontiguousarray(position_in_world)
        self._goal_rotation = np.ascontiguousarray(rotation_in_world)
        step = GRIPPER_SPEED * np.sign(gripper) * np.array([-1.0, 1.0])
        self._finger_command = np.clip(self._finger_command + step, -1.0, 1.0)
        self._data.ctrl[self._fingers] = self._finger_centre + self._finger_half * self._finger_command

    def torques(self) -> FloatArray:
        """Torques (7,) in N m for the state that ``mj_step1`` has just evaluated."""
        model, data, gains = self._model, self._data, self._gains
        mujoco.mj_fullM(model, self._mass, data.qM)
        mujoco.mj_jacSite(model, data, self._jacobian[:3], self._jacobian[3:], self._site)
        return osc_torques(
            self._mass,
            self._jacobian,
            data.site_xpos[self._site],
            data.site_xmat[self._site].reshape(3, 3),
            self._jacobian @ data.qvel,
            self._goal_position,
            self._goal_rotation,
            data.qpos[:ARM_DOF],
            data.qvel[:ARM_DOF],
            self._q_null,
            data.qfrc_bias[:ARM_DOF],
            gains.position,
            gains.rotation,
            gains.posture,
        )

    def apply(self) -> None:
        """Write the torques, clipped to the actuators' range."""
        np.clip(self.torques(), self._torque_low, self._torque_high, out=self._data.ctrl[:ARM_DOF])
