"""Keeping the control rate: absolute deadlines, and no silence when they are missed."""

from __future__ import annotations

import logging
import time
from collections import deque

from simreal_envs.spec import CONTROL_HZ

log = logging.getLogger("simreal.robot")

PERIOD_S = 1 / CONTROL_HZ
LOWEST_HZ = 0.975 * CONTROL_HZ
WINDOW_STEPS = 20
"""The rate is judged over one second."""


class Pace:
    """Ends every step on the grid of the control rate, and warns when that fails.

    A late step does not move the grid, so the next step is shorter. After a delay of a whole period the grid
    starts anew; otherwise the steps after a pause would follow each other without waiting.
    """

    def __init__(self) -> None:
        self._deadline_s = 0.0
        self._ends_s: deque[float] = deque(maxlen=WINDOW_STEPS + 1)

    def start(self) -> None:
        """The first step begins now."""
        self._deadline_s = time.monotonic()
        self._ends_s.clear()
        self._ends_s.append(self._deadline_s)

    def wait(self) -> float:
        """Sleep to the end of the step; returns by how much it was missed, in seconds (0 if it was kept)."""
        self._deadline_s += PERIOD_S
        slack_s = self._deadline_s - time.monotonic()
        if slack_s > 0:
            time.sleep(slack_s)
        elif slack_s < -PERIOD_S:
            self._deadline_s -= slack_s
        self._ends_s.append(time.monotonic())
        if len(self._ends_s) > WINDOW_STEPS:
            rate_hz = WINDOW_STEPS / (self._ends_s[-1] - self._ends_s[0])
            if rate_hz < LOWEST_HZ:
                log.warning(
                    "Control runs at %.1f Hz instead of %d: the policy or this machine is too slow.",
                    rate_hz,
                    CONTROL_HZ,
                )
                self._ends_s.clear()  # one warning a second
                self._ends_s.append(time.monotonic())
        return max(0.0, -slack_s)
