"""How far an episode has come through the stages of its task."""

from __future__ import annotations

from collections.abc import Mapping, Sequence


class Progress:
    """A stage counts once those before it have been reached, and then for good."""

    def __init__(self, stages: Sequence[str]) -> None:
        self._reached = dict.fromkeys(stages, False)

    def update(self, now: Mapping[str, bool]) -> None:
        """Take note of which stages' conditions hold."""
        before = True
        for stage in self._reached:
            self._reached[stage] = self._reached[stage] or (before and now[stage])
            before = self._reached[stage]

    @property
    def reached(self) -> list[str]:
        """The stages reached, in order."""
        return [stage for stage, reached in self._reached.items() if reached]

    @property
    def furthest(self) -> str:
        """The last of them, or ``start``."""
        return self.reached[-1] if self.reached else "start"
