"""What k successes in n episodes say: an interval for one policy, paired tests for two."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
from scipy import stats

from simreal_envs.errors import UsageError


def wilson_interval(successes: int, trials: int, confidence: float = 0.95) -> tuple[float, float]:
    """Wilson score interval of a success rate (Wilson 1927), as fractions in [0, 1].

    Unlike the normal approximation it stays inside [0, 1] and has a width at 0/n and n/n.

    Raises:
        UsageError: no trials, or more successes than trials.
    """
    if trials < 1 or not 0 <= successes <= trials:
        raise UsageError(
            f"{successes} successes in {trials} trials: need 0 <= successes <= trials, trials >= 1."
        )
    interval = stats.binomtest(successes, trials).proportion_ci(confidence, method="wilson")
    return float(interval.low), float(interval.high)


@dataclass(frozen=True)
class PairedTest:
    """Two policies on the same episodes: who succeeded where, and how likely that is by chance alone."""

    both: int
    only_first: int
    only_second: int
    neither: int
    p_value: float

    @property
    def discordant(self) -> int:
        """Episodes that exactly one of the two solved; the test looks at no others."""
        return self.only_first + self.only_second

    @property
    def difference(self) -> float:
        """Success rate of the first minus that of the second."""
        return (self.only_first - self.only_second) / (self.both + self.discordant + self.neither)


def mcnemar(first: Sequence[bool], second: Sequence[bool]) -> PairedTest:
    """Exact two-sided McNemar test (McNemar 1947): episode i of both was reset with the same seed.

    If neither policy is better, each discordant episode falls to either with probability 1/2, so the
    number that falls to the first is binomial.

    Raises:
        UsageError: the two are of different length, or empty.
    """
    a, b = np.asarray(first, dtype=bool), np.asarray(second, dtype=bool)
    if a.shape != b.shape or a.ndim != 1 or a.size == 0:
        raise UsageError(f"A paired test needs the same episodes of both; got {a.size} and {b.size}.")
    only_first, only_second = int((a & ~b).sum()), int((~a & b).sum())
    discordant = only_first + only_second
    p_value = float(stats.binomtest(only_first, discordant, 0.5).pvalue) if discordant else 1.0
    return PairedTest(int((a & b).sum()), only_first, only_second, int((~a & ~b).sum()), p_value)


@dataclass(frozen=True)
class TrainingTest:
    """Two methods over several trainings: mean difference of success rates, interval, p-value."""

    difference: float
    low: float
    high: float
    p_value: float


def compare_trainings(
    first: Sequence[float], second: Sequence[float], confidence: float = 0.95
) -> TrainingTest | None:
    """Paired t-test (Student 1908) of success rates: training i of both began with the same random seed.

    A test of episodes says whether these trainings differ; this one, whether further trainings would.
    None if all trainings differ by the same amount: there is no spread to judge it by.

    Raises:
        UsageError: the two are of different length, or fewer than two.
    """
    if len(first) != len(second) or len(first) < 2:
        raise UsageError(
            f"A test over trainings needs at least two of both; got {len(first)} and {len(second)}."
        )
    difference = np.subtract(first, second)
    if np.ptp(difference) < 1e-9:
        return None
    test = stats.ttest_1samp(difference, 0.0)
    low, high = np.clip(test.confidence_interval(confidence), -1.0, 1.0)
    return TrainingTest(float(difference.mean()), float(low), float(high), float(test.pvalue))


def holm(p_values: Sequence[float]) -> list[float]:
    """Adjust p-values of several tests on one table so that the family's error stays bounded (Holm 1979)."""
    p = np.asarray(p_values, dtype=float)
    order = np.argsort(p, kind="stable")
    stepped = np.maximum.accumulate(p[order] * np.arange(p.size, 0, -1))
    adjusted = np.empty_like(p)
    adjusted[order] = np.minimum(stepped, 1.0)
    return [float(value) for value in adjusted]
