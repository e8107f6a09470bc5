"""A dataset is a folder, an episode one file, and no crash loses a finished episode.

::

    dataset/episode_000012.5f0c3a9e81d2b740.hdf5   number, and the first 16 digits of the content's SHA-256
    dataset/dataset.hdf5                           the index: the folder as one robomimic dataset
    dataset/.catalogue                             what the episodes are, so that opening reads none of them
    dataset/.lock  dataset/.aside                  who writes now, and what is being written

A file gets its name only when it is complete and on the disk, and the name holds the digest of the content,
which reveals a truncated file or a flipped bit. Writers of one dataset, in any number of processes, take
turns under a lock that the system frees when its holder dies. So a writer that holds the lock and finds
``.aside`` knows that a crash left it.
"""

from __future__ import annotations

import logging
from collections.abc import Iterable, Sequence
from itertools import pairwise
from pathlib import Path
from types import TracebackType

import h5py

from simreal_datasets.store.catalogue import (
    CATALOGUE_NAME,
    DAMAGED,
    EpisodeInfo,
    Stamp,
    digest_of,
    encode_catalogue,
    episode_files,
    episode_name,
    list_episodes,
    look_at,
    read_catalogue,
)
from simreal_datasets.store.episode import Episode, decode, decode_meta, encode
from simreal_datasets.store.files import ASIDE, explain_os_errors, locked, write_durably
from simreal_datasets.store.index import INDEX_NAME, encode_index, indexed_files, read_index
from simreal_envs.cleanup import do_after
from simreal_envs.errors import DataError
from simreal_envs.features import WorldSpec

logger = logging.getLogger(__name__)


class DatasetWriter:
    """Adds episodes to a dataset folder, which is made if it is not there.

    Any number of writers, in any number of processes, may add to the same dataset at once.

    >>> with DatasetWriter(folder) as writer:  # doctest: +SKIP
    ...     writer.add(episode)

    Raises:
        DataError: the folder cannot be made or written, or holds data of another format version, or two
            episodes of one number.
    """

    def __init__(self, path: Path | str) -> None:
        self.path = Path(path)
        self._spec: WorldSpec | None = None
        with explain_os_errors(f"Cannot write the dataset {self.path}"):
            self.path.mkdir(parents=True, exist_ok=True)
            with locked(self.path):
                (self.path / ASIDE).unlink(missing_ok=True)
        self._spec = self._stored_spec()

    def add(self, episode: Episode) -> Path:
        """Store an episode; when this returns, it survives a crash of the process or the machine.

        Raises:
            UsageError: the episode is not complete.
            DataError: it does not belong to what is already there, or the disk is full. What was stored
                before stays as it was.
        """
        return self.add_encoded(encode(episode))

    def add_encoded(self, content: bytes) -> Path:
        """The same for what :func:`simreal_datasets.store.episode.encode` made, or a file that holds it."""
        meta, length = decode_meta(content)
        with explain_os_errors(f"Cannot store an episode in {self.path}"), locked(self.path):
            self._spec = self._spec or self._stored_spec()
            refuse_other_kind(self.path, self._spec, WorldSpec.from_json(meta))
            number = max((file.number for file in episode_files(self.path)), default=-1) + 1
            name = episode_name(number, content)
            write_durably(self.path, name, content)
            path = self.path / name
            info = EpisodeInfo(path, number, digest_of(content), meta, length, Stamp.of(path.stat()))
            self._note(info)
        return path

    def close(self) -> None:
        """Bring the index up to date."""
        if episode_files(self.path):
            Dataset(self.path)

    def __enter__(self) -> DatasetWriter:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        do_after(error, self.close)

    def _note(self, info: EpisodeInfo) -> None:
        """Add a stored episode's line to the catalogue; if that fails, the episode is only read once more."""
        try:
            with (self.path / CATALOGUE_NAME).open("ab") as file:
                file.write(encode_catalogue([info]))
        except OSError as error:
            logger.warning("The catalogue of %s is not up to date: %s", self.path, error.strerror)

    def _stored_spec(self) -> WorldSpec | None:
        """The spec of the first episode that can be read; None in an empty dataset."""
        noted, files = read_catalogue(self.path), episode_files(self.path)
        refuse_twins(self.path, [(file.number, file.path) for file in files])
        for file in files:
            info = look_at(file, noted)
            if isinstance(info, EpisodeInfo):
                return info.spec
        return None


class Dataset:
    """The episodes of a dataset folder, in the order of their numbers.

    Opening reads the catalogue, and of the episodes only those that were changed since they were noted
    there. The content of each is compared with the digest in its name when it is first read. Catalogue and
    index are brought up to date if they are not and the folder can be written.

    Attributes:
        infos: the episodes that are not known to be damaged.
        damaged: file and reason of each episode whose content has changed since it was written; skipped.

    Raises:
        DataError: no such folder, no readable episode, two of one number, or data of another format version.
    """

    def __init__(self, path: Path | str) -> None:
        self.path = Path(path)
        if not self.path.is_dir():
            what = "is a file, not a dataset folder" if self.path.exists() else "does not exist"
            raise DataError(f"Dataset {self.path} {what}.")
        self.infos, self.damaged, catalogue_fits = list_episodes(self.path)
        self._verified: set[tuple[Path, Stamp]] = set()
        self._require_readable()
        refuse_twins(self.path, [(info.number, info.path) for info in self.infos])
        self._write_back(catalogue_fits)

    def __len__(self) -> int:
        return len(self.infos)

    def read(self, i: int, keys: Iterable[str] | None = None) -> Episode:
        """Read the i-th episode, of its observations only ``keys`` (all if None).

        Raises:
            DataError: no such observation, or the file is damaged, went away or holds something else.
        """
        info = self.infos[i]
        try:
            if reason := self._find_damage(info):
                raise DataError(reason)
            with h5py.File(info.path, "r", locking=False) as file:
                return decode(file, keys)
        except (OSError, DataError) as error:
            raise DataError(f"Episode {info.path} cannot be read: {error}") from error

    def verify(self, positions: Iterable[int] | None = None) -> list[tuple[Path, str]]:
        """Compare the content of episodes (all if None) with their digests, unless that was done before.

        Returns:
            The damaged ones, which are moved from ``infos`` to ``damaged``.

        Raises:
            DataError: no readable episode is left.
        """
        chosen = range(len(self)) if positions is None else positions
        damaged = {i: reason for i in chosen if (reason := self._find_damage(self.infos[i]))}
        if damaged:
            found = [(self.infos[i].path, reason) for i, reason in damaged.items()]
            self.infos = [info for i, info in enumerate(self.infos) if i not in damaged]
            self.damaged += found
            self._require_readable()
            self._write_back(catalogue_fits=False)
            return found
        return []

    @property
    def spec(self) -> WorldSpec:
        """The arrays that the worlds of all episodes showed, and what their actions mean.

        Raises:
            DataError: an episode is of another kind than the first one; names it.
        """
        first = self.infos[0]
        described = {key: first.meta[key] for key in first.spec.to_json()}
        for info in self.infos:
            # Compare the stored values first: faster than parsing every spec, and most are equal.
            if any(info.meta[key] != value for key, value in described.items()):
                refuse_other_kind(info.path, first.spec, info.spec)
        return first.spec

    def _find_damage(self, info: EpisodeInfo) -> str:
        """What is wrong with an episode's file; empty if its content is what was written."""
        try:
            stamp = Stamp.of(info.path.stat())
            if (info.path, stamp) in self._verified:
                return ""
            content = info.path.read_bytes()
        except OSError as error:
            return f"cannot be read: {error.strerror}"
        if digest_of(content) != info.digest:
            return DAMAGED
        self._verified.add((info.path, stamp))
        return ""

    def _require_readable(self) -> None:
        if self.infos:
            return
        if self.damaged:
            reasons = "; ".join(f"{path.name}: {reason}" for path, reason in self.damaged)
            raise DataError(f"Dataset {self.path} holds no readable episode. Damaged: {reasons}.")
        raise DataError(f"Dataset {self.path} is empty: it holds no episode_*.hdf5.")

    def _write_back(self, catalogue_fits: bool) -> None:
        """Bring catalogue and index up to date: a dataset on a read-only or full disk stays readable."""
        index_fits = indexed_files(self.path) == {info.path.name for info in self.infos}
        if catalogue_fits and index_fits:
            return
        stale = INDEX_NAME if catalogue_fits else CATALOGUE_NAME
        try:
            with locked(self.path):
                if not catalogue_fits:
                    write_durably(self.path, CATALOGUE_NAME, encode_catalogue(self._to_note()))
                stale = INDEX_NAME
                if not index_fits:
                    own_masks = read_index(self.path).own_masks()
                    write_durably(self.path, INDEX_NAME, encode_index(self.infos, own_masks))
        except (OSError, DataError) as error:
            reason = error.strerror if isinstance(error, OSError) else error
            logger.warning("%s is not up to date: %s", self.path / stale, reason)

    def _to_note(self) -> list[EpisodeInfo]:
        """The episodes for the catalogue: those listed here, and those that others have added meanwhile."""
        damaged = {path.name for path, _ in self.damaged}
        noted = read_catalogue(self.path) | {info.path.name: info for info in self.infos}
        there = {file.path.name for file in episode_files(self.path)}
        return [info for name, info in noted.items() if name in there - damaged]


def refuse_other_kind(path: Path, there: WorldSpec | None, new: WorldSpec) -> None:
    """Raise a DataError if an episode's spec differs from the dataset's (None: the dataset is empty)."""
    if there and (differences := there.differences(new)):
        raise DataError(f"Dataset {path} holds episodes of another kind: {'; '.join(differences)}.")


def refuse_twins(path: Path, numbered: Sequence[tuple[int, Path]]) -> None:
    """Raise a DataError if two of the files, which are sorted by number, have the same number."""
    for (number, file), (other, twin) in pairwise(numbered):
        if number == other:
            raise DataError(
                f"Dataset {path} holds two episodes of number {number}: {file.name} and {twin.name}. To keep "
                f"both, run `simreal data merge NEW {path}`, which gives each a number of its own in a new "
                f"folder; to delete one, `simreal data drop {path} {twin.name}`."
            )
