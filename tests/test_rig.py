"""The virtual rig: the arm's dynamics, Franka's protocol, reflexes and faults, and libraries that connect."""

from __future__ import annotations

import os
import signal
import socket
import struct
import subprocess
import sys
import time
from collections.abc import Iterator
from pathlib import Path

import mujoco
import numpy as np
import pytest
from fci_client import Client
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from threadpoolctl import threadpool_limits

from simreal_envs import kinematics
from simreal_envs.errors import MissingDependencyError, RobotError, UsageError
from simreal_envs.latest import Latest
from simreal_envs.rig import dynamics, model_library, panda, protocol
from simreal_envs.rig.control import RigControl
from simreal_envs.rig.faults import parse_fault
from simreal_envs.rig.launch import Rig, free_address
from simreal_envs.rig.protocol import (
    Command,
    Controller,
    GripperCommand,
    GripperStatus,
    Motion,
    RobotMode,
    Status,
)
from simreal_envs.rig.server import RigServer
from simreal_envs.rig.stereo import FAULTS as CAMERA_FAULTS
from simreal_envs.spec import JOINT_HIGH_RAD, JOINT_LOW_RAD, START_JOINTS_RAD

HOST = free_address()
END_EFFECTOR = np.array([1, 0, 0, 0, 0, 1, 0, 0, 0, 0, 1, 0, 0, 0, 0.2035 - 0.2104, 1.0])
"""NE_T_EE of robosuite's grip site, column-major."""


@pytest.fixture(scope="module")
def served() -> Iterator[RigServer]:
    """A rig in this process, whose time passes tick by tick."""
    with threadpool_limits(1):  # as in its own process
        rig = RigServer(HOST, "Lift", "none", camera=False, enforce_loss=False)
        yield rig
        rig.close()


@pytest.fixture
def rig(served: RigServer) -> Iterator[RigServer]:
    """The same, as it was in the beginning."""
    yield served
    served.operations["inject"]("none")
    served.operations["pull"](None)
    for _ in range(300):
        served.tick()
    served.robot.state.recover()
    served.operations["reset"]()
    served.robot.enforce_loss = False


@pytest.fixture
def client(rig: RigServer) -> Iterator[Client]:
    """Connected to it."""
    client = Client(rig, HOST)
    yield client
    client.close()


# --- dynamics -----------------------------------------------------------------------------------------

joints = st.tuples(*(st.floats(low, high) for low, high in zip(JOINT_LOW_RAD, JOINT_HIGH_RAD, strict=True)))
speeds = st.tuples(*([st.floats(-2.0, 2.0)] * 7))


@settings(max_examples=50, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(q=joints, dq=speeds)
def test_the_model_library_is_the_dynamics_of_the_served_scene(served: RigServer, q, dq):
    model = served.world.model
    data = mujoco.MjData(model)
    data.qpos[:], data.qpos[:7], data.qvel[:7] = model.qpos0, q, dq
    data.qpos[7:9] = 0.04, -0.04
    mujoco.mj_forward(model, data)
    mass = np.zeros((model.nv, model.nv))
    mujoco.mj_fullM(model, mass, data.qM)
    library = model_library.ModelLibrary(model_library.build(panda.LINKS))
    library.set_payload(dynamics.payload(model, data))
    library.q[:], library.dq[:] = q, dq
    link_side = mass[:7, :7] - np.diag(model.dof_armature[:7])
    np.testing.assert_allclose(library.mass_matrix(), link_side, atol=1e-12)
    bias = library.gravity().copy() + library.coriolis()
    np.testing.assert_allclose(bias, data.qfrc_bias[:7], atol=1e-9)


@settings(max_examples=50, deadline=None)
@given(q=joints)
def test_the_model_librarys_kinematics_are_ours(q):
    library = model_library.ModelLibrary(model_library.build(panda.LINKS))
    flange = library.end_pose().copy()  # at zero, without an end effector
    library.flange_to_end[:] = np.linalg.inv(flange) @ kinematics.forward(np.zeros(7))
    library.q[:] = q
    np.testing.assert_allclose(library.end_pose(), kinematics.forward(np.array(q)), atol=1e-12)
    jacobian, step = library.end_jacobian().copy(), 1e-6
    for i in range(7):
        library.q[:] = q
        library.q[i] += step
        moved = library.end_pose()[:3, 3].copy()
        library.q[i] -= 2 * step
        slope = (moved - library.end_pose()[:3, 3]) / (2 * step)
        np.testing.assert_allclose(jacobian[:3, i], slope, atol=1e-8)


def test_the_model_library_is_compiled_once(tmp_path: Path, monkeypatch: pytest.MonkeyPatch):
    monkeypatch.setenv("SIMREAL_CACHE", str(tmp_path))
    built = model_library.build(panda.LINKS)
    monkeypatch.setenv("PATH", "")  # no compiler any more
    assert model_library.build(panda.LINKS) == built
    with pytest.raises(MissingDependencyError, match="found no C compiler"):
        model_library.build(panda.LINKS[::-1])
    broken = tmp_path / "cc"
    broken.write_text("#!/bin/sh\necho stdio.h: no such file >&2\nexit 1\n")
    broken.chmod(0o755)
    monkeypatch.setenv("PATH", f"{tmp_path}:/bin")
    with pytest.raises(MissingDependencyError, match=r"stdio\.h: no such file"):
        model_library.build(panda.LINKS[::-1])


def test_without_torque_the_arm_floats(rig: RigServer, client: Client):
    client.move()
    client.control(np.zeros(7), 300)
    np.testing.assert_allclose(client.state["q"], START_JOINTS_RAD, atol=2e-4)
    assert np.abs(client.state["tau_J"]).max() > 5  # which gravity takes
    assert np.abs(client.state["tau_J_d"]).max() == 0


def test_the_wrench_is_what_the_robot_exerts(rig: RigServer, client: Client):
    client.ask(Command.SET_NE_TO_EE, END_EFFECTOR.tobytes())
    client.run(2)
    up = client.state["O_T_EE"].reshape(4, 4).T.copy()
    np.testing.assert_allclose(up, kinematics.forward(client.state["q"]), atol=1e-9)
    up[2, 3] += 0.05
    rig.operations["pull"](up.tolist())  # 300 N/m: 15 N
    client.run(500)
    force = client.state["O_F_ext_hat_K"][:3]
    assert force[2] == pytest.approx(-15, abs=1)
    assert np.abs(force[:2]).max() < 1.5
    # Stated at a point 0.1 m along the hand's x axis, the torque is that of the force's lever.
    frame = np.eye(4)
    frame[0, 3] = 0.1
    client.ask(Command.SET_EE_TO_K, frame.T.tobytes())
    before = client.state["O_F_ext_hat_K"][3:].copy()
    client.run(2)
    lever = client.state["O_T_EE"].reshape(4, 4).T[:3, :3] @ frame[:3, 3]
    expected = before - np.cross(lever, client.state["O_F_ext_hat_K"][:3])
    np.testing.assert_allclose(client.state["O_F_ext_hat_K"][3:], expected, atol=0.05)
    client.ask(Command.SET_EE_TO_K, np.eye(4).tobytes())
    rig.operations["pull"](None)
    client.run(300)
    assert np.abs(client.state["O_F_ext_hat_K"]).max() < 0.5


def test_a_load_that_is_not_there_lifts_the_arm(client: Client):
    load = np.concatenate([[1.0, 0.0, 0.0, 0.1], np.eye(3).ravel() * 1e-3])
    client.ask(Command.SET_LOAD, load.tobytes())
    client.move()
    before = client.state["O_T_EE"][14]
    client.control(np.zeros(7), 200)
    assert client.state["m_load"] == 1.0
    assert client.state["O_T_EE"][14] - before > 0.01
    client.control(np.zeros(7), 1, finished=True)
    client.run(600)
    client.ask(Command.SET_LOAD, np.zeros(13).tobytes())
    client.run(1)


@pytest.mark.parametrize(
    ("command", "values"),
    [
        (Command.SET_LOAD, np.full(13, -1.0)),
        (Command.SET_LOAD, np.full(13, np.nan)),
        (Command.SET_NE_TO_EE, np.ones(16)),
        (Command.SET_EE_TO_K, np.zeros(16)),
        (Command.SET_JOINT_IMPEDANCE, np.full(7, -1.0)),
        (Command.SET_CARTESIAN_IMPEDANCE, np.full(6, 1e6)),
        (Command.SET_COLLISION_BEHAVIOR, np.arange(52.0)[::-1].copy()),
    ],
)
def test_a_setting_that_makes_no_sense_is_refused(client: Client, command: Command, values: np.ndarray):
    number = client.ask(command, values.tobytes())
    client.run(2)
    assert client.statuses(command, number) == [protocol.INVALID_ARGUMENT]
    client.run(20)
    assert np.abs(client.state["dq"]).max() < 0.01


def test_nothing_is_set_while_the_arm_is_controlled(client: Client):
    client.move()
    number = client.ask(Command.SET_LOAD, np.zeros(13).tobytes())
    client.run(2)
    assert client.statuses(Command.SET_LOAD, number) == [protocol.REJECTED]


# --- motions ------------------------------------------------------------------------------------------


def test_another_version_is_refused(rig: RigServer):
    client = Client(rig, HOST, version=7)
    client.close()
    assert client.answers == [(Command.CONNECT, 1, struct.pack("<BH", 1, 5))]
    assert client.states == []


def test_one_client_at_a_time(rig: RigServer, client: Client):
    second = Client(rig, HOST)
    assert second.hung_up
    assert not client.hung_up
    client.close()
    third = Client(rig, HOST)
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


def swing(client: Client) -> int:
    """A motion in which the last joint has gained speed."""
    number = client.move()
    for torque in (1, 2, 3):
        client.control([0, 0, 0, 0, 0, 0, torque])
    client.control([0, 0, 0, 0, 0, 0, 3], 60)
    return number


def test_a_stopped_motion_is_answered_at_rest(client: Client):
    number = swing(client)
    stop = client.ask(Command.STOP_MOVE)
    client.run(3)
    assert client.statuses(Command.STOP_MOVE, stop) == []
    client.run(600)
    assert client.statuses(Command.STOP_MOVE, stop) == [Status.SUCCESS]
    assert client.statuses(Command.MOVE, number) == [Status.MOTION_STARTED, Status.PREEMPTED]


def test_a_reflex_after_a_stop_aborts_both(rig: RigServer, client: Client):
    number = swing(client)
    stop = client.ask(Command.STOP_MOVE)
    client.run(3)
    rig.operations["inject"]("reflex")
    client.run(2)
    assert client.statuses(Command.STOP_MOVE, stop) == [protocol.STOP_REFLEX_ABORTED]
    assert client.statuses(Command.MOVE, number)[-1] == Status.REFLEX_ABORTED
    assert client.errors() == ["joint_reflex"]


def test_a_client_that_leaves_stops_the_arm(rig: RigServer):
    client = Client(rig, HOST)
    swing(client)
    client.close()
    other = Client(rig, HOST)
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


# --- faults -------------------------------------------------------------------------------------------


def test_packets_are_lost(rig: RigServer, client: Client):
    rig.operations["inject"]("packet_loss", 0.5)
    client.move()
    before = len(client.states)
    client.control(np.zeros(7), 300)
    assert 100 < len(client.states) - before < 200
    assert 0.3 < client.state["control_command_success_rate"] < 0.7


def test_a_cut_link_is_silent_and_stops_the_arm(rig: RigServer, client: Client):
    swing(client)
    states, answers = len(client.states), len(client.answers)
    rig.operations["inject"]("link_cut")
    client.run(600)
    assert (len(client.states), len(client.answers)) == (states, answers)
    assert not client.hung_up
    assert np.abs(rig.world.data.qvel[:7]).max() < 0.02
    rig.operations["inject"]("none")
    client.run(2)
    assert client.hung_up
    again = Client(rig, HOST)
    again.run(2)
    errors = again.errors()
    again.close()
    assert errors == ["communication_constraints_violation"]


def test_the_clock_jumps(rig: RigServer, client: Client):
    before = int(client.state["message_id"])
    rig.operations["inject"]("clock_jump", 2)
    client.run(1)
    assert int(client.state["message_id"]) == before + 2001


def test_camera_faults_are_passed_on(rig: RigServer):
    latest = Latest(f"rig-{HOST}-faults", CAMERA_FAULTS)
    assert latest.read().item() == (0, 0)
    rig.operations["inject"]("camera_unplug")
    assert latest.read().item() == (0, 1)
    rig.operations["inject"]("none")
    assert latest.read().item() == (0, 0)


@pytest.mark.parametrize(
    ("text", "complaint"),
    [
        ("fog", "Unknown fault 'fog'. Valid: none, reflex"),
        ("reflex:knee", "Unknown reflex 'knee'"),
        ("packet_loss:2", "a probability from 0 to 1, not '2'"),
        ("clock_jump:soon", "seconds"),
        ("link_cut:1", "takes no value"),
    ],
)
def test_a_fault_that_does_not_exist_is_refused(text: str, complaint: str):
    with pytest.raises(UsageError, match=complaint):
        parse_fault(text)


@settings(max_examples=30, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(
    port=st.sampled_from((protocol.ROBOT_PORT, protocol.GRIPPER_PORT, protocol.CONTROL_PORT)),
    data=st.one_of(
        st.binary(max_size=200),
        st.builds(
            lambda command, size, body: struct.pack("<III", command, 1, size) + body,
            st.integers(0, 20),
            st.integers(0, 600),
            st.binary(max_size=600),
        ),
        st.builds(lambda body: b'{"do": "place", "placement": ' + body + b"}\n", st.binary(max_size=50)),
    ),
)
def test_no_bytes_end_the_rig(rig: RigServer, port: int, data: bytes):
    stranger = socket.create_connection((HOST, port))
    stranger.sendall(data)
    for _ in range(3):
        rig.tick()
    stranger.close()
    rig.tick()
    client = Client(rig, HOST)
    assert np.isfinite(client.state["q"]).all()
    client.close()


# --- the hand -----------------------------------------------------------------------------------------


class Hand:
    """A client of the hand's protocol that takes turns with the rig."""

    def __init__(self, rig: RigServer) -> None:
        self._rig, self._number = rig, 0
        self._tcp = socket.create_connection((HOST, protocol.GRIPPER_PORT))
        self._udp = socket.socket(socket.AF_INET, socket.SOCK_DGRAM)
        self._udp.bind(("", 0))
        self._udp.setblocking(False)
        port = self._udp.getsockname()[1]
        assert self.do(GripperCommand.CONNECT, struct.pack("<HH", 3, port)) == GripperStatus.SUCCESS
        self._tcp.recv(2)  # the version

    def ask(self, command: GripperCommand, body: bytes = b"") -> None:
        """Send a request."""
        self._number += 1
        size = protocol.GRIPPER_HEADER.size + len(body)
        self._tcp.sendall(protocol.GRIPPER_HEADER.pack(command, self._number, size) + body)

    def answer(self) -> int:
        """Let time pass until there is one."""
        header = protocol.GRIPPER_HEADER
        self._tcp.setblocking(False)
        for _ in range(5000):
            self._rig.tick()
            try:
                answer = self._tcp.recv(header.size + 2)
            except BlockingIOError:
                continue
            self._tcp.setblocking(True)
            return int(struct.unpack_from("<H", answer, header.size)[0])
        raise AssertionError("no answer within 5 s")

    def do(self, command: GripperCommand, body: bytes = b"") -> int:
        """Ask, and wait for the answer."""
        self.ask(command, body)
        return self.answer()

    def state(self) -> tuple[float, bool]:
        """Width in m, and whether something is grasped."""
        for _ in range(40):
            self._rig.tick()
        while True:
            try:
                _, width, _, grasped, _ = protocol.GRIPPER_STATE.unpack(self._udp.recv(64))
            except BlockingIOError:
                return width, grasped

    def close(self) -> None:
        self._tcp.close()
        self._udp.close()
        self._rig.tick()


@pytest.fixture
def hand(rig: RigServer) -> Iterator[Hand]:
    hand = Hand(rig)
    yield hand
    hand.close()


def grasp(width_m: float, tolerance_m: float = 0.005, force_n: float = 20.0) -> bytes:
    return protocol.GRASP.pack(width_m, tolerance_m, tolerance_m, 0.1, force_n)


def test_the_hand_moves_and_knows_when_it_holds_nothing(hand: Hand):
    assert hand.do(GripperCommand.HOMING) == GripperStatus.SUCCESS
    assert hand.do(GripperCommand.MOVE, protocol.GRIPPER_MOVE.pack(0.03, 0.1)) == GripperStatus.SUCCESS
    assert hand.state() == (pytest.approx(0.03, abs=2e-3), False)
    assert hand.do(GripperCommand.GRASP, grasp(0.04)) == GripperStatus.UNSUCCESSFUL
    assert not hand.state()[1]
    assert hand.do(GripperCommand.MOVE, protocol.GRIPPER_MOVE.pack(0.2, 0.1)) == GripperStatus.FAIL


def test_the_hand_grasps_a_cube_and_holds_it_in_the_air(rig: RigServer, hand: Hand):
    rig.operations["place"]({"cube": (0.0, 0.0, 0.0)})
    above = kinematics.forward(START_JOINTS_RAD)
    above[:3, :3] = np.diag([1.0, -1.0, -1.0])
    above[:3, 3] = 0.56, 0.0, 0.021
    q = kinematics.inverse(above, START_JOINTS_RAD)
    assert q is not None
    rig.world.data.qpos[:7] = q
    rig.arm.jumped()
    assert hand.do(GripperCommand.GRASP, grasp(0.042)) == GripperStatus.SUCCESS
    assert hand.state() == (pytest.approx(0.042, abs=2e-3), True)
    assert rig.operations["subtask_signals"]() == {"reach": True, "grasp": True, "lift": False}
    above[2, 3] = 0.12
    lifted = kinematics.inverse(above, q)
    assert lifted is not None
    for k in range(1000):  # lifted by the robot's own joint controller
        rig.arm.hold_q[:] = q + (lifted - q) * k / 1000
        rig.tick()
    assert rig.operations["subtask_signals"]()["lift"]
    assert hand.state()[1]


def test_the_hand_can_be_stopped_on_its_way(hand: Hand):
    hand.ask(GripperCommand.MOVE, protocol.GRIPPER_MOVE.pack(0.0, 0.05))
    widths = [hand.state()[0] for _ in range(10)]  # 0.4 s
    assert 0.05 < widths[-1] < 0.07
    hand.ask(GripperCommand.STOP)
    assert hand.answer() == GripperStatus.ABORTED
    assert hand.answer() == GripperStatus.SUCCESS
    before = hand.state()[0]
    assert hand.state()[0] == pytest.approx(before, abs=1e-3)


def test_stuck_fingers_do_not_move(rig: RigServer, hand: Hand):
    rig.operations["inject"]("gripper_stuck")
    assert hand.do(GripperCommand.GRASP, grasp(0.04)) == GripperStatus.UNSUCCESSFUL
    assert hand.state() == (pytest.approx(0.08, abs=2e-3), False)


# --- the processes, and the real libraries ----------------------------------------------------------------


@pytest.fixture(scope="module")
def running() -> Iterator[Rig]:
    """A rig in processes of its own, without a camera."""
    with Rig("Lift", camera=False) as rig:
        yield rig


@pytest.fixture
def control(running: Rig) -> Iterator[RigControl]:
    with RigControl(running.host) as control:
        yield control
        control.inject("none")


def test_objects_are_placed_and_found(control: RigControl):
    control.place({"cube": (0.05, -0.1, 0.3)})
    time.sleep(0.3)
    pose = control.object_poses_in_base()["cube"]
    np.testing.assert_allclose(pose[:3, 3], [0.61, -0.1, 0.021], atol=1e-3)
    assert np.arctan2(pose[1, 0], pose[0, 0]) == pytest.approx(0.3, abs=0.01)
    assert control.subtask_signals() == {"reach": False, "grasp": False, "lift": False}
    assert control.describe()["task"] == "Lift"
    model = mujoco.MjModel.from_xml_string(control.model_xml())
    assert len(control.sim_state()) == 1 + model.nq + model.nv


def test_the_channel_refuses_what_does_not_exist(control: RigControl):
    with pytest.raises(UsageError, match=r"Unknown object 'cup'\. Valid: cube"):
        control.place({"cup": (0, 0, 0)})
    with pytest.raises(UsageError, match="Unknown fault 'fog'"):
        control.inject("fog")
    with pytest.raises(UsageError, match="shape"):
        control.pull(np.eye(3))
    with pytest.raises(RobotError, match=r"No virtual rig at .*simreal rig"):
        RigControl(free_address())


def test_panda_py_moves_the_arm_and_the_hand(running: Rig, control: RigControl):
    panda_py = pytest.importorskip("panda_py", reason="needs the real extra: pip install 'simreal[real]'")
    from panda_py.controllers import CartesianImpedance

    arm = panda_py.Panda(running.host)
    arm.get_robot().set_ee(END_EFFECTOR.tolist())
    with pytest.raises(RuntimeError, match="libfranka"):
        panda_py.Panda(running.host)
    arm.set_default_behavior()
    goal = START_JOINTS_RAD + 0.1
    assert arm.move_to_joint_position(goal, speed_factor=0.5)
    np.testing.assert_allclose(arm.get_robot().read_once().q, goal, atol=1e-3)
    start = arm.get_pose()
    np.testing.assert_allclose(start, kinematics.forward(goal), atol=2e-3)

    impedance = CartesianImpedance(filter_coeff=0.05)
    arm.start_controller(impedance)
    target = start[:3, 3].copy()
    for _ in range(30):
        target[1] += 0.003
        impedance.set_control(target, arm.get_orientation())
        time.sleep(0.02)
    time.sleep(0.5)
    assert np.abs(arm.get_position() - target).max() < 0.01
    control.inject("reflex", "cartesian_reflex")
    time.sleep(0.1)
    with pytest.raises(RuntimeError, match="cartesian_reflex"):
        arm.raise_error()
    arm.stop_controller()
    arm.recover()
    assert arm.move_to_joint_position(START_JOINTS_RAD, speed_factor=0.5)

    gripper = panda_py.libfranka.Gripper(running.host)
    assert gripper.move(0.02, 0.1)
    assert gripper.read_once().width == pytest.approx(0.02, abs=2e-3)
    assert not gripper.grasp(0.06, 0.1, 20, 0.005, 0.005)
    assert gripper.move(0.08, 0.1)


def test_a_second_library_moves_the_arm_and_the_hand(running: Rig, control: RigControl):
    franka = pytest.importorskip("franka", reason="pip install franka-rs")
    robot = franka.Robot(running.host, realtime="ignore")
    q = np.array(robot.read_once().q)
    with robot.cartesian_targets(max_velocity=0.3, max_acceleration=1.0, max_jerk=50.0) as arm:
        target = np.array(arm.target())[:3]
        for _ in range(20):
            target[1] += 0.003
            arm.move_to(target.tolist())
            time.sleep(0.05)
        time.sleep(0.5)
        reached = np.asarray(arm.state().O_T_EE)[:3, 3]
    assert np.abs(reached - target).max() < 0.02
    with robot.joint_targets(fraction=0.3, backend="robot") as arm:
        arm.move_to((q + 0.05).tolist())
        time.sleep(1.5)
    np.testing.assert_allclose(robot.read_once().q, q + 0.05, atol=5e-3)
    hand = robot.gripper()
    assert hand.move(0.03, 0.1)
    assert hand.read_once().width == pytest.approx(0.03, abs=2e-3)


def test_a_rig_that_cannot_be_started_says_why():
    with pytest.raises(UsageError, match="Unknown task 'Lyft'"):
        Rig("Lyft")
    with pytest.raises(UsageError, match="not an IP address"):
        Rig("Lift", host="rig")
    with pytest.raises(UsageError, match=r"reached by other machines.*--expose"):
        Rig("Lift", host="0.0.0.0")
    with (
        socket.create_server((host := free_address(), protocol.CONTROL_PORT)),
        pytest.raises(UsageError, match=f"cannot listen at {host}: Address already in use"),
    ):
        Rig("Lift", host=host, camera=False)


def answers(host: str) -> bool:
    try:
        socket.create_connection((host, protocol.CONTROL_PORT), 1).close()
    except OSError:
        return False
    return True


def wait_until(condition, seconds: float = 30.0) -> None:
    end = time.monotonic() + seconds
    while not condition():
        assert time.monotonic() < end, "it did not happen in time"
        time.sleep(0.05)


@pytest.mark.parametrize("how", [signal.SIGINT, signal.SIGKILL])
def test_nothing_is_left_of_a_rig_when_its_program_ends(how: signal.Signals):
    simreal = str(Path(sys.executable).with_name("simreal"))
    host = free_address()
    program = subprocess.Popen(
        [simreal, "rig", "--task", "Lift", "--host", host, "--no-camera", "--fault", "packet_loss:0.01"],
        stdout=subprocess.PIPE,
        text=True,
        env=os.environ | {"COLUMNS": "100"},
    )
    assert program.stdout is not None
    assert program.stdout.readline().startswith(f"Lift at {host}")
    with RigControl(host) as control:
        assert control.status()["faults"] == {"packet_loss": 0.01}
    program.send_signal(how)
    assert program.wait(10) == (0 if how == signal.SIGINT else -signal.SIGKILL)
    wait_until(lambda: not answers(host))
    wait_until(lambda: not list(Path("/dev/shm").glob(f"simreal-rig-{host}-*")))
