"""Keys as they are typed, from the terminal that the program runs in; works over ssh."""

from __future__ import annotations

import os
import re
import select
import sys
import termios
import tty
from types import TracebackType

from simreal_envs.cleanup import do_after
from simreal_envs.errors import UsageError

ENTER, BACKSPACE = "enter", "backspace"
_NAMED = {
    "\r": ENTER, "\n": ENTER, "\x7f": BACKSPACE, "\x08": BACKSPACE,
    "\x1b[A": "up", "\x1b[B": "down", "\x1b[C": "right", "\x1b[D": "left",
    "\x1bOA": "up", "\x1bOB": "down", "\x1bOC": "right", "\x1bOD": "left",
}  # fmt: skip
_KEY = re.compile(r"\x1b[\[O][0-9;]*[ -/]*[@-~]|.", re.DOTALL)
"""One key: an escape sequence as a whole, or a character."""


class Terminal:
    """The terminal without line editing while this is open, as a context manager; Ctrl-C works as ever.

    A terminal tells no release of a key, only that a held one repeats.

    Raises:
        UsageError: the program was not started in a terminal.
    """

    def __init__(self) -> None:
        if not sys.stdin.isatty():
            raise UsageError(
                "Keys can be read only in a terminal: run this in one, over ssh with `ssh -t`, "
                "and leave its input alone."
            )
        self._descriptor = sys.stdin.fileno()

    def __enter__(self) -> Terminal:
        self._before = termios.tcgetattr(self._descriptor)
        tty.setcbreak(self._descriptor)
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        do_after(error, lambda: termios.tcsetattr(self._descriptor, termios.TCSADRAIN, self._before))

    def keys(self) -> list[str]:
        """What was typed since the last call: characters, or enter, backspace, up, down, left, right.

        Raises:
            KeyboardInterrupt: the terminal has gone.
        """
        typed = b""
        while select.select([self._descriptor], [], [], 0)[0]:
            part = os.read(self._descriptor, 1024)
            if not part:
                raise KeyboardInterrupt
            typed += part
        return decode_keys(typed)


def decode_keys(typed: bytes) -> list[str]:
    """Names of the keys in what a terminal sent; sequences that mean nothing here are left out.

    >>> decode_keys(b"wW\\x1b[A\\r")
    ['w', 'W', 'up', 'enter']
    """
    found = _KEY.findall(typed.decode(errors="ignore"))
    return [_NAMED.get(key, key) for key in found if key in _NAMED or (len(key) == 1 and key.isprintable())]
