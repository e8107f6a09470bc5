"""Serves a view to browsers, and plays its moments at the pace of the control steps."""

from __future__ import annotations

import io
import os
import socket
import threading
import time
import webbrowser
from collections.abc import Callable, Iterator
from contextlib import contextmanager, redirect_stdout

import numpy as np
import viser

from simreal_envs.errors import SimrealError, UsageError
from simreal_envs.spec import CONTROL_HZ, TABLE_CENTRE_IN_BASE_M

LOOK_FROM_IN_BASE_M = (1.25, -1.5, 0.9)
LOOK_AT_IN_BASE_M = TABLE_CENTRE_IN_BASE_M + [0.02, 0.0, 0.2]
FIELD_OF_VIEW_RAD = 0.68
BACKGROUND = (222, 226, 232)
LOOPBACK = "127.0.0.1"
FLOOR_BELOW_TABLE_M = 0.8

Action = Callable[[], None]


@contextmanager
def serving(bind: str = LOOPBACK, port: int | None = None) -> Iterator[viser.ViserServer]:
    """A server with an empty scene, until the context ends.

    Args:
        bind: the address to listen at.
        port: None for one that is free.

    Raises:
        UsageError: no such address or port on this machine, or another program listens there.
    """
    _check_free(bind, port or 0)
    with _quiet():
        server = viser.ViserServer(host=bind, port=port or 0, verbose=False)
    try:
        if port and server.get_port() != port:
            raise UsageError(_NOT_FREE.format(port=port, bind=bind, reason="another program took it"))
        _furnish(server)
        yield server
    finally:
        with _quiet():
            server.stop()


def address(server: viser.ViserServer) -> str:
    """What to open in a browser on this machine."""
    host, port = server.get_host(), server.get_port()
    host = {"0.0.0.0": LOOPBACK, "::": "::1"}.get(host, host)
    return f"http://[{host}]:{port}" if ":" in host else f"http://{host}:{port}"


def open_browser(url: str) -> bool:
    """Open the page, if this machine has a screen; whether that worked."""
    if not (os.environ.get("DISPLAY") or os.environ.get("WAYLAND_DISPLAY")):
        return False  # a browser in the terminal would take it over
    return webbrowser.open(url)


class Player:
    """Does in the main thread what people ask for in their browsers, and plays moments.

    Browsers' requests come in the server's threads. The simulation and OpenGL belong to one thread, so
    requests wait here for it; of those with one name the latest counts.
    """

    def __init__(self) -> None:
        self._asked: dict[str, Action] = {}
        self._news = threading.Condition()
        self._moments: Iterator[None] | None = None
        self.report: Callable[[str], None] = print
        """Is told what was wrong with a request."""

    def ask(self, name: str, action: Action) -> None:
        """Have something done soon; may be called in any thread."""
        with self._news:
            self._asked.pop(name, None)
            self._asked[name] = action
            self._news.notify()

    def play(self, moments: Iterator[None] | None) -> None:
        """Play these moments, one a control step, in place of those played now; None stops."""
        self._moments = moments

    @property
    def is_playing(self) -> bool:
        """Whether there are moments to come."""
        return self._moments is not None

    def run(self) -> None:
        """Go on until Ctrl-C."""
        due_s = time.monotonic()
        while True:
            wait_s = max(0.0, due_s - time.monotonic()) if self.is_playing else None
            for action in self._take(wait_s):
                self._try(action)
            if self._moments is not None and time.monotonic() >= due_s:
                due_s = max(due_s + 1 / CONTROL_HZ, time.monotonic())  # lost time is not caught up
                self._try(self._advance)

    def _advance(self) -> None:
        moments = self._moments
        assert moments is not None
        try:
            next(moments)
        except StopIteration:
            if self._moments is moments:
                self._moments = None
        except SimrealError:
            self._moments = None
            raise

    def _try(self, action: Action) -> None:
        try:
            action()
        except SimrealError as error:
            self.report(str(error))

    def _take(self, wait_s: float | None) -> list[Action]:
        with self._news:
            if not self._asked:
                self._news.wait(wait_s)
            actions = list(self._asked.values())
            self._asked.clear()
        return actions


_NOT_FREE = (
    "Port {port} at {bind} cannot be used: {reason}. Give another --port, or leave it out for a free one."
)


def _check_free(bind: str, port: int) -> None:
    """viser would take another port, or try a thousand."""
    if not 0 <= port <= 65535:
        raise UsageError(f"--port is {port}; it must be from 1 to 65535.")
    try:
        family, kind, proto, _, where = socket.getaddrinfo(
            bind, port, type=socket.SOCK_STREAM, flags=socket.AI_PASSIVE
        )[0]
        with socket.socket(family, kind, proto) as probe:
            probe.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
            probe.bind(where)
    except (OSError, UnicodeError) as error:
        reason = getattr(error, "strerror", None) or str(error)
        if port:
            raise UsageError(_NOT_FREE.format(port=port, bind=bind, reason=reason)) from error
        raise UsageError(f"--bind is {bind}: {reason}. It must be an address of this machine.") from error


def _furnish(server: viser.ViserServer) -> None:
    """Floor, background, the camera's start, and no button that would send the scene to other machines.

    The lights stay viser's own: a saved file would set others anew in each round, in seconds without a GPU.
    """
    server.gui.configure_theme(show_logo=False, show_share_button=False, control_width="medium")
    camera = server.initial_camera
    camera.position, camera.look_at, camera.fov = LOOK_FROM_IN_BASE_M, LOOK_AT_IN_BASE_M, FIELD_OF_VIEW_RAD
    camera.up = (0.0, 0.0, 1.0)
    scene = server.scene
    scene.set_background_image(np.full((4, 4, 3), BACKGROUND, np.uint8), format="png")
    scene.add_grid(
        "/floor", width=6.0, height=6.0, cell_size=0.2, section_size=1.0, plane_opacity=1.0,
        plane_color=(205, 208, 212), position=(0.5, 0.0, -FLOOR_BELOW_TABLE_M),
    )  # fmt: skip
    scene.add_frame("/base", axes_length=0.12, axes_radius=0.004)


def _quiet() -> redirect_stdout[io.StringIO]:
    """viser prints a banner and a farewell; the command prints its own address."""
    return redirect_stdout(io.StringIO())
