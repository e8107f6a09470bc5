"""Nested dataclasses as dotted keys: ``alignment.tau`` is a value that can be read, listed and overridden.

A section can be a choice: its ``kind`` says which class its settings are of, and so which keys it has.
"""

from __future__ import annotations

import dataclasses
import math
import types
import typing
from collections.abc import Callable, Mapping
from contextlib import suppress
from dataclasses import dataclass
from typing import Annotated, Any, Generic, Literal, NamedTuple, TypeVar

import yaml

from simreal_envs.errors import UsageError
from simreal_envs.plugins import Registry
from simreal_envs.spec import check_choice


class Limit(NamedTuple):
    """What a number has to fulfil besides its type; ``said`` completes "Config x = 1 must ..."."""

    holds: Callable[[Any], bool]
    said: str


Count = Annotated[int, Limit(lambda n: n >= 1, "be at least 1")]
Positive = Annotated[float, Limit(lambda x: 0 < x < math.inf, "be positive and finite")]
NOT_NEGATIVE = Limit(lambda x: not x < 0, "not be negative")
USUAL = (NOT_NEGATIVE, Limit(math.isfinite, "be finite"))
"""What a number must be if its type has no limits of its own."""


@dataclass
class Tagged:
    """Base of the settings of a section with several kinds; each subclass has the settings of one kind."""

    kind: str = ""
    """Which kind it is."""


T = TypeVar("T", bound=Tagged)
C = TypeVar("C")


@dataclass(frozen=True)
class Choice(Generic[T]):
    """The ``default_factory`` of a field that holds the :class:`Tagged` settings of one of several kinds.

    Attributes:
        default: the kind that a new configuration has.
        kinds: by name, classes with ``Settings``, or the settings' classes themselves.
        base: what the settings of all of them inherit.
    """

    default: str
    kinds: Mapping[str, Any] | Registry[Any]
    base: type[T]

    def __call__(self, kind: str = "") -> T:
        """Default settings of a kind.

        Raises:
            UsageError: the class of another package has settings that are none.
        """
        kind = kind or self.default
        settings: Any = getattr(self.kinds[kind], "Settings", self.kinds[kind])
        inherits = isinstance(settings, type) and issubclass(settings, self.base)
        if not inherits or "__dataclass_fields__" not in vars(settings):
            raise UsageError(
                f"Settings of {kind!r} must be a dataclass that inherits {self.base.__qualname__}."
            )
        made: T = settings(kind=kind)
        return made


def flatten(values: Mapping[str, Any], prefix: str = "") -> list[tuple[str, Any]]:
    """Nested mappings as (dotted key, value).

    >>> flatten({"seed": 0, "alignment": {"tau": 0.5}})
    [('seed', 0), ('alignment.tau', 0.5)]
    """
    flat: list[tuple[str, Any]] = []
    for key, value in values.items():
        flat += (
            flatten(value, f"{prefix}{key}.") if isinstance(value, Mapping) else [(f"{prefix}{key}", value)]
        )
    return flat


def plain(config: Any) -> dict[str, Any]:
    """A tree of dataclasses as nested mappings of what JSON and YAML hold."""

    def listed(value: Any) -> Any:
        if isinstance(value, dict):
            return {key: listed(inner) for key, inner in value.items()}
        return list(value) if isinstance(value, tuple) else value

    return {key: listed(value) for key, value in dataclasses.asdict(config).items()}


def assign_all(config: Any, values: Mapping[str, Any]) -> None:
    """Set values by their dotted keys; kinds first, as they decide which other keys there are."""
    for key in sorted(values, key=lambda key: not key.endswith(".kind")):
        assign(config, key, values[key])


def complete(config: C, values: Mapping[str, Any]) -> C:
    """Set every value of a tree of dataclasses; a key that is missing does not keep its default.

    Raises:
        UsageError: a key that does not exist or is missing, or a value that does not fit.
    """
    given = dict(flatten(values))
    assign_all(config, {key: value for key, value in given.items() if key.endswith(".kind")})
    if missing := [key for key, _ in flatten(plain(config)) if key not in given]:
        raise UsageError(f"The configuration lacks {', '.join(missing)}.")
    assign_all(config, given)
    return config


def split_override(override: str) -> tuple[str, str]:
    """Key and text of ``key=value``; a UsageError if it is none."""
    key, equals, text = override.partition("=")
    if not equals:
        raise UsageError(f"Override {override!r} must be key=value, for example seed=3.")
    return key.strip(), text


def assign(config: Any, key: str, value: Any) -> None:
    """Set one value of a tree of dataclasses by its dotted key; text is read as YAML unless text is wanted.

    Another kind of a section starts from its own defaults; fields that both kinds inherit keep their values.

    Raises:
        UsageError: no such key, or a value that is not of its type.
    """
    *path, name = key.split(".")
    owner, section, holder = config, "", None
    for part in path:
        if not dataclasses.is_dataclass(getattr(owner, part, None)):
            break
        owner, section, holder = getattr(owner, part), f"{section}{part}.", owner
    if key not in [name for name, _ in flatten(plain(config))]:
        raise _unknown_key(config, key, section, owner)
    if isinstance(owner, Tagged) and name == "kind":
        assert holder is not None
        choice: Choice[Any] = holder.__dataclass_fields__[path[-1]].default_factory
        if check_choice(f"config {key}", str(value), choice.kinds) != owner.kind:
            setattr(holder, path[-1], _changed(owner, choice(value)))
        return
    hint = typing.get_type_hints(type(owner), include_extras=True)[name]
    if isinstance(value, str) and hint is not str:  # of the command line, or 1e-3, for YAML a text
        try:
            value = yaml.safe_load(value)
        except yaml.YAMLError as error:
            raise UsageError(
                f"Config {key} = {value!r} is not YAML, for example 0.5, true or [a, b]."
            ) from error
    setattr(owner, name, _convert(key, value, hint))


def _unknown_key(config: Any, key: str, section: str, owner: Any) -> UsageError:
    """The error for a key that there is not; it lists those below it, of its section, or all."""
    valid = [name for name, _ in flatten(plain(config))]
    below = [name for name in valid if name.startswith(f"{key}.")]
    beside = [name for name in valid if name.startswith(section)]
    where = f" where {section}kind is {owner.kind}" if isinstance(owner, Tagged) else ""
    return UsageError(f"Unknown config key {key!r}{where}. Valid: {', '.join(below or beside)}.")


def _changed(old: Tagged, new: Tagged) -> Tagged:
    """The settings of the new kind, with the old values of the fields that both kinds inherit."""
    for field in dataclasses.fields(new):
        if field.name != "kind" and old.__dataclass_fields__.get(field.name) is field:
            setattr(new, field.name, getattr(old, field.name))
    return new


def _convert(key: str, value: Any, hint: Any, limits: tuple[Limit, ...] = USUAL) -> Any:
    """The value as the annotated type."""
    origin, arguments = typing.get_origin(hint), typing.get_args(hint)
    if origin in (types.UnionType, typing.Union):
        return None if value is None else _convert(key, value, arguments[0])
    if origin is Annotated:
        return _convert(key, value, arguments[0], arguments[1:])
    if origin is Literal:
        return check_choice(key, "none" if value is None else str(value), arguments)
    if origin is tuple and isinstance(value, list | tuple):
        return tuple(_convert(key, each, arguments[0]) for each in value)
    if hint is float and not isinstance(value, bool):
        with suppress(TypeError, ValueError):
            value = float(value)
    if hint in (bool, int, float, str) and type(value) is hint:
        for limit in limits if hint in (int, float) else ():
            if not limit.holds(value):
                raise UsageError(f"Config {key} = {value} must {limit.said}.")
        return value
    name = "list" if origin is tuple else hint.__name__
    raise UsageError(f"Config {key} = {value!r} is not of type {name}.")
