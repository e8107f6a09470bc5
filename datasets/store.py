"""A dataset is a folder, an episode one file, and no crash loses a finished episode.

::

    dataset/episode_000012.5f0c3a9e81d2b740.hdf5   number, and the first 16 digits of the content's SHA-256
    dataset/dataset.hdf5                           the index: the folder as one robomimic dataset
    dataset/.lock  dataset/.aside                  who writes now, and what is being written

A file gets its name only when it is complete and on the disk, and the name says what must be inside: a
truncated or flipped file is found by that alone. Writers of one dataset, in any number of processes, take
turns under a lock that the system frees when its holder dies. So whoever holds it knows that ``.aside``
is left over from a crash.
"""

from __future__ import annotations

import errno
import fcntl
import hashlib
import logging
import os
import re
from collections.abc import Collection, Iterable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from types import TracebackType
from typing import Any

import h5py

from simreal_datasets.episode import FORMAT_VERSION, Episode, decode, decode_meta, encode, identity
from simreal_datasets.index import INDEX_NAME, encode_index, indexed_files
from simreal_envs.cleanup import do_after
from simreal_envs.errors import DataError, UsageError

_FILE_NAME = re.compile(r"episode_(\d{6,})\.([0-9a-f]{16})\.hdf5")
_LOCK, _ASIDE = ".lock", ".aside"

logger = logging.getLogger(__name__)


@dataclass(frozen=True)
class EpisodeInfo:
    """An episode as listed: its file, number, content digest, metadata, and length in steps."""

    path: Path
    number: int
    digest: str
    meta: dict[str, Any]
    length: int


class DatasetWriter:
    """Adds episodes to a dataset folder, which is made if it is not there.

    Any number of writers, in any number of processes, may add to the same dataset at once.

    >>> with DatasetWriter(folder) as writer:  # doctest: +SKIP
    ...     writer.add(episode)

    Raises:
        DataError: the folder cannot be made or written, or holds data of another format version.
    """

    def __init__(self, path: Path | str) -> None:
        self.path = Path(path)
        self._identity: dict[str, Any] | None = None
        with _explain_os_errors(f"Cannot write the dataset {self.path}"):
            self.path.mkdir(parents=True, exist_ok=True)
            with _locked(self.path):
                (self.path / _ASIDE).unlink(missing_ok=True)
        self._identity = self._stored_identity()

    def add(self, episode: Episode) -> Path:
        """Store an episode; when this returns, it survives a crash of the process or the machine.

        Raises:
            UsageError: the episode is not complete.
            DataError: it does not belong to what is already there, or the disk is full. What was stored
                before stays as it was.
        """
        content = encode(episode)
        with _explain_os_errors(f"Cannot store an episode in {self.path}"), _locked(self.path):
            self._identity = self._identity or self._stored_identity()
            refuse_other_kind(self.path, self._identity, identity(episode.meta))
            number = max((int(match[1]) for _, match in _episode_files(self.path)), default=-1) + 1
            name = f"episode_{number:06d}.{_digest(content)}.hdf5"
            _write_durably(self.path, name, content)
        return self.path / name

    def close(self) -> None:
        """Bring the index up to date."""
        if any(_episode_files(self.path)):
            Dataset(self.path)

    def __enter__(self) -> DatasetWriter:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        do_after(error, self.close)

    def _stored_identity(self) -> dict[str, Any] | None:
        """Of the first episode that can be read; None in an empty dataset."""
        for path, match in _episode_files(self.path):
            info = _inspect(path, match)
            if isinstance(info, EpisodeInfo):
                return identity(info.meta)
        return None


class Dataset:
    """The episodes of a dataset folder, in the order of their numbers.

    Opening reads every file once and compares it with the digest in its name. The index is brought up
    to date if it is not and the folder can be written.

    Attributes:
        infos: the readable episodes.
        damaged: file and reason of each episode that is not what it was when written; skipped.

    Raises:
        DataError: no such folder, no readable episode, or data of another format version.
    """

    def __init__(self, path: Path | str) -> None:
        self.path = Path(path)
        if not self.path.is_dir():
            what = "is a file, not a dataset folder" if self.path.exists() else "does not exist"
            raise DataError(f"Dataset {self.path} {what}.")
        self.infos: list[EpisodeInfo] = []
        self.damaged: list[tuple[Path, str]] = []
        for path, match in _episode_files(self.path):
            info = _inspect(path, match)
            if isinstance(info, EpisodeInfo):
                self.infos.append(info)
            else:
                self.damaged.append((path, info))
        if not self.infos:
            if self.damaged:
                reasons = "; ".join(f"{path.name}: {reason}" for path, reason in self.damaged)
                raise DataError(f"Dataset {self.path} holds no readable episode. Damaged: {reasons}.")
            raise DataError(f"Dataset {self.path} is empty: it holds no episode_*.hdf5.")
        self._refresh_index()

    def __len__(self) -> int:
        return len(self.infos)

    def read(self, i: int, keys: Iterable[str] | None = None) -> Episode:
        """Read the i-th episode, of its observations only ``keys`` (all if None).

        Raises:
            DataError: no such observation, or the file went away or was changed since it was listed.
        """
        path = self.infos[i].path
        try:
            with h5py.File(path, "r", locking=False) as file:
                return decode(file, keys)
        except (OSError, KeyError) as error:
            raise DataError(f"Episode {path} cannot be read any more: {error}") from error

    def require(
        self,
        *,
        task: str | None = None,
        action_kind: str | None = None,
        image_size: tuple[int, int] | None = None,
        obs: Iterable[str] | None = None,
    ) -> None:
        """Refuse the dataset if an episode is not of this kind; ``obs`` names groups that must be there.

        Raises:
            DataError: names the episode, what it has and what was asked for.
        """
        wanted = {"task": task, "action_kind": action_kind}
        for info in self.infos:
            where = f"Dataset {self.path} ({info.path.name})"
            for key, value in wanted.items():
                if value is not None and info.meta[key] != value:
                    raise DataError(f"{where} has {key} {info.meta[key]!r}; needed is {value!r}.")
            missing = [group for group in obs or () if group not in info.meta["obs"]]
            if missing:
                there = "+".join(info.meta["obs"]) or "none"
                raise DataError(f"{where} lacks the observations {'+'.join(missing)}. There: {there}.")
            size = identity(info.meta)["image_size"]
            if image_size is not None and (size is None or tuple(size) != tuple(image_size)):
                raise DataError(f"{where} has image_size {size}; needed is {tuple(image_size)}.")

    def _refresh_index(self) -> None:
        if indexed_files(self.path) == {info.path.name for info in self.infos}:
            return
        # Only other programs need the index: a dataset on a read-only or full disk stays readable.
        try:
            with _locked(self.path):
                _write_durably(self.path, INDEX_NAME, encode_index(self.infos))
        except OSError as error:
            logger.warning("The index %s is not up to date: %s", self.path / INDEX_NAME, error.strerror)


def drop_episodes(path: Path | str, numbers: Collection[int]) -> list[Path]:
    """Delete the episodes of these numbers, damaged ones too, and say which files they were.

    After a crash in the middle some are gone, and the index is right again when the folder is next opened.

    Raises:
        UsageError: there is no episode of such a number; then nothing is deleted.
        DataError: the folder cannot be changed.
    """
    path = Path(path)
    with _explain_os_errors(f"Cannot drop episodes of {path}"), _locked(path):
        there = {file: int(match[1]) for file, match in _episode_files(path)}
        missing = sorted(set(numbers) - set(there.values()))
        if missing:
            valid = f"{min(there.values())} to {max(there.values())}" if there else "none"
            raise UsageError(f"Dataset {path} has no episode {missing[0]}. There: {valid}.")
        dropped = [file for file, number in there.items() if number in numbers]
        for file in dropped:
            file.unlink()
        readable = any(isinstance(_inspect(*left), EpisodeInfo) for left in _episode_files(path))
        if not readable:
            (path / INDEX_NAME).unlink(missing_ok=True)
        force_to_disk(path)
    if readable:
        Dataset(path)  # brings the index up to date
    return dropped


def _episode_files(folder: Path) -> Iterator[tuple[Path, re.Match[str]]]:
    found = [(path, match) for path in folder.iterdir() if (match := _FILE_NAME.fullmatch(path.name))]
    return iter(sorted(found, key=lambda entry: int(entry[1][1])))


def _digest(content: bytes) -> str:
    return hashlib.sha256(content).hexdigest()[:16]


def _inspect(path: Path, match: re.Match[str]) -> EpisodeInfo | str:
    """The episode, or why it cannot be read."""
    try:
        content = path.read_bytes()
    except OSError as error:
        return f"cannot be read: {error.strerror}"
    if _digest(content) != match[2]:
        return "its content is not what was written (truncated or flipped bits)"
    try:
        meta, length = decode_meta(content)
    except DataError as error:
        return str(error)
    found = meta.get("format_version")
    if found != FORMAT_VERSION:
        raise DataError(f"Episode {path} has format version {found}; this simreal reads {FORMAT_VERSION}.")
    return EpisodeInfo(path=path, number=int(match[1]), digest=match[2], meta=meta, length=length)


def refuse_other_kind(path: Path, there: dict[str, Any] | None, new: dict[str, Any]) -> None:
    for key, value in (there or {}).items():
        if new[key] != value:
            raise DataError(
                f"Dataset {path} holds {key} {value!r}; an episode with {new[key]!r} cannot be added."
            )


@contextmanager
def _locked(folder: Path) -> Iterator[None]:
    """Only one process (or thread) at a time; closing the file, or dying, frees the lock."""
    descriptor = os.open(folder / _LOCK, os.O_RDWR | os.O_CREAT, 0o666)
    try:
        fcntl.flock(descriptor, fcntl.LOCK_EX)
        yield
    finally:
        os.close(descriptor)


def _write_durably(folder: Path, name: str, content: bytes) -> None:
    """Write aside, force to disk, rename, force the name to disk. Call it under the lock."""
    aside = folder / _ASIDE
    try:
        with aside.open("wb") as file:
            file.write(content)
            file.flush()
            os.fsync(file.fileno())
        aside.replace(folder / name)
    finally:
        aside.unlink(missing_ok=True)
    force_to_disk(folder)


def force_to_disk(path: Path) -> None:
    """The content of a file, or the names in a folder."""
    descriptor = os.open(path, os.O_RDONLY)
    try:
        os.fsync(descriptor)
    finally:
        os.close(descriptor)


@contextmanager
def _explain_os_errors(what: str) -> Iterator[None]:
    try:
        yield
    except OSError as error:
        full = error.errno in (errno.ENOSPC, errno.EDQUOT, errno.EFBIG)
        advice = " Episodes stored before are intact: free some space and go on." if full else ""
        raise DataError(f"{what}: {error.strerror or error}.{advice}") from error
