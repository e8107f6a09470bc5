"""A question to the person beside the robot."""

from __future__ import annotations

import select
import sys
import termios
from collections.abc import Callable

from simreal_envs.errors import RobotError

POLL_S = 0.1


def ask(question: str, meanwhile: Callable[[], object] = lambda: None) -> None:
    """Ask at the terminal until the answer is Enter or y. What was typed before the question is no answer.

    Args:
        meanwhile: called ten times a second until there is an answer.

    Raises:
        KeyboardInterrupt: the answer is q.
        RobotError: there is no terminal.
    """
    while True:
        here = sys.stdin.isatty()
        if here:
            termios.tcflush(sys.stdin, termios.TCIFLUSH)
        print(f"{question} [Enter; q stops] ", end="", flush=True)
        while here and not select.select([sys.stdin], [], [], POLL_S)[0]:
            meanwhile()
        answer = sys.stdin.readline()
        if not answer:
            raise RobotError("An operator has to answer at a terminal, but there is none.")
        answer = answer.strip().lower()
        if answer in ("", "y", "yes"):
            return
        if answer in ("q", "quit"):
            raise KeyboardInterrupt
