"""What the episodes of a dataset are, without reading them: a line for each, noted when it was written.

A line counts only if it is whole, by the digest that it begins with, and if the episode's file still has the
size and the time of its last change that are noted. Any other file is read, and its content compared with the
digest in its name. So the catalogue may be missing, damaged or old: it only saves time.
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
    """What changes when a file is written to: its size in bytes, and when it was changed."""

    size: int
    mtime_ns: int

    @classmethod
    def of(cls, stat: os.stat_result) -> Stamp:
        return cls(stat.st_size, stat.st_mtime_ns)


@dataclass(frozen=True)
class EpisodeInfo:
    """An episode as listed: its file, number, content digest, metadata, length in steps, and file's stamp."""

    path: Path
    number: int
    digest: str
    meta: dict[str, Any]
    length: int
    stamp: Stamp

    @property
    def spec(self) -> WorldSpec:
        """What its world showed."""
        return WorldSpec.from_json(self.meta)


class EpisodeFile(NamedTuple):
    """A file that bears an episode's name, and what that says."""

    path: Path
    number: int
    digest: str


class Listing(NamedTuple):
    """The readable episodes of a folder, the damaged ones with the reason, and whether the catalogue fits."""

    infos: list[EpisodeInfo]
    damaged: list[tuple[Path, str]]
    catalogue_fits: bool


def episode_name(number: int, content: bytes) -> str:
    """Of the file that holds an episode."""
    return f"episode_{number:06d}.{digest_of(content)}.hdf5"


def episode_files(folder: Path) -> list[EpisodeFile]:
    """In the order of their numbers, and those of one number in that of their digests."""
    found = [
        EpisodeFile(folder / name, int(match[1]), match[2])
        for name in os.listdir(folder)
        if (match := _FILE_NAME.fullmatch(name))
    ]
    return sorted(found, key=lambda file: (file.number, file.digest))


def list_episodes(folder: Path) -> Listing:
    """Of a dataset folder.

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
    """The episode of a file, or why it is none; read whole if the file was changed since it was noted.

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
    """What is noted, by the file's name; of two lines for one file the later one counts."""
    try:
        content = (folder / CATALOGUE_NAME).read_bytes()
    except OSError:
        return {}
    noted = (_parse(folder, line) for line in content.splitlines())
    return {info.path.name: info for info in noted if info}


def encode_catalogue(infos: Iterable[EpisodeInfo]) -> bytes:
    """Lines that can be a catalogue, or be appended to one.

    Each begins with a line break, so that one which a crash cut short does not spoil the next.
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
