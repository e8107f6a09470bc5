"""Tasks, shifts, encoders and heads by name: the package's own, and those of other installed packages.

Another package adds one by an entry point in its ``pyproject.toml``, and nothing else::

    [project.entry-points."simreal.tasks"]
    Can = "my_package.can:Can"
"""

from __future__ import annotations

import logging
from collections.abc import Iterator, Mapping
from functools import cached_property
from importlib.metadata import EntryPoint, entry_points
from typing import Any, Generic, TypeVar

from simreal_envs.errors import UsageError, unknown

log = logging.getLogger("simreal.plugins")

T = TypeVar("T")


class Registry(Generic[T]):
    """Maps names to all things of one kind (the tasks, for example), which are imported when first used.

    Args:
        what: the kind, as messages call it.
        group: the group of entry points that add to it.
        built_in: simreal's own things: each one itself, or where it is, ``"module:attribute"``.
        base: the base class of everything in the registry.

    >>> numbers = Registry("number", "simreal.numbers", {"pi": "math:pi", "one": 1.0})
    >>> numbers.names(), "pi" in numbers, numbers["one"]
    (['pi', 'one'], True, 1.0)
    """

    def __init__(
        self, what: str, group: str, built_in: Mapping[str, T | str], base: type | None = None
    ) -> None:
        self.what, self.group, self.built_in = what, group, built_in
        self._base = base
        self._loaded: dict[str, T] = {}

    def names(self) -> list[str]:
        """The names of simreal's own in their order, then those of plug-ins in alphabetical order."""
        return [*self.built_in, *self._plug_ins]

    def __iter__(self) -> Iterator[str]:
        return iter(self.names())

    def __len__(self) -> int:
        return len(self.names())

    def __contains__(self, name: object) -> bool:
        return name in self.built_in or name in self._plug_ins

    def __getitem__(self, name: str) -> T:
        """The thing with this name, imported when it is first asked for.

        Raises:
            UsageError: an unknown name, whose message lists the valid ones, or a plug-in that cannot be
                loaded, whose message names its package.
        """
        if name not in self._loaded:
            self._loaded[name] = self._load(name)
        return self._loaded[name]

    def loaded(self) -> dict[str, T]:
        """All of them. A plug-in that cannot be loaded is left out, and a warning names it."""
        for name in self:
            try:
                self[name]
            except UsageError as error:
                log.warning("%s", error)
        return {name: self._loaded[name] for name in self if name in self._loaded}

    @cached_property
    def _plug_ins(self) -> dict[str, EntryPoint]:
        found: dict[str, EntryPoint] = {}
        for entry in sorted(entry_points(group=self.group), key=lambda entry: (entry.name, _package(entry))):
            if not entry.name.isidentifier():
                reason = "its name is no Python identifier"
            elif entry.name in self.built_in or entry.name in found:
                owner = _package(found[entry.name]) if entry.name in found else "simreal"
                reason = f"{owner} has one of that name"
            else:
                found[entry.name] = entry
                continue
            log.warning("%s is left out: %s.", self._described(entry), reason)
        return found

    def _load(self, name: str) -> T:
        if name in self.built_in:
            own: Any = self.built_in[name]
            return EntryPoint(name, own, self.group).load() if isinstance(own, str) else own
        if name not in self._plug_ins:
            raise unknown(self.what, name, self)
        entry = self._plug_ins[name]
        try:
            loaded: Any = entry.load()
        except Exception as error:  # whatever others' modules raise
            reason = f"{type(error).__name__}: {error}"
            raise UsageError(f"{self._described(entry)} cannot be loaded: {reason}") from error
        if self._base and not (isinstance(loaded, type) and issubclass(loaded, self._base)):
            raise UsageError(f"{self._described(entry)} is no subclass of {self._base.__name__}: {loaded!r}")
        return loaded

    def _described(self, entry: EntryPoint) -> str:
        return f"{self.what.capitalize()} {entry.name!r} of package {_package(entry)!r}"


def _package(entry: EntryPoint) -> str:
    return entry.dist.name if entry.dist else entry.value
