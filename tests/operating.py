"""A person at a terminal, for tests: types keys, reads the screen, and steers by what it says."""

from __future__ import annotations

import os
import pty
import re
import select
import signal
import sys
import termios
import time
from collections.abc import Sequence
from pathlib import Path
from types import TracebackType

import numpy as np

from simreal_agents.operators.devices.keyboard import START

SIMREAL = str(Path(sys.executable).with_name("simreal"))
_ESCAPES = re.compile(r"\x1b\[[0-9;?]*[A-Za-z]")
_WHOLE = re.compile(r"(?:[^\x1b]|\x1b\[[0-9;?]*[A-Za-z])*")
"""Text whose last escape sequence is complete."""
_HAND = re.compile(r"hand (-?\d\.\d{3}) (-?\d\.\d{3}) (-?\d\.\d{3}) m")
_KEYS = (("w", "s"), ("a", "d"), ("r", "f"))
REPEAT_DELAY_S, REPEAT_S = 0.5, 0.033
"""What terminals do by default: from the press of a held key to its first repetition, and between them."""


class Person:
    """The real program in a real pseudo-terminal, as a context manager; killed if it is left running."""

    def __init__(self, *arguments: object, program: Sequence[str] = (SIMREAL,)) -> None:
        self.screen = ""
        self._incomplete = ""
        self._entered_s = 0.0
        self._seen = 0
        self._pid, self._terminal = pty.fork()
        if self._pid == 0:
            settings = {"TERM": "xterm", "COLUMNS": "160", "LINES": "30", "MUJOCO_GL": "egl"}
            environment = {k: v for k, v in os.environ.items() if k not in ("DISPLAY", "WAYLAND_DISPLAY")}
            os.execve(program[0], [*program, *map(str, arguments)], environment | settings)
        self._settings = termios.tcgetattr(self._terminal)

    def __enter__(self) -> Person:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        if self._pid:
            os.kill(self._pid, signal.SIGKILL)
            os.waitpid(self._pid, 0)
        os.close(self._terminal)

    def type(self, keys: str) -> None:
        if keys.startswith("\n"):  # soon after another it would not count
            self.look(max(0.0, self._entered_s + 1.1 - time.monotonic()))
            self._entered_s = time.monotonic()
        os.write(self._terminal, keys.encode())

    def look(self, seconds: float) -> str:
        """Watch for a while; returns what the screen has shown so far, without colours and pictures."""
        end = time.monotonic() + seconds
        while (left := end - time.monotonic()) > 0:
            if select.select([self._terminal], [], [], left)[0]:
                try:
                    shown = os.read(self._terminal, 1 << 16).decode(errors="ignore")
                except OSError:  # the program has ended
                    break
                shown = self._incomplete + shown
                whole = _WHOLE.match(shown)
                assert whole is not None
                self._incomplete = shown[whole.end() :]
                self.screen += _ESCAPES.sub("", whole[0]).replace("▀", "")
        return self.screen

    def wait_for(self, text: str, seconds: float = 60) -> None:
        """Until the screen shows the text, after the one that was waited for last."""
        deadline = time.monotonic() + seconds
        while (found := self.look(0.05).find(text, self._seen)) < 0:
            assert time.monotonic() < deadline, f"no {text!r} in:\n{self.screen[-2000:]}"
        self._seen = found + len(text)

    def end(self, seconds: float = 30) -> int:
        """Wait for the program to end and leave the terminal as it was; its exit code."""
        deadline = time.monotonic() + seconds
        while True:
            self.look(0.05)
            ended, status = os.waitpid(self._pid, os.WNOHANG)
            if ended:
                self._pid = 0
                assert termios.tcgetattr(self._terminal) == self._settings, "the terminal was left changed"
                return os.waitstatus_to_exitcode(status)
            assert time.monotonic() < deadline, self.screen[-2000:]

    def hand_m(self) -> np.ndarray:
        """Where the screen says that the hand is, once it rests: a tap counts for 0.7 s."""
        self.look(1.0)
        return np.array([float(x) for x in _HAND.findall(self.screen)[-1]])

    def move_to(self, goal_m: np.ndarray, speed_mps: float, tolerance_m: float = 0.01) -> None:
        """Press keys until the hand is there, one axis after the other, as terminals repeat one key only."""
        for _ in range(10):
            error = goal_m - self.hand_m()
            if np.all(np.abs(error) < tolerance_m):
                return
            for axis, left in enumerate(error):
                if abs(left) < tolerance_m / 2:
                    continue
                key, seconds = _KEYS[axis][0 if left > 0 else 1], abs(left) / speed_mps
                if (slowly_s := seconds / START) < REPEAT_DELAY_S:
                    self.type(key)
                    self.look(slowly_s)
                    self.type(" ")
                else:
                    self.hold(key, seconds + (1 - START) * REPEAT_DELAY_S - 0.1)
        raise AssertionError(f"hand at {self.hand_m()}, not at {goal_m}:\n{self.screen[-3000:]}")

    def hold(self, key: str, seconds: float, until: str = "\0") -> None:
        """Hold a key as a terminal tells it, until a text is shown: its press, a pause, its repetitions."""
        end = time.monotonic() + seconds
        self.type(key)
        self.look(min(REPEAT_DELAY_S, seconds))
        while time.monotonic() < end and until not in self.screen[self._seen :]:
            self.type(key)
            self.look(REPEAT_S)
