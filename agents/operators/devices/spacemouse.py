"""The arm by a 3Dconnexion SpaceMouse: push, pull and turn the cap as the hand shall go.

Standing behind the robot, the cap's forward is x. The first button opens or closes the gripper (so do the
keys v and c), the second is Enter.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import numpy as np

from simreal_agents.operators.devices import Grip, Motion
from simreal_agents.operators.devices.keyboard import GRIPS
from simreal_agents.operators.terminal import ENTER
from simreal_envs.errors import MissingDependencyError, RobotError

AXES = ("x", "y", "z", "roll", "pitch", "yaw")
DEADBAND = 0.08
"""A released cap does not come back to zero exactly."""
MAX_REPORTS = 64
"""More than a SpaceMouse sends in a step."""


class SpaceMouse:
    """Reads through `pyspacemouse`, which knows the reports of every model.

    Args:
        mouse: an opened device of pyspacemouse; None finds one.

    Raises:
        MissingDependencyError: pyspacemouse or hidapi is not installed.
        RobotError: there is no SpaceMouse, or it may not be read.
    """

    help = "push and turn the cap, first button (or c, v) closes and opens, second is Enter"

    def __init__(self, mouse: Any = None) -> None:
        self._mouse = mouse or open_spacemouse()
        self._pressed = (0, 0)

    def read(self, keys: Sequence[str]) -> Motion:
        state = self._latest()
        velocity = np.clip([getattr(state, axis) for axis in AXES], -1.0, 1.0)
        velocity[np.abs(velocity) < DEADBAND] = 0.0
        before, self._pressed = self._pressed, (*state.buttons, 0, 0)[:2]
        toggled, entered = (now > then for now, then in zip(self._pressed, before, strict=True))
        grip: Grip = "toggle" if toggled else ""
        for key in keys:  # one model has no buttons
            grip = GRIPS.get(key, grip)
        return Motion(velocity, grip, (ENTER,) if entered else ())

    def close(self) -> None:
        self._mouse.close()

    def _latest(self) -> Any:
        """The state after every report that has come; each read takes one."""
        from easyhid import HIDException

        try:
            state = self._mouse.read()
            for _ in range(MAX_REPORTS):
                time_s = state.t
                state = self._mouse.read()
                if state.t == time_s:
                    break
        except HIDException as error:
            raise RobotError(f"The SpaceMouse is gone: {error}. Plug it in and start again.") from error
        return state


def open_spacemouse() -> Any:
    """The SpaceMouse that is plugged in, with axes as the robot base has them."""
    try:
        import pyspacemouse
    except ImportError as error:
        raise MissingDependencyError(
            "A SpaceMouse needs pyspacemouse: pip install 'simreal[devices]'"
        ) from error
    try:
        found = pyspacemouse.get_connected_devices()
    except RuntimeError as error:  # it found no hidapi
        raise MissingDependencyError(
            "A SpaceMouse needs hidapi: apt-get install libhidapi-hidraw0"
        ) from error
    if not found:
        raise RobotError("No SpaceMouse found. Plug it in, and see `docs/collecting.md` for its permission.")
    try:
        return pyspacemouse.open(device=found[0], axis_convention=pyspacemouse.AxisConvention.ROS)
    except RuntimeError as error:
        raise RobotError(
            f"The {found[0]} cannot be opened ({error}): see `docs/collecting.md` for its permission."
        ) from error
