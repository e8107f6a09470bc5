"""The arm by the keys of the terminal.

::

    w s   forward, back (x)      r f   up, down (z)        i k   turn about y (pitch)
    a d   left, right (y)        u o   turn about z (yaw)  j l   turn about x (roll)
    c v   close, open the gripper          with shift: a quarter of the speed
    space (or any other key) stops

A terminal says that a key is pressed and, after a while, that it repeats; never that it was released.
"""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np

from simreal_agents.operators.devices import Grip, Motion

AXES = {
    "w": (0, 1), "s": (0, -1), "a": (1, 1), "d": (1, -1), "r": (2, 1), "f": (2, -1),
    "j": (3, -1), "l": (3, 1), "i": (4, 1), "k": (4, -1), "u": (5, 1), "o": (5, -1),
}  # fmt: skip
"""Key -> component of the velocity, and its sign."""
ARROWS = {"up": "w", "down": "s", "left": "a", "right": "d"}
GRIPS: dict[str, Grip] = {"c": "close", "v": "open"}

FIRST_STEPS = 15
"""A key counts as held for 0.75 s after its first signal: terminals repeat it after 0.25 to 0.66 s only."""
HOLD_STEPS = 3
"""And for 0.15 s after a repetition: these come every 30 to 90 ms."""
START = 0.25
"""Part of the speed until a key is repeated, so that a tap, which looks like a held key, is a small step."""
FINE = 0.25
"""Part of the speed with shift."""


class Keyboard:
    """Moves the arm by one key at a time (see the module): a new key ends the motion of the last one."""

    help = "w/s a/d r/f move, u/o i/k j/l turn, shift finer, space stops, c close, v open"

    def __init__(self) -> None:
        self._key, self._steps_left, self._repeated = "", 0, False

    def read(self, keys: Sequence[str]) -> Motion:
        grip: Grip = ""
        self._steps_left = max(self._steps_left - 1, 0)
        for key in keys:
            self._repeated = key == self._key and self._steps_left > 0
            self._key, self._steps_left = key, HOLD_STEPS if self._repeated else FIRST_STEPS
            grip = GRIPS.get(key.lower(), grip)
        velocity = np.zeros(6)
        name = ARROWS.get(self._key, self._key).lower()
        if self._steps_left and name in AXES:
            axis, sign = AXES[name]
            speed = (FINE if self._key.isupper() else 1.0) * (1.0 if self._repeated else START)
            velocity[axis] = sign * speed
        return Motion(velocity, grip)

    def close(self) -> None: ...
