"""Nested dataclasses as dotted keys: ``alignment.tau`` is a value that can be read, listed and overridden."""

from __future__ import annotations

import dataclasses
import types
import typing
from collections.abc import Mapping
from typing import Any, Literal

import yaml

from simreal_envs.errors import UsageError, unknown
from simreal_envs.spec import check_choice


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


def assign(config: Any, key: str, value: Any) -> None:
    """Set one value of a tree of dataclasses by its dotted key; text is read as YAML unless text is wanted.

    Raises:
        UsageError: no such key, or a value that is not of its type.
    """
    valid = [name for name, _ in flatten(plain(config))]
    if key not in valid:
        raise unknown("config key", key, [name for name in valid if name.startswith(f"{key}.")] or valid)
    *path, name = key.split(".")
    owner = config
    for part in path:
        owner = getattr(owner, part)
    hint = typing.get_type_hints(type(owner))[name]
    if isinstance(value, str) and hint is not str:  # of the command line, or 1e-3, for YAML a text
        try:
            value = yaml.safe_load(value)
        except yaml.YAMLError as error:
            raise UsageError(
                f"Config {key} = {value!r} is not YAML, for example 0.5, true or [a, b]."
            ) from error
    setattr(owner, name, _convert(key, value, hint))


def _convert(key: str, value: Any, hint: Any) -> Any:
    """The value as the annotated type."""
    origin, arguments = typing.get_origin(hint), typing.get_args(hint)
    if origin is types.UnionType:
        return None if value is None else _convert(key, value, arguments[0])
    if origin is Literal:
        return check_choice(key, "none" if value is None else str(value), arguments)
    if origin is tuple and isinstance(value, list | tuple) and all(isinstance(v, str) for v in value):
        return tuple(value)
    if hint is float and not isinstance(value, bool):
        try:
            return float(value)
        except (TypeError, ValueError):
            pass
    if hint in (bool, int, str) and type(value) is hint:
        return value
    name = "list of names" if origin is tuple else hint.__name__
    raise UsageError(f"Config {key} = {value!r} is not of type {name}.")
