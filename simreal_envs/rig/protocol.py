"""What travels between a Panda and its clients: Franka's control interface version 5, its hand's version 3.

Layouts and numbers are those of the public headers of libfranka 0.9 (research_interface). All is packed and
little-endian; matrices are column-major; a robot's message number is its time in milliseconds.
"""

from __future__ import annotations

import struct
from enum import IntEnum

import numpy as np

ROBOT_VERSION, ROBOT_PORT = 5, 1337
GRIPPER_VERSION, GRIPPER_PORT = 3, 1338
CONTROL_PORT = 1339
"""The rig's own channel, which no robot has."""

ROBOT_HEADER = struct.Struct("<III")  # command, number, size with header
GRIPPER_HEADER = struct.Struct("<HII")


class Command(IntEnum):
    """Requests to the robot."""

    CONNECT = 0
    MOVE = 1
    STOP_MOVE = 2
    GET_CARTESIAN_LIMIT = 3
    SET_COLLISION_BEHAVIOR = 4
    SET_JOINT_IMPEDANCE = 5
    SET_CARTESIAN_IMPEDANCE = 6
    SET_GUIDING_MODE = 7
    SET_EE_TO_K = 8
    SET_NE_TO_EE = 9
    SET_LOAD = 10
    SET_FILTERS = 11
    RECOVER = 12
    LOAD_MODEL_LIBRARY = 13


class Status(IntEnum):
    """Answers to a request; those of MOVE, of which the others use a part."""

    SUCCESS = 0
    MOTION_STARTED = 1
    PREEMPTED = 2
    NOT_POSSIBLE = 3
    INVALID_ARGUMENT = 5
    REFLEX_ABORTED = 6
    EMERGENCY_ABORTED = 7


REJECTED = 1
"""Status of a setter, of STOP_MOVE or RECOVER that is not possible now."""
INVALID_ARGUMENT = 2
"""Status of a setter whose value makes no sense."""
PERSON_REQUIRED = 2
"""Status of a RECOVER that only a person beside the robot can bring about."""
STOP_EMERGENCY_ABORTED, STOP_REFLEX_ABORTED = 2, 3
"""Status of a STOP_MOVE during which the user stop was pressed, or a reflex came."""


class RobotMode(IntEnum):
    """What the robot does as a whole."""

    OTHER = 0
    IDLE = 1
    MOVE = 2
    GUIDING = 3
    REFLEX = 4
    USER_STOPPED = 5
    RECOVERY = 6


class Motion(IntEnum):
    """The state's motion generator; a MOVE request counts from JOINT_POSITION = 0."""

    IDLE = 0
    JOINT_POSITION = 1
    JOINT_VELOCITY = 2
    CARTESIAN_POSITION = 3
    CARTESIAN_VELOCITY = 4


class Controller(IntEnum):
    """Who computes torques."""

    JOINT_IMPEDANCE = 0
    CARTESIAN_IMPEDANCE = 1
    EXTERNAL = 2
    OTHER = 3


ERRORS = (
    "joint_position_limits_violation",
    "cartesian_position_limits_violation",
    "self_collision_avoidance_violation",
    "joint_velocity_violation",
    "cartesian_velocity_violation",
    "force_control_safety_violation",
    "joint_reflex",
    "cartesian_reflex",
    "max_goal_pose_deviation_violation",
    "max_path_pose_deviation_violation",
    "cartesian_velocity_profile_safety_violation",
    "joint_position_motion_generator_start_pose_invalid",
    "joint_motion_generator_position_limits_violation",
    "joint_motion_generator_velocity_limits_violation",
    "joint_motion_generator_velocity_discontinuity",
    "joint_motion_generator_acceleration_discontinuity",
    "cartesian_position_motion_generator_start_pose_invalid",
    "cartesian_motion_generator_elbow_limit_violation",
    "cartesian_motion_generator_velocity_limits_violation",
    "cartesian_motion_generator_velocity_discontinuity",
    "cartesian_motion_generator_acceleration_discontinuity",
    "cartesian_motion_generator_elbow_sign_inconsistent",
    "cartesian_motion_generator_start_elbow_invalid",
    "force_controller_desired_force_tolerance_violation",
    "start_elbow_sign_inconsistent",
    "communication_constraints_violation",
    "power_limit_violation",
    "cartesian_motion_generator_joint_position_limits_violation",
    "cartesian_motion_generator_joint_velocity_limits_violation",
    "cartesian_motion_generator_joint_velocity_discontinuity",
    "cartesian_motion_generator_joint_acceleration_discontinuity",
    "cartesian_position_motion_generator_invalid_frame_flag",
    "controller_torque_discontinuity",
    "joint_p2p_insufficient_torque_for_planning",
    "tau_J_range_violation",
    "instability_detected",
    "joint_move_in_wrong_direction",
    "cartesian_spline_motion_generator_violation",
    "joint_via_motion_generator_planning_joint_limit_violation",
    "base_acceleration_initialization_timeout",
    "base_acceleration_invalid_reading",
)
"""In the order of the state's flags."""


def _fields(*sizes: tuple[str, int]) -> list[tuple[str, str, tuple[int, ...]]]:
    return [(name, "<f8", (size,) if size > 1 else ()) for name, size in sizes]


STATE = np.dtype(
    [("message_id", "<u8")]
    + _fields(
        ("O_T_EE", 16),
        ("O_T_EE_d", 16),
        ("F_T_EE", 16),
        ("EE_T_K", 16),
        ("F_T_NE", 16),
        ("NE_T_EE", 16),
        ("m_ee", 1),
        ("I_ee", 9),
        ("F_x_Cee", 3),
        ("m_load", 1),
        ("I_load", 9),
        ("F_x_Cload", 3),
        ("elbow", 2),
        ("elbow_d", 2),
        ("tau_J", 7),
        ("tau_J_d", 7),
        ("dtau_J", 7),
        ("q", 7),
        ("q_d", 7),
        ("dq", 7),
        ("dq_d", 7),
        ("ddq_d", 7),
        ("joint_contact", 7),
        ("cartesian_contact", 6),
        ("joint_collision", 7),
        ("cartesian_collision", 6),
        ("tau_ext_hat_filtered", 7),
        ("O_F_ext_hat_K", 6),
        ("K_F_ext_hat_K", 6),
        ("O_dP_EE_d", 6),
        ("O_ddP_O", 3),
        ("elbow_c", 2),
        ("delbow_c", 2),
        ("ddelbow_c", 2),
        ("O_T_EE_c", 16),
        ("O_dP_EE_c", 6),
        ("O_ddP_EE_c", 6),
        ("theta", 7),
        ("dtheta", 7),
    )
    + [
        ("motion_generator_mode", "u1"),
        ("controller_mode", "u1"),
        ("errors", "u1", (len(ERRORS),)),
        ("reflex_reason", "u1", (len(ERRORS),)),
        ("robot_mode", "u1"),
        ("control_command_success_rate", "<f8"),
    ]
)
"""A robot's state, sent at 1 kHz."""

ROBOT_COMMAND = np.dtype(
    [("message_id", "<u8")]
    + _fields(("q_c", 7), ("dq_c", 7), ("O_T_EE_c", 16), ("O_dP_EE_c", 6), ("elbow_c", 2))
    + [("valid_elbow", "u1"), ("motion_generation_finished", "u1"), ("tau_J_d", "<f8", (7,))]
)
"""A client's answer to a state."""

COLLISION_BEHAVIOR = np.dtype(
    _fields(
        ("lower_torque_acceleration", 7),
        ("upper_torque_acceleration", 7),
        ("lower_torque_nominal", 7),
        ("upper_torque_nominal", 7),
        ("lower_force_acceleration", 6),
        ("upper_force_acceleration", 6),
        ("lower_force_nominal", 6),
        ("upper_force_nominal", 6),
    )
)


class GripperCommand(IntEnum):
    """Requests to the hand."""

    CONNECT = 0
    HOMING = 1
    GRASP = 2
    MOVE = 3
    STOP = 4


class GripperStatus(IntEnum):
    """The hand's answers."""

    SUCCESS = 0
    FAIL = 1
    UNSUCCESSFUL = 2
    ABORTED = 3


GRIPPER_STATE = struct.Struct("<Idd?H")  # number, width, largest width (m), grasped, temperature
GRASP = struct.Struct("<5d")  # width, tolerance below and above (m), speed (m/s), force (N)
GRIPPER_MOVE = struct.Struct("<2d")  # width (m), speed (m/s)

assert (STATE.itemsize, ROBOT_COMMAND.itemsize) == (2373, 370)
