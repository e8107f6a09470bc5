"""The rig's own channel, which no robot has: place objects, see where they are, make things go wrong.

One JSON object a line, ``{"do": name, ...}``, answered by ``{"result": ...}`` or ``{"error": message}``.
"""

from __future__ import annotations

import json
import socket
from collections.abc import Callable, Mapping
from types import TracebackType
from typing import Any

import numpy as np

from simreal_envs.errors import RobotError, SimrealError, UsageError
from simreal_envs.rig import protocol
from simreal_envs.rig.sockets import Connection, Poller, listen
from simreal_envs.spec import FloatArray
from simreal_envs.tasks.starts import as_place

ANSWER_TIMEOUT_S = 10.0

Operations = Mapping[str, Callable[..., Any]]


class RigControl:
    """A client of the channel.

    Args:
        host: address of the rig.

    Raises:
        RobotError: there is no rig at the address, or it went away.
        UsageError: the rig refuses what is asked (an unknown object or fault, for instance).
    """

    def __init__(self, host: str) -> None:
        self.host = host
        try:
            self._socket = socket.create_connection((host, protocol.CONTROL_PORT), ANSWER_TIMEOUT_S)
        except OSError as error:
            raise RobotError(
                f"No virtual rig at {host} ({error}). Start one, with your task: "
                f"simreal rig --task Stack --host {host}"
            ) from error
        self._socket.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
        self._answers = self._socket.makefile("rb")

    def place(self, placement: Mapping[str, Any]) -> None:
        """Put objects at (x, y, yaw) on the table: m from its centre, rad. The arm stays where it is.

        Places on top of another object and values of joints are given as in ``reset``'s options.
        """
        places = {name: as_place(value) for name, value in placement.items()}
        misread = {name: placement[name] for name, place in places.items() if place is None}
        self._ask("place", placement=places | misread)  # the rig refuses these with an error

    def reset(self) -> None:
        """Arm at its start joints, hand open, objects in a default placement; not while it is controlled."""
        self._ask("reset")

    def object_poses_in_base(self) -> dict[str, FloatArray]:
        """Each object's (4, 4) pose."""
        return {name: np.array(pose) for name, pose in self._ask("object_poses_in_base").items()}

    def subtask_signals(self) -> dict[str, bool]:
        """For each of the task's stages, whether its condition holds right now."""
        return dict(self._ask("subtask_signals"))

    def closeness(self) -> dict[str, float]:
        """For each of the task's stages, how close its condition is, see :mod:`simreal_envs.tasks.staged`."""
        return dict(self._ask("closeness"))

    def sim_state(self) -> FloatArray:
        """Flat simulator state [time, positions, velocities]."""
        return np.array(self._ask("sim_state"))

    def model_xml(self) -> str:
        """The scene's MJCF, as the task has it (the rig gives the arm a real Panda's inertia)."""
        return str(self._ask("model_xml"))

    def describe(self) -> dict[str, Any]:
        """``task``, ``shift``, ``host`` and ``camera`` (whether it has one)."""
        return dict(self._ask("describe"))

    def status(self) -> dict[str, Any]:
        """The rig's time, rate, losses and faults, see :class:`simreal_envs.rig.server.RigServer`."""
        return dict(self._ask("status"))

    def inject(self, fault: str, value: str | float | None = None) -> None:
        """Make something go wrong, see :data:`simreal_envs.rig.faults.FAULTS`; ``none`` ends every fault."""
        self._ask("inject", fault=fault, value=value)

    def pull(self, pose_target_in_base: FloatArray | None) -> None:
        """Pull the end effector to a pose (4, 4) as a person would, with 30 N at most; None lets go."""
        target = None if pose_target_in_base is None else np.asarray(pose_target_in_base).tolist()
        self._ask("pull", pose_target_in_base=target)

    def close(self) -> None:
        """Hang up."""
        self._answers.close()
        self._socket.close()

    def __enter__(self) -> RigControl:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.close()

    def _ask(self, operation: str, **arguments: Any) -> Any:
        try:
            self._socket.sendall(json.dumps({"do": operation, **arguments}).encode() + b"\n")
            line = self._answers.readline()
        except OSError as error:
            raise RobotError(f"The virtual rig at {self.host} does not answer: {error}.") from error
        if not line:
            raise RobotError(f"The virtual rig at {self.host} has ended.")
        answer = json.loads(line)
        if "error" in answer:
            raise UsageError(answer["error"])
        return answer["result"]


class ControlServer:
    """Answers any number of clients: a request names one of ``operations`` and holds its arguments."""

    def __init__(self, operations: Operations, poller: Poller, host: str) -> None:
        self._operations, self._poller = operations, poller
        self._listener = listen(host, protocol.CONTROL_PORT)
        poller.add(self._listener, self._accept)

    def _accept(self) -> None:
        accepted, _ = self._listener.accept()
        client = Connection(self._poller, accepted, lambda buffer: self._take(client, buffer), lambda: None)

    def _take(self, client: Connection, buffer: bytearray) -> int:
        line, newline, _ = bytes(buffer).partition(b"\n")
        if not newline:
            return 0
        try:
            answer = {"result": self._do(**json.loads(line))}
        except SimrealError as error:
            answer = {"error": str(error)}
        except (TypeError, ValueError, RecursionError) as error:  # not JSON, or not what the operation takes
            answer = {"error": f"The rig does not understand {line[:200]!r}: {error}"}
        client.send(json.dumps(answer).encode() + b"\n")
        return len(line) + 1

    def _do(self, do: str, **arguments: Any) -> Any:
        if do not in self._operations:
            raise UsageError(f"Unknown operation {do!r}. Valid: {', '.join(self._operations)}.")
        return self._operations[do](**arguments)
