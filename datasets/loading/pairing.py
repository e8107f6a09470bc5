"""Pairing finds which source and target demonstrations resemble each other, and which frames correspond.

Dynamic time warping (DTW; Sakoe and Chiba, 1978) between end-effector positions, with the Euclidean distance
in metres as local cost and steps (1, 0), (0, 1), (1, 1):

    D[i, j] = |a_i - b_j| + min(D[i-1, j], D[i, j-1], D[i-1, j-1])
    distance(a, b) = D[-1, -1] / (len(a) + len(b))

Dividing by the summed lengths keeps the distance symmetric (a path's own length depends on how ties are
broken); it then lies between half of and the whole mean distance in metres of matched frames.

The kernels are compiled by numba: the libraries at hand give either distances of many pairs or the path of
one pair, and pairing 1000 x 25 demonstrations needs both for each of 25,000 pairs.
"""

from __future__ import annotations

import hashlib
import logging
import os
import zlib
from collections.abc import Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from pathlib import Path
from zipfile import BadZipFile

import numba
import numpy as np
from numpy.typing import NDArray

from simreal_envs.errors import DataError, UsageError
from simreal_envs.spec import check_choice

Positions = Sequence[NDArray[np.floating]]
"""One (T, 3) array of end-effector positions in metres, base frame, for each demonstration."""

WEIGHTINGS = ("quantile", "metres")


_UNREADABLE = (OSError, EOFError, ValueError, KeyError, RuntimeError, BadZipFile, zlib.error)
"""What numpy raises for a damaged file: tried with every bit flipped."""

logger = logging.getLogger(__name__)


@numba.njit(cache=True, nogil=True)
def _accumulate(a: NDArray[np.float64], b: NDArray[np.float64], step: NDArray[np.uint8]) -> float:
    """Accumulated cost of the best path; ``step[i, j]`` is where it came from: 0 diagonal, 1 i-1, 2 j-1."""
    above = np.full(len(b) + 1, np.inf)
    above[0] = 0.0
    row = np.empty(len(b) + 1)
    for i in range(len(a)):
        row[0] = np.inf
        for j in range(len(b)):
            best, origin = above[j], 0
            if above[j + 1] < best:
                best, origin = above[j + 1], 1
            if row[j] < best:
                best, origin = row[j], 2
            squared = 0.0
            for k in range(a.shape[1]):
                squared += (a[i, k] - b[j, k]) ** 2
            row[j + 1] = best + np.sqrt(squared)
            step[i, j] = origin
        above, row = row, above
    return above[len(b)]


@numba.njit(cache=True, nogil=True)
def _trace(step: NDArray[np.uint8], n: int, m: int) -> NDArray[np.int16]:
    """Walk back from the end: path (L, 2) of matched frames (i, j), in time order."""
    path = np.empty((n + m - 1, 2), dtype=np.int16)
    i, j, k = n - 1, m - 1, n + m - 1
    while True:
        k -= 1
        path[k, 0], path[k, 1] = i, j
        if i == 0 and j == 0:
            return path[k:].copy()
        origin = step[i, j]
        if origin != 2:
            i -= 1
        if origin != 1:
            j -= 1


@numba.njit(cache=True, nogil=True)
def _pair_one(
    a: NDArray[np.float64], b: NDArray[np.float64], b_starts: NDArray[np.int64]
) -> tuple[NDArray[np.float64], NDArray[np.int16]]:
    """One path against all of ``b``: distances (B,), and the middle of the matches of each frame of ``b``."""
    distances = np.empty(len(b_starts) - 1)
    matches = np.empty(len(b), dtype=np.int16)
    step = np.empty((len(a), np.max(np.diff(b_starts))), dtype=np.uint8)
    for y in range(len(distances)):
        other = b[b_starts[y] : b_starts[y + 1]]
        distances[y] = _accumulate(a, other, step) / (len(a) + len(other))
        path = _trace(step, len(a), len(other))
        k = 0
        while k < len(path):  # the frames i that share one frame j follow each other
            end = k
            while end + 1 < len(path) and path[end + 1, 1] == path[k, 1]:
                end += 1
            matches[b_starts[y] + path[k, 1]] = (path[k, 0] + path[end, 0]) // 2
            k = end + 1
    return distances, matches


def dtw(a: NDArray[np.floating], b: NDArray[np.floating]) -> tuple[float, NDArray[np.int16]]:
    """Distance in metres and warping path (L, 2) between two paths, (N, 3) and (M, 3).

    >>> distance, path = dtw(np.zeros((2, 3)), np.zeros((3, 3)))
    >>> distance, path[0].tolist(), path[-1].tolist()
    (0.0, [0, 0], [1, 2])
    """
    (flat_a, _), (flat_b, _) = _concatenate([a]), _concatenate([b])
    step = np.empty((len(flat_a), len(flat_b)), dtype=np.uint8)
    total = _accumulate(flat_a, flat_b, step)
    return total / (len(flat_a) + len(flat_b)), _trace(step, len(flat_a), len(flat_b))


@dataclass(frozen=True)
class Pairing:
    """Every source demonstration compared with every target demonstration.

    Attributes:
        distances_m: (S, T) normalised DTW distances.
        matches: (S, F) int16, where F counts the frames of all target demonstrations in order: the frame of
            source demonstration s (counted from its start) that matches target frame f; of several matches
            the middle one.
    """

    distances_m: NDArray[np.float64]
    matches: NDArray[np.int16]

    def weights(
        self, kind: str = "quantile", sharpness: float = 5.0, cutoff: float = 0.005
    ) -> NDArray[np.float64]:
        """Weight (S, T) of each pair of demonstrations, ``w = 1 / (1 + exp(k (d - c)))``.

        ``kind="metres"``: ``c`` is ``cutoff`` in metres and ``k`` is ``sharpness`` in 1/m; the paper's
        k = 10, c = 0.01 weigh a pair 1 cm apart 0.50 and one 10 cm apart 0.29, which hardly chooses.
        ``kind="quantile"`` is free of scale: for each target demonstration ``c`` is the ``cutoff`` quantile
        of its distances and ``k = sharpness / c``, so that the nearest few are preferred by default.

        Raises:
            UsageError: unknown kind, or a quantile outside (0, 1].
        """
        check_choice("pairing weights", kind, WEIGHTINGS)
        d = self.distances_m
        if kind == "metres":
            exponent = sharpness * (d - cutoff)
        else:
            if not 0.0 < cutoff <= 1.0:
                raise UsageError(f"Pairing cutoff {cutoff} is not a quantile; valid: above 0, up to 1.")
            c = np.maximum(np.quantile(d, cutoff, axis=0, keepdims=True), 1e-6)
            exponent = sharpness * (d - c) / c
        return 1.0 / (1.0 + np.exp(np.minimum(exponent, 700.0)))


def pair(source: Positions, target: Positions, cache: Path | None = None) -> Pairing:
    """Pair all demonstrations; read the result from the folder ``cache`` if it was stored there before.

    A cache that cannot be read or written is a warning, and the pairing is computed.

    Raises:
        DataError: no demonstrations, one that is empty, not (T, 3), not finite or longer than 32,767 frames.
    """
    a, a_starts = _concatenate(source)
    b, b_starts = _concatenate(target)
    if cache is None:
        return _pair_all(a, a_starts, b, b_starts)
    digest = hashlib.sha256(b"dtw 1")
    for array in (a, a_starts, b, b_starts):
        digest.update(array.tobytes())
    file = cache / f"pairing-{digest.hexdigest()[:32]}.npz"
    try:
        with np.load(file, allow_pickle=False) as stored:
            return Pairing(stored["distances_m"], stored["matches"])
    except FileNotFoundError:
        pass
    except _UNREADABLE as error:
        logger.warning("Pairing again, since %s cannot be read: %s", file, error)
    result = _pair_all(a, a_starts, b, b_starts)
    try:
        _store(result, file)
    except OSError as error:
        logger.warning("The pairing is not kept in %s: %s", cache, error.strerror)
    return result


def _store(result: Pairing, file: Path) -> None:
    """Write aside and rename: another process may be reading."""
    file.parent.mkdir(parents=True, exist_ok=True)
    aside = file.with_suffix(f".{os.getpid()}.npz")
    try:
        np.savez_compressed(aside, distances_m=result.distances_m, matches=result.matches)
        aside.replace(file)
    finally:
        aside.unlink(missing_ok=True)


def _pair_all(
    a: NDArray[np.float64], a_starts: NDArray[np.int64], b: NDArray[np.float64], b_starts: NDArray[np.int64]
) -> Pairing:
    """One thread a core: the compiled kernel holds no interpreter lock."""
    paths = np.split(a, a_starts[1:-1])
    with ThreadPoolExecutor(os.cpu_count()) as pool:
        rows = list(pool.map(lambda path: _pair_one(path, b, b_starts), paths))
    return Pairing(np.stack([d for d, _ in rows]), np.stack([m for _, m in rows]))


def _concatenate(paths: Positions) -> tuple[NDArray[np.float64], NDArray[np.int64]]:
    """All paths in one array, and where each starts (with the end appended)."""
    if not paths:
        raise DataError("There are no demonstrations to pair.")
    for i, path in enumerate(paths):
        shape = np.shape(path)
        if len(shape) != 2 or shape[1] != 3 or not 0 < shape[0] <= np.iinfo(np.int16).max:
            raise DataError(f"Path {i} has shape {shape}; DTW needs (T, 3) with T from 1 to 32767.")
        if not np.isfinite(path).all():
            raise DataError(f"Path {i} holds values that are not finite.")
    starts = np.r_[0, np.cumsum([len(p) for p in paths])].astype(np.int64)
    return np.ascontiguousarray(np.concatenate(paths), dtype=np.float64), starts
