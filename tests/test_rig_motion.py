"""The virtual rig's motions: how they begin and end, and what stops them."""

from __future__ import annotations

import struct

import numpy as np
import pytest
from fci_client import Client

from simreal_envs.rig import protocol
from simreal_envs.rig.protocol import Command, Controller, Motion, RobotMode, Status
from simreal_envs.rig.server import RigServer
from simreal_envs.spec import JOINT_HIGH_RAD


def test_another_version_is_refused(rig: RigServer):
    client = Client(rig, version=7)
    client.close()
    assert client.answers == [(Command.CONNECT, 1, struct.pack("<BH", 1, 5))]
    assert client.states == []


def test_one_client_at_a_time(rig: RigServer, client: Client):
    second = Client(rig)
    assert second.hung_up
    assert not client.hung_up
    client.close()
    third = Client(rig)
    third.close()
    assert third.states


def test_a_motion_ends_when_it_is_finished_and_the_arm_stands(client: Client):
    number = client.move()
    assert client.statuses(Command.MOVE, number) == [Status.MOTION_STARTED]
    assert client.state["robot_mode"] == RobotMode.MOVE
    for torque in range(1, 6):
        client.control([0, 0, 0, 0, 0, 0, torque * 0.5])
    client.control([0, 0, 0, 0, 0, 0, 2.5], 50)
    assert client.state["dq"][6] > 0.3
    client.control([0, 0, 0, 0, 0, 0, 2.5], 1, finished=True)
    assert client.state["robot_mode"] == RobotMode.MOVE  # it still moves
    client.run(600)
    assert client.statuses(Command.MOVE, number) == [Status.MOTION_STARTED, Status.SUCCESS]
    assert client.state["robot_mode"] == RobotMode.IDLE
    assert np.abs(client.state["dq"]).max() < 0.02


def test_a_stopped_motion_is_answered_at_rest(client: Client):
    number = client.swing()
    stop = client.ask(Command.STOP_MOVE)
    client.run(3)
    assert client.statuses(Command.STOP_MOVE, stop) == []
    client.run(600)
    assert client.statuses(Command.STOP_MOVE, stop) == [Status.SUCCESS]
    assert client.statuses(Command.MOVE, number) == [Status.MOTION_STARTED, Status.PREEMPTED]


def test_a_reflex_after_a_stop_aborts_both(rig: RigServer, client: Client):
    number = client.swing()
    stop = client.ask(Command.STOP_MOVE)
    client.run(3)
    rig.operations["inject"]("reflex")
    client.run(2)
    assert client.statuses(Command.STOP_MOVE, stop) == [protocol.STOP_REFLEX_ABORTED]
    assert client.statuses(Command.MOVE, number)[-1] == Status.REFLEX_ABORTED
    assert client.errors() == ["joint_reflex"]


def test_a_client_that_leaves_stops_the_arm(rig: RigServer):
    client = Client(rig)
    client.swing()
    client.close()
    other = Client(rig)
    other.run(500)
    other.close()
    assert other.state["robot_mode"] == RobotMode.IDLE
    assert np.abs(other.state["dq"]).max() < 0.02


@pytest.mark.parametrize("controller", [Controller.JOINT_IMPEDANCE, Controller.CARTESIAN_IMPEDANCE])
def test_the_robots_own_generator_follows_poses(client: Client, controller: Controller):
    client.move(controller, Motion.CARTESIAN_POSITION)
    target = client.state["O_T_EE"].copy()
    start = target.copy()
    for k in range(1000):
        target[13] = start[13] + 0.05 * (1 - np.cos(np.pi * min(k / 500, 1)))
        client.command(O_T_EE_c=target)
    assert client.errors() == []
    np.testing.assert_allclose(client.state["O_T_EE"], target, atol=4e-3)
    assert client.state["O_T_EE"][13] - start[13] == pytest.approx(0.1, abs=2e-3)


# --- reflexes -----------------------------------------------------------------------------------------


@pytest.mark.parametrize("torque", [[0, 0, 0, 0, 0, 0, 5.0], [np.nan] * 7, [np.inf, 0, 0, 0, 0, 0, 0]])
def test_a_torque_that_jumps_stops_the_arm(client: Client, torque: list[float]):
    number = client.move()
    client.control(np.zeros(7), 5)
    client.control(torque)
    assert client.errors() == ["controller_torque_discontinuity"]
    assert client.statuses(Command.MOVE, number)[-1] == Status.REFLEX_ABORTED
    assert np.isfinite(client.state["q"]).all()


def test_too_much_torque_stops_the_arm(client: Client):
    client.move()
    for torque in range(1, 14):
        client.control([0, 0, 0, 0, 0, 0, torque])
    assert client.errors() == ["tau_J_range_violation"]


@pytest.mark.parametrize(
    ("motion", "field", "step", "error"),
    [
        (Motion.JOINT_POSITION, "q_c", 0.02, "joint_position_motion_generator_start_pose_invalid"),
        (Motion.JOINT_POSITION, "q_c", 0.005, "joint_motion_generator_velocity_limits_violation"),
        (Motion.JOINT_VELOCITY, "dq_c", 3.0, "joint_motion_generator_velocity_limits_violation"),
        (Motion.JOINT_POSITION, "q_c", np.nan, "joint_motion_generator_position_limits_violation"),
        (
            Motion.CARTESIAN_POSITION,
            "O_T_EE_c",
            1.0,
            "cartesian_position_motion_generator_invalid_frame_flag",
        ),
    ],
)
def test_a_motion_that_jumps_is_refused(client: Client, motion: Motion, field: str, step: float, error: str):
    client.move(Controller.JOINT_IMPEDANCE, motion)
    now = {"q_c": client.state["q"], "dq_c": np.zeros(7), "O_T_EE_c": client.state["O_T_EE"]}[field]
    client.command(**{field: now})
    client.command(**{field: now})
    assert client.errors() == []
    if "start_pose" in error:
        client.ask(Command.STOP_MOVE)
        client.run(5)
        client.move(Controller.JOINT_IMPEDANCE, motion)
    client.command(**{field: now + step})
    assert client.errors() == [error]


def test_a_joint_beyond_its_range_takes_a_person(rig: RigServer, client: Client):
    rig.world.data.qpos[6] = JOINT_HIGH_RAD[6] - 0.002
    rig.arm.jumped()
    client.run(2)
    client.move()
    for torque in range(1, 6):
        client.control([0, 0, 0, 0, 0, 0, torque])
    client.control([0, 0, 0, 0, 0, 0, 5], 60)
    assert client.errors() == ["joint_position_limits_violation"]
    recovery = client.ask(Command.RECOVER)
    client.run(2)
    assert client.statuses(Command.RECOVER, recovery) == [protocol.PERSON_REQUIRED]
    rig.operations["reset"]()
    recovery = client.ask(Command.RECOVER)
    client.run(2)
    assert client.statuses(Command.RECOVER, recovery) == [Status.SUCCESS]


def test_too_much_speed_stops_the_arm(client: Client):
    client.move()
    for torque in range(1, 9):
        client.control([0, 0, 0, 0, 0, 0, torque])
    client.control([0, 0, 0, 0, 0, 0, 8], 60)
    assert client.errors() == ["joint_velocity_violation"]


@pytest.mark.parametrize(("threshold", "stops"), [(8.0, True), (40.0, False)])
def test_a_collision_stops_the_arm_above_its_threshold(
    rig: RigServer, client: Client, threshold: float, stops: bool
):
    behavior = np.full(52, threshold)
    behavior[:28] = 80.0
    client.ask(Command.SET_COLLISION_BEHAVIOR, behavior.tobytes())
    client.run(2)
    client.move(Controller.JOINT_IMPEDANCE, Motion.JOINT_VELOCITY)
    target = client.state["O_T_EE"].reshape(4, 4).T.copy()
    target[0, 3] += 0.1
    rig.operations["pull"](target.tolist())  # 30 N at most
    for _ in range(300):
        client.control(np.zeros(7))
    assert (client.errors() == ["cartesian_reflex"]) == stops


def test_nothing_moves_between_a_reflex_and_its_recovery(rig: RigServer, client: Client):
    rig.operations["inject"]("reflex", "cartesian_reflex")
    client.run(2)
    assert client.state["robot_mode"] == RobotMode.REFLEX
    refused = client.move()
    assert client.statuses(Command.MOVE, refused) == [Status.NOT_POSSIBLE]
    recovery = client.ask(Command.RECOVER)
    client.run(2)
    assert client.statuses(Command.RECOVER, recovery) == [Status.SUCCESS]
    assert (client.state["robot_mode"], client.errors()) == (RobotMode.IDLE, [])
    assert client.statuses(Command.MOVE, client.move()) == [Status.MOTION_STARTED]


def test_lost_commands_stop_the_arm_only_where_that_is_enforced(rig: RigServer, client: Client):
    client.move()
    client.control(np.zeros(7), 5)
    client.run(60)
    assert client.errors() == []
    assert client.state["control_command_success_rate"] == pytest.approx(0.4)
    assert rig.operations["status"]()["most_lost_in_a_row"] >= 60
    rig.robot.enforce_loss = True
    client.control(np.zeros(7), 5)
    client.run(18)
    assert client.errors() == []
    client.run(3)
    assert client.errors() == ["communication_constraints_violation"]
