"""Deleting episodes of a dataset, and merging datasets."""

from __future__ import annotations

from collections.abc import Collection, Iterator, Sequence
from pathlib import Path
from typing import NamedTuple

from simreal_datasets.store.catalogue import (
    CATALOGUE_NAME,
    DAMAGED,
    EpisodeInfo,
    digest_of,
    episode_files,
    list_episodes,
)
from simreal_datasets.store.dataset import Dataset, DatasetWriter, refuse_other_kind
from simreal_datasets.store.files import explain_os_errors, force_to_disk, locked, write_durably
from simreal_datasets.store.index import INDEX_NAME, encode_index, read_index
from simreal_envs.errors import DataError, UsageError


def drop_episodes(path: Path | str, episodes: Collection[int | str]) -> list[Path]:
    """Delete episodes, damaged ones too, and return the names of their files.

    A crash in the middle leaves some deleted; the index is renewed when the folder is next opened.

    Args:
        episodes: numbers, or names of files.

    Raises:
        UsageError: there is no such episode, or a number that two files have; then nothing is deleted.
        DataError: the folder cannot be changed.
    """
    path = Path(path)
    with explain_os_errors(f"Cannot drop episodes of {path}"), locked(path):
        there = episode_files(path)
        known = {file.number for file in there} | {file.path.name for file in there}
        missing = [episode for episode in episodes if episode not in known]
        if missing:
            valid = f"{there[0].number} to {there[-1].number}" if there else "none"
            raise UsageError(f"Dataset {path} has no episode {missing[0]}. There: {valid}.")
        for number in sorted(episode for episode in episodes if isinstance(episode, int)):
            names = [file.path.name for file in there if file.number == number]
            if len(names) > 1:
                raise UsageError(
                    f"Dataset {path} holds {len(names)} episodes of number {number}: {', '.join(names)}. "
                    "Name the files to be dropped."
                )
        dropped = [file.path for file in there if {file.number, file.path.name} & set(episodes)]
        for file in dropped:
            file.unlink()
        left = list_episodes(path).infos
        if not left:
            for name in (INDEX_NAME, CATALOGUE_NAME):
                (path / name).unlink(missing_ok=True)
        force_to_disk(path)
    if left:
        _bring_up_to_date(path)
    return dropped


def _bring_up_to_date(path: Path) -> None:
    if len({file.number for file in episode_files(path)}) == len(episode_files(path)):
        Dataset(path)


class Copied(NamedTuple):
    """A merged episode: its file, and its copy in the merged dataset (None if that was there already)."""

    source: Path
    copy: Path | None


def merge(into: Path | str, sources: Sequence[Path | str]) -> Iterator[Copied]:
    """Copy the episodes of datasets into one, each under a new number; iterate to have it done.

    An episode whose content is in the merged dataset already is not copied again, so an interrupted merge
    can be continued. The datasets' own masks are merged, too. A dataset that cannot be read because two
    episodes have the same number can be merged into a new folder.

    Raises:
        UsageError: a dataset is to be merged into itself.
        DataError: one of them cannot be read, holds a damaged episode, or is of another kind; then nothing is
            copied.
    """
    into, folders = Path(into), [Path(source) for source in sources]
    listed = [(folder, _listed(folder)) for folder in folders]
    for folder in folders:
        if into.resolve() == folder.resolve():
            raise UsageError(f"Dataset {folder} cannot be merged into itself; name another folder.")
    first = Dataset(into).infos[0] if into.is_dir() and episode_files(into) else listed[0][1][0]
    for _, infos in listed:
        for info in infos:
            try:
                refuse_other_kind(first.path.parent, first.spec, info.spec)
            except DataError as error:
                raise DataError(f"{info.path} cannot be merged: {error}") from error
    return _merge(into, listed)


def _listed(folder: Path) -> list[EpisodeInfo]:
    with explain_os_errors(f"Cannot merge {folder}"):
        found = list_episodes(folder)
    if found.damaged:
        file, reason = found.damaged[0]
        raise DataError(
            f"Cannot merge {folder}: {file.name} is damaged, {reason}. "
            f"Put it back, or `simreal data drop {folder} {file.name}`."
        )
    if not found.infos:
        raise DataError(f"Cannot merge {folder}: it holds no episode_*.hdf5.")
    return found.infos


def _merge(into: Path, listed: Sequence[tuple[Path, list[EpisodeInfo]]]) -> Iterator[Copied]:
    masks: dict[str, set[str]] = {}
    with DatasetWriter(into) as writer:
        there = {file.digest: file.path for file in episode_files(into)}
        for folder, infos in listed:
            for info in infos:
                copy = None
                if info.digest not in there:
                    with explain_os_errors(f"Cannot merge {info.path}"):
                        content = info.path.read_bytes()
                    if digest_of(content) != info.digest:
                        raise DataError(f"Cannot merge {info.path}: {DAMAGED}.")
                    copy = there[info.digest] = writer.add_encoded(content)
                yield Copied(info.path, copy)
            digests = {info.path.name: info.digest for info in infos}
            for name, files in read_index(folder).own_masks().items():
                masks.setdefault(name, set()).update(
                    there[digests[file]].name for file in files if file in digests
                )
    if masks:
        dataset = Dataset(into)
        with explain_os_errors(f"Cannot write the masks of {into}"), locked(into):
            for name, files in read_index(into).own_masks().items():
                masks.setdefault(name, set()).update(files)
            write_durably(into, INDEX_NAME, encode_index(dataset.infos, masks))
