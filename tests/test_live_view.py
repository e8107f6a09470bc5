"""What an operator is shown."""

from __future__ import annotations

import numpy as np
import pytest

from simreal_agents.operators.live_view import (
    LineView,
    State,
    Status,
    TerminalView,
    draw_window,
    picture_lines,
)

READY = Status(State.READY, "demonstration 1 of 2", "q stop")
RED = np.full((48, 64, 3), (200, 10, 20), np.uint8)


def no_picture() -> None:
    return None


def test_a_picture_becomes_half_blocks_of_its_colours_and_keeps_its_shape() -> None:
    half = RED.copy()
    half[24:] = (0, 0, 255)
    lines = picture_lines(half, columns=32, rows=100)
    assert len(lines) == 12
    assert all(line.count("▀") == 32 for line in lines)
    assert "38;2;200;10;20;48;2;200;10;20m" in lines[0]
    assert "38;2;0;0;255;48;2;0;0;255m" in lines[-1]


@pytest.mark.parametrize(("columns", "rows"), [(10, 3), (200, 5), (7, 200), (1, 1)])
def test_a_picture_never_exceeds_the_terminal(columns: int, rows: int) -> None:
    lines = picture_lines(RED, columns, rows)
    assert 1 <= len(lines) <= rows
    assert 1 <= lines[0].count("▀") <= columns


def test_a_line_and_nothing_else_at_each_change_of_state(capsys: pytest.CaptureFixture[str]) -> None:
    view = LineView()
    for state in (State.READY, State.READY, State.RECORDING, State.RECORDING, State.SAVED):
        view.show(Status(state, "text", "keys"), no_picture)
    assert capsys.readouterr().out == "ready: text keys\nrecording: text keys\nsaved: text keys\n"


def test_the_terminal_draws_in_place_and_keeps_what_came_of_an_episode(
    capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("COLUMNS", "40")
    monkeypatch.setenv("LINES", "20")
    view = TerminalView()
    view.show(READY, lambda: RED)
    first = capsys.readouterr().out
    assert "\x1b[1;37;48;2;30;90;200m READY " in first  # in the state's colour
    assert first.endswith("\a")
    height = first.count("\n")
    view.show(Status(State.RECORDING, "demonstration 1 of 2"), lambda: RED)
    second = capsys.readouterr().out
    assert second.startswith(f"\x1b[{height}F")  # over the first
    view.show(Status(State.RECORDING, "later"), lambda: RED)
    assert capsys.readouterr().out == ""  # not more often than the eye sees
    view.show(Status(State.SAVED, "1 of 2"), lambda: RED)
    view.show(Status(State.SAVED, "1 of 2"), lambda: RED)
    saved = capsys.readouterr().out
    assert saved.count("SAVED") == 1
    assert "▀" not in saved
    view.show(READY, no_picture)
    assert "F\x1b" not in capsys.readouterr().out  # below it, not over it


def test_the_window_has_a_bar_of_the_states_colour_over_the_picture() -> None:
    shown = draw_window(Status(State.RECORDING, "x" * 200, "q stop"), np.zeros((480, 640, 3), np.uint8))
    assert shown.shape == (572, 640, 3)
    assert shown[0, -1].tolist() == list(State.RECORDING.colour[::-1])  # BGR
    assert not shown[92:].any()
