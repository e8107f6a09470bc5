"""Decoded images, depths and clouds on the disk, one copy for all trainings of the machine.

::

    dataset/.frames/agentview_image-uint8-72x96x3-1-0f3a….npy   key, dtype, shape, FORMAT, episodes' digest

A file is a numpy array of all frames of some episodes, then which episodes these are, and a checksum.
It is mapped into memory, so processes share the pages that they look at. One that holds more episodes than
are asked for serves as well. A file gets its name when it is complete. Together the files of a feature hold
at most :data:`MOST_COPIES` times the frames of the dataset; those that were used last are kept.

If a dataset's folder cannot be written, its decoded frames are kept in the user's cache.
"""

from __future__ import annotations

import hashlib
import io
import json
import logging
import os
import zlib
from collections.abc import Iterator, Sequence
from contextlib import suppress
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
from numpy.typing import NDArray

from simreal_datasets.store.dataset import Dataset
from simreal_envs.errors import DataError
from simreal_envs.features import Feature
from simreal_envs.folders import cache_dir, taking_turns

FOLDER = ".frames"
FORMAT = 1
MOST_COPIES = 2

_BLOCK = 1 << 20
_UNREADABLE = (OSError, ValueError, KeyError, TypeError)

logger = logging.getLogger(__name__)


class Rows:
    """Some rows of an array, copied when they are asked for."""

    def __init__(self, array: NDArray[Any], rows: NDArray[np.int64]) -> None:
        self._array, self._rows = array, rows
        self.shape, self.dtype = (len(rows), *array.shape[1:]), array.dtype

    def __len__(self) -> int:
        return len(self._rows)

    def __getitem__(self, frames: Any) -> NDArray[Any]:
        return self._array[self._rows[frames]]


Array = NDArray[Any] | Rows


class _Stored(NamedTuple):
    """What a file's end says of it: where the array begins and ends, each episode's first row and length."""

    file: Path
    offset: int
    end: int
    rows: dict[str, tuple[int, int]]
    crc32: int

    @property
    def frames(self) -> int:
        return sum(length for _, length in self.rows.values())


def decoded(dataset: Dataset, chosen: Sequence[int], feature: Feature) -> Array:
    """All frames (N, ...) of some episodes, one after the other.

    Raises:
        DataError: an episode cannot be read, or holds another shape than its dataset says.
    """
    digests = [dataset.infos[i].digest for i in chosen]
    reasons = []
    for folder in (dataset.path / FOLDER, _in_cache(dataset.path)):
        try:
            if found := _find(folder, feature, digests):
                return _open(found, feature, digests)
            folder.mkdir(parents=True, exist_ok=True)
            with taking_turns(folder / ".lock"):
                found = _find(folder, feature, digests, mend=True)
                if not found:
                    _write(folder, dataset, chosen, feature)
                    found = _find(folder, feature, digests)
                if found:
                    _keep_few(folder, dataset, feature, found.file)
                    return _open(found, feature, digests)
        except (OSError, DataError) as error:  # also a file system without locks
            reasons.append(str(error))
    frames = np.concatenate([*_episodes(dataset, chosen, feature)])
    logger.warning("The decoded frames of %s are in this process only: %s", dataset.path, "; ".join(reasons))
    return frames


def _in_cache(path: Path) -> Path:
    return cache_dir() / "frames" / hashlib.sha256(str(path.resolve()).encode()).hexdigest()[:16]


def _stem(feature: Feature) -> str:
    return f"{feature.key}-{feature.dtype}-{'x'.join(map(str, feature.shape))}-{FORMAT}"


def _find(folder: Path, feature: Feature, digests: Sequence[str], mend: bool = False) -> _Stored | None:
    """Find a file that holds all these episodes, and compare its content with its checksum.

    Args:
        mend: delete damaged files; only the holder of the lock may ask for this.
    """
    for file in sorted(folder.glob(f"{_stem(feature)}-*.npy")):
        try:
            stored = _look_at(file)
            if not set(digests) <= set(stored.rows):
                continue
            if stored.crc32 == _checksum(stored):
                return stored
            reason = "its checksum differs"
        except _UNREADABLE as error:
            reason = str(error)
        if mend:
            logger.warning("Decoding again, since %s is damaged: %s", file, reason)
            file.unlink(missing_ok=True)
    return None


def _look_at(file: Path) -> _Stored:
    with file.open("rb") as stream:
        stream.seek(-8, os.SEEK_END)
        end = stream.tell() - int.from_bytes(stream.read(8), "little")
        stream.seek(end)
        values = json.loads(stream.read()[:-8])
    starts = np.r_[0, np.cumsum(values["lengths"])].tolist()
    rows = dict(zip(values["digests"], zip(starts, values["lengths"], strict=False), strict=True))
    return _Stored(file, values["offset"], end, rows, values["crc32"])


def _checksum(stored: _Stored) -> int:
    """The checksum, computed by reading: pages read through the map would count as this process's memory."""
    left, crc = stored.end, 0
    with stored.file.open("rb") as stream:
        while left and (block := stream.read(min(left, _BLOCK))):
            crc, left = zlib.crc32(block, crc), left - len(block)
    return crc


def _open(stored: _Stored, feature: Feature, digests: Sequence[str]) -> Array:
    with suppress(OSError):
        os.utime(stored.file)  # marks the file as used last
    shape = (stored.frames, *feature.shape)
    array = np.memmap(stored.file, feature.dtype, "r", stored.offset, shape).view(np.ndarray)
    rows = np.concatenate([np.arange(n) + start for start, n in (stored.rows[d] for d in digests)])
    whole = len(rows) == len(array) and bool((rows == np.arange(len(rows))).all())
    return array if whole else Rows(array, rows)


def _write(folder: Path, dataset: Dataset, chosen: Sequence[int], feature: Feature) -> None:
    """Decode into a file; at most one episode is in memory at a time. Call it under the lock."""
    infos = {dataset.infos[i].digest: dataset.infos[i] for i in chosen}
    name = hashlib.sha256("".join(infos).encode()).hexdigest()[:16]
    aside = folder / ".aside"
    try:
        with aside.open("wb") as stream:
            shape = (sum(info.length for info in infos.values()), *feature.shape)
            described = {"descr": np.dtype(feature.dtype).str, "fortran_order": False, "shape": shape}
            header = io.BytesIO()
            np.lib.format.write_array_header_1_0(header, described)
            stream.write(header.getvalue())
            crc, offset = zlib.crc32(header.getvalue()), stream.tell()
            positions = {dataset.infos[i].digest: i for i in chosen}
            for frames in _episodes(dataset, [*positions.values()], feature):
                content = np.ascontiguousarray(frames).data.cast("B")
                crc = zlib.crc32(content, crc)
                stream.write(content)
            lengths = [info.length for info in infos.values()]
            values = {"digests": [*infos], "lengths": lengths, "offset": offset, "crc32": crc}
            trailer = json.dumps(values).encode()
            stream.write(trailer + len(trailer).to_bytes(8, "little"))
            stream.flush()
            os.fsync(stream.fileno())
        aside.replace(folder / f"{_stem(feature)}-{name}.npy")
    finally:
        aside.unlink(missing_ok=True)


def _episodes(dataset: Dataset, chosen: Sequence[int], feature: Feature) -> Iterator[NDArray[Any]]:
    for i in chosen:
        frames = dataset.read(i, keys=[feature.key]).observations[feature.key]
        if frames.shape[1:] != feature.shape or frames.dtype != feature.dtype:
            raise DataError(
                f"{dataset.infos[i].path} has {feature.key} {frames.dtype} {frames.shape[1:]}; its dataset "
                f"says {feature.dtype} {feature.shape}."
            )
        yield frames


def _keep_few(folder: Path, dataset: Dataset, feature: Feature, newest: Path) -> None:
    """Delete the files that were not used for longest. A process that has mapped one can still read it."""
    left = MOST_COPIES * sum(info.length for info in dataset.infos)
    files = [file for file in folder.glob(f"{feature.key}-*.npy") if file != newest]
    for file in (newest, *sorted(files, key=lambda file: file.stat().st_mtime, reverse=True)):
        try:
            left -= _look_at(file).frames if file.name.startswith(_stem(feature)) else left + 1
        except _UNREADABLE:
            left = -1
        if left < 0 and file != newest:
            file.unlink(missing_ok=True)
