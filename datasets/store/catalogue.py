"""The catalogue lists a dataset's episodes, one line each, so that opening the dataset need not read them.

A line counts only if the digest at its beginning fits the line, and if the episode's file still has the size
and the time of change in the line. Any other file is read, and its content compared with the digest in its
name. So the catalogue may be missing, damaged or old: it only saves time.
"""

from __future__ import annotations

import hashlib
import json
import os
import re
from collections.abc import Iterable
from dataclasses import dataclass
from pathlib import Path
from typing import Any, NamedTuple

from simreal_datasets.store.episode import decode_meta
from simreal_datasets.store.metadata import FORMAT_VERSION, read_meta
from simreal_envs.errors import DataError
from simreal_envs.features import WorldSpec

CATALOGUE_NAME = ".catalogue"
DAMAGED = "its content is not what was written (truncated or flipped bits)"
_FILE_NAME = re.compile(r"episode_([0-9]{6,18})\.([0-9a-f]{16})\.hdf5")


class Stamp(NamedTuple):
    """Tells whether a file was written to: its size in bytes, and when it was changed."""

    size: int
    mtime_ns: int

    @classmethod
    def of(cls, stat: os.stat_result) -> Stamp:
        return cls(stat.st_size, stat.st_mtime_ns)


@dataclass(frozen=True)
class EpisodeInfo:
    """A listed episode: its file, number, content digest, metadata, number of steps, and the file's stamp."""

    path: Path
    number: int
    digest: str
    meta: dict[str, Any]
    length: int
    stamp: Stamp

    @property
    def spec(self) -> WorldSpec:
        """The arrays that the episode's world showed, and what its actions mean."""
        return WorldSpec.from_json(self.meta)


class EpisodeFile(NamedTuple):
    """A file that is named like an episode, with the number and the digest in its name."""

    path: Path
    number: int
    digest: str


class Listing(NamedTuple):
    """The readable episodes of a folder, the damaged ones with the reason, and whether the catalogue fits."""

    infos: list[EpisodeInfo]
    damaged: list[tuple[Path, str]]
    catalogue_fits: bool


def episode_name(number: int, content: bytes) -> str:
    """The name of the file that holds an episode."""
    return f"episode_{number:06d}.{digest_of(content)}.hdf5"


def episode_files(folder: Path) -> list[EpisodeFile]:
    """The episode files of a folder, by number; files of one number by digest."""
    found = [
        EpisodeFile(folder / name, int(match[1]), match[2])
        for name in os.listdir(folder)
        if (match := _FILE_NAME.fullmatch(name))
    ]
    return sorted(found, key=lambda file: (file.number, file.digest))


def list_episodes(folder: Path) -> Listing:
    """List the episodes of a dataset folder.

    Raises:
        DataError: data of another format version.
    """
    noted = read_catalogue(folder)
    infos: list[EpisodeInfo] = []
    damaged: list[tuple[Path, str]] = []
    for file in episode_files(folder):
        info = look_at(file, noted)
        if isinstance(info, EpisodeInfo):
            infos.append(info)
        else:
            damaged.append((file.path, info))
    fits = len(noted) == len(infos) and all(noted.get(info.path.name) is info for info in infos)
    return Listing(infos, damaged, fits)


def look_at(file: EpisodeFile, noted: dict[str, EpisodeInfo]) -> EpisodeInfo | str:
    """The episode of a file, or why it has none; reads the file if it was changed since its line was written.

    Raises:
        DataError: data of another format version.
    """
    info: EpisodeInfo | str = noted.get(file.path.name, "")
    if not isinstance(info, EpisodeInfo) or not _fits(info):
        info = _inspect(file)
    if isinstance(info, EpisodeInfo) and (found := info.meta.get("format_version")) != FORMAT_VERSION:
        raise DataError(
            f"Episode {file.path} has format version {found}; this simreal reads {FORMAT_VERSION}."
        )
    return info


def _fits(info: EpisodeInfo) -> bool:
    try:
        return info.stamp == Stamp.of(info.path.stat())
    except OSError:
        return False


def _inspect(file: EpisodeFile) -> EpisodeInfo | str:
    try:
        stamp = Stamp.of(file.path.stat())
        content = file.path.read_bytes()
    except OSError as error:
        return f"cannot be read: {error.strerror}"
    if digest_of(content) != file.digest:
        return DAMAGED
    try:
        meta, length = decode_meta(content)
    except DataError as error:
        return str(error)
    return EpisodeInfo(*file, meta, length, stamp)


def digest_of(content: bytes) -> str:
    """The first 16 hexadecimal digits of the SHA-256."""
    return hashlib.sha256(content).hexdigest()[:16]


def read_catalogue(folder: Path) -> dict[str, EpisodeInfo]:
    """The lines of the catalogue by the file's name; of two lines for one file the later one counts."""
    try:
        content = (folder / CATALOGUE_NAME).read_bytes()
    except OSError:
        return {}
    noted = (_parse(folder, line) for line in content.splitlines())
    return {info.path.name: info for info in noted if info}


def encode_catalogue(infos: Iterable[EpisodeInfo]) -> bytes:
    """The lines for some episodes, as a new catalogue or to append to one.

    Each line begins with a line break, so that a line that a crash cut short does not spoil the next.
    """
    return b"".join(_line(info) for info in infos)


def _line(info: EpisodeInfo) -> bytes:
    entry = json.dumps([info.path.name, *info.stamp, info.length, info.meta]).encode()
    return b"\n%s %s" % (digest_of(entry).encode(), entry)


def _parse(folder: Path, line: bytes) -> EpisodeInfo | None:
    digest, _, entry = line.partition(b" ")
    if digest_of(entry).encode() != digest:
        return None
    try:
        name, size, mtime_ns, length, meta = json.loads(entry)
        match = _FILE_NAME.fullmatch(name)
        meta = read_meta(meta)
    except (ValueError, TypeError, DataError):  # another version's
        return None
    if match is None:
        return None
    return EpisodeInfo(folder / name, int(match[1]), match[2], meta, length, Stamp(size, mtime_ns))
