"""Datasets whose writers are killed, or find no room: what was finished is there."""

from __future__ import annotations

import signal
import subprocess
import sys
import time
from pathlib import Path

import h5py
import numpy as np
import pytest
from demonstrations import write_dataset
from mounting import run_with_mount

from simreal_datasets.store.dataset import Dataset, DatasetWriter

RECORD = """
import sys, numpy as np
from pathlib import Path
from simreal_datasets.store.episode import Episode
from simreal_datasets.store.dataset import DatasetWriter
from simreal_envs.features import Feature, WorldSpec

shown = WorldSpec("Lift", "pose", (Feature("object", "state", (7,), "float32", "m"),))
meta = shown.to_json() | {"writer": sys.argv[2]}
with DatasetWriter(Path(sys.argv[1])) as writer:
    for i in range(int(sys.argv[3])):
        values = np.full((int(sys.argv[4]), 7), float(i))
        done = np.zeros(len(values), dtype=bool)
        episode = Episode({"object": values.astype(np.float32)}, values, values[:, 0], done, meta)
        print(writer.add(episode).name, flush=True)
"""


LARGE = 20_000
"""Steps of an episode (2 MB) whose writing takes long enough to be hit by some of the kills."""


def start_recording(
    folder: Path, writer: int, count: int = 10**6, length: int = 200
) -> subprocess.Popen[str]:
    command = [sys.executable, "-c", RECORD, str(folder), str(writer), str(count), str(length)]
    return subprocess.Popen(command, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True, cwd="/")


def test_processes_that_write_at_once_lose_nothing(tmp_path: Path) -> None:
    writers = [start_recording(tmp_path, i, count=25) for i in range(4)]
    printed = [writer.communicate(timeout=60)[0].split() for writer in writers]
    assert [writer.returncode for writer in writers] == [0] * 4
    dataset = Dataset(tmp_path)
    assert {name for names in printed for name in names} == {info.path.name for info in dataset.infos}
    assert [info.number for info in dataset.infos] == list(range(100))
    with h5py.File(tmp_path / "dataset.hdf5") as file:
        assert len(file["data"]) == 100


@pytest.mark.slow
def test_no_finished_episode_is_lost_in_fifty_kills(tmp_path: Path) -> None:
    """Two recorders at a time into one folder, one killed at a random moment; a fresh folder every ten."""
    rng = np.random.default_rng(0)
    for batch in range(5):
        folder = tmp_path / str(batch)
        recorders = [start_recording(folder, 0, length=LARGE)]
        finished: set[str] = set()
        for kill in range(1, 11):
            recorders.append(start_recording(folder, kill, length=LARGE))
            recorder = recorders.pop(0)
            assert recorder.stdout is not None
            finished.add(recorder.stdout.readline().strip())  # it is recording now
            time.sleep(rng.uniform(0, 0.05))
            recorder.send_signal(signal.SIGKILL)
            out, err = recorder.communicate()
            assert recorder.returncode == -signal.SIGKILL, err
            lines = out.split("\n")
            finished |= {line for line in lines[:-1] if line}

            dataset = Dataset(folder)
            assert not dataset.damaged
            assert finished <= {info.path.name for info in dataset.infos}
            with h5py.File(folder / "dataset.hdf5") as index:
                for info in dataset.infos:
                    assert index[f"data/demo_{info.number}/actions"].shape == (info.length, 7)
        for recorder in recorders:
            recorder.kill()
            recorder.communicate()
        DatasetWriter(folder).close()
        assert not (folder / ".aside").exists()


FILL = """
import sys
exec(sys.argv[1])
sys.argv = sys.argv[1:]
import numpy as np
from simreal_datasets.store.episode import Episode
from simreal_datasets.store.dataset import DatasetWriter
from simreal_envs.errors import DataError
from simreal_envs.features import Feature, WorldSpec

meta = WorldSpec("Lift", "pose", (Feature("object", "state", (7,), "float64", "m"),)).to_json()
writer = DatasetWriter(sys.argv[1])
length = 100
try:
    while True:
        values = np.random.default_rng(length).normal(size=(length, 7))
        writer.add(Episode({"object": values}, values, values[:, 0], values[:, 0] > 0, meta))
        length = int(length * 1.5)
except DataError as error:
    print(error)
writer.close()
"""


def check_full_disk(printed: str, folder: Path, reason: str) -> None:
    assert reason in printed
    assert "Episodes stored before are intact" in printed
    assert not (folder / ".aside").exists()
    dataset = Dataset(folder)
    assert len(dataset) >= 3
    assert not dataset.damaged
    assert {path.name for path in folder.iterdir()} <= {
        *(info.path.name for info in dataset.infos), "dataset.hdf5", ".lock", ".catalogue"
    }  # fmt: skip


def test_a_file_size_limit_keeps_what_was_finished(tmp_path: Path) -> None:
    limit = "import resource; resource.setrlimit(resource.RLIMIT_FSIZE, (300_000, 300_000))"
    done = subprocess.run(
        [sys.executable, "-c", FILL, limit, str(tmp_path)], capture_output=True, text=True, check=True
    )
    check_full_disk(done.stdout, tmp_path, "File too large")


def test_a_full_disk_keeps_what_was_finished(tmp_path: Path) -> None:
    disk, kept = tmp_path / "disk", tmp_path / "kept"
    disk.mkdir()
    command = ["sh", "-c", f'"$0" "$@" && cp -a {disk} {kept}', sys.executable, "-c", FILL, "pass", str(disk)]
    done = run_with_mount(f"mount -t tmpfs -o size=1m tmpfs {disk}", command)
    assert done.returncode == 0, done.stderr
    check_full_disk(done.stdout, kept, "No space left on device")


def test_a_read_only_folder_stays_readable(tmp_path: Path) -> None:
    write_dataset(tmp_path, 3)
    steps = len(Dataset(tmp_path).read(1))
    (tmp_path / "dataset.hdf5").unlink()
    script = (
        "import sys; from simreal_datasets.store.dataset import Dataset; "
        "print(len(Dataset(sys.argv[1]).read(1)))"
    )
    mount = f"mount --bind {tmp_path} {tmp_path} && mount -o remount,bind,ro {tmp_path}"
    done = run_with_mount(mount, [sys.executable, "-c", script, str(tmp_path)])
    assert done.returncode == 0, done.stderr
    assert done.stdout.strip() == str(steps)
    assert "is not up to date: Read-only file system" in done.stderr
