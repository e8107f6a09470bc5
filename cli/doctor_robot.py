"""What ``simreal doctor --env real|rig`` looks at beyond the machine: robot, camera, and the way to them."""

from __future__ import annotations

import platform
import resource
import socket
import time
from collections.abc import Iterator
from typing import TYPE_CHECKING, Any

from simreal_cli.finding import Finding
from simreal_envs.errors import MissingDependencyError, RobotError, SimrealError

if TYPE_CHECKING:
    from simreal_envs.robot.camera import RealSense

FCI_PORT, GRIPPER_PORT = 1337, 1338
CONNECT_TIMEOUT_S = 3.0
STATES = 1000
LOST_OK = 0.01
FRAMES_SECONDS = 2.0
FRAMES_HZ = 30
REALTIME_PRIORITY = 99
"""What libfranka asks for; on a real-time kernel it refuses to control with less."""


def examine_robot(env: str, host: str | None, serial: str | None) -> Iterator[Finding]:
    """Look at everything between here and the robot, nearest first; what depends on a failure is left out."""
    missing = list(_extra())
    yield from missing
    if any(finding.status == "fail" for finding in missing):
        return
    if env == "rig":
        yield from _compiler()
        yield from _virtual_rig(host)
        return
    yield from _kernel()
    if host is None:
        yield Finding("fail", "robot", "no address given", "simreal doctor --env real --host 172.16.0.2")
    else:
        yield from _robot(host)
    yield from _camera(serial)


def _extra() -> Iterator[Finding]:
    from simreal_envs.robot.franka import panda_py
    from simreal_envs.robot.librealsense import librealsense

    for load, package in ((panda_py, "panda-python"), (librealsense, "pyrealsense2")):
        try:
            load()
        except MissingDependencyError as error:
            yield Finding("fail", package, str(error), "pip install 'simreal[real]'")
        else:
            yield Finding("ok", package, "is installed")


def _compiler() -> Iterator[Finding]:
    from simreal_envs.rig.model_library import find_compiler

    if found := find_compiler():
        yield Finding("ok", "C compiler", found)
    else:
        yield Finding(
            "fail", "C compiler", "there is none; the rig builds the robot's model library",
            "on Debian or Ubuntu: apt-get install gcc libc6-dev",
        )  # fmt: skip


def _kernel() -> Iterator[Finding]:
    real_time = "PREEMPT_RT" in platform.version()
    if real_time:
        yield Finding("ok", "kernel", f"{platform.release()} is real-time")
    else:
        yield Finding(
            "warn", "kernel", f"{platform.release()} is not real-time; more commands come late",
            "install a PREEMPT_RT kernel (Ubuntu Pro: pro enable realtime-kernel)",
        )  # fmt: skip
    allowed, _ = resource.getrlimit(resource.RLIMIT_RTPRIO)
    if allowed == resource.RLIM_INFINITY or allowed >= REALTIME_PRIORITY:
        yield Finding("ok", "permissions", "real-time priority is allowed")
    else:
        yield Finding(
            "fail" if real_time else "warn",
            "permissions", f"real-time priority {REALTIME_PRIORITY} is not allowed, {allowed} at most",
            "add '@realtime - rtprio 99' to /etc/security/limits.conf, join that group, log in again",
        )  # fmt: skip


def _robot(host: str) -> Iterator[Finding]:
    from simreal_envs.robot.franka import panda_py

    for subject, port in (("robot", FCI_PORT), ("gripper", GRIPPER_PORT)):
        fault = _unreachable(host, port)
        if fault:
            remedy = (
                f"ping {host}; use the address of the arm's control box; "
                "in Franka Desk unlock the joints and activate FCI"
            )
            yield Finding("fail", subject, f"{host}:{port} {fault}", remedy)
            return
        yield Finding("ok", subject, f"{host}:{port} answers")
    libfranka = panda_py().libfranka
    try:
        robot = libfranka.Robot(host, libfranka.RealtimeConfig.kIgnore)
    except RuntimeError as error:
        yield Finding(
            "fail", "FCI", str(error), "end the other program that controls the robot; activate FCI"
        )
        return
    yield Finding("ok", "FCI", f"version {robot.server_version()}")
    yield _state_rate(robot)
    yield _hand(host)


def _unreachable(host: str, port: int) -> str:
    """Why nothing answers there; empty if something does."""
    try:
        socket.create_connection((host, port), CONNECT_TIMEOUT_S).close()
    except TimeoutError:
        return f"does not answer within {CONNECT_TIMEOUT_S:.0f} s"
    except OSError as error:
        return f"cannot be reached: {error.strerror or error}"
    return ""


def _state_rate(robot: Any) -> Finding:
    """Count the states that did not arrive, by the robot's own clock. Nothing moves."""
    times_ms: list[int] = []

    def take(state: Any) -> bool:
        times_ms.append(state.time.to_msec())
        return len(times_ms) < STATES

    robot.read(take)
    sent = times_ms[-1] - times_ms[0] + 1
    lost = 1 - len(times_ms) / sent
    found = f"{100 * lost:.1f} % of {sent} states at 1 kHz were lost"
    if lost <= LOST_OK:
        return Finding("ok", "state rate", found)
    return Finding(
        "warn", "state rate", found,
        "connect the control box directly by cable; set the CPU governor to performance",
    )  # fmt: skip


def _hand(host: str) -> Finding:
    """Check the hand: its width, and whether it knows how far it opens. Nothing moves."""
    from simreal_envs.robot.franka import panda_py
    from simreal_envs.robot.hand import HOMED_M

    try:
        state = panda_py().libfranka.Gripper(host).read_once()
    except RuntimeError as error:
        return Finding("fail", "hand", str(error), "end the other program that uses the hand")
    found = f"open {1000 * state.width:.0f} mm of {1000 * state.max_width:.0f}"
    if state.max_width >= HOMED_M:
        return Finding("ok", "hand", f"homed, {found}")
    return Finding(
        "warn", "hand", f"not homed since it was switched on, {found}",
        "home it in Franka Desk, or let the next reset do it: its fingers close and open",
    )  # fmt: skip


def _camera(serial: str | None) -> Iterator[Finding]:
    from simreal_envs.robot.calibration import load_calibration
    from simreal_envs.robot.camera import RealSense

    try:
        camera = RealSense(depth=True, serial=serial)
    except SimrealError as error:
        yield Finding("fail", "camera", str(error), "plug it into a USB 3 port")
        return
    try:
        yield Finding("ok", "camera", f"RealSense {camera.serial}")
        yield _usb(camera.serial)
        yield _frame_rate(camera)
        try:
            calibration = load_calibration(camera.serial)
        except SimrealError as error:
            yield Finding("fail", "calibration", str(error), "simreal calibrate held --host HOST")
        else:
            yield Finding("ok", "calibration", f"of {calibration.date}")
    finally:
        camera.close()


def _usb(serial: str) -> Finding:
    from simreal_envs.robot.librealsense import librealsense

    rs, usb = librealsense(), "not found"
    for device in rs.context().query_devices():
        if device.get_info(rs.camera_info.serial_number) == serial:
            usb = device.get_info(rs.camera_info.usb_type_descriptor)
            if usb.startswith("3"):
                return Finding("ok", "camera's USB", usb)
    return Finding(
        "fail", "camera's USB", f"{usb}; colour and depth at 30 Hz need USB 3", "use a USB 3 port and cable"
    )


def _frame_rate(camera: RealSense) -> Finding:
    """The frame rate of each stream, by its own numbers: one may be silent while the other goes on."""
    first = camera.latest()
    time.sleep(FRAMES_SECONDS)
    try:
        last = camera.latest(max_age_s=FRAMES_SECONDS / 2)
    except RobotError as error:
        return Finding("fail", "frame rate", str(error), "plug it out and in again; use another cable")
    rates_hz = {
        then.stream: (then.number - before.number) / FRAMES_SECONDS
        for before, then in zip(first.stamps, last.stamps, strict=True)
    }
    found = ", ".join(f"{stream} {rate:.0f} Hz" for stream, rate in rates_hz.items()) + f" of {FRAMES_HZ}"
    if min(rates_hz.values()) >= 0.9 * FRAMES_HZ:
        return Finding("ok", "frame rate", found)
    return Finding("warn", "frame rate", found, "use another USB controller; close other programs")


def _virtual_rig(host: str | None) -> Iterator[Finding]:
    """A rig that is there, or one started for this."""
    from contextlib import ExitStack

    from simreal_envs.rig.d435 import SoftwareD435
    from simreal_envs.rig.launch import Rig
    from simreal_envs.robot.camera import RealSense

    with ExitStack() as stack:
        if host is None:
            try:
                host = stack.enter_context(Rig("Lift")).host
            except SimrealError as error:
                yield Finding("fail", "rig", str(error))
                return
        found = list(_robot(host))
        yield from found
        if any(finding.status == "fail" for finding in found):
            return
        device = SoftwareD435(host)
        stack.callback(device.close)
        camera = RealSense(context=device.context)
        stack.callback(camera.close)
        yield _frame_rate(camera)
