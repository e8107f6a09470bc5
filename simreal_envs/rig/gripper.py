"""Franka's hand over its own protocol: two fingers that move at a speed and press with a force."""

from __future__ import annotations

import socket
import struct
from contextlib import suppress
from dataclasses import dataclass

import mujoco
import numpy as np

from simreal_envs.rig import protocol
from simreal_envs.rig.faults import Faults
from simreal_envs.rig.protocol import GripperCommand, GripperStatus
from simreal_envs.rig.sockets import Connection, Poller, listen, take_message

MAX_WIDTH_M = 0.08
MAX_SPEED_MPS = 0.1
MAX_FORCE_N = 70.0
MOVE_FORCE_N = 30.0
SERVO_STIFFNESS, SERVO_DAMPING = 10_000.0, 150.0
"""N/m and N s/m of each finger."""

STATE_TICKS = 20
"""A state every 20 ms."""

REACHED_M = 1e-3
SLOW_MPS = 1e-3
STALL_TICKS = 150
"""Fingers that stand still for so long have met something."""


class Fingers:
    """The two finger joints of the served scene.

    Attributes:
        goal_m: opening that the fingers go to.
        speed_mps: at which the opening changes.
    """

    def __init__(self, model: mujoco.MjModel, data: mujoco.MjData) -> None:
        names = [f"gripper0_right_finger_joint{i}" for i in (1, 2)]
        self._left, self._right = (int(model.joint(name).qposadr[0]) for name in names)
        dofs = [int(model.joint(name).dofadr[0]) for name in names]
        motors = [f"gripper0_right_gripper_finger_joint{i}" for i in (1, 2)]
        self._motors = [int(model.actuator(name).id) for name in motors]
        for motor in self._motors:
            model.actuator_gainprm[motor, 0] = SERVO_STIFFNESS
            model.actuator_biasprm[motor, 1:3] = -SERVO_STIFFNESS, -SERVO_DAMPING
        self._model, self._qpos, self._ctrl = model, data.qpos, data.ctrl
        self._velocity = data.qvel[dofs[0] : dofs[1] + 1]
        self.goal_m = self.commanded_m = self.width_m
        self.speed_mps = MAX_SPEED_MPS
        self.set_force(MOVE_FORCE_N)

    @property
    def width_m(self) -> float:
        """Distance between the fingers."""
        return float(self._qpos[self._left] - self._qpos[self._right])

    @property
    def still(self) -> bool:
        """Whether neither finger moves."""
        return bool(np.abs(self._velocity).max() < SLOW_MPS)

    def set_force(self, force_N: float) -> None:
        """The largest force of each finger."""
        for motor in self._motors:
            self._model.actuator_forcerange[motor] = -force_N, force_N

    def step(self) -> None:
        """Move the commanded opening on by one millisecond."""
        step = self.speed_mps * 1e-3
        self.commanded_m += min(max(self.goal_m - self.commanded_m, -step), step)
        self._ctrl[self._motors[0]] = self.commanded_m / 2
        self._ctrl[self._motors[1]] = -self.commanded_m / 2

    def stop(self) -> None:
        """Stay at the present opening."""
        self.goal_m = self.commanded_m = self.width_m


@dataclass
class _Job:
    """A request that is answered when the fingers have arrived or met something."""

    command: GripperCommand
    number: int
    goals_m: list[float]
    """Openings to go to, one after the other; the last one decides."""
    accepted_m: tuple[float, float]
    """Openings between which the job has succeeded."""
    ticks_still: int = 0


class GripperServer:
    """Answers on the hand's port; one client at a time."""

    def __init__(self, fingers: Fingers, poller: Poller, host: str, faults: Faults) -> None:
        self._fingers, self._poller, self._faults = fingers, poller, faults
        self._listener = listen(host, protocol.GRIPPER_PORT)
        poller.add(self._listener, self._accept)
        self._udp = socket.socket(socket.AF_INET, socket.SOCK_DGRAM)
        self._udp.bind((host, 0))
        self._client: Connection | None = None
        self._peer: tuple[str, int] | None = None
        self._job: _Job | None = None
        self._grasped: tuple[float, float] | None = None
        self._ticks = 0

    # --- every millisecond --------------------------------------------------------------------------

    def tick(self) -> None:
        """Move the fingers, answer what is done, send a state now and then."""
        self._ticks += 1
        if not self._faults.gripper_stuck:
            self._fingers.step()
        if self._job is not None:
            self._work(self._job)
        if self._ticks % STATE_TICKS == 0 and self._peer is not None and not self._faults.link_cut:
            widest_m = 0.0 if self._faults.gripper_unhomed else MAX_WIDTH_M
            state = protocol.GRIPPER_STATE.pack(
                self._ticks & 0xFFFFFFFF, self._fingers.width_m, widest_m, self.is_grasped, 30
            )
            with suppress(OSError):  # a datagram that cannot be sent is a lost one
                self._udp.sendto(state, self._peer)

    @property
    def is_grasped(self) -> bool:
        """Whether what was grasped is still between the fingers."""
        return self._grasped is not None and self._grasped[0] < self._fingers.width_m < self._grasped[1]

    def _work(self, job: _Job) -> None:
        fingers = self._fingers
        arrived = abs(fingers.width_m - fingers.goal_m) < REACHED_M
        job.ticks_still = job.ticks_still + 1 if fingers.still else 0
        if not (arrived and fingers.still) and job.ticks_still < STALL_TICKS:
            return
        if len(job.goals_m) > 1 and arrived:
            job.goals_m.pop(0)
            fingers.goal_m, job.ticks_still = job.goals_m[0], 0
            return
        low, high = job.accepted_m
        success = low <= fingers.width_m <= high
        if job.command == GripperCommand.GRASP and success:
            self._grasped = job.accepted_m
        if job.command == GripperCommand.HOMING and success:
            self._faults.gripper_unhomed = False
        self._finish(GripperStatus.SUCCESS if success else GripperStatus.UNSUCCESSFUL)

    def _finish(self, status: GripperStatus) -> None:
        if self._job is not None:
            job, self._job = self._job, None
            self._reply(job.command, job.number, status)

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
        self._client = self._peer = self._job = None

    def close_client(self) -> None:
        """Hang up."""
        if self._client is not None:
            self._client.close()

    def _take(self, buffer: bytearray) -> int:
        message = take_message(buffer, protocol.GRIPPER_HEADER)
        if message is None:
            return 0
        command, number, body = message
        if not self._faults.link_cut:
            self._handle(GripperCommand(command), number, body)
        return protocol.GRIPPER_HEADER.size + len(body)

    def _handle(self, command: GripperCommand, number: int, body: bytes) -> None:
        fingers = self._fingers
        if command == GripperCommand.CONNECT:
            version, port = struct.unpack("<HH", body)
            matches = version == protocol.GRIPPER_VERSION
            self._reply(command, number, 0 if matches else 1, protocol.GRIPPER_VERSION)
            if matches and self._client is not None:
                self._peer = (self._client.peer, port)
            return
        self._finish(GripperStatus.ABORTED)
        if command == GripperCommand.STOP:
            fingers.stop()
            self._reply(command, number, GripperStatus.SUCCESS)
            return
        if command == GripperCommand.GRASP:
            width, below, above, speed, force = protocol.GRASP.unpack(body)
            job = _Job(command, number, [0.0], (max(width - below, REACHED_M), width + above))
        elif command == GripperCommand.MOVE:
            width, speed = protocol.GRIPPER_MOVE.unpack(body)
            force = MOVE_FORCE_N
            job = _Job(command, number, [width], (width - 2 * REACHED_M, width + 2 * REACHED_M))
        else:
            width, speed, force = 0.0, MAX_SPEED_MPS, MOVE_FORCE_N
            job = _Job(command, number, [0.0, MAX_WIDTH_M], (MAX_WIDTH_M - 2 * REACHED_M, 1.0))
        # Comparisons with NaN are false.
        if not (0 <= width <= MAX_WIDTH_M and speed > 0 and 0 <= force <= MAX_FORCE_N):
            self._reply(command, number, GripperStatus.FAIL)
            return
        self._grasped = None
        fingers.stop()
        fingers.goal_m, fingers.speed_mps = job.goals_m[0], min(speed, MAX_SPEED_MPS)
        fingers.set_force(force)
        self._job = job

    def _reply(self, command: GripperCommand, number: int, *values: int) -> None:
        if self._client is not None and not self._faults.link_cut:
            body = struct.pack(f"<{len(values)}H", *values)
            header = protocol.GRIPPER_HEADER.pack(command, number, protocol.GRIPPER_HEADER.size + len(body))
            self._client.send(header + body)
