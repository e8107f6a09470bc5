"""Franka's control interface: one client's requests over TCP, states and commands at 1 kHz over UDP."""

from __future__ import annotations

import socket
import struct
from contextlib import suppress

import numpy as np

from simreal_envs.rig import protocol
from simreal_envs.rig.faults import Faults
from simreal_envs.rig.motion import MotionGenerator
from simreal_envs.rig.move import LOST_IN_A_ROW, Move, Statistics
from simreal_envs.rig.panda import Inertia
from simreal_envs.rig.protocol import Command, Controller, Motion, RobotMode, Status
from simreal_envs.rig.reflexes import Reflexes, flags
from simreal_envs.rig.settings import Settings
from simreal_envs.rig.simulated_arm import SimulatedArm
from simreal_envs.rig.sockets import Connection, Poller, listen, take_message
from simreal_envs.rig.state import RobotState


class RobotServer:
    """The robot's port. As on the robot, one client at a time; another is hung up on.

    Args:
        enforce_loss: stop with ``communication_constraints_violation`` after 20 lost commands in a row, as
            the robot does. A machine without real-time scheduling loses so many now and then.
    """

    def __init__(
        self,
        arm: SimulatedArm,
        hand: Inertia,
        model_library: bytes,
        poller: Poller,
        host: str,
        faults: Faults,
        enforce_loss: bool = False,
    ) -> None:
        self._arm, self._model_library = arm, model_library
        self._poller, self._faults, self.enforce_loss = poller, faults, enforce_loss
        self.reflexes, self.state = Reflexes(arm), RobotState(arm, hand)
        self._settings = Settings(arm, hand, self.state, self.reflexes)
        self.statistics = Statistics()
        self._rng = np.random.default_rng(0)
        self._move: Move | None = None
        self._listener = listen(host, protocol.ROBOT_PORT)
        poller.add(self._listener, self._accept)
        self._udp = socket.socket(socket.AF_INET, socket.SOCK_DGRAM)
        self._udp.bind((host, 0))
        self._udp.setblocking(False)
        self._client: Connection | None = None
        self._peer: tuple[str, int] | None = None
        self._datagram = bytearray(protocol.ROBOT_COMMAND.itemsize)
        self._command = np.frombuffer(self._datagram, protocol.ROBOT_COMMAND)[0]

    @property
    def client(self) -> str | None:
        """Address of the connected client."""
        return self._client.peer if self._client is not None else None

    @property
    def moving(self) -> bool:
        """Whether a client's motion runs."""
        return self._move is not None

    # --- every millisecond --------------------------------------------------------------------------

    def tick(self) -> None:
        """Read commands, move the arm, look for reflexes, send the state."""
        commanded = self._read_commands()
        move = self._move
        if move is not None:
            move.count(commanded, self.statistics)
            if self.enforce_loss and move.lost_in_a_row >= LOST_IN_A_ROW:
                self.reflex("communication_constraints_violation")
        self._arm.step(self._torque())
        self.reflexes.measure()
        if self._move is not None:
            error = self.reflexes.violation()
            if error is not None:
                self.reflex(error)
            elif self._move.ending is not None:
                self._rest(self._move)
        self._send_state()

    def _read_commands(self) -> bool:
        """Take the newest command that has arrived; True if there was one."""
        got = False
        while True:
            try:
                size, sender = self._udp.recvfrom_into(self._datagram)
            except BlockingIOError:
                return got
            move = self._move
            foreign = sender != self._peer or size != len(self._datagram)
            if foreign or self._lost() or move is None or move.ending is not None:
                continue
            if self._command["message_id"] < move.since:  # meant for an earlier motion
                continue
            got = True
            error = self._obey(move)
            if error is not None:
                self.reflex(error)
                return False

    def _obey(self, move: Move) -> str | None:
        """Take a command over; returns the name of the error if the robot would refuse it."""
        command = self._command
        if command["motion_generation_finished"]:
            move.ending = Status.SUCCESS
            return None
        if move.controller == Controller.EXTERNAL:
            age = int(self.state.message_id) - int(command["message_id"]) + 1
            error = self.reflexes.torque_error(command["tau_J_d"], age)
            if error is not None:
                return error
            move.torque[:] = command["tau_J_d"]
            if move.kind == Motion.JOINT_VELOCITY:  # what torque control comes with
                return None
        return move.generator.follow(command)

    def _torque(self) -> np.ndarray:
        move = self._move
        if move is not None and move.ending is None:
            self._arm.release()
            if move.controller == Controller.EXTERNAL:
                return move.torque  # if a command was lost, the last torque is applied again
            if move.controller == Controller.CARTESIAN_IMPEDANCE:
                return self._arm.cartesian_impedance(move.generator.pose, move.generator.q)
            return self._arm.joint_impedance(move.generator.q, move.generator.dq)
        return self._arm.rest()

    def _lost(self) -> bool:
        faults = self._faults
        return faults.link_cut or (faults.packet_loss > 0 and self._rng.random() < faults.packet_loss)

    def _send_state(self) -> None:
        move = self._move
        rate = 0.0 if move is None else move.success_rate
        self.state.update(rate, self.reflexes, move.generator if move is not None else None)
        if self._peer is not None and not self._lost():
            with suppress(OSError):  # a datagram that cannot be sent is a lost one
                self._udp.sendto(self.state.datagram, self._peer)

    # --- the end of a motion ------------------------------------------------------------------------

    def reflex(self, error: str) -> None:
        """Stop the arm with an error; it moves again after a recovery."""
        self.statistics.reflexes += 1
        self.state.fail(flags(error))
        self._abort(Status.REFLEX_ABORTED, protocol.STOP_REFLEX_ABORTED)

    def user_stop(self) -> None:
        """Press the external activation device: the arm stops, and can move again once this is released."""
        self.state.set_mode(RobotMode.USER_STOPPED)
        self._abort(Status.EMERGENCY_ABORTED, protocol.STOP_EMERGENCY_ABORTED)

    def release_user_stop(self) -> None:
        """The device is released; errors from before stay."""
        self.state.set_mode(RobotMode.REFLEX if self.state.failed else RobotMode.IDLE)

    def _abort(self, status: Status, stop_status: int) -> None:
        move, self._move = self._move, None
        if move is not None:
            self._reply(Command.MOVE, move.number, status)
            if move.stop_number is not None:
                self._reply(Command.STOP_MOVE, move.stop_number, stop_status)

    def _rest(self, move: Move) -> None:
        """Answer a motion that was to end, once the arm stands still."""
        if not self._arm.resting:
            return
        self._move = None
        self.state.set_mode(RobotMode.IDLE)
        if move.ending is not None:
            self._reply(Command.MOVE, move.number, move.ending)
        if move.stop_number is not None:
            self._reply(Command.STOP_MOVE, move.stop_number, Status.SUCCESS)

    # --- requests -----------------------------------------------------------------------------------

    def _accept(self) -> None:
        if self._faults.link_cut:  # who connects waits in the kernel
            return
        accepted, _ = self._listener.accept()
        if self._client is not None:
            self._client.close_if_gone()
        if self._client is not None:
            accepted.close()
            return
        self._client = Connection(self._poller, accepted, self._take, self._gone)

    def _gone(self) -> None:
        """Stop the arm when a client leaves in the middle of a motion."""
        self._client = self._peer = self._move = None
        if self.state.mode == RobotMode.MOVE:
            self.state.set_mode(RobotMode.IDLE)

    def cut_link(self) -> None:
        """Cut the link: a running motion ends with an error that does not reach the client."""
        if self._move is not None:
            self.reflex("communication_constraints_violation")

    def mend_link(self) -> None:
        """Mend the link: the client has to connect again."""
        if self._client is not None:
            self._client.close()

    def _take(self, buffer: bytearray) -> int:
        message = take_message(buffer, protocol.ROBOT_HEADER)
        if message is None:
            return 0
        command, number, body = message
        if not self._faults.link_cut:
            self._handle(Command(command), number, body)
        return protocol.ROBOT_HEADER.size + len(body)

    def _handle(self, command: Command, number: int, body: bytes) -> None:
        if command == Command.CONNECT:
            version, port = struct.unpack("<HH", body)
            matches = version == protocol.ROBOT_VERSION
            answer = struct.pack("<BH", 0 if matches else 1, protocol.ROBOT_VERSION)
            self._reply(command, number, answer)
            if matches and self._client is not None:
                self._peer = (self._client.peer, port)
        elif command == Command.LOAD_MODEL_LIBRARY:
            self._reply(command, number, b"\0" + self._model_library)
        elif command == Command.MOVE:
            self._start(number, body)
        elif command == Command.STOP_MOVE:
            if self._move is None:
                self._reply(command, number, protocol.REJECTED)
            else:
                self._move.ending, self._move.stop_number = Status.PREEMPTED, number
        elif command == Command.RECOVER:
            if self._move is not None or self.state.mode == RobotMode.USER_STOPPED:
                self._reply(command, number, protocol.REJECTED)
            elif self.reflexes.outside_limits():
                self._reply(command, number, protocol.PERSON_REQUIRED)
            else:
                self.state.recover()
                self._reply(command, number, Status.SUCCESS)
        elif command == Command.GET_CARTESIAN_LIMIT:
            self._reply(command, number, bytes(1 + 8 * (3 + 16) + 1))
        else:
            refused = self._move is not None or self.state.mode == RobotMode.USER_STOPPED
            self._reply(
                command, number, protocol.REJECTED if refused else self._settings.apply(command, body)
            )

    def _start(self, number: int, body: bytes) -> None:
        controller, kind = struct.unpack_from("<II", body)
        if self._move is not None or self.state.mode != RobotMode.IDLE:
            self._reply(Command.MOVE, number, Status.NOT_POSSIBLE)
            return
        motion = Motion(kind + 1)
        generator = MotionGenerator(self._arm, motion)
        self._move = Move(number, self.state.message_id, motion, Controller(controller), generator)
        self._arm.torque[:] = 0.0  # clients start from no torque
        self.state.start(motion, self._move.controller)
        self._reply(Command.MOVE, number, Status.MOTION_STARTED)

    def _reply(self, command: Command, number: int, body: bytes | int) -> None:
        if self._client is not None and not self._faults.link_cut:
            data = body if isinstance(body, bytes) else bytes([body])
            header = protocol.ROBOT_HEADER.pack(command, number, protocol.ROBOT_HEADER.size + len(data))
            self._client.send(header + data)
