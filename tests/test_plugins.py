"""Tasks, shifts, encoders and heads that other packages bring."""

from __future__ import annotations

from pathlib import Path

import pytest

from simreal_envs.errors import UsageError
from simreal_envs.plugins import Registry


def install(folder: Path, package: str, entry_points: str, **modules: str) -> None:
    """What ``pip install`` leaves of a package: its modules, and its entry points beside them."""
    info = folder / f"{package}-1.0.dist-info"
    info.mkdir(parents=True)
    (info / "METADATA").write_text(f"Metadata-Version: 2.1\nName: {package}\nVersion: 1.0\n")
    (info / "entry_points.txt").write_text(entry_points)
    for name, text in modules.items():
        (folder / f"{name}.py").write_text(text)


@pytest.fixture
def numbers(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Registry[type]:
    """Numbers of our own, and of two packages, one of which cannot be imported."""
    names = (
        "three = three_of_it:Three\ntext = three_of_it:TEXT\nlost = three_of_it:Lost\nint = three_of_it:Three"
    )
    install(tmp_path, "good", f"[test.numbers]\n{names}", three_of_it="class Three(int): ...\nTEXT = 'three'")
    install(tmp_path, "bad", "[test.numbers]\nfour = four_of_it:Four\nthree = a:B", four_of_it="1 / 0")
    install(tmp_path, "other", "[test.words]\nword = word_of_it:Word")
    monkeypatch.syspath_prepend(str(tmp_path))
    return Registry("number", "test.numbers", {"int": int, "bool": "builtins:bool"}, int)


def test_names_are_known_without_importing_anything(numbers: Registry[type]) -> None:
    assert numbers.names() == [*numbers] == ["int", "bool", "four", "lost", "text", "three"]
    assert len(numbers) == 6
    assert "four" in numbers
    assert "word" not in numbers
    assert numbers["bool"] is bool


def test_a_name_that_is_taken_already_is_left_out_and_said(
    numbers: Registry[type], caplog: pytest.LogCaptureFixture
) -> None:
    assert numbers["int"] is int
    assert numbers.names()
    assert "Number 'int' of package 'good' is left out: simreal has one of that name." in caplog.text
    assert "Number 'three' of package 'good' is left out: bad has one of that name." in caplog.text


@pytest.mark.parametrize(
    ("name", "message"),
    [
        ("four", "Number 'four' of package 'bad' cannot be loaded: ZeroDivisionError: division by zero"),
        ("lost", "Number 'lost' of package 'good' cannot be loaded: AttributeError"),
        ("text", "Number 'text' of package 'good' is no subclass of int: 'three'"),
        ("five", "Unknown number 'five'. Valid: int, bool, four, lost, text, three."),
    ],
)
def test_what_cannot_be_loaded_is_named_with_its_package(
    numbers: Registry[type], name: str, message: str
) -> None:
    with pytest.raises(UsageError) as error:
        numbers[name]
    assert str(error.value).startswith(message)


def test_the_rest_works(numbers: Registry[type], caplog: pytest.LogCaptureFixture) -> None:
    assert [*numbers.loaded()] == ["int", "bool"]
    assert "Number 'four' of package 'bad' cannot be loaded" in caplog.text
