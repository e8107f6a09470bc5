"""A question to the person beside the robot."""

from __future__ import annotations

import sys
import termios

from simreal_envs.errors import RobotError


def ask(question: str) -> None:
    """Ask at the terminal until the answer is Enter or y. What was typed before the question is no answer.

    Raises:
        KeyboardInterrupt: the answer is q.
        RobotError: there is no terminal.
    """
    while True:
        if sys.stdin.isatty():
            termios.tcflush(sys.stdin, termios.TCIFLUSH)
        try:
            answer = input(f"{question} Enter: yes, q: stop. ").strip().lower()
        except EOFError as error:
            raise RobotError(
                "An operator has to place the objects and answer at a terminal, but there is none."
            ) from error
        if answer in ("", "y", "yes"):
            return
        if answer in ("q", "quit"):
            raise KeyboardInterrupt
