"""What a policy has to know of a world before it acts there, and whether it fits; needs no torch."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, replace
from typing import Any

import gymnasium as gym

from simreal_datasets.loading.frames import look
from simreal_envs.errors import DataError
from simreal_envs.features import WorldSpec, hint
from simreal_envs.spec import action_space
from simreal_envs.stack import changes, members
from simreal_envs.table_world import table_world


@dataclass(frozen=True)
class Sight:
    """How one world looks to a policy.

    Attributes:
        world: its arrays, and what its actions mean.
        look: see :func:`simreal_datasets.loading.frames.look`.
        shift: as written.
        cameras: of those that stand still, by name, as JSON.
    """

    world: WorldSpec
    look: str
    shift: str
    cameras: Mapping[str, dict[str, Any]]

    @classmethod
    def of(cls, env: gym.Env[Any, Any]) -> Sight:
        """How the world of a single environment looks."""
        world, described = table_world(env), table_world(env).describe()
        cameras = {name: c.to_json() for name, c in world.cameras.items() if c.mount == "base"}
        return cls(_offered(env), look(described), described["shift"], cameras)

    def to_json(self) -> dict[str, Any]:
        """JSON-able."""
        return {**vars(self), "world": self.world.to_json()}

    @classmethod
    def from_json(cls, values: Mapping[str, Any]) -> Sight:
        """The inverse of :meth:`to_json`; a DataError says what is wrong."""
        for key, kind in (("world", dict), ("look", str), ("shift", str), ("cameras", dict)):
            if type(values.get(key)) is not kind:
                raise DataError(f"its {key} is {values.get(key)!r:.40}, not a {kind.__name__}")
        return cls(WorldSpec.from_json(values["world"]), values["look"], values["shift"], values["cameras"])


def sights_of(env: Any) -> list[Sight]:
    """How the worlds of an environment look, one or those of a vector environment.

    Raises:
        UsageError: the worlds of a vector environment are in other processes.
    """
    return [Sight.of(member) for member in members(env)]


def check_world(needed: WorldSpec, env: Any) -> None:
    """Refuse an environment whose actions or observations differ from those that a policy needs.

    Raises:
        DataError: lists what differs, and the arguments that make a world that fits: task, action kind,
            observations, their sizes, and what wrappers change.
        UsageError: the worlds of a vector environment are in other processes.
    """
    problems = changes(env)
    own = action_space(needed.action_kind).shape
    for member in members(env):
        problems += needed.lacks(_offered(member))
        if member.action_space.shape != own:
            problems.append(f"actions have shape {member.action_space.shape}, the policy's {own}")
    _refuse(needed, problems)


def check_sights(needed: WorldSpec, sights: Sequence[Sight]) -> None:
    """The same for worlds of which only their sights are known; wrappers cannot be seen."""
    _refuse(needed, [problem for sight in sights for problem in needed.lacks(sight.world)])


def _offered(env: gym.Env[Any, Any]) -> WorldSpec:
    return replace(table_world(env).world_spec, action_kind=env.get_wrapper_attr("action_kind"))


def _refuse(needed: WorldSpec, problems: Iterable[str]) -> None:
    different = list(dict.fromkeys(problems))
    if different:
        raise DataError(
            f"This policy does not fit the environment: {'; '.join(different)}. Make the environment with "
            f"{hint(needed)}."
        )
