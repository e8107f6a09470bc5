"""The ranges of reset seeds: disjoint, and never left without a word."""

from __future__ import annotations

from itertools import combinations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from simreal_agents.study.experiment import TARGET_SEED, Experiment
from simreal_cli.eval import _seeds
from simreal_datasets.making.fill import LAST_SEED
from simreal_envs.errors import UsageError
from simreal_envs.seeds import DEMONSTRATIONS, SEEDS, SELECTION, TEST, describe, purpose_of, seeds_for


def test_no_seed_has_two_purposes() -> None:
    for one, other in combinations(SEEDS.values(), 2):
        assert one.stop <= other.start or other.stop <= one.start
    assert SEEDS[DEMONSTRATIONS].stop == LAST_SEED


@given(st.sampled_from(list(SEEDS)), st.integers(-2, 3_100_000), st.none() | st.integers(-5, 3_100_000))
def test_seeds_of_a_purpose_are_all_in_its_range_or_are_refused(
    purpose: str, count: int, first: int | None
) -> None:
    allowed = SEEDS[purpose]
    try:
        seeds = seeds_for(purpose, count, first)
    except UsageError as error:
        start = allowed.start if first is None else first
        fits = count >= 1 and start in allowed and start + count - 1 in allowed
        assert not fits
        assert count < 1 or f"range {purpose}" in str(error)  # noqa: PT017
    else:
        assert len(seeds) == count
        assert {purpose_of(seeds[0]), purpose_of(seeds[-1])} == {purpose}


@given(st.sets(st.integers(0, 4_000_000), min_size=1, max_size=6))
def test_a_description_of_seeds_says_where_they_lie(seeds: set[int]) -> None:
    said = describe(seeds)
    assert str(min(seeds)) in said
    assert str(max(seeds)) in said
    for purpose, of_purpose in SEEDS.items():
        assert (purpose in said) == any(seed in of_purpose for seed in seeds)
    assert ("no range" in said) == (max(seeds) >= SEEDS[TEST].stop)


def test_an_evaluation_takes_test_seeds_unless_others_are_asked_for_by_name_or_number() -> None:
    assert _seeds("test", 100) == range(2_000_000, 2_000_100)
    assert _seeds("selection", 25) == range(1_000_000, 1_000_025)
    assert _seeds("2000100", 5) == range(2_000_100, 2_000_105)
    assert _seeds("1000000", 5) == range(1_000_000, 1_000_005)
    for asked in ("5", "999999", "-1", "demonstrations", "3000000", "", "1e6", "²"):
        with pytest.raises(UsageError, match="valid are test, selection"):
            _seeds(asked, 1)
    with pytest.raises(UsageError, match="range selection"):
        _seeds("1999990", 11)
    with pytest.raises(UsageError, match="range test"):
        _seeds("test", 1_000_001)


@pytest.mark.parametrize(
    ("sizes", "named"),
    [
        ({"validation_episodes": 1_000_001}, SELECTION),
        ({"test_episodes": 1_000_001}, TEST),
        ({"target_demos": LAST_SEED - TARGET_SEED + 1}, DEMONSTRATIONS),
        ({"source_demos": TARGET_SEED + 1}, "source_demos"),
    ],
)
def test_an_experiment_that_would_leave_a_range_is_refused(sizes: dict[str, int], named: str) -> None:
    with pytest.raises(UsageError, match=named):
        Experiment("Lift", **sizes)


def test_an_experiment_chooses_and_tests_on_ranges_of_their_own() -> None:
    experiment = Experiment("Lift")
    assert {purpose_of(seed) for seed in experiment.selection_seeds} == {SELECTION}
    assert {purpose_of(seed) for seed in experiment.test_seeds} == {TEST}
