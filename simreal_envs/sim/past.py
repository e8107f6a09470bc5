"""The last states of an episode, for cameras that show what was some control steps ago."""

from __future__ import annotations

from simreal_envs.errors import UsageError
from simreal_envs.spec import FloatArray


class Past:
    """Remembers the states of the last moments; a moment is the number of control steps since the reset.

    Args:
        steps: how many control steps ago the state is that is asked for.
    """

    def __init__(self, steps: int) -> None:
        self.steps = steps
        self._states: dict[int, FloatArray] = {}

    def add(self, moment: int, state: FloatArray) -> None:
        """The state of this moment; what was known of it and of later moments is of another episode."""
        kept = range(moment - self.steps, moment)
        self._states = {known: self._states[known] for known in kept if known in self._states}
        self._states[moment] = state

    def before(self, moment: int) -> FloatArray:
        """The state that is shown at this moment; at the first moments that of the reset.

        Raises:
            UsageError: it has not been added.
        """
        wanted = max(0, moment - self.steps)
        if wanted not in self._states:
            raise UsageError(
                f"With an image delay of {self.steps} control steps, moment {moment} shows the state of "
                f"moment {wanted}, which is not known: show an episode's states in order, from the first one."
            )
        return self._states[wanted]
