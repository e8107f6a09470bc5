"""What the driver's process runs: ``python -m simreal_envs.robot.process HOST NAME SOCKET PARENT``."""

from __future__ import annotations

import gc
import os
import signal
import socket
import sys
import time
import traceback

from simreal_envs.cleanup import finally_do
from simreal_envs.errors import MissingDependencyError, SimrealError
from simreal_envs.robot.channel import Channel
from simreal_envs.robot.driver import Driver
from simreal_envs.robot.lifeline import die_with_parent
from simreal_envs.robot.safety import Limits
from simreal_envs.scheduling import run_first

PRIORITY = 20
"""Of 99: above everything that is not real-time, below what the kernel does."""


def main() -> None:
    """Connect, say so or why not, drive until the user's process ends; then the arm is at rest."""
    host, name, socket_number, parent = sys.argv[1:]
    die_with_parent()  # as long as nothing moves
    channel = Channel(socket.socket(fileno=int(socket_number)))
    while not (orders := channel.receive()):
        if channel.closed:
            return
        time.sleep(0.01)
    try:
        driver = Driver(host, name, Limits(**orders[0]["limits"]), channel, int(parent))
    except SimrealError as error:
        missing = isinstance(error, MissingDependencyError)
        channel.send({"id": 0, "error": str(error), "missing": missing})
        return
    die_with_parent(False)  # from now on the arm shall come to rest first
    for number in (signal.SIGTERM, signal.SIGHUP, signal.SIGINT):
        signal.signal(number, lambda *_: driver.ask_to_leave())
    gc.collect()
    gc.freeze()  # the collector need not look again at what stays
    try:
        with finally_do(driver.close):
            driver.run(scheduled=prioritise())  # only now: libfranka connects in a busy loop
    except BaseException:
        if driver.link_lost:
            traceback.print_exc()
            os._exit(1)
        raise
    if driver.link_lost:
        os._exit(0)  # libfranka would wait for the robot's farewell; it stops by itself


def prioritise() -> str:
    """Ask for real-time priority, which libfranka's 1 kHz thread inherits; says whether it was granted."""
    if run_first(PRIORITY):
        return "with real-time priority"
    return "without real-time priority (give the user rtprio 99 in /etc/security/limits.conf)"


if __name__ == "__main__":
    main()
