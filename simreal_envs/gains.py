"""How firmly the simulated arm follows its targets."""

from __future__ import annotations

from dataclasses import dataclass


@dataclass(frozen=True)
class Gains:
    """The gains of the operational-space controller: stiffness per unit of inertia, critically damped.

    Attributes:
        position, rotation: stiffness in 1/s^2 towards the target; a target that moves at v m/s is followed
            at a distance of about ``2 v / sqrt(position)`` m.
        posture: stiffness in 1/s^2 towards the start joints, as far as the target leaves them free.
        posture_offset_rad: (7,) from the start joints to those that the posture pulls to.
    """

    position: float
    rotation: float
    posture: float
    posture_offset_rad: tuple[float, ...] = (0.0,) * 7


ROBOSUITE = Gains(position=150.0, rotation=150.0, posture=10.0)
"""robosuite's own."""
