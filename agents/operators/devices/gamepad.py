"""The arm by a gamepad: any that Linux knows as one (Xbox, PlayStation, Switch Pro, ...).

::

    left stick        forward, back (x) and left, right (y)
    right stick       up, down (z) and turn about z (yaw)
    direction pad     turn about y (pitch) and x (roll)
    lower button      open or close the gripper (A, cross)
    left shoulder     held: a quarter of the speed
    start, select     Enter, Backspace
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import numpy as np

from simreal_agents.operators.devices import Grip, Motion
from simreal_agents.operators.terminal import BACKSPACE, ENTER
from simreal_envs.errors import MissingDependencyError, RobotError

STICKS = {"ABS_Y": (0, -1), "ABS_X": (1, -1), "ABS_RY": (2, -1), "ABS_RX": (5, -1)}
"""Axis of Linux's gamepad protocol (down and right are positive) -> component of the velocity, sign."""
PAD = {"ABS_HAT0Y": (4, -1), "ABS_HAT0X": (3, 1)}
DEADBAND = 0.12
FINE = 0.25


class Gamepad:
    """Reads Linux's input events through `evdev`; the kernel gives every gamepad the same names.

    Args:
        device: an ``evdev.InputDevice``; None finds one.

    Raises:
        MissingDependencyError: evdev is not installed.
        RobotError: there is no gamepad, or it may not be read.
    """

    help = "left stick x y, right stick z yaw, pad pitch roll, A grips, L finer, Start is Enter, Select again"

    def __init__(self, device: Any = None) -> None:
        self._device = device or open_gamepad()
        from evdev import ecodes

        self._codes = ecodes
        self._velocity = np.zeros(6)
        self._fine = False
        ranges = dict(self._device.capabilities(absinfo=True)[ecodes.EV_ABS])
        self._axes = {
            ecodes.ecodes[name]: (*component, ranges[ecodes.ecodes[name]])
            for name, component in (STICKS | PAD).items()
            if ecodes.ecodes[name] in ranges
        }

    def read(self, keys: Sequence[str]) -> Motion:
        grip: Grip = ""
        pressed: list[str] = []
        for event in self._events():
            if event.type == self._codes.EV_ABS and event.code in self._axes:
                component, sign, info = self._axes[event.code]
                middle, half = (info.max + info.min) / 2, (info.max - info.min) / 2
                value = (event.value - middle) / half
                self._velocity[component] = sign * value if abs(value) > DEADBAND else 0.0
            elif event.type == self._codes.EV_KEY and event.code == self._codes.BTN_TL:
                self._fine = bool(event.value)
            elif event.type == self._codes.EV_KEY and event.value == 1:
                if event.code == self._codes.BTN_SOUTH:
                    grip = "toggle"
                elif event.code in (self._codes.BTN_START, self._codes.BTN_SELECT):
                    pressed.append(ENTER if event.code == self._codes.BTN_START else BACKSPACE)
        return Motion(self._velocity * (FINE if self._fine else 1.0), grip, tuple(pressed))

    def close(self) -> None:
        self._device.close()

    def _events(self) -> list[Any]:
        """What has happened since the last call."""
        try:
            return list(self._device.read())
        except BlockingIOError:  # nothing has
            return []
        except OSError as error:
            raise RobotError(f"The gamepad is gone: {error}. Plug it in and start again.") from error


def open_gamepad() -> Any:
    """The first gamepad that may be read."""
    try:
        import evdev
    except ImportError as error:
        raise MissingDependencyError("A gamepad needs evdev: pip install 'simreal[devices]'") from error
    for path in evdev.list_devices():
        device = evdev.InputDevice(path)
        if evdev.ecodes.BTN_SOUTH in device.capabilities().get(evdev.ecodes.EV_KEY, []):
            return device
        device.close()
    raise RobotError(
        "No gamepad in /dev/input that may be read. Plug it in; for its permission: "
        "sudo usermod -aG input $USER, then log in again."
    )
