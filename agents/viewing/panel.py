"""The parts of the panel that both views have: a text, and what is shown in the scene."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import viser


class Layers:
    """Checkboxes that show and hide parts of the scene, each the nodes under one name."""

    def __init__(self, server: viser.ViserServer, layers: Mapping[str, bool]) -> None:
        """``layers`` says which are shown at first."""
        with server.gui.add_folder("Show", expand_by_default=False):
            for name, is_shown in layers.items():
                self._add(server, name, is_shown)

    @staticmethod
    def _add(server: viser.ViserServer, name: str, is_shown: bool) -> None:
        parent = server.scene.add_frame(f"/{name}", show_axes=False, visible=is_shown)
        box = server.gui.add_checkbox(name.capitalize(), is_shown)

        @box.on_update
        def _(_: viser.GuiEvent) -> None:
            parent.visible = box.value


def is_from_browser(event: viser.GuiEvent) -> bool:
    """Whether a person changed a control, and not the program."""
    return event.client_id is not None


def set_value(control: Any, value: Any) -> None:
    """Set a control; viser's type hints call its value read-only."""
    control.value = value


def table(rows: Mapping[str, object]) -> str:
    """Markdown of names and values."""
    lines = [f"| {name} | {str(value).replace('|', '/')} |" for name, value in rows.items()]
    return "\n".join(["| | |", "|---|---|", *lines])
