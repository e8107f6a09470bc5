"""A question at a real terminal."""

from __future__ import annotations

import sys

import pytest
from operating import Person

PROGRAM = [
    sys.executable,
    "-c",
    "import time; from simreal_envs.robot.question import ask\n"
    "print('early', flush=True); time.sleep(1); ask('Free?'); print('agreed')",
]


def test_only_an_answer_to_the_question_counts() -> None:
    with Person(program=PROGRAM) as person:
        person.wait_for("early")
        person.type("\n")
        person.wait_for("Free? [Enter; q stops]")
        person.type("n\r")
        person.wait_for("Free?")
        person.type("\n")
        person.wait_for("agreed")
        assert person.end() == 0
    assert person.screen.count("Free?") == 2


def test_q_ends_the_program_as_ctrl_c_does() -> None:
    with Person(program=PROGRAM) as person:
        person.wait_for("Free?")
        person.type("q\r")
        assert person.end() != 0
    assert "KeyboardInterrupt" in person.screen


def test_without_a_terminal_the_operator_is_missed(monkeypatch: pytest.MonkeyPatch) -> None:
    from io import StringIO

    from simreal_envs.errors import RobotError
    from simreal_envs.robot.question import ask

    monkeypatch.setattr(sys, "stdin", StringIO(""))
    with pytest.raises(RobotError, match="at a terminal, but there is none"):
        ask("Free?")
