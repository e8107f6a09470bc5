"""Decoded frames on the disk: shared by processes, made anew where damaged, and bounded."""

from __future__ import annotations

import re
import subprocess
import sys
from concurrent.futures import ProcessPoolExecutor
from pathlib import Path

import numpy as np
import pytest
from demonstrations import random_episode, write_dataset

from simreal_datasets.loading.decoded import FOLDER, MOST_COPIES
from simreal_datasets.loading.frames import Frames
from simreal_datasets.store.dataset import Dataset, DatasetWriter
from simreal_datasets.store.editing import drop_episodes, merge

KEY = "agentview_image"


def files(folder: Path) -> list[Path]:
    return sorted((folder / FOLDER).glob("*.npy"))


def images(folder: Path) -> np.ndarray:
    """As the episodes hold them."""
    dataset = Dataset(folder)
    return np.concatenate([dataset.read(i).observations[KEY] for i in range(len(dataset))])


@pytest.fixture
def folder(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    monkeypatch.setenv("SIMREAL_CACHE", str(tmp_path / "cache"))
    return write_dataset(tmp_path / "demos", 6)


def test_a_smaller_budget_reads_the_same_file(folder: Path) -> None:
    every, dataset = Frames.load(folder), Dataset(folder)
    (file,) = files(folder)
    np.testing.assert_array_equal(every.arrays[KEY][:], images(folder))
    np.testing.assert_array_equal(np.load(file), images(folder))
    few = Frames.load(folder, 3, seed=1)
    assert files(folder) == [file]
    names = [info.path.name for info in dataset.infos]
    expected = [dataset.read(names.index(name)).observations[KEY] for name in few.files]
    np.testing.assert_array_equal(few.arrays[KEY][:], np.concatenate(expected))
    rows = np.array([[5, 0], [2, 2]])
    np.testing.assert_array_equal(few.arrays[KEY][rows], np.concatenate(expected)[rows])


@pytest.mark.parametrize("harm", ["cut", "flip", "empty", "header", "tail"])
def test_a_damaged_file_is_made_anew(harm: str, folder: Path, caplog: pytest.LogCaptureFixture) -> None:
    Frames.load(folder)
    (file,) = files(folder)
    content = bytearray(file.read_bytes())
    for place in {"flip": [5000], "header": [9], "tail": [-20]}.get(harm, []):
        content[place] ^= 8
    file.write_bytes(content[: {"cut": 5000, "empty": 0}.get(harm)])
    np.testing.assert_array_equal(Frames.load(folder).arrays[KEY][:], images(folder))
    assert f"{file} is damaged" in caplog.text
    caplog.clear()
    Frames.load(folder)
    assert not caplog.text
    assert len(files(folder)) == 1


def test_frames_of_a_folder_that_cannot_be_written_are_in_the_users_cache(
    folder: Path, tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    (folder / FOLDER).write_text("no folder")
    np.testing.assert_array_equal(Frames.load(folder).arrays[KEY][:], images(folder))
    assert len([*(tmp_path / "cache" / "frames").glob("*/*.npy")]) == 1
    assert not caplog.text
    other = write_dataset(tmp_path / "other", 2)
    for blocked in (other / FOLDER, tmp_path / "cache"):
        if blocked.is_dir():
            blocked.rename(tmp_path / "gone")
        blocked.write_text("no folder")
    np.testing.assert_array_equal(Frames.load(other).arrays[KEY][:], images(other))
    assert "are in this process only" in caplog.text


def test_what_is_kept_is_bounded_and_used_last(folder: Path) -> None:
    rng = np.random.default_rng(0)
    for _ in range(6):
        with DatasetWriter(folder) as writer:
            writer.add(random_episode(rng))
        Frames.load(folder)
        newest = max(files(folder), key=lambda file: file.stat().st_mtime_ns)
        assert len(np.load(newest, mmap_mode="r")) == len(images(folder))
        kept = sum(len(np.load(file, mmap_mode="r")) for file in files(folder))
        assert kept <= MOST_COPIES * len(images(folder))
    assert not [*(folder / FOLDER).glob(".aside*")]


def test_trainings_that_start_at_once_share_one_file(folder: Path) -> None:
    with ProcessPoolExecutor(4) as pool:
        sums = [*pool.map(_sum_of, [folder] * 4)]
    assert sums == [int(images(folder).astype(int).sum())] * 4
    assert len(files(folder)) == 1


def _sum_of(folder: Path) -> int:
    return int(Frames.load(folder).arrays[KEY][:].astype(int).sum())


def test_the_store_takes_no_notice(folder: Path, tmp_path: Path) -> None:
    Frames.load(folder)
    drop_episodes(folder, [0, 3])
    assert len(Dataset(folder)) == 4
    assert not Dataset(folder).verify()
    np.testing.assert_array_equal(Frames.load(folder).arrays[KEY][:], images(folder))
    assert len([*merge(tmp_path / "merged", [folder])]) == 4
    assert not (tmp_path / "merged" / FOLDER).exists()
    drop_episodes(folder, [1, 2, 4, 5])
    assert not [*folder.glob("*.hdf5")]


LOAD = """
import sys
from simreal_datasets.loading.frames import Frames
print("imported", flush=True); input()
images = Frames.load(sys.argv[1]).arrays["agentview_image"]
total = sum(int(images[i : i + 50].sum()) for i in range(0, len(images), 50))
print(total, flush=True); input()
"""


def test_a_second_training_adds_little_to_the_memory(tmp_path: Path) -> None:
    folder = write_dataset(tmp_path / "demos", 12, size=(240, 320))
    size_kB = images(folder).nbytes / 1024
    first, second = (
        subprocess.Popen(
            [sys.executable, "-c", LOAD, str(folder)],
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            text=True,
        )
        for _ in range(2)
    )

    def go_on(process: subprocess.Popen[str]) -> str:
        assert process.stdin is not None
        assert process.stdout is not None
        process.stdin.write("\n")
        process.stdin.flush()
        return process.stdout.readline()

    def both_kB() -> int:
        texts = [Path(f"/proc/{process.pid}/smaps_rollup").read_text() for process in (first, second)]
        return sum(int(re.findall(r"^Pss:\s+(\d+)", text, re.MULTILINE)[0]) for text in texts)

    try:
        for process in (first, second):
            assert process.stdout is not None
            assert process.stdout.readline() == "imported\n"
        alone_kB = both_kB()
        total = go_on(first)
        one_kB = both_kB()
        assert go_on(second) == total
        assert one_kB - alone_kB > 0.9 * size_kB  # what is mapped and was looked at, counts
        assert both_kB() - one_kB < 0.2 * size_kB
    finally:
        for process in (first, second):
            process.kill()
            process.wait()
