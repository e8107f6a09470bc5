"""Locks, and file systems that have none."""

from __future__ import annotations

import os
import shutil
import subprocess
import sys
from pathlib import Path

import pytest
from episodes import store

from simreal_envs.errors import DataError, UsageError
from simreal_envs.folders import LOCKS, only_process, taking_turns

NO_LOCKS = """
#include <errno.h>
int flock(int descriptor, int operation) { (void)descriptor; (void)operation; errno = %s; return -1; }
"""
USE = """
import sys
from pathlib import Path
from episodes import make_episode
from simreal_agents.evaluation.episode_log import EpisodeLog
from simreal_datasets.store.editing import drop_episodes, merge
from simreal_datasets.making.fill import only_filling
from simreal_datasets.store.dataset import Dataset, DatasetWriter
from simreal_envs.errors import DataError
from simreal_envs.folders import only_process

folder, new = Path(sys.argv[1]), Path(sys.argv[1]).with_name("new")
for use in (
    lambda: EpisodeLog(new / "eval"),
    lambda: only_process(new / ".lock", "busy").__enter__(),
    lambda: only_filling(new).__enter__(),
    lambda: DatasetWriter(folder).add(make_episode()),
    lambda: list(merge(new / "merged", [folder])),
    lambda: drop_episodes(folder, [0]),
):
    try:
        use()
        print("done")
    except DataError as error:
        print(error)
print(len(Dataset(folder)))
"""


def use_without_locks(folder: Path, number: str, **environment: str) -> list[str]:
    """What a program does on a system whose ``flock`` always fails with ``number``; its lines."""
    if shutil.which("gcc") is None:
        pytest.skip("there is no gcc to take locks away with")
    library = folder.with_name("nolocks.so")
    source = NO_LOCKS % number
    subprocess.run(
        ["gcc", "-shared", "-fPIC", "-xc", "-", "-o", library], input=source, text=True, check=True
    )
    search = os.pathsep.join([str(Path(__file__).parent), os.environ.get("PYTHONPATH", "")])
    used = subprocess.run(
        [sys.executable, "-c", USE, str(folder)],
        env=os.environ | {"LD_PRELOAD": str(library), "PYTHONPATH": search} | environment,
        capture_output=True, text=True, check=False, timeout=120,
    )  # fmt: skip
    assert used.returncode == 0, used.stderr
    return used.stdout.splitlines()


@pytest.mark.parametrize("number", ["ENOLCK", "EOPNOTSUPP"])
def test_a_file_system_without_locks_is_an_error_that_names_the_way_out(number: str, tmp_path: Path) -> None:
    store(tmp_path / "data")
    *refused, readable = use_without_locks(tmp_path / "data", number)
    assert len(refused) == 6
    for line in refused:
        assert "cannot be locked" in line
        assert "SIMREAL_LOCKS=off" in line
    assert readable == "3"


def test_the_way_out_works(tmp_path: Path) -> None:
    store(tmp_path / "data")
    assert use_without_locks(tmp_path / "data", "ENOLCK", SIMREAL_LOCKS="off") == ["done"] * 6 + ["3"]


def test_a_lock_that_is_held_is_busy_and_nothing_else(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    lock = tmp_path / "lock"
    with only_process(lock, "busy"):
        with pytest.raises(DataError, match="busy"), only_process(lock, "busy"):
            pass
        monkeypatch.setenv(LOCKS, "off")
        with only_process(lock, "busy"), taking_turns(lock):
            pass
        monkeypatch.setenv(LOCKS, "no")
        with pytest.raises(UsageError, match=r"'no'\. Valid: on, off"), only_process(lock, "busy"):
            pass
    with pytest.raises(FileNotFoundError), only_process(tmp_path / "nowhere" / "lock", "busy"):
        pass
