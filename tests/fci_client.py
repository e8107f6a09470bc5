"""A client of Franka's interface that takes turns with the rig in one thread, a millisecond at a time."""

from __future__ import annotations

import socket
import struct

import numpy as np

from simreal_envs.rig import protocol
from simreal_envs.rig.protocol import Command, Controller, Motion
from simreal_envs.rig.server import RigServer

END_EFFECTOR = np.array([1, 0, 0, 0, 0, 1, 0, 0, 0, 0, 1, 0, 0, 0, 0.2035 - 0.2104, 1.0])
"""NE_T_EE of robosuite's grip site, column-major."""


class Client:
    """Connects; then :meth:`run` lets time pass.

    Attributes:
        states: all states received.
        answers: all answers received as (command, number, body).
    """

    def __init__(self, rig: RigServer, version: int = protocol.ROBOT_VERSION) -> None:
        self._rig, self._number = rig, 0
        self.states: list[np.void] = []
        self.answers: list[tuple[int, int, bytes]] = []
        self._udp = socket.socket(socket.AF_INET, socket.SOCK_DGRAM)
        self._udp.bind(("", 0))
        self._udp.setblocking(False)
        self._tcp = socket.create_connection((rig.host, protocol.ROBOT_PORT))
        self._tcp.setblocking(False)
        self._buffer, self.hung_up = b"", False
        self._server: tuple[str, int] | None = None
        self.ask(Command.CONNECT, struct.pack("<HH", version, self._udp.getsockname()[1]))
        self.run(3)

    @property
    def state(self) -> np.void:
        """The newest one."""
        return self.states[-1]

    def errors(self) -> list[str]:
        """Names of the newest state's errors."""
        return [name for name, flag in zip(protocol.ERRORS, self.state["errors"], strict=True) if flag]

    def ask(self, command: Command, body: bytes = b"") -> int:
        """Send a request; returns its number."""
        self._number += 1
        header = protocol.ROBOT_HEADER.pack(command, self._number, protocol.ROBOT_HEADER.size + len(body))
        self._tcp.setblocking(True)
        self._tcp.sendall(header + body)
        self._tcp.setblocking(False)
        return self._number

    def move(
        self, controller: Controller = Controller.EXTERNAL, motion: Motion = Motion.JOINT_VELOCITY
    ) -> int:
        """Ask for a motion; returns the request's number."""
        number = self.ask(Command.MOVE, struct.pack("<II6d", controller, motion - 1, *[0.0] * 6))
        self.run(2)
        return number

    def run(self, milliseconds: int = 1) -> None:
        """Let the rig live without a command."""
        for _ in range(milliseconds):
            self._rig.tick()
            self._receive()

    def control(self, torque: object, milliseconds: int = 1, finished: bool = False) -> None:
        """Answer so many states with a torque (7,)."""
        for _ in range(milliseconds):
            self.command(tau_J_d=torque, motion_generation_finished=finished)

    def command(self, **fields: object) -> None:
        """Answer the newest state with a command of these fields, and let a millisecond pass."""
        command = np.zeros((), protocol.ROBOT_COMMAND)
        command["message_id"] = self.state["message_id"]
        for name, value in fields.items():
            command[name] = value
        assert self._server is not None
        self._udp.sendto(command.tobytes(), self._server)
        self.run()

    def swing(self) -> int:
        """A motion in which the last joint has gained speed; returns its number."""
        number = self.move()
        for torque in (1, 2, 3):
            self.control([0, 0, 0, 0, 0, 0, torque])
        self.control([0, 0, 0, 0, 0, 0, 3], 60)
        return number

    def statuses(self, command: Command, number: int) -> list[int]:
        """The answers' first bytes to one request."""
        return [body[0] for c, n, body in self.answers if (c, n) == (command, number)]

    def close(self) -> None:
        """Hang up, and let the rig notice."""
        self._tcp.close()
        self._udp.close()
        self._rig.tick()

    def _receive(self) -> None:
        try:
            while True:
                data, self._server = self._udp.recvfrom(4096)
                self.states.append(np.frombuffer(data, protocol.STATE)[0])
        except BlockingIOError:
            pass
        try:
            while data := self._tcp.recv(1 << 16):
                self._buffer += data
            self.hung_up = True
        except BlockingIOError:
            pass
        except ConnectionResetError:
            self.hung_up = True
        header = protocol.ROBOT_HEADER
        while len(self._buffer) >= header.size:
            command, number, size = header.unpack_from(self._buffer)
            if len(self._buffer) < size:
                break
            self.answers.append((command, number, self._buffer[header.size : size]))
            self._buffer = self._buffer[size:]
