"""Opening a dataset reads its catalogue, which is never believed against the files."""

from __future__ import annotations

import os
import shutil
from pathlib import Path

import pytest
from episodes import make_episode, store

from simreal_datasets.store.catalogue import read_catalogue
from simreal_datasets.store.dataset import Dataset, DatasetWriter
from simreal_envs.errors import DataError


def flip(path: Path, keep_time: bool = True) -> None:
    """Change one byte in the middle, as a bad disk does: size and time stay."""
    stat, content = path.stat(), bytearray(path.read_bytes())
    content[len(content) // 2] ^= 1
    path.write_bytes(content)
    if keep_time:
        os.utime(path, ns=(stat.st_atime_ns, stat.st_mtime_ns))


def bytes_read() -> int:
    """By this process so far, from files and pipes."""
    fields = dict(line.split(": ") for line in Path("/proc/self/io").read_text().splitlines())
    return int(fields["rchar"])


def test_opening_reads_no_episode(tmp_path: Path) -> None:
    with DatasetWriter(tmp_path) as writer:
        writer.add(make_episode(length=200))
    episode = Dataset(tmp_path).infos[0].path.stat().st_size
    before = bytes_read()
    Dataset(tmp_path)
    with DatasetWriter(tmp_path):
        pass
    assert episode > 100_000
    assert bytes_read() - before < episode / 4
    before = bytes_read()
    Dataset(tmp_path).verify()
    assert bytes_read() - before > episode


@pytest.mark.parametrize(
    "damage", ["missing", "garbage", "cut", "flipped", "another folder's", "stale times"]
)
def test_the_catalogue_is_never_believed_against_the_files(tmp_path: Path, damage: str) -> None:
    folder, other = tmp_path / "here", tmp_path / "other"
    paths = store(folder)
    whole = (folder / ".catalogue").read_bytes()
    if damage == "missing":
        (folder / ".catalogue").unlink()
    elif damage == "garbage":
        (folder / ".catalogue").write_bytes(b"\x00\xff" * 1000)
    elif damage == "cut":
        (folder / ".catalogue").write_bytes(whole[: len(whole) // 2])
    elif damage == "flipped":
        flip(folder / ".catalogue")
    elif damage == "another folder's":
        store(other, count=1)
        shutil.copy(other / ".catalogue", folder)
    else:
        os.utime(paths[0])
    assert [info.length for info in Dataset(folder).infos] == [4, 5, 6]
    assert (folder / ".catalogue").read_bytes().count(b"\n") == 3
    before = bytes_read()
    Dataset(folder)
    assert bytes_read() - before < paths[0].stat().st_size


def test_a_line_that_a_crash_cut_short_does_not_spoil_the_next(tmp_path: Path) -> None:
    store(tmp_path, count=1)
    catalogue = tmp_path / ".catalogue"
    catalogue.write_bytes(catalogue.read_bytes()[:-9])
    with DatasetWriter(tmp_path) as writer:
        writer.add(make_episode())
        assert len(read_catalogue(tmp_path)) == 1


def test_flipped_bits_that_change_no_time_are_found_when_the_episode_is_read(tmp_path: Path) -> None:
    paths = store(tmp_path)
    flip(paths[1])
    dataset = Dataset(tmp_path)
    assert (len(dataset), dataset.damaged) == (3, [])
    with pytest.raises(DataError, match=f"{paths[1].name} cannot be read: its content is not"):
        dataset.read(1)
    assert dataset.verify([0]) == []
    assert [path for path, _ in dataset.verify()] == [paths[1]]
    assert [info.number for info in dataset.infos] == [0, 2]
    assert [path for path, _ in Dataset(tmp_path).damaged] == [paths[1]]


def test_what_changes_after_it_was_read_is_found_when_it_is_read_again(tmp_path: Path) -> None:
    path = store(tmp_path)[0]
    dataset = Dataset(tmp_path)
    dataset.read(0)
    flip(path, keep_time=False)
    with pytest.raises(DataError, match="not what was written"):
        dataset.read(0)
