"""Human demonstrations come whole and unchanged, or not at all."""

from __future__ import annotations

import zipfile
from pathlib import Path

import pytest

from simreal_datasets.making import fetch
from simreal_datasets.making.fetch import fetch_demonstrations
from simreal_envs import folders
from simreal_envs.errors import DataError, UsageError
from simreal_envs.tasks import get_task, tasks_with


@pytest.fixture
def offline(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """An empty cache, and pip that sees nothing but a folder."""
    wheels = tmp_path / "wheels"
    wheels.mkdir()
    monkeypatch.setenv("SIMREAL_CACHE", str(tmp_path / "cache"))
    monkeypatch.setenv("PIP_NO_INDEX", "1")
    monkeypatch.setenv("PIP_CONFIG_FILE", "/dev/null")
    monkeypatch.setenv("PIP_FIND_LINKS", str(wheels))
    return wheels


def make_wheel(folder: Path, files: dict[str, bytes]) -> None:
    """A release as pip accepts it, with these files among the demonstrations."""
    info = "robosuite-1.0.1.dist-info"
    with zipfile.ZipFile(folder / "robosuite-1.0.1-py3-none-any.whl", "w") as wheel:
        wheel.writestr(f"{info}/METADATA", "Metadata-Version: 2.1\nName: robosuite\nVersion: 1.0.1\n")
        wheel.writestr(f"{info}/WHEEL", "Wheel-Version: 1.0\nRoot-Is-Purelib: true\nTag: py3-none-any\n")
        wheel.writestr(f"{info}/RECORD", "")
        for name, content in files.items():
            wheel.writestr(name, content)


def published_files() -> dict[str, bytes]:
    """What the real release holds, from the cache of this machine."""
    home = fetch_demonstrations()["Lift"].parents[2]
    names = [
        name for task in tasks_with("human_demonstrations") for name in get_task(task).human_demonstrations
    ]
    inside = {f"{fetch._IN_WHEEL}/{name}": (home / name).read_bytes() for name in names}
    return inside | {fetch._LICENCE_IN_WHEEL: (home / "LICENSE").read_bytes()}


PUBLISHED = pytest.fixture(scope="module", name="published")(published_files)


def files_in(folder: Path) -> list[Path]:
    return [path for path in folder.rglob("*") if path.is_file()]


def test_a_wheel_in_a_folder_is_enough(published: dict[str, bytes], offline: Path) -> None:
    make_wheel(offline, published)
    paths = fetch_demonstrations(["Stack", "Lift"])
    assert list(paths) == ["Stack", "Lift"]
    assert all(path.is_file() for path in paths.values())
    cache = folders.cache_dir() / "human_demonstrations"
    assert (cache / "LICENSE").read_text().startswith("MIT License")
    assert len(files_in(cache)) == 7
    # and then neither wheel nor network
    (offline / "robosuite-1.0.1-py3-none-any.whl").unlink()
    assert fetch_demonstrations(["Lift"])["Lift"].is_file()


def test_a_file_changed_in_the_cache_is_fetched_again(published: dict[str, bytes], offline: Path) -> None:
    make_wheel(offline, published)
    path = fetch_demonstrations(["Stack"])["Stack"]
    whole = path.read_bytes()
    path.write_bytes(whole[:1000])
    assert fetch_demonstrations(["Stack"])["Stack"].read_bytes() == whole


def test_offline_is_one_clear_error_and_leaves_nothing(offline: Path) -> None:
    with pytest.raises(DataError, match=r"could not download robosuite==1\.0\.1.*Is there a network"):
        fetch_demonstrations()
    assert files_in(folders.cache_dir()) == []


def test_another_checksum_is_refused(published: dict[str, bytes], offline: Path) -> None:
    name = f"{fetch._IN_WHEEL}/lift/panda/demo.hdf5"
    make_wheel(offline, published | {name: published[name] + b"!"})
    with pytest.raises(DataError, match=r"lift/panda/demo\.hdf5 .* has SHA-256 .*; expected is 694f2701"):
        fetch_demonstrations(["Lift"])
    assert not list(folders.cache_dir().rglob("demo.hdf5"))


def test_another_wheel_is_refused(offline: Path) -> None:
    make_wheel(offline, {})
    with pytest.raises(DataError, match="is not the one that was published"):
        fetch_demonstrations(["Lift"])
    assert files_in(folders.cache_dir()) == []


def test_unknown_task_lists_the_valid_ones() -> None:
    with pytest.raises(UsageError, match=r"'Pour'\. Valid: Lift, Square, Stack\."):
        fetch_demonstrations(["Pour"])


def test_a_cache_that_cannot_be_written_is_said(offline: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    (offline / "file").touch()
    monkeypatch.setenv("SIMREAL_CACHE", str(offline / "file"))
    with pytest.raises(DataError, match="Cannot fill the cache"):
        fetch_demonstrations()
