"""Actors in vector environments: Gymnasium's ``SyncVectorEnv``, Stable-Baselines3's ``evaluate_policy``.

A vector environment's observations have a leading batch axis. An actor answers with actions (n, A) and a list
of n states, one an environment; ``episode_start`` (n,) begins single ones anew.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from functools import wraps
from typing import Any

import numpy as np
from gymnasium import spaces

from simreal_envs.errors import UsageError
from simreal_envs.features import PROPRIOCEPTIVE
from simreal_envs.loop import Actor
from simreal_envs.spec import check_observation

Predict = Callable[..., tuple[np.ndarray, Any]]


def proprioception_space(history: int = 1, names: Sequence[str] = ()) -> spaces.Dict:
    """The space of the proprioception that every world shows, or of the arrays that are named."""
    return spaces.Dict({f.key: f.box(history) for f in PROPRIOCEPTIVE if not names or f.key in names})


def states_of(state: Any, episode_start: Any, count: int | None) -> list[Any]:
    """The state of each environment, None where an episode starts. ``count`` None: no batch axis.

    Raises:
        UsageError: not one state or one entry of ``episode_start`` an environment.
    """
    number = 1 if count is None else count
    starts = np.asarray(False if episode_start is None else episode_start, bool)
    if starts.size != number and starts.ndim > 0:
        raise UsageError(
            f"episode_start has shape {starts.shape}; observations are of {number} environments."
        )
    if state is None:
        return [None] * number
    if count is not None and not (isinstance(state, list) and len(state) == count):
        raise UsageError(
            f"The state of {count} environments is None or the list of {count} that the prediction before "
            f"returned, not {f'a list of {len(state)}' if isinstance(state, list) else type(state).__name__}."
        )
    states = [state] if count is None else state
    started = np.broadcast_to(starts.reshape(-1), number)
    return [None if begins else one for one, begins in zip(states, started, strict=True)]


def of_one_world(*reads: str) -> Callable[[Predict], Predict]:
    """Decorate a ``predict`` for one world: it then checks what it reads, and takes a batch of one as well.

    The decorated method is given the present moment of one environment's observation, and None as state where
    an episode starts. Where the environment shows a history, the actor's attribute ``history`` says how long.

    Args:
        reads: names of the proprioception that it reads.

    Raises:
        UsageError: from ``predict``: see :func:`check_observation`, or for a batch of more than one.
    """

    def decorate(predict: Predict) -> Predict:
        @wraps(predict)
        def understood(
            self: Any,
            observation: Any,
            state: Any = None,
            episode_start: Any = None,
            deterministic: bool = True,
        ) -> tuple[np.ndarray, Any]:
            history = getattr(self, "history", 1)
            count = check_observation(observation, proprioception_space(history, reads))
            if count not in (None, 1):
                raise UsageError(
                    f"This {type(self).__name__} acts in one environment and was given observations of "
                    f"{count}. Make one for each and hand them to simreal_envs.vector.OneEach, as "
                    "make_expert(envs) does."
                )
            (before,) = states_of(state, episode_start, count)
            alone = observation if count is None else {name: v[0] for name, v in observation.items()}
            present = alone if history == 1 else {name: v[-1] for name, v in alone.items()}
            action, after = predict(self, present, before, episode_start, deterministic)
            return (action, after) if count is None else (action[None], [after])

        return understood

    return decorate


class OneEach:
    """The actor of a vector environment that has one actor for each of its environments, in their order."""

    def __init__(self, actors: Sequence[Actor]) -> None:
        self._actors = list(actors)

    def predict(
        self,
        observation: Any,
        state: Any = None,
        episode_start: Any = None,
        deterministic: bool = True,
    ) -> tuple[np.ndarray, list[Any]]:
        """Actions (n, A) and n states for observations with a leading batch axis.

        Raises:
            UsageError: the observations are of another number of environments.
        """
        history = getattr(self._actors[0], "history", 1)
        count = check_observation(observation, proprioception_space(history))
        if count != len(self._actors):
            raise UsageError(
                f"These are the actors of {len(self._actors)} environments, and the observations are "
                f"{'without a batch axis' if count is None else f'of {count}'}."
            )
        states = states_of(state, episode_start, count)
        answers = [
            actor.predict(
                {name: values[i] for name, values in observation.items()}, states[i], None, deterministic
            )
            for i, actor in enumerate(self._actors)
        ]
        return np.stack([action for action, _ in answers]), [after for _, after in answers]
