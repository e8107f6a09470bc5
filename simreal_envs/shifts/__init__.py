"""Domain shifts: named changes of a world's look or dynamics, scaled and composed with ``+``.

``"viewpoint+texture"`` is both at full strength, ``"viewpoint:0.5+light"`` moves the camera half way.
A shift has a hook for each moment: before the scene is compiled, at a reset, and at a control step.
"""

from simreal_envs.shifts.base import LOOKS, OF_SIMULATION, PHYSICS, Shift, may_move_cameras, that_override
from simreal_envs.shifts.draws import EpisodeDraws
from simreal_envs.shifts.notation import (
    FIRST_FREE_STREAM,
    MAX_STRENGTH,
    PRESETS,
    SHIFTS,
    STAND_IN,
    canonical,
    expanded,
    parse_seen,
    parse_shift,
    seen,
    shifts_of,
)

__all__ = [
    "FIRST_FREE_STREAM", "LOOKS", "MAX_STRENGTH", "OF_SIMULATION", "PHYSICS", "PRESETS", "SHIFTS", "STAND_IN",
    "EpisodeDraws", "Shift", "canonical", "expanded", "may_move_cameras", "parse_seen", "parse_shift", "seen",
    "shifts_of", "that_override",
]  # fmt: skip
