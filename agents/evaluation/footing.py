"""Checks that results are comparable: one world, one policy for each name, the same episodes for all."""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Mapping, Sequence, Set

from simreal_agents.evaluation.episode_log import EpisodeResult
from simreal_envs.errors import UsageError
from simreal_envs.seeds import describe

WORLD = ("task", "env", "robot", "shift", "max_steps")
"""Fields that must be equal in one report; ``robot`` contains the limits, see :class:`EpisodeResult`."""

Episode = tuple[int, int]
"""Training (its random seed, where several are pooled) and reset seed."""
Played = Mapping[tuple[str, str], Mapping[Episode, EpisodeResult]]
"""By name and region."""


def on_equal_footing(results: Sequence[EpisodeResult]) -> Played:
    """Group results by policy and region, after checking that all policies played the same episodes.

    Raises:
        UsageError: there are no results, or results of several worlds; a name stands for two policies; an
            episode is there twice; or a policy lacks episodes that another has. The message names them all.
    """
    if not results:
        raise UsageError("A report needs at least one episode.")
    _require_one_world(results)
    _require_one_policy_a_name(results)
    played: dict[tuple[str, str], dict[Episode, EpisodeResult]] = {}
    for result in results:
        of_cell = played.setdefault((result.name, result.region), {})
        if (episode := (result.replicate, result.seed)) in of_cell:
            raise UsageError(
                f"Reset seed {result.seed} of {result.name} in region {result.region!r} is there twice."
            )
        of_cell[episode] = result
    _require_same_episodes(played)
    return played


def _require_one_world(results: Sequence[EpisodeResult]) -> None:
    differing = []
    for key in WORLD:
        names: dict[object, dict[str, None]] = {}
        for result in results:
            names.setdefault(getattr(result, key), {})[result.name] = None
        if len(names) > 1:
            values = "; ".join(f"{value!r} ({', '.join(of)})" for value, of in names.items())
            differing.append(f"{key} {values}")
    if differing:
        raise UsageError(f"A report is about one world; these results differ in {', in '.join(differing)}.")


def _require_one_policy_a_name(results: Sequence[EpisodeResult]) -> None:
    """Refuse a name with two policies: a run that was trained anew leaves episodes of both in one log."""
    actors: dict[tuple[str, int], dict[str, None]] = {}
    for result in results:
        actors.setdefault((result.name, result.replicate), {})[result.actor] = None
    for (name, _), of_name in actors.items():
        if len(of_name) > 1:
            raise UsageError(f"{name} stands for {len(of_name)} policies: {', '.join(of_name)}.")


def _require_same_episodes(played: Played) -> None:
    names = list(dict.fromkeys(name for name, _ in played))
    lacks = []
    for region in dict.fromkeys(region for _, region in played):
        everything = set().union(*(played.get((name, region), {}) for name in names))
        for name in names:
            there = played.get((name, region), {}).keys()
            if there != everything:
                lacks.append(_said(name, region, there, everything))
    if lacks:
        raise UsageError(f"Policies must have played the same episodes; {'; '.join(lacks)}.")


def _said(name: str, region: str, there: Set[Episode], everything: Set[Episode]) -> str:
    """What a policy lacks."""
    if not there:
        return f"{name} lacks region {region!r} ({len(everything)} episodes)"
    seeds: dict[int, set[int]] = defaultdict(set)
    for training, seed in everything - there:
        seeds[training].add(seed)
    lost = [
        f"training seed {training}"
        if not any(of == training for of, _ in there)
        else f"reset seeds {describe(of_training)}" + (f" of training seed {training}" if training else "")
        for training, of_training in sorted(seeds.items())
    ]
    return f"{name} has {len(there)} of {len(everything)} in region {region!r}: it lacks {', '.join(lost)}"
