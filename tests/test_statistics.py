"""Intervals and paired tests: published values, and the properties they must have."""

from math import comb, sqrt

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from simreal_agents.evaluation.statistics import compare_trainings, holm, mcnemar, wilson_interval
from simreal_envs.errors import UsageError

counts = st.integers(1, 400).flatmap(lambda n: st.tuples(st.integers(0, n), st.just(n)))
outcomes = st.lists(st.tuples(st.booleans(), st.booleans()), min_size=1, max_size=80)


@pytest.mark.parametrize(
    ("successes", "trials", "low", "high"),
    # Newcombe (1998), Statistics in Medicine 17, table I, method 3.
    [(81, 263, 0.2553, 0.3662), (15, 148, 0.0624, 0.1605), (0, 20, 0.0, 0.1611), (1, 29, 0.0061, 0.1718)],
)
def test_wilson_interval_has_the_published_values(successes, trials, low, high):
    assert wilson_interval(successes, trials) == pytest.approx((low, high), abs=5e-5)


@given(counts)
def test_wilson_bounds_are_where_the_score_test_just_rejects(count):
    successes, trials = count
    rate = successes / trials
    for bound in wilson_interval(successes, trials):
        if 1e-9 < bound < 1 - 1e-9:
            assert abs(rate - bound) / sqrt(bound * (1 - bound) / trials) == pytest.approx(1.959964, rel=1e-4)


@given(counts)
def test_wilson_interval_holds_the_rate_and_mirrors(count):
    successes, trials = count
    low, high = wilson_interval(successes, trials)
    assert 0 <= low <= successes / trials + 1e-12
    assert successes / trials - 1e-12 <= high <= 1
    assert wilson_interval(trials - successes, trials) == pytest.approx((1 - high, 1 - low), abs=1e-9)


def test_more_confidence_is_a_wider_interval_and_more_trials_a_narrower_one():
    low95, high95 = wilson_interval(30, 100)
    low99, high99 = wilson_interval(30, 100, confidence=0.99)
    assert low99 < low95 < high95 < high99
    low, high = wilson_interval(300, 1000)
    assert low95 < low < high < high95


@pytest.mark.parametrize(("successes", "trials"), [(0, 0), (3, 2), (-1, 5)])
def test_wilson_interval_refuses_impossible_counts(successes, trials):
    with pytest.raises(UsageError, match=f"{successes} successes in {trials} trials"):
        wilson_interval(successes, trials)


def _two_sided_binomial(k: int, n: int) -> float:
    """P of an outcome at most as likely as k heads in n throws of a fair coin, by counting."""
    return min(1.0, 2 * sum(comb(n, i) for i in range(min(k, n - k) + 1)) / 2**n)


@given(outcomes)
def test_mcnemar_counts_every_episode_once_and_matches_counting(pairs):
    first, second = zip(*pairs, strict=True)
    test = mcnemar(first, second)
    assert test.both + test.only_first + test.only_second + test.neither == len(pairs)
    assert test.difference == pytest.approx(np.mean(first) - np.mean(second))
    assert test.p_value == pytest.approx(_two_sided_binomial(test.only_first, test.discordant))


@given(outcomes)
def test_mcnemar_does_not_depend_on_order_of_policies_or_episodes(pairs):
    first, second = zip(*pairs, strict=True)
    test, swapped = mcnemar(first, second), mcnemar(second, first)
    reversed_ = mcnemar(first[::-1], second[::-1])
    assert test.p_value == pytest.approx(swapped.p_value)
    assert (test.only_first, test.only_second) == (swapped.only_second, swapped.only_first)
    assert reversed_ == test


def test_mcnemar_knows_one_sided_from_balanced():
    assert mcnemar([True] * 10, [False] * 10).p_value == pytest.approx(2 / 1024)
    assert mcnemar([True, False] * 10, [False, True] * 10).p_value == 1.0
    assert mcnemar([True] * 10, [True] * 10).p_value == 1.0


def test_mcnemar_refuses_episodes_that_are_not_paired():
    with pytest.raises(UsageError, match="got 2 and 3"):
        mcnemar([True, False], [True, False, True])


def test_mcnemar_holds_its_error_rate():
    rng = np.random.default_rng(0)
    rejected = sum(
        mcnemar(list(rng.random(60) < 0.4), list(rng.random(60) < 0.4)).p_value < 0.05 for _ in range(400)
    )
    assert rejected <= 0.05 * 400  # the exact test is conservative: expected about 3 %


def test_holm_has_the_textbook_values():
    assert holm([0.01, 0.04, 0.03]) == pytest.approx([0.03, 0.06, 0.06])


@given(st.lists(st.floats(0, 1), min_size=1, max_size=12))
def test_holm_lies_between_no_correction_and_bonferroni_and_keeps_the_order(p_values):
    adjusted = holm(p_values)
    for p, q in zip(p_values, adjusted, strict=True):
        assert p <= q <= min(1.0, p * len(p_values)) + 1e-12
    assert [adjusted[i] for i in np.argsort(p_values, kind="stable")] == sorted(adjusted)


def test_comparison_of_trainings_has_the_published_values():
    # Student (1908), Biometrika 6: hours of sleep gained by two drugs, ten patients.
    first = [1.9, 0.8, 1.1, 0.1, -0.1, 4.4, 5.5, 1.6, 4.6, 3.4]
    second = [0.7, -1.6, -0.2, -1.2, -0.1, 3.4, 3.7, 0.8, 0.0, 2.0]
    test = compare_trainings(*([hours / 10 for hours in of] for of in (first, second)))
    assert test.difference == pytest.approx(0.158)
    assert (test.low, test.high) == pytest.approx((0.07001, 0.24599), abs=1e-5)
    assert test.p_value == pytest.approx(0.002833, abs=1e-6)


rates = st.lists(st.tuples(st.integers(0, 100), st.integers(0, 100)), min_size=2, max_size=9)


@given(rates)
def test_comparison_of_trainings_is_symmetric_and_its_interval_decides_as_its_p_value(pairs):
    first, second = ([rate / 100 for rate in of] for of in zip(*pairs, strict=True))
    test, swapped = compare_trainings(first, second), compare_trainings(second, first)
    if len({a - b for a, b in pairs}) == 1:
        assert test is None
        assert swapped is None
        return
    assert (swapped.difference, swapped.p_value) == pytest.approx((-test.difference, test.p_value))
    assert (swapped.low, swapped.high) == pytest.approx((-test.high, -test.low))
    assert -1 <= test.low <= test.difference <= test.high <= 1
    if abs(test.p_value - 0.05) > 1e-6:
        assert (test.low <= 0 <= test.high) == (test.p_value > 0.05)


@pytest.mark.parametrize(("first", "second"), [([0.5], [0.5]), ([0.5, 0.6], [0.5]), ([], [])])
def test_comparison_of_too_few_trainings_is_refused(first, second):
    with pytest.raises(UsageError, match="at least two"):
        compare_trainings(first, second)
