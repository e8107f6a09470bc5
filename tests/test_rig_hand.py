"""The virtual rig's hand over its own protocol."""

from __future__ import annotations

import socket
import struct
from collections.abc import Iterator

import numpy as np
import pytest

from simreal_envs import kinematics
from simreal_envs.rig import protocol
from simreal_envs.rig.protocol import GripperCommand, GripperStatus
from simreal_envs.rig.server import RigServer
from simreal_envs.spec import START_JOINTS_RAD


class Hand:
    """A client of the hand's protocol that takes turns with the rig."""

    def __init__(self, rig: RigServer) -> None:
        self._rig, self._number = rig, 0
        self._tcp = socket.create_connection((rig.host, protocol.GRIPPER_PORT))
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
