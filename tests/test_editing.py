"""Datasets that are merged, by the command or by copying files, and episodes that are dropped."""

from __future__ import annotations

import shutil
from pathlib import Path

import h5py
import numpy as np
import pytest
from episodes import make_episode, store
from typer.testing import CliRunner

from simreal_cli.main import app
from simreal_datasets.loading.frames import Frames
from simreal_datasets.store.dataset import Dataset, DatasetWriter
from simreal_datasets.store.editing import merge
from simreal_envs.errors import DataError, UsageError


def digests(folder: Path) -> list[str]:
    return [info.digest for info in Dataset(folder).infos]


@pytest.fixture
def folders(tmp_path: Path) -> tuple[Path, Path]:
    """Two datasets of different episodes, both numbered from 0."""
    for name, first in (("a", 0), ("b", 10)):
        with DatasetWriter(tmp_path / name) as writer:
            for i in range(2):
                writer.add(make_episode(seed=first + i))
    return tmp_path / "a", tmp_path / "b"


@pytest.fixture
def copied_together(folders: tuple[Path, Path], tmp_path: Path) -> Path:
    """Their files in one folder."""
    (tmp_path / "together").mkdir()
    for folder in folders:
        for file in folder.glob("episode_*"):
            shutil.copy(file, tmp_path / "together")
    return tmp_path / "together"


def test_a_merged_dataset_holds_every_episode_once(folders: tuple[Path, Path], tmp_path: Path) -> None:
    wanted = [digest for folder in folders for digest in digests(folder)]
    assert len(list(merge(tmp_path / "all", folders))) == 4
    assert digests(tmp_path / "all") == wanted
    assert [info.number for info in Dataset(tmp_path / "all").infos] == [0, 1, 2, 3]
    assert all(copied.copy is None for copied in merge(tmp_path / "all", folders))
    assert digests(tmp_path / "all") == wanted
    assert [digests(folder) for folder in folders] == [wanted[:2], wanted[2:]]


def test_a_merge_that_was_broken_off_goes_on(folders: tuple[Path, Path], tmp_path: Path) -> None:
    begun = merge(tmp_path / "all", folders)
    for _ in range(3):
        next(begun)
    del begun
    assert [copied.copy is None for copied in merge(tmp_path / "all", folders)] == [True, True, True, False]
    assert len(Dataset(tmp_path / "all")) == 4


def test_own_masks_come_along(folders: tuple[Path, Path], tmp_path: Path) -> None:
    for folder, names in zip(folders, ([b"demo_0"], [b"demo_1"]), strict=True):
        with h5py.File(folder / "dataset.hdf5", "a") as file:
            file["mask/train"] = np.array(names)
    for _ in range(2):
        list(merge(tmp_path / "all", folders))
        with h5py.File(tmp_path / "all" / "dataset.hdf5") as file:
            assert file["mask/train"][()].tolist() == [b"demo_0", b"demo_3"]


def test_what_cannot_be_merged_is_named_before_anything_is_copied(
    folders: tuple[Path, Path], tmp_path: Path
) -> None:
    into, (a, b) = tmp_path / "all", folders
    with pytest.raises(UsageError, match="merged into itself"):
        merge(a, [b, a])
    with pytest.raises(DataError, match=r"Cannot merge .*nowhere: No such file"):
        merge(into, [a, tmp_path / "nowhere"])
    (tmp_path / "empty").mkdir()
    with pytest.raises(DataError, match="holds no episode"):
        merge(into, [a, tmp_path / "empty"])
    with DatasetWriter(tmp_path / "other") as writer:
        other = writer.add(make_episode(task="Stack"))
    with pytest.raises(
        DataError, match=f"{other.name} cannot be merged: .*task is 'Stack' instead of 'Lift'"
    ):
        merge(into, [a, tmp_path / "other"])
    damaged = Dataset(b).infos[1].path
    damaged.write_bytes(b"cut")
    with pytest.raises(DataError, match=f"{damaged.name} is damaged"):
        merge(into, [a, b])
    assert not into.exists()


def test_files_copied_together_are_one_clear_error(copied_together: Path) -> None:
    twin = sorted(copied_together.glob("episode_000000.*"))[1]
    for use in (Dataset, DatasetWriter, Frames.load):
        with pytest.raises(DataError, match=f"two episodes of number 0: .* and {twin.name}"):
            use(copied_together)
    for command in (
        ["data", "info", copied_together],
        ["data", "check", copied_together],
        ["collect", copied_together, "--task", "Lift", "--obs", "state+image+depth", "--episodes", 9],
        ["train", copied_together / "run", "-m", "source", "--source", copied_together],
        ["generate", copied_together, copied_together / "more"],
        ["replay", copied_together],
    ):
        result = CliRunner().invoke(app, [str(word) for word in command])
        assert result.exit_code == 1, result.output
        assert result.stderr.startswith("error: Dataset")
        assert "simreal data merge NEW" in result.stderr


def test_what_the_error_advises_mends_it(copied_together: Path, tmp_path: Path) -> None:
    result = CliRunner().invoke(app, ["data", "merge", str(tmp_path / "new"), str(copied_together)])
    assert result.exit_code == 0, result.output
    assert f"{copied_together}: 4 episodes copied, 0 already there" in result.output
    assert len(Dataset(tmp_path / "new")) == 4
    for number in (0, 1):
        twin = sorted(copied_together.glob(f"episode_00000{number}.*"))[1]
        result = CliRunner().invoke(app, ["data", "drop", str(copied_together), str(twin)])
        assert result.exit_code == 0, result.output
        assert f"dropped {twin.name}: 5 steps by expert" in result.output
    assert len(Dataset(copied_together)) == 2


def test_a_number_that_two_episodes_have_drops_neither(copied_together: Path) -> None:
    before = sorted(copied_together.glob("episode_*"))
    result = CliRunner().invoke(app, ["data", "drop", str(copied_together), str(before[-1].name), "0"])
    assert result.exit_code == 2
    assert all(file.name in result.stderr for file in copied_together.glob("episode_000000.*"))
    assert sorted(copied_together.glob("episode_*")) == before


def test_check_names_what_is_damaged(tmp_path: Path) -> None:
    paths = store(tmp_path)
    result = CliRunner().invoke(app, ["data", "check", str(tmp_path)])
    assert (result.exit_code, result.output) == (0, "3 episodes are what was written.\n")
    paths[2].write_bytes(paths[2].read_bytes()[:-1])
    result = CliRunner().invoke(app, ["data", "check", str(tmp_path)])
    assert result.exit_code == 1
    assert f"damaged {paths[2].name}: " in result.stdout
    advice = result.stderr.strip().partition("simreal ")[2].split()
    assert CliRunner().invoke(app, advice).exit_code == 0
    assert CliRunner().invoke(app, ["data", "check", str(tmp_path)]).exit_code == 0
