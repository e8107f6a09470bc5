"""What goes wrong on the virtual rig on purpose, and what strangers send it."""

from __future__ import annotations

import socket
import struct

import numpy as np
import pytest
from fci_client import Client
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from simreal_envs.errors import UsageError
from simreal_envs.latest import Latest
from simreal_envs.rig import protocol
from simreal_envs.rig.faults import parse_fault
from simreal_envs.rig.protocol import Command, RobotMode, Status
from simreal_envs.rig.server import RigServer
from simreal_envs.rig.stereo import FAULTS as CAMERA_FAULTS


def test_packets_are_lost(rig: RigServer, client: Client):
    rig.operations["inject"]("packet_loss", 0.5)
    client.move()
    before = len(client.states)
    client.control(np.zeros(7), 300)
    assert 100 < len(client.states) - before < 200
    assert 0.3 < client.state["control_command_success_rate"] < 0.7


def test_a_cut_link_is_silent_and_stops_the_arm(rig: RigServer, client: Client):
    client.swing()
    states, answers = len(client.states), len(client.answers)
    rig.operations["inject"]("link_cut")
    client.run(600)
    assert (len(client.states), len(client.answers)) == (states, answers)
    assert not client.hung_up
    assert np.abs(rig.world.data.qvel[:7]).max() < 0.02
    rig.operations["inject"]("none")
    client.run(2)
    assert client.hung_up
    again = Client(rig)
    again.run(2)
    errors = again.errors()
    again.close()
    assert errors == ["communication_constraints_violation"]


def test_a_pressed_user_stop_ends_the_motion_and_refuses_others_until_it_is_released(
    rig: RigServer, client: Client
):
    number = client.swing()
    rig.operations["inject"]("user_stop")
    client.run(600)
    assert client.statuses(Command.MOVE, number)[-1] == Status.EMERGENCY_ABORTED
    assert client.state["robot_mode"] == RobotMode.USER_STOPPED
    assert np.abs(rig.world.data.qvel[:7]).max() < 0.02
    recovery = client.ask(Command.RECOVER)
    assert client.statuses(Command.MOVE, client.move()) == [Status.NOT_POSSIBLE]
    assert client.statuses(Command.RECOVER, recovery) == [protocol.REJECTED]
    rig.operations["inject"]("none")
    client.run(2)
    assert client.state["robot_mode"] == RobotMode.IDLE
    assert client.statuses(Command.MOVE, client.move()) == [Status.MOTION_STARTED]


def test_the_clock_jumps(rig: RigServer, client: Client):
    before = int(client.state["message_id"])
    rig.operations["inject"]("clock_jump", 2)
    client.run(1)
    assert int(client.state["message_id"]) == before + 2001


def test_camera_faults_are_passed_on(rig: RigServer):
    latest = Latest(f"rig-{rig.host}-faults", CAMERA_FAULTS)
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


@settings(max_examples=30, suppress_health_check=[HealthCheck.function_scoped_fixture])
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
    stranger = socket.create_connection((rig.host, port))
    stranger.sendall(data)
    for _ in range(3):
        rig.tick()
    stranger.close()
    rig.tick()
    client = Client(rig)
    assert np.isfinite(client.state["q"]).all()
    client.close()
