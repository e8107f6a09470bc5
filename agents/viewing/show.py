"""A view served to browsers until Ctrl-C, or saved as a file."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from contextlib import closing
from pathlib import Path
from typing import Protocol

import mujoco
import viser

from simreal_agents.viewing.browser import Player, address, open_browser, serving
from simreal_agents.viewing.saving import check_suffix, save_html, save_png


class View(Protocol):
    """What both views offer."""

    @property
    def title(self) -> str:
        """What is shown."""

    @property
    def scene(self) -> tuple[mujoco.MjModel, mujoco.MjData]:
        """The scene as it is shown now."""

    def moments(self) -> Iterator[None]:
        """How the scene moves by itself, a control step each time."""

    def close(self) -> None:
        """Free what the view holds."""


MakeView = Callable[[viser.ViserServer, Player], View]


def serve_view(
    make: MakeView, bind: str, port: int | None, opens_browser: bool, announce: Callable[[str], None]
) -> None:
    """Serve a view until Ctrl-C; ``announce`` is told the address once it can be opened.

    Raises:
        UsageError: the address or port cannot be used.
    """
    player = Player()
    with serving(bind, port) as server, closing(make(server, player)):
        url = address(server)
        announce(url)
        if opens_browser:
            open_browser(url)
        player.run()


def save_view(make: MakeView, path: Path) -> None:
    """Write a view to a file, whole or not at all.

    Raises:
        UsageError: the file's suffix is none of :data:`simreal_agents.viewing.saving.SUFFIXES`.
    """
    suffix = check_suffix(path)
    with serving() as server, closing(make(server, Player())) as view:
        if suffix == ".png":
            save_png(view.scene, path)
        else:
            save_html(server, view.moments(), path, view.title)
