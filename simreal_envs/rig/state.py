"""The robot's state as its clients receive it, written in place once a millisecond."""

from __future__ import annotations

from typing import TYPE_CHECKING

import numpy as np

from simreal_envs.poses import pose
from simreal_envs.rig import protocol
from simreal_envs.rig.motion import MotionGenerator
from simreal_envs.rig.panda import Inertia
from simreal_envs.rig.protocol import Controller, Motion, RobotMode
from simreal_envs.rig.simulated_arm import SimulatedArm
from simreal_envs.spec import FloatArray

if TYPE_CHECKING:
    from simreal_envs.rig.reflexes import Reflexes

_QUARTER = np.sqrt(0.5)
NOMINAL_END_IN_FLANGE = pose(
    [[_QUARTER, _QUARTER, 0.0], [-_QUARTER, _QUARTER, 0.0], [0.0, 0.0, 1.0]], [0.0, 0.0, 0.1034]
)
"""Franka's hand: turned by -45 degrees, its fingertips 103.4 mm from the flange (F_T_NE)."""


class RobotState:
    """One record of :data:`simreal_envs.rig.protocol.STATE`, each field a view of its memory.

    Attributes:
        datagram: the packed record.
    """

    def __init__(self, arm: SimulatedArm, hand: Inertia) -> None:
        self._arm = arm
        record = np.zeros(1, protocol.STATE)
        self.datagram = record.view(np.uint8).data
        fields = protocol.STATE.names or ()
        self._f = f = {name: record[name] if record[name].ndim == 1 else record[name][0] for name in fields}
        # Matrices in their own shape: numpy's rows are the wire's columns.
        for name in ("O_T_EE", "O_T_EE_d", "O_T_EE_c", "F_T_EE", "EE_T_K", "F_T_NE", "NE_T_EE"):
            f[name] = f[name].reshape(4, 4).T
            f[name][:] = np.eye(4)
        f["F_T_NE"][:] = NOMINAL_END_IN_FLANGE
        f["m_ee"][:], f["F_x_Cee"][:] = hand.mass_kg, hand.centre_m
        f["I_ee"][:] = hand.inertia_kgm2.ravel()
        f["O_ddP_O"][2] = -9.81
        f["elbow"][1] = f["elbow_d"][1] = f["elbow_c"][1] = -1.0
        f["controller_mode"][:] = Controller.OTHER
        self._stiffness_frame_set = False
        self.set_mode(RobotMode.IDLE)
        self.set_end_effector(np.eye(4))

    @property
    def message_id(self) -> int:
        """The robot's time in ms."""
        return int(self._f["message_id"][0])

    @property
    def mode(self) -> int:
        """A :class:`RobotMode`."""
        return int(self._f["robot_mode"][0])

    @property
    def failed(self) -> bool:
        """Whether an error waits for a recovery."""
        return bool(self._f["errors"].any())

    # --- seldom -------------------------------------------------------------------------------------

    def set_mode(self, mode: RobotMode) -> None:
        """Idle, or stopped by a reflex or the user: nothing generates motions."""
        self._f["robot_mode"][:] = mode
        self._f["motion_generator_mode"][:] = Motion.IDLE
        self._f["controller_mode"][:] = Controller.OTHER

    def start(self, motion: Motion, controller: Controller) -> None:
        """A motion begins."""
        self._f["robot_mode"][:] = RobotMode.MOVE
        self._f["motion_generator_mode"][:], self._f["controller_mode"][:] = motion, controller
        self._f["reflex_reason"][:] = 0

    def fail(self, error_flags: np.ndarray) -> None:
        """A reflex: it stays in ``errors`` until a recovery, in ``reflex_reason`` until the next motion."""
        self._f["errors"] |= error_flags
        self._f["reflex_reason"][:] = error_flags
        self.set_mode(RobotMode.REFLEX)

    def recover(self) -> None:
        """Clear the errors; the robot is idle."""
        self._f["errors"][:] = 0
        self.set_mode(RobotMode.IDLE)

    def jump(self, milliseconds: int) -> None:
        """Set the robot's clock ahead (or back)."""
        self._f["message_id"][0] = max(self.message_id + milliseconds, 0)

    def set_end_effector(self, nominal_to_end: FloatArray) -> None:
        """NE_T_EE (4, 4)."""
        f = self._f
        f["NE_T_EE"][:] = nominal_to_end
        f["F_T_EE"][:] = f["F_T_NE"] @ f["NE_T_EE"]
        self._arm.library.flange_to_end[:] = f["F_T_EE"]

    def set_stiffness_frame(self, end_to_frame: FloatArray) -> None:
        """EE_T_K (4, 4): where the external wrench is stated."""
        self._f["EE_T_K"][:] = end_to_frame
        self._stiffness_frame_set = not np.array_equal(self._f["EE_T_K"], np.eye(4))

    def set_load(self, load: Inertia) -> None:
        """What the robot was told to carry."""
        f = self._f
        f["m_load"][:], f["F_x_Cload"][:] = load.mass_kg, load.centre_m
        f["I_load"][:] = load.inertia_kgm2.ravel()

    # --- every millisecond --------------------------------------------------------------------------

    def update(self, success_rate: float, reflexes: Reflexes, generator: MotionGenerator | None) -> None:
        """Measure, and advance the clock by a millisecond."""
        f, arm = self._f, self._arm
        f["message_id"] += np.uint64(1)
        f["control_command_success_rate"][0] = success_rate
        f["q"][:] = f["theta"][:] = arm.q
        f["dq"][:] = f["dtheta"][:] = arm.dq
        f["tau_J"][:], f["dtau_J"][:] = arm.measured_torque, arm.torque_rate
        f["tau_J_d"][:] = arm.torque
        f["tau_ext_hat_filtered"][:] = arm.external_torque
        wrench, rotation = f["O_F_ext_hat_K"], arm.pose_in_base[:3, :3]
        wrench[:] = arm.external_wrench_in_base
        if self._stiffness_frame_set:
            lever = rotation @ f["EE_T_K"][:3, 3]
            wrench[3:] -= np.cross(lever, wrench[:3])
            rotation = rotation @ f["EE_T_K"][:3, :3]
        f["K_F_ext_hat_K"][:3], f["K_F_ext_hat_K"][3:] = wrench[:3] @ rotation, wrench[3:] @ rotation
        f["joint_contact"][:], f["cartesian_contact"][:] = reflexes.contact[:7], reflexes.contact[7:]
        f["joint_collision"][:], f["cartesian_collision"][:] = reflexes.collision[:7], reflexes.collision[7:]
        f["O_T_EE"][:] = arm.pose_in_base
        f["elbow"][0] = arm.q[2]
        if generator is None:
            f["q_d"][:], f["O_T_EE_d"][:], f["O_T_EE_c"][:] = arm.q, arm.pose_in_base, arm.pose_in_base
            f["dq_d"][:] = f["ddq_d"][:] = 0.0
            f["O_dP_EE_d"][:] = f["O_dP_EE_c"][:] = f["O_ddP_EE_c"][:] = 0.0
            f["elbow_d"][0] = f["elbow_c"][0] = arm.q[2]
        else:
            f["q_d"][:], f["dq_d"][:], f["ddq_d"][:] = generator.q, generator.dq, generator.ddq
            f["O_T_EE_d"][:] = f["O_T_EE_c"][:] = generator.pose
            f["O_dP_EE_d"][:] = f["O_dP_EE_c"][:] = generator.twist
            f["O_ddP_EE_c"][:] = generator.acceleration
            f["elbow_d"][0] = f["elbow_c"][0] = generator.q[2]
