"""Errors a user can mend. Each message names the offending value and what would have been valid.

The command line prints the message alone (no traceback) and exits with ``exit_code``.
"""

from __future__ import annotations

from collections.abc import Iterable


class SimrealError(Exception):
    """Something the user, the data or the machine got wrong; the message says how to mend it."""

    exit_code = 1


class UsageError(SimrealError, ValueError):
    """A value that was asked for does not exist or does not fit; nothing was started."""

    exit_code = 2


class DataError(SimrealError):
    """A dataset, episode or checkpoint that is missing, damaged or of another kind."""


class MissingDependencyError(SimrealError):
    """A library or driver is not there; the message holds the command that installs it."""


class RobotError(SimrealError):
    """The robot, its gripper or its camera cannot do what was asked; the message names the cause."""


class ActorError(SimrealError):
    """Who acts cannot go on, for example because its policy server is lost; ends the episode by name."""


def unknown(what: str, value: object, valid: Iterable[str]) -> UsageError:
    """Build the error for a name that is not one of the valid ones.

    >>> str(unknown("task", "Lyft", ["Lift", "Stack"]))
    "Unknown task 'Lyft'. Valid: Lift, Stack."
    """
    return UsageError(f"Unknown {what} {value!r}. Valid: {', '.join(valid)}.")
