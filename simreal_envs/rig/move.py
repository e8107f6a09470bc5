"""A motion that a client has asked for, and how well its commands arrive."""

from __future__ import annotations

from dataclasses import dataclass, field

import numpy as np

from simreal_envs.rig.motion import MotionGenerator
from simreal_envs.rig.protocol import Controller, Motion, Status

LOST_IN_A_ROW = 20
"""Commands after which the robot gives up, where that is enforced."""

_WINDOW = 100
_ALL_RECEIVED = (1 << _WINDOW) - 1


@dataclass
class Statistics:
    """Counts since the rig's start: states that asked for a command, and those not answered in time."""

    commands: int = 0
    lost: int = 0
    most_lost_in_a_row: int = 0
    reflexes: int = 0


@dataclass
class Move:
    """One MOVE request.

    Attributes:
        number: of the request, which is answered again when the motion has ended.
        since: message number of the state at its start; commands that answer older ones are not its own.
        torque: (7,) last commanded torque.
        ending: the answer that the request gets once the arm has come to rest.
        stop_number: number of the request that stopped the motion, which is answered at the same time.
    """

    number: int
    since: int
    kind: Motion
    controller: Controller
    generator: MotionGenerator
    torque: np.ndarray = field(default_factory=lambda: np.zeros(7))
    ending: Status | None = None
    stop_number: int | None = None
    lost_in_a_row: int = 0
    _started: bool = False
    _received: int = _ALL_RECEIVED
    """Of the last hundred milliseconds, those with a command, as bits."""

    @property
    def success_rate(self) -> float:
        """Share of the last hundred milliseconds with a command."""
        return self._received.bit_count() / _WINDOW

    def count(self, commanded: bool, statistics: Statistics) -> None:
        """Note whether this millisecond had a command; the first one may take its time."""
        if self.ending is not None or not (self._started or commanded):
            return
        self._started = True
        self._received = (self._received << 1 | commanded) & _ALL_RECEIVED
        self.lost_in_a_row = 0 if commanded else self.lost_in_a_row + 1
        statistics.commands += 1
        statistics.lost += not commanded
        statistics.most_lost_in_a_row = max(statistics.most_lost_in_a_row, self.lost_in_a_row)
