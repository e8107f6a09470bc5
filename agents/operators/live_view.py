"""What an operator sees: the camera, where the session stands, and which key does what.

A window where there is a display, else the terminal itself (24-bit colour, over ssh too), else lines of text.
"""

from __future__ import annotations

import os
import shutil
import subprocess
import sys
import textwrap
import time
from collections.abc import Callable
from dataclasses import dataclass
from enum import Enum
from typing import Protocol

import numpy as np
from PIL import Image

from simreal_agents.operators.terminal import decode_keys

Picture = Callable[[], np.ndarray | None]
"""Takes the picture (H, W, 3) uint8 when it is to be shown."""

BELL = "\a"


class State(Enum):
    """Where a session stands: its word, its colour (RGB), and whether what it says stays on the screen."""

    RESETTING = "resetting", (110, 110, 110), True
    ASKED = "your turn", (200, 140, 0), False
    READY = "ready", (30, 90, 200), False
    RECORDING = "recording", (200, 30, 30), False
    PLAYING = "playing", (200, 30, 30), False
    REVIEW = "keep it?", (200, 140, 0), False
    SAVED = "saved", (20, 140, 60), True
    DISCARDED = "discarded", (120, 80, 20), True
    SOLVED = "solved", (20, 140, 60), True
    FAILED = "failed", (120, 80, 20), True
    INTERRUPTED = "interrupted", (160, 30, 160), True

    def __init__(self, word: str, colour: tuple[int, int, int], stays: bool) -> None:
        self.word, self.colour, self.stays = word, colour, stays


@dataclass(frozen=True)
class Status:
    """One moment of a session: state, what is to be said about it, and the keys that work now."""

    state: State
    text: str
    keys: str = ""


class LiveView(Protocol):
    """Shows a session."""

    def show(self, status: Status, picture: Picture) -> list[str]:
        """Called every step; returns keys pressed in the view itself."""

    def close(self) -> None: ...


def choose_view() -> LiveView:
    """The best view that this machine has."""
    if (os.environ.get("DISPLAY") or os.environ.get("WAYLAND_DISPLAY")) and _window_opens():
        return WindowView()
    return TerminalView() if sys.stdout.isatty() else LineView()


def _window_opens() -> bool:
    """Try to open a window in another process, because without a display OpenCV ends the one that asks."""
    attempt = [sys.executable, "-c", "import cv2; cv2.namedWindow('simreal')"]
    return subprocess.run(attempt, capture_output=True, cwd="/", check=False).returncode == 0


class LineView:
    """A line whenever the state changes; the bell if it is a terminal that prints it."""

    def __init__(self) -> None:
        self._state: State | None = None

    def show(self, status: Status, picture: Picture) -> list[str]:
        if status.state != self._state:
            self._state = status.state
            bell = BELL if sys.stdout.isatty() else ""
            print(f"{status.state.word}: {status.text} {status.keys}".rstrip() + bell, flush=True)
        return []

    def close(self) -> None: ...


class TerminalView:
    """Picture, status and keys, drawn again in place; a bell at each change of state."""

    PERIOD_S = 0.2
    WIDTH = 72

    def __init__(self) -> None:
        self._last: Status | None = None
        self._drawn_s = 0.0
        self._lines = 0

    def show(self, status: Status, picture: Picture) -> list[str]:
        changed = self._last is None or status.state != self._last.state
        recent = time.monotonic() - self._drawn_s < self.PERIOD_S
        if (status == self._last and status.state.stays) or (not changed and recent):
            return []
        columns, rows = shutil.get_terminal_size()
        lines = [*_banner(status, columns), *textwrap.wrap(status.keys, columns)]
        image = None if status.state.stays else picture()
        if image is not None:
            lines = picture_lines(image, min(columns, self.WIDTH), rows - len(lines) - 2) + lines
        up = f"\x1b[{self._lines}F" if self._lines else ""
        body = "".join(f"{line}\x1b[0m\x1b[K\n" for line in lines)
        sys.stdout.write(f"{up}{body}\x1b[J{BELL if changed else ''}")
        sys.stdout.flush()
        self._lines = 0 if status.state.stays else len(lines)
        self._last, self._drawn_s = status, time.monotonic()
        return []

    def close(self) -> None: ...


def _banner(status: Status, columns: int) -> list[str]:
    r, g, b = status.state.colour
    word = f" {status.state.word.upper()} "
    text = [status.text]
    if not status.state.stays:  # a line that wraps could not be overwritten
        text = textwrap.wrap(status.text, max(columns - len(word) - 1, 1)) or [""]
    first = f"\x1b[1;37;48;2;{r};{g};{b}m{word}\x1b[0m {text[0]}"
    return [first, *(f"{'':{len(word)}} {line}" for line in text[1:])]


def picture_lines(picture: np.ndarray, columns: int, rows: int) -> list[str]:
    """A picture as lines of half blocks, two pixels a character, no larger than asked for.

    >>> [len(line.split("▀")) - 1 for line in picture_lines(np.zeros((48, 64, 3), np.uint8), 32, 99)][:2]
    [32, 32]
    """
    height, width = picture.shape[:2]
    scale = min(columns / width, 2 * rows / height)
    size = max(1, round(scale * width)), max(1, round(scale * height / 2))
    pixels = np.asarray(Image.fromarray(picture).resize((size[0], 2 * size[1]), Image.Resampling.BOX))
    return [
        "".join(
            f"\x1b[38;2;{a[0]};{a[1]};{a[2]};48;2;{b[0]};{b[1]};{b[2]}m▀"
            for a, b in zip(upper.tolist(), lower.tolist(), strict=True)
        )
        for upper, lower in zip(pixels[::2], pixels[1::2], strict=True)
    ]


class WindowView:
    """A window with the picture under a coloured bar; lines of text and the bell in the terminal."""

    PERIOD_S = 0.1
    TITLE = "simreal"

    def __init__(self) -> None:
        import cv2

        self._cv2 = cv2
        self._lines = LineView()
        self._drawn_s = 0.0
        cv2.namedWindow(self.TITLE, cv2.WINDOW_AUTOSIZE)

    def show(self, status: Status, picture: Picture) -> list[str]:
        self._lines.show(status, picture)
        if time.monotonic() - self._drawn_s >= self.PERIOD_S:
            image = picture()
            self._cv2.imshow(self.TITLE, draw_window(status, _BLACK if image is None else image))
            self._drawn_s = time.monotonic()
        code = self._cv2.waitKeyEx(1)
        return decode_keys(bytes([code])) if 0 <= code < 128 else []

    def close(self) -> None:
        self._cv2.destroyAllWindows()  # also if the window was closed by hand, which is an error for one


def draw_window(status: Status, picture: np.ndarray) -> np.ndarray:
    """The window's content, BGR: the picture (H, W, 3) under a bar in the state's colour."""
    import cv2

    bar = np.full((92, picture.shape[1], 3), status.state.colour, np.uint8)
    text = textwrap.wrap(f"{status.state.word.upper()}  {status.text}", 80)
    for row, line in enumerate(text + textwrap.wrap(status.keys, 80)):
        cv2.putText(bar, line, (8, 20 + 20 * row), cv2.FONT_HERSHEY_SIMPLEX, 0.45, (255, 255, 255), 1)
    return np.ascontiguousarray(np.concatenate([bar, picture])[..., ::-1])


_BLACK = np.zeros((480, 640, 3), np.uint8)
