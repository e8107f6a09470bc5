"""What a person moves the arm with: keyboard, gamepad, 6-DoF mouse. Hand guiding has its own room.

A device says in which direction and how fast; :mod:`simreal_agents.operators.teleoperation` makes absolute
targets of that. Axes are those of the robot base: x forward, y left, z up.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from typing import Literal, Protocol

import numpy as np

Grip = Literal["", "open", "close", "toggle"]


@dataclass(frozen=True)
class Motion:
    """What the operator wants in this step.

    Attributes:
        velocity: (6,) in [-1, 1]: along x, y, z and about x, y, z of the base; 1 is the session's full speed.
        grip: what the fingers shall do; empty to leave them.
        keys: session keys pressed on the device itself, named as in :mod:`simreal_agents.operators.terminal`.
    """

    velocity: np.ndarray = field(default_factory=lambda: np.zeros(6))
    grip: Grip = ""
    keys: tuple[str, ...] = ()

    def __bool__(self) -> bool:
        """Whether the operator wants anything of the arm."""
        return bool(self.grip) or bool(np.any(self.velocity))


class Device(Protocol):
    """Something a person steers with."""

    help: str
    """One line: what moves what."""

    def read(self, keys: Sequence[str]) -> Motion:
        """The motion that is wanted now; never waits. Call it once a step, with the keys typed since then.

        Raises:
            RobotError: the device is gone.
        """

    def close(self) -> None: ...


def _keyboard() -> Device:
    from simreal_agents.operators.devices.keyboard import Keyboard

    return Keyboard()


def _gamepad() -> Device:
    from simreal_agents.operators.devices.gamepad import Gamepad

    return Gamepad()


def _spacemouse() -> Device:
    from simreal_agents.operators.devices.spacemouse import SpaceMouse

    return SpaceMouse()


DEVICES: dict[str, Callable[[], Device]] = {
    "keyboard": _keyboard,
    "spacemouse": _spacemouse,
    "gamepad": _gamepad,
}
