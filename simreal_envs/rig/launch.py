"""Starts a virtual rig in processes of its own and ends it."""

from __future__ import annotations

import ipaddress
import json
import secrets
import socket
import subprocess
import sys
import time
from collections.abc import Sequence
from types import TracebackType

from simreal_envs import errors
from simreal_envs.errors import RobotError, SimrealError, UsageError
from simreal_envs.latest import Latest
from simreal_envs.rig import model_library, protocol
from simreal_envs.rig.faults import parse_fault
from simreal_envs.rig.panda import LINKS
from simreal_envs.shifts import expanded, parse_seen
from simreal_envs.tasks import get_task

READY = "{}"
"""What the server's process prints when it is."""

START_TIMEOUT_S = 60.0
END_TIMEOUT_S = 5.0


class Rig:
    """A Panda, its hand, a table and a D435 at one address, for as long as the context lasts.

    Its processes are not children of the terminal (Ctrl-C does not reach them) and end when the process that
    started them ends, however it ends.

    Args:
        task: name of the task whose scene is served.
        shift: what the camera sees differently, see :mod:`simreal_envs.shifts`.
        host: address to listen at; None takes a free one of 127.0.0.0/8.
        camera: whether there is a camera.
        faults: what goes wrong from the start on, each ``NAME`` or ``NAME:VALUE``.
        enforce_loss: stop after 20 commands lost in a row, as the robot does.
        expose: allow an address that other machines can reach. There is no password.

    Attributes:
        host: where it listens.

    Raises:
        UsageError: an unknown task, shift or fault, or an address that cannot be listened at.
        MissingDependencyError: no C compiler.
        RobotError: a process ended while it started.
    """

    def __init__(
        self,
        task: str,
        shift: str = "none",
        host: str | None = None,
        camera: bool = True,
        faults: Sequence[str] = (),
        enforce_loss: bool = False,
        expose: bool = False,
    ) -> None:
        get_task(task)
        parse_seen(shift)
        shift = expanded(shift)
        parsed = [parse_fault(text) for text in faults]
        model_library.build(LINKS)
        self.host = check_address(host, expose) if host is not None else free_address()
        arguments = {"host": self.host, "task": task, "shift": shift, "camera": camera}
        self._processes: list[subprocess.Popen[str]] = []
        try:
            since = time.monotonic()
            server = self._start("server", {**arguments, "faults": parsed, "enforce_loss": enforce_loss})
            if camera:
                self._start("camera", {"host": self.host, "task": task, "shift": shift})
            self._wait_for_server(server)
            if camera:
                self._wait_for_camera(since)
        except BaseException:
            self.close()
            raise

    @property
    def running(self) -> bool:
        """Whether every process is alive."""
        return bool(self._processes) and all(process.poll() is None for process in self._processes)

    def close(self) -> None:
        """End the processes; twice does no harm."""
        for process in self._processes:
            if process.stdin is not None:
                process.stdin.close()  # the processes end when it is closed
        for process in self._processes:
            try:
                process.wait(END_TIMEOUT_S)
            except subprocess.TimeoutExpired:
                process.kill()
                process.wait()
            if process.stdout is not None:
                process.stdout.close()
        self._processes = []

    def __enter__(self) -> Rig:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.close()

    def _start(self, kind: str, arguments: dict[str, object]) -> subprocess.Popen[str]:
        process = subprocess.Popen(
            [sys.executable, "-m", "simreal_envs.rig.process", kind, json.dumps(arguments)],
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            start_new_session=True,
            cwd="/",  # -m puts the working directory on the path, whose folders may be called as packages are
            text=True,
        )
        self._processes.append(process)
        return process

    def _wait_for_server(self, server: subprocess.Popen[str]) -> None:
        line = _line(server)
        if line.strip() != READY:
            raise _reason(line)

    def _wait_for_camera(self, since: float) -> None:
        """Until there is a frame younger than ``since``."""
        from simreal_envs.rig.stereo import FRAMES

        while time.monotonic() < since + START_TIMEOUT_S:
            for process in self._processes:
                if process.poll() is not None:
                    raise _reason(_line(process))
            try:
                if Latest(f"rig-{self.host}-camera", FRAMES).read()["time_s"] > since:
                    return
            except FileNotFoundError:
                pass  # not yet
            time.sleep(0.05)
        raise RobotError(f"The virtual rig's camera sent no frame within {START_TIMEOUT_S:.0f} s.")


def _line(process: subprocess.Popen[str]) -> str:
    """What a process says next, empty when it has ended."""
    assert process.stdout is not None
    return process.stdout.readline()


def _reason(line: str) -> SimrealError:
    """The error that a process has printed before it ended."""
    if not line:
        return RobotError("A process of the virtual rig ended while it started; its message is above.")
    answer = json.loads(line)
    error: SimrealError = getattr(errors, answer["kind"])(answer["error"])
    return error


def check_address(host: str, expose: bool) -> str:
    """The address, if it is one and may be listened at.

    Raises:
        UsageError: not an IP address, or one that other machines can reach and ``expose`` is not set.
    """
    try:
        address = ipaddress.ip_address(host)
    except ValueError:
        raise UsageError(f"{host!r} is not an IP address; for example 127.0.0.2.") from None
    if not address.is_loopback and not expose:
        raise UsageError(
            f"A virtual rig at {host} could be reached by other machines, and it has no password. "
            "Use an address of 127.0.0.0/8, or say --expose."
        )
    return host


def free_address() -> str:
    """An address of this machine's loopback network at which nothing listens on the rig's ports."""
    ports = (protocol.ROBOT_PORT, protocol.GRIPPER_PORT, protocol.CONTROL_PORT)
    for _ in range(100):
        first = int(ipaddress.ip_address("127.1.0.1"))
        host = str(ipaddress.ip_address(first + secrets.randbelow(2**23)))
        try:
            for port in ports:
                socket.create_server((host, port)).close()
        except OSError:
            continue
        return host
    raise RobotError("No free address in 127.0.0.0/8 was found for a virtual rig.")
