"""The faults that the rig can simulate, by name."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

from simreal_envs.errors import UsageError, unknown
from simreal_envs.rig.protocol import ERRORS

FAULTS = {
    "none": "ends every fault",
    "reflex": "the arm stops with an error: its name, joint_reflex by default",
    "user_stop": "the external activation device is pressed: no motion until it is released",
    "packet_loss": "states and commands are lost: a probability, 0.05 by default",
    "link_cut": "nothing arrives any more, in either direction",
    "gripper_stuck": "the fingers do not move",
    "gripper_unhomed": "the hand was switched off and on: it does not know its range until it is homed",
    "camera_stall": "the camera goes on with its last frame",
    "camera_unplug": "the camera is gone",
    "clock_jump": "the robot's clock jumps ahead: seconds, 1 by default",
}


@dataclass
class Faults:
    """The faults that hold at present."""

    user_stop: bool = False
    packet_loss: float = 0.0
    link_cut: bool = False
    gripper_stuck: bool = False
    gripper_unhomed: bool = False
    camera_stall: bool = False
    camera_unplug: bool = False


def parse_fault(text: str) -> tuple[str, str | None]:
    """Read ``NAME`` or ``NAME:VALUE``.

    >>> parse_fault("packet_loss:0.1")
    ('packet_loss', '0.1')

    Raises:
        UsageError: an unknown name, or a value that the fault does not take.
    """
    name, _, value = text.partition(":")
    if name not in FAULTS:
        raise unknown("fault", name, FAULTS)
    check_value(name, value or None)
    return name, value or None


def check_value(name: str, value: str | float | None) -> str | float | None:
    """The value of a fault, its default if it is None.

    Raises:
        UsageError: the fault does not take this value.
    """
    if name == "reflex":
        error = str(value or "joint_reflex")
        if error not in ERRORS:
            raise unknown("reflex", error, ERRORS)
        return error
    if name in ("packet_loss", "clock_jump"):
        try:
            number = float(value) if value is not None else {"packet_loss": 0.05, "clock_jump": 1.0}[name]
        except ValueError:
            number = np.nan
        valid = 0 <= number <= 1 if name == "packet_loss" else abs(number) <= 3600
        if not valid:
            bounds = "a probability from 0 to 1" if name == "packet_loss" else "seconds, 3600 at most"
            raise UsageError(f"Fault {name} takes {bounds}, not {value!r}.")
        return number
    if value is not None:
        raise UsageError(f"Fault {name} takes no value, but was given {value!r}.")
    return None
