"""Which checkpoints of each method are tested: one that was chosen, and the last, which needs no choice."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass

from simreal_agents.study.pictures import SuccessCount
from simreal_envs.seeds import describe

CHOSEN, GIVEN, LAST = "chosen", "given", "last"


@dataclass(frozen=True)
class Candidate:
    """A method at one of its checkpoints, and in which roles it is tested."""

    method: str
    updates: int
    roles: tuple[str, ...]

    def __str__(self) -> str:
        return f"{self.method}@{self.updates} ({' and '.join(self.roles)})"


def best_checkpoints(curves: Iterable[SuccessCount]) -> dict[str, int]:
    """For each method the updates with the most successes over all regions; the earlier of equals."""
    successes: dict[str, Counter[int]] = {}
    for count in curves:
        successes.setdefault(count.method, Counter())[count.updates] += count.successes
    return {method: max(of, key=lambda updates: (of[updates], -updates)) for method, of in successes.items()}


def candidates(methods: Sequence[str], by_role: Mapping[str, Mapping[str, int]]) -> list[Candidate]:
    """What is tested, each checkpoint once.

    Args:
        by_role: for each role the updates of every method.
    """
    return [
        Candidate(method, updates, tuple(role for role, of in by_role.items() if of[method] == updates))
        for method in methods
        for updates in dict.fromkeys(of[method] for of in by_role.values())
    ]


def equal_pairs(tested: Sequence[Candidate]) -> list[tuple[str, str]]:
    """The first method against every other one in the same role: chosen with chosen, last with last."""
    pairs = [
        (str(first), str(second))
        for role in dict.fromkeys(role for candidate in tested for role in candidate.roles)
        for first, *others in [[candidate for candidate in tested if role in candidate.roles]]
        for second in others
    ]
    return list(dict.fromkeys(pairs))


def how_chosen(regions: Sequence[str], seeds: Sequence[int], world: str) -> str:
    """The rule of :func:`best_checkpoints`, and what it takes that a lab may not have."""
    oracle = ""
    if "ood" in regions:
        oracle = (
            " Successes in region ood take part in the choice, which is an oracle: a lab has no episodes "
            "where its target demonstrations do not reach. The last checkpoint needs no choice."
        )
    return (
        f"How the checkpoint was chosen: most successes over {len(seeds)} episodes a region and training in "
        f"{world}, reset seeds {describe(seeds)}, regions {' and '.join(regions)} together, the earlier of "
        f"equals; the same for all trainings of a method.{oracle}"
    )


GIVEN_BEFOREHAND = "The checkpoint that is called given was named beforehand; no episodes chose it."
