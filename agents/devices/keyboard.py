"""The arm by the keys of the terminal.

::

    w s   forward, back (x)      r f   up, down (z)        i k   turn about y (pitch)
    a d   left, right (y)        u o   turn about z (yaw)  j l   turn about x (roll)
    c v   close, open the gripper          with shift: a quarter of the speed
"""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np

from simreal_agents.devices import Grip, Motion

AXES = {
    "w": (0, 1), "s": (0, -1), "a": (1, 1), "d": (1, -1), "r": (2, 1), "f": (2, -1),
    "j": (3, -1), "l": (3, 1), "i": (4, 1), "k": (4, -1), "u": (5, 1), "o": (5, -1),
}  # fmt: skip
"""Key -> component of the velocity, and its sign."""
ARROWS = {"up": "w", "down": "s", "left": "a", "right": "d"}
GRIPS: dict[str, Grip] = {"c": "close", "v": "open"}

HOLD_STEPS = 2
"""A key counts as held for 100 ms after it was heard of: held keys repeat every 30 to 50 ms."""
FINE = 0.25


class Keyboard:
    """See the module for the keys; several at once add up, as far as the terminal repeats them."""

    help = "w/s a/d r/f move, u/o i/k j/l turn, shift finer, c close, v open"

    def __init__(self) -> None:
        self._velocity = np.zeros(6)
        self._steps_left = np.zeros(6, dtype=int)

    def read(self, keys: Sequence[str]) -> Motion:
        grip: Grip = ""
        self._steps_left = np.maximum(self._steps_left - 1, 0)
        for key in keys:
            name = ARROWS.get(key, key).lower()
            if name in AXES:
                axis, sign = AXES[name]
                self._velocity[axis] = sign * (FINE if key.isupper() else 1.0)
                self._steps_left[axis] = HOLD_STEPS
            elif name in GRIPS:
                grip = GRIPS[name]
        return Motion(np.where(self._steps_left > 0, self._velocity, 0.0), grip)

    def close(self) -> None: ...
