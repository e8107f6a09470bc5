"""The Panda as the driver needs it: panda_py, with its peculiarities kept in this room.

- Orders while a controller runs go to its C++ thread, which talks to the robot at 1 kHz.
- ``get_state`` is fresh only while a controller runs, and at first holds the last state of the one before;
  ``read_once`` is allowed only while none does.
- ``stop_controller`` waits for that thread without giving up Python's interpreter lock, which the thread
  needs to report an error: for ever, if the link is lost just then. ``teaching_mode(False)`` does it right.
- After a reflex the state stays at the last good one until the controller is stopped.
"""

from __future__ import annotations

import logging
import time
from dataclasses import dataclass
from typing import Any

import numpy as np
from scipy.spatial.transform import Rotation

from simreal_envs.errors import MissingDependencyError, RobotError
from simreal_envs.poses import pose
from simreal_envs.robot import causes
from simreal_envs.robot.safety import Limits
from simreal_envs.spec import JOINT_HIGH_RAD, JOINT_LOW_RAD, START_JOINTS_RAD, FloatArray

END_EFFECTOR_IN_FLANGE = pose(Rotation.from_euler("z", -np.pi / 4).as_matrix(), [0.0, 0.0, 0.2035 - 0.107])
"""Ours is 203.5 mm from the last joint along its axis, the flange 107 mm; the hand is turned -45 degrees."""

END_EFFECTOR_IN_NOMINAL = pose(np.eye(3), [0.0, 0.0, 0.2035 - 0.107 - 0.1034])
"""Franka's own for its hand, the nominal one, is 103.4 mm from the flange."""

HAND_TOLERANCE = 1e-3
"""m, and elements of a rotation matrix."""

FIRST_STATE_S = 0.2
"""A controller that has seen no state after this long never will; the driver's watch names the cause."""

PLANNING_TIME_S = 1.0
"""Planning takes a millisecond; but panda_py never finds out that two waypoints are the same."""


def panda_py() -> Any:
    """The library, with its modules ``controllers``, ``libfranka`` and ``motion``.

    Raises:
        MissingDependencyError: it is not installed, or does not load.
    """
    try:
        import panda_py
        from panda_py import controllers, libfranka, motion  # noqa: F401  not loaded by the line above
    except ImportError as error:
        raise MissingDependencyError(
            f"The arm needs panda_py ({error}): pip install 'simreal[real]'"
        ) from error
    logging.getLogger("panda").setLevel(logging.CRITICAL)  # we report its errors, with their causes
    return panda_py


@dataclass(slots=True)
class Reading:
    """One state of the robot, base frame."""

    robot_time_s: float
    pose: FloatArray
    joints_rad: FloatArray
    joint_speeds_radps: FloatArray
    force_N: FloatArray
    torque_Nm: FloatArray
    success_rate: float
    trouble: str
    """Why the robot would refuse to move now; empty if it would not."""


class Franka:
    """A connected Panda.

    Attributes:
        found: why the robot had stopped before this connection, or empty; connecting recovers from it.

    Raises:
        MissingDependencyError: panda_py is not installed.
        RobotError: no connection; names the cause.
    """

    def __init__(self, host: str, limits: Limits) -> None:
        library = panda_py()
        self._limits, self._controllers, self._motion = limits, library.controllers, library.motion
        self._libfranka = library.libfranka
        self.realtime = bool(self._libfranka.has_realtime_kernel())
        config = self._libfranka.RealtimeConfig
        try:
            self._panda = library.Panda(
                host, realtime_config=config.kEnforce if self.realtime else config.kIgnore
            )
            self._robot = self._panda.get_robot()
        except RuntimeError as error:
            raise RobotError(f"Robot: {causes.on_connecting(error, host)}.") from error
        self._controller: Any = None
        self._last: Reading | None = None
        self.found = self.read().trouble
        self.recover()  # from what stopped the program before us, for the robot takes no settings else
        try:
            self._configure()
        except RuntimeError as error:
            raise RobotError(f"Robot: it refuses its settings: {causes.in_motion(error)}.") from error
        check_hand(np.asarray(self._robot.read_once().F_T_EE).reshape(4, 4, order="F"))

    def _configure(self) -> None:
        """Frames, load and collision thresholds: the robot keeps those of the last program."""
        limits, robot = self._limits, self._robot
        robot.set_ee(END_EFFECTOR_IN_NOMINAL.ravel(order="F").tolist())
        robot.set_k(np.eye(4).ravel().tolist())
        inertia = np.diag(limits.load_inertia_kgm2).ravel().tolist()
        robot.set_load(limits.load_mass_kg, list(limits.load_centre_in_flange_m), inertia)
        torques = list(limits.collision_joint_torque_Nm)
        wrench = [limits.collision_force_N] * 3 + [limits.collision_torque_Nm] * 3
        robot.set_collision_behavior(torques, torques, wrench, wrench)

    # --- reading ----------------------------------------------------------------------------------

    @property
    def controlled(self) -> bool:
        """Whether a controller of ours runs."""
        return self._controller is not None

    def read(self) -> Reading:
        """The robot's state; up to 1 ms old while controlled, else it waits for the next (1 ms).

        Raises:
            RobotError: link lost.
        """
        try:
            state = self._panda.get_state() if self.controlled else self._robot.read_once()
        except RuntimeError as error:
            raise RobotError(causes.in_motion(error)) from error
        time_s = state.time.to_sec()
        if self._last is not None and time_s == self._last.robot_time_s:
            return self._last
        wrench = np.asarray(state.O_F_ext_hat_K)
        self._last = Reading(
            robot_time_s=time_s,
            pose=np.asarray(state.O_T_EE).reshape(4, 4, order="F"),
            joints_rad=np.asarray(state.q),
            joint_speeds_radps=np.asarray(state.dq),
            force_N=wrench[:3],
            torque_Nm=wrench[3:],
            success_rate=float(state.control_command_success_rate),
            trouble="" if self.controlled else self._trouble(state),
        )
        return self._last

    def _trouble(self, state: Any) -> str:
        mode = self._libfranka.RobotMode
        if state.robot_mode == mode.kUserStopped:
            return "user stop: the external activation device is pressed"
        if state.robot_mode == mode.kReflex or state.current_errors:
            errors = state.current_errors or state.last_motion_errors
            return f"reflex ({causes.error_names(str(errors))})"
        if state.robot_mode == mode.kOther:
            return "the joints are locked: unlock them in Desk"
        return ""

    def error(self) -> str:
        """Why the running controller ended by itself, or an empty string."""
        try:
            self._panda.raise_error()
        except RuntimeError as error:
            self._controller_ended()
            return causes.in_motion(error)
        return ""

    # --- controlling ------------------------------------------------------------------------------

    def start_pose_control(self) -> None:
        """Cartesian impedance; its target is the present pose until :meth:`aim_pose`."""
        limits = self._limits
        stiffness = [limits.translational_stiffness_Npm] * 3 + [limits.rotational_stiffness_Nmprad] * 3
        self._start(
            self._controllers.CartesianImpedance(
                impedance=np.diag(stiffness),
                damping_ratio=limits.damping_ratio,
                nullspace_stiffness=limits.nullspace_stiffness_Nmprad,
                filter_coeff=limits.filter_coefficient,
            )
        )

    def start_joint_control(self) -> None:
        """Joint impedance; its target is the present angles until :meth:`aim_joints`."""
        limits = self._limits
        self._start(
            self._controllers.JointPosition(
                stiffness=np.array(limits.joint_stiffness_Nmprad),
                damping=np.array(limits.joint_damping_Nmsprad),
                filter_coeff=limits.filter_coefficient,
            )
        )

    def start_guiding(self) -> None:
        """Let a person move the arm: the torques only compensate gravity and damp the motion."""
        damping = np.array(self._limits.guiding_damping_Nmsprad)
        self._start(self._controllers.AppliedTorque(damping=damping))

    def _start(self, controller: Any) -> None:
        joints = self.read().joints_rad
        outside = np.flatnonzero((joints <= JOINT_LOW_RAD) | (joints >= JOINT_HIGH_RAD))
        if len(outside):  # panda_py's joint walls would end the process
            i = int(outside[0])
            raise RobotError(
                f"Joint {i + 1} is at {joints[i]:.4f} rad, outside [{JOINT_LOW_RAD[i]}, {JOINT_HIGH_RAD[i]}]:"
                " move it back by hand, pressing the guiding buttons."
            )
        old_s = self._panda.get_state().time.to_sec()
        try:
            self._panda.start_controller(controller)
        except RuntimeError as error:
            raise RobotError(causes.in_motion(error)) from error
        self._controller = controller
        until_s = time.monotonic() + FIRST_STATE_S
        while self._panda.get_state().time.to_sec() == old_s and time.monotonic() < until_s:
            time.sleep(0.001)

    def joint_trajectory(self, waypoints_rad: list[FloatArray], speed: float) -> Any:
        """panda_py's time-optimal path, at a fraction of the greatest speed and acceleration."""
        return _planned(self._motion.JointTrajectory, waypoints_rad, speed)

    def straight_trajectory(self, waypoints: list[FloatArray], speed: float) -> Any:
        """The same for poses (4, 4)."""
        positions = [waypoint[:3, 3] for waypoint in waypoints]
        orientations = [Rotation.from_matrix(waypoint[:3, :3]).as_quat() for waypoint in waypoints]
        return _planned(self._motion.CartesianTrajectory, positions, orientations, speed)

    def aim_pose(self, position_m: FloatArray, quaternion_xyzw: FloatArray) -> None:
        """New target of pose control; the elbow is drawn towards the start joints."""
        self._controller.set_control(position_m, quaternion_xyzw, START_JOINTS_RAD)

    def aim_joints(self, joints_rad: FloatArray, speeds_radps: FloatArray) -> None:
        """New target of joint control."""
        self._controller.set_control(joints_rad, speeds_radps)

    def yield_to_contact(self, reading: Reading) -> None:
        """Aim at where the arm is, so that it presses no longer."""
        if isinstance(self._controller, self._controllers.CartesianImpedance):
            self.aim_pose(reading.pose[:3, 3], Rotation.from_matrix(reading.pose[:3, :3]).as_quat())
        elif isinstance(self._controller, self._controllers.JointPosition):
            self.aim_joints(reading.joints_rad, np.zeros(7))

    def stop(self) -> None:
        """End control; the robot then holds itself.

        Raises:
            RobotError: link lost meanwhile.
        """
        if not self.controlled:
            return
        self._controller = None
        try:
            self._panda.teaching_mode(False)
            self._panda.raise_error()
        except RuntimeError as error:
            raise RobotError(causes.in_motion(error)) from error

    def _controller_ended(self) -> None:
        self._panda.stop_controller()  # its thread has ended, so this cannot wait for ever
        self._controller = None

    def recover(self) -> None:
        """Clear the robot's errors.

        Raises:
            RobotError: it would still refuse to move; names the cause.
        """
        try:
            self._panda.recover()
        except RuntimeError as error:
            raise RobotError(causes.in_motion(error)) from error
        if trouble := self.read().trouble:
            raise RobotError(f"The robot cannot be recovered: {trouble}.")


def check_hand(end_effector_in_flange: FloatArray) -> None:
    """Refuse a robot that is configured for another hand, since its poses and forces would be wrong.

    Args:
        end_effector_in_flange: (4, 4), as the robot has it.

    Raises:
        RobotError: the configured end effector is not where ours is.
    """
    if not np.allclose(end_effector_in_flange, END_EFFECTOR_IN_FLANGE, atol=HAND_TOLERANCE):
        is_at, ours = (p[:3, 3].round(4).tolist() for p in (end_effector_in_flange, END_EFFECTOR_IN_FLANGE))
        raise RobotError(
            f"Robot: its end effector is {is_at} m from the flange instead of {ours}, or turned: "
            "choose 'Franka Hand' as end effector in Desk."
        )


def _planned(trajectory: Any, *waypoints_and_speed: Any) -> Any:
    try:
        return trajectory(*waypoints_and_speed, 0.0, PLANNING_TIME_S)
    except RuntimeError as error:
        raise RobotError(f"the move cannot be planned: {error}") from error
