"""Which reset seeds are for what, so that no policy is tested on a scene that it was shown or chosen by."""

from __future__ import annotations

from collections.abc import Iterable

from simreal_envs.errors import UsageError, unknown

DEMONSTRATIONS, SELECTION, TEST = "demonstrations", "selection", "test"

SEEDS = {
    DEMONSTRATIONS: range(0, 1_000_000),
    SELECTION: range(1_000_000, 2_000_000),
    TEST: range(2_000_000, 3_000_000),
}
"""Disjoint ranges: for demonstrations, for choosing checkpoints and settings, for comparing policies."""


def seeds_for(purpose: str, count: int, first: int | None = None) -> range:
    """The given number of seeds for a purpose, from its first seed on, or from ``first``.

    >>> seeds_for("test", 3)
    range(2000000, 2000003)

    Raises:
        UsageError: no such purpose, no seeds, or seeds that lie in no range or in that of another purpose.
    """
    if purpose not in SEEDS:
        raise unknown("purpose of seeds", purpose, SEEDS)
    allowed = SEEDS[purpose]
    first = allowed.start if first is None else first
    if count < 1:
        raise UsageError(f"{count} seeds: at least 1 is needed.")
    if not allowed.start <= first <= first + count <= allowed.stop:
        raise UsageError(
            f"{count} seeds from {first} on leave the range {purpose}. The ranges are {ranges()}."
        )
    return range(first, first + count)


def purpose_of(seed: int) -> str:
    """The purpose of a seed; empty for one of no range.

    >>> purpose_of(1_000_007)
    'selection'
    """
    return next((purpose for purpose, seeds in SEEDS.items() if seed in seeds), "")


def ranges() -> str:
    """All ranges, for messages."""
    return ", ".join(f"{seeds.start} to {seeds[-1]} ({purpose})" for purpose, seeds in SEEDS.items())


def describe(seeds: Iterable[int]) -> str:
    """Seeds in words: which, and what for.

    >>> describe([2_000_000, 2_000_001, 2_000_002])
    '2000000 to 2000002 (test)'
    >>> describe([3, 2_000_000])
    '2 from 3 to 2000000 (demonstrations and test)'
    """
    each = sorted(set(seeds))
    purposes = [purpose for purpose in SEEDS if any(seed in SEEDS[purpose] for seed in each)]
    beyond = ["of no range"] if any(not purpose_of(seed) for seed in each) else []
    meant = f"({' and '.join(purposes + beyond)})"
    if len(each) == 1:
        return f"{each[0]} {meant}"
    gaps = "" if len(each) == each[-1] - each[0] + 1 else f"{len(each)} from "
    return f"{gaps}{each[0]} to {each[-1]} {meant}"
