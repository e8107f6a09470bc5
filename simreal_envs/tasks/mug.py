"""The mug of several tasks: hollow, with a handle that a branch fits through."""

from __future__ import annotations

from itertools import pairwise
from typing import TYPE_CHECKING, Any

import numpy as np

from simreal_envs.poses import in_base, in_frame
from simreal_envs.tasks import moves
from simreal_envs.tasks.materials import glaze
from simreal_envs.tasks.shapes import Part, assemble, rod

if TYPE_CHECKING:
    from robosuite.models.objects import MujocoObject

    from simreal_envs.spec import FloatArray

RADIUS_M = 0.032
"""The fingers open 8 cm wide and close on the mug from both sides, so they have 8 mm to spare on each."""
HALF_HEIGHT_M = 0.0425
WALL_M = 0.004
FLOOR_M = 0.006
DENSITY = 2400.0
"""Ceramic: the mug's mass is 0.2 kg."""
FACETS = 24
"""Boxes that the wall is made of."""

BAR_RADIUS_M = 0.005
HANDLE_M = ((0.030, 0.028), (0.052, 0.028), (0.062, 0.018), (0.062, -0.012), (0.050, -0.027), (0.030, -0.030))
"""Middle of the handle's bar: distance from the mug's axis along +y, and height over the origin."""
AXIS_Y_M = (RADIUS_M - 0.062 - BAR_RADIUS_M) / 2
"""The origin is the middle of mug and handle, so the mug's axis is beside it."""
LOOP_Y_M = (AXIS_Y_M + RADIUS_M, AXIS_Y_M + 0.062 - BAR_RADIUS_M)
LOOP_Z_M = (-0.024, 0.028 - BAR_RADIUS_M)
"""The opening of the handle in the plane x = 0: 2.5 cm wide, 4.7 cm high."""
FRICTION = (1.0, 0.005, 0.006)
"""Of the handle. Without the last, rolling friction, a mug that hangs by it would swing for minutes."""

GRASP_HEIGHT_M = 0.02
"""Of the fingers over the middle of the mug."""

_WHITE, _BLUE = (0.96, 0.95, 0.92, 1.0), (0.25, 0.55, 0.85, 1.0)


def mug(name: str) -> MujocoObject:
    """A mug of 8.5 cm height, whose handle is along +y. Its origin is the middle of the box around it."""
    outside, inside = glaze("mug_glaze"), glaze("mug_lining")
    half_width_m = RADIUS_M * np.tan(np.pi / FACETS)
    # The mug stands on its floor alone: a wall that touches the table too would double the contacts.
    foot_m = 0.001
    half_height_m = HALF_HEIGHT_M - foot_m / 2
    parts = []

    def wall(turn: float, middle_m: float, thickness_m: float, **looks: Any) -> Part:
        at = (middle_m * np.cos(turn), AXIS_Y_M + middle_m * np.sin(turn), foot_m / 2)
        return Part("box", (thickness_m / 2, half_width_m, half_height_m), at, quaternion=_yaw(turn), **looks)

    for turn in 2 * np.pi * np.arange(FACETS) / FACETS:
        middle_m = RADIUS_M - WALL_M / 2
        parts.append(wall(turn, middle_m, WALL_M, material=outside, use="collision"))
        blue = {"material": outside, "colour": _BLUE, "use": "visual"}
        parts.append(wall(turn, middle_m + WALL_M / 4, WALL_M / 2, **blue))
        white = {"material": inside, "colour": _WHITE, "use": "visual"}
        parts.append(wall(turn, middle_m - WALL_M / 4, WALL_M / 2, **white))
    floor_z_m = FLOOR_M / 2 - HALF_HEIGHT_M
    for turn in (0.0, np.pi / 4):  # eight corners to stand on
        side_m = RADIUS_M / np.sqrt(2) - 0.001
        size = (side_m, side_m, FLOOR_M / 2)
        parts.append(Part("box", size, (0.0, AXIS_Y_M, floor_z_m), inside, _yaw(turn), use="collision"))
    disc = (RADIUS_M - WALL_M / 2, FLOOR_M / 2)
    lining = (RADIUS_M - WALL_M - 0.0003, 0.0005)
    parts.append(Part("cylinder", disc, (0.0, AXIS_Y_M, floor_z_m), outside, colour=_BLUE, use="visual"))
    parts.append(
        Part(
            "cylinder", lining, (0.0, AXIS_Y_M, floor_z_m + FLOOR_M / 2), inside, colour=_WHITE, use="visual"
        )
    )
    for (y0, z0), (y1, z1) in pairwise(HANDLE_M):
        start, end = (0.0, AXIS_Y_M + y0, z0), (0.0, AXIS_Y_M + y1, z1)
        parts.append(rod(start, end, BAR_RADIUS_M, outside, _BLUE, FRICTION))
    return assemble(name, parts, (RADIUS_M, RADIUS_M - AXIS_Y_M, HALF_HEIGHT_M), DENSITY)


def _yaw(turn: float) -> tuple[float, float, float, float]:
    """Quaternion of a turn about z."""
    return (float(np.cos(turn / 2)), 0.0, 0.0, float(np.sin(turn / 2)))


def grasp_point(pose: FloatArray) -> FloatArray:
    """Where the fingers close on a mug, given its pose."""
    return in_base(pose, [0.0, AXIS_Y_M, GRASP_HEIGHT_M])


def hand_yaw(pose: FloatArray) -> float:
    """Yaw of the hand whose fingers are at the mug's sides, a quarter turn away from the handle."""
    across = pose.copy()
    across[:3, 0] = pose[:3, 1]
    return moves.yaw_of(across, 2)


def is_reached(pose: FloatArray, hand: FloatArray) -> bool:
    """Whether the point (3,) between the fingertips is inside the mug or level with its wall."""
    x, y, z = in_frame(pose, hand)
    return bool(np.hypot(x, y - AXIS_Y_M) < RADIUS_M and abs(z) < HALF_HEIGHT_M)
