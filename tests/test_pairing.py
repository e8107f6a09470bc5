"""Dynamic time warping and the pairing of demonstrations."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
from dtaidistance import dtw_ndim
from hypothesis import given, settings
from hypothesis import strategies as st

from simreal_datasets.loading.pairing import Pairing, dtw, pair
from simreal_envs.errors import DataError, UsageError


def random_path(rng: np.random.Generator, low: int = 5, high: int = 60) -> np.ndarray:
    return np.cumsum(rng.normal(0, 0.02, (rng.integers(low, high), 3)), axis=0)


@st.composite
def paths(draw: st.DrawFn) -> np.ndarray:
    length = draw(st.integers(1, 12))
    flat = draw(st.lists(st.floats(-1, 1, width=32), min_size=3 * length, max_size=3 * length))
    return np.array(flat, dtype=np.float64).reshape(length, 3)


def test_distance_and_path_agree_with_an_independent_library() -> None:
    rng = np.random.default_rng(0)
    for _ in range(20):
        a, b = random_path(rng), random_path(rng)
        distance, path = dtw(a, b)
        theirs = dtw_ndim.distance(a, b, inner_dist="euclidean")
        assert distance * (len(a) + len(b)) == pytest.approx(theirs, rel=1e-9)
        cost_along_path = np.linalg.norm(a[path[:, 0]] - b[path[:, 1]], axis=1).sum()
        assert cost_along_path == pytest.approx(theirs, rel=1e-9)


@settings(max_examples=60)
@given(paths(), paths())
def test_path_is_complete_monotone_and_continuous(a: np.ndarray, b: np.ndarray) -> None:
    _, path = dtw(a, b)
    assert path[0].tolist() == [0, 0]
    assert path[-1].tolist() == [len(a) - 1, len(b) - 1]
    steps = np.diff(path, axis=0)
    assert ((steps == 0) | (steps == 1)).all()
    assert (steps.sum(axis=1) >= 1).all()


@settings(max_examples=60)
@given(paths(), paths())
def test_distance_is_symmetric_and_zero_to_itself(a: np.ndarray, b: np.ndarray) -> None:
    assert dtw(a, a)[0] == 0.0
    assert dtw(a, b)[0] == pytest.approx(dtw(b, a)[0], abs=1e-12)


def test_all_pairs_equal_single_pairs() -> None:
    rng = np.random.default_rng(1)
    source, target = [random_path(rng) for _ in range(7)], [random_path(rng) for _ in range(3)]
    pairing = pair(source, target)
    starts = np.r_[0, np.cumsum([len(b) for b in target])]
    assert pairing.matches.shape == (7, starts[-1])
    for s, a in enumerate(source):
        for t, b in enumerate(target):
            distance, path = dtw(a, b)
            assert pairing.distances_m[s, t] == pytest.approx(distance)
            for frame in range(len(b)):
                matched = path[path[:, 1] == frame, 0]
                assert pairing.matches[s, starts[t] + frame] == (matched[0] + matched[-1]) // 2


def test_a_slower_copy_is_matched_frame_by_frame() -> None:
    fast = np.linspace([0, 0, 0], [0.3, 0, 0.1], 20)
    slow = np.repeat(fast, 3, axis=0)
    pairing = pair([slow], [fast])
    assert pairing.distances_m[0, 0] == pytest.approx(0.0, abs=1e-12)
    assert pairing.matches[0].tolist() == [3 * i + 1 for i in range(20)]


def test_cache_is_read_for_the_same_data_only(tmp_path: Path) -> None:
    rng = np.random.default_rng(2)
    source, target = [random_path(rng)], [random_path(rng)]
    first = pair(source, target, cache=tmp_path)
    (file,) = tmp_path.iterdir()
    np.savez(file, distances_m=first.distances_m + 1.0, matches=first.matches)
    assert pair(source, target, cache=tmp_path).distances_m == first.distances_m + 1.0
    source[0] = source[0] + 1e-6
    assert pair(source, target, cache=tmp_path).distances_m == pytest.approx(first.distances_m, abs=1e-5)
    assert len(list(tmp_path.iterdir())) == 2


@pytest.mark.parametrize("kept", [0, 100, -1])
def test_a_damaged_cache_is_a_warning(tmp_path: Path, kept: int, caplog: pytest.LogCaptureFixture) -> None:
    rng = np.random.default_rng(2)
    source, target = [random_path(rng)], [random_path(rng)]
    first = pair(source, target, cache=tmp_path)
    (file,) = tmp_path.iterdir()
    file.write_bytes(file.read_bytes()[:kept])
    assert pair(source, target, cache=tmp_path).distances_m == first.distances_m
    assert "cannot be read" in caplog.text
    caplog.clear()
    assert pair(source, target, cache=tmp_path).distances_m == first.distances_m
    assert caplog.text == ""


def test_a_cache_that_cannot_be_written_is_a_warning(
    tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    (tmp_path / "file").touch()
    rng = np.random.default_rng(2)
    assert pair([random_path(rng)], [random_path(rng)], cache=tmp_path / "file" / "cache").matches.size > 0
    assert "The pairing is not kept in" in caplog.text


def test_weights_prefer_the_nearest_tenth_at_any_scale() -> None:
    distances = np.linspace(0.01, 0.5, 50)[:, None]
    matches = np.zeros((50, 1), dtype=np.int16)
    weights = Pairing(distances, matches).weights()
    scaled = Pairing(distances * 37.0, matches).weights()
    assert np.allclose(weights, scaled)
    assert (np.diff(weights[:, 0]) < 0).all()
    assert weights[:5].sum() > 0.5 * weights.sum()


def test_weights_in_metres_are_those_of_the_formula() -> None:
    pairing = Pairing(np.array([[0.01], [0.1]]), np.zeros((2, 1), dtype=np.int16))
    weights = pairing.weights("metres", sharpness=10.0, cutoff=0.01)
    assert weights[:, 0] == pytest.approx([0.5, 1 / (1 + np.exp(0.9))])


def test_bad_input_is_named() -> None:
    good = np.zeros((4, 3))
    with pytest.raises(DataError, match="no demonstrations"):
        pair([], [good])
    with pytest.raises(DataError, match=r"shape \(4, 2\)"):
        pair([good[:, :2]], [good])
    with pytest.raises(DataError, match="not finite"):
        pair([good], [good * np.nan])
    with pytest.raises(UsageError, match="quantile, metres"):
        pair([good], [good]).weights("log")
    with pytest.raises(UsageError, match="not a quantile"):
        pair([good], [good]).weights(cutoff=3.0)
