"""The contract that every world keeps: simulation, virtual rig and robot.

Units, frames, ranges and actions are defined here, the arrays of an observation in
:mod:`simreal_envs.features`, and nowhere else.

Frames. Everything is expressed in the **robot base frame**: x forward, y left, z up, origin at the
Panda's base on the table top. The end effector is the point between the fingertips; its axes are those of
Franka's hand: z out of the hand, y along the opening of the fingers.

Native action (``action_kind="pose"``): ``[x, y, z, rx, ry, rz, gripper]``, the **absolute** pose that the
end effector shall reach. Position in metres, orientation as a rotation vector in radians, gripper from -1
(open) to 1 (closed).
"""

from __future__ import annotations

from collections.abc import Iterable
from typing import Any

import numpy as np
from gymnasium import spaces
from numpy.typing import NDArray

from simreal_envs.errors import UsageError, unknown

FloatArray = NDArray[np.floating[Any]]
Observation = dict[str, np.ndarray]

CONTROL_HZ = 20
HORIZON = 500
"""Steps after which an episode is truncated (25 s)."""

START_JOINTS_RAD = np.array([0.0916, -0.1983, -0.0199, -2.4732, -0.0131, 2.3040, 0.8481])

ENVS = ("sim", "rig", "real")
REGIONS = ("in", "ood", "all")
ACTION_KINDS = ("pose", "delta", "joint")

BASE_IN_WORLD_M = np.array([-0.56, 0.0, 0.8])
"""Robot base in robosuite's world frame, whose axes agree with ours; the table's top is at z = 0.8 m."""

TABLE_CENTRE_IN_BASE_M = np.array([0.56, 0.0, 0.0])
TABLE_HALF_SIDE_M = 0.4
"""The table is square."""

WORKSPACE_LOW_M = np.array([0.20, -0.45, -0.02])
WORKSPACE_HIGH_M = np.array([0.85, 0.45, 0.60])
"""Box that a commanded end-effector position must lie in, base frame."""

MAX_ROTATION_RAD = 3.1416
"""A rotation vector has norm pi at most; the bound leaves room for float32 rounding."""

DELTA_POSITION_M = 0.05
DELTA_ROTATION_RAD = 0.5
"""What 1.0 means in a delta action (robosuite's OSC_POSE scale)."""

JOINT_LOW_RAD = np.array([-2.8973, -1.7628, -2.8973, -3.0718, -2.8973, -0.0175, -2.8973])
JOINT_HIGH_RAD = np.array([2.8973, 1.7628, 2.8973, -0.0698, 2.8973, 3.7525, 2.8973])
"""Franka's joint position limits (Panda data sheet)."""

PROPRIOCEPTION = {
    "robot0_eef_pos": 3,  # metres
    "robot0_eef_quat": 4,  # xyzw, w >= 0
    "robot0_joint_pos": 7,  # radians
    "robot0_gripper_qpos": 2,  # metres, finger 1 positive, finger 2 negative
}
"""Observations present in every group, float32, with their length."""

OBJECT_KEY = "object"
"""State group: for each of the task's objects position (3, m) and quaternion (4, xyzw), float32."""


def action_space(kind: str) -> spaces.Box:
    """The Box of an action kind, float32.

    ``pose``: absolute end-effector pose and gripper (7). ``delta``: [-1, 1]^7, see
    :data:`DELTA_POSITION_M`. ``joint``: seven absolute joint angles in rad, and gripper (8).
    """
    if kind == "pose":
        low = np.r_[WORKSPACE_LOW_M, np.full(3, -MAX_ROTATION_RAD), -1.0]
        high = np.r_[WORKSPACE_HIGH_M, np.full(3, MAX_ROTATION_RAD), 1.0]
    elif kind == "delta":
        low, high = np.full(7, -1.0), np.full(7, 1.0)
    elif kind == "joint":
        low, high = np.r_[JOINT_LOW_RAD, -1.0], np.r_[JOINT_HIGH_RAD, 1.0]
    else:
        raise unknown("action kind", kind, ACTION_KINDS)
    return spaces.Box(low.astype(np.float32), high.astype(np.float32), dtype=np.float32)


_ACTION_NAMES = {
    "pose": ("x", "y", "z", "rx", "ry", "rz", "gripper"),
    "delta": ("dx", "dy", "dz", "drx", "dry", "drz", "gripper"),
    "joint": (*(f"joint{i}" for i in range(1, 8)), "gripper"),
}


def check_action(action: FloatArray, kind: str) -> NDArray[np.float64]:
    """Return the action as float64, or refuse it.

    Raises:
        UsageError: wrong shape, NaN or infinite, or outside the bounds; names the component.
    """
    box = action_space(kind)
    names = _ACTION_NAMES[kind]
    array = np.asarray(action, dtype=np.float64)
    if array.shape != box.shape:
        raise UsageError(f"Action has shape {array.shape}; a {kind!r} action has shape {box.shape}: {names}.")
    bad = ~np.isfinite(array)
    if bad.any():
        i = int(np.flatnonzero(bad)[0])
        raise UsageError(f"Action component {names[i]} is {array[i]}; every component must be finite.")
    tolerance = 1e-6
    outside = (array < box.low - tolerance) | (array > box.high + tolerance)
    if outside.any():
        i = int(np.flatnonzero(outside)[0])
        raise UsageError(
            f"Action component {names[i]} = {array[i]:.6g} is outside [{box.low[i]:.6g}, {box.high[i]:.6g}]. "
            "Clip it to env.action_space before stepping."
        )
    return array


def check_observation(observation: Any, space: spaces.Dict) -> int | None:
    """Check an observation: every array in ``space`` must have its shape and dtype and be finite.

    Returns:
        The number of environments if every array has a leading batch axis, as those of a vector environment
        have; None for the observation of one environment.

    Raises:
        UsageError: names the array, what it is and what it has to be.
    """
    if not isinstance(observation, dict):
        raise UsageError(
            f"The observation is a {type(observation).__name__}, not a dict of {', '.join(space)}."
        )
    count: int | None = None
    for i, (name, box) in enumerate(space.spaces.items()):
        array = observation.get(name)
        shape: tuple[int, ...] = box.shape  # type: ignore[assignment]
        if not isinstance(array, np.ndarray):
            there = "not there" if array is None else f"a {type(array).__name__}, not an array"
            raise UsageError(
                f"Observation {name} is {there}. The observation holds {', '.join(observation)}."
            )
        batched = array.ndim == len(shape) + 1
        here = len(array) if batched else None
        if (
            array.dtype != box.dtype
            or array.shape[batched:] != shape
            or here == 0
            or (i > 0 and here != count)
        ):
            wanted = f"{shape} or, of n environments, (n, {str(shape)[1:]}"
            raise UsageError(
                f"Observation {name} has shape {array.shape} and dtype {array.dtype}; "
                f"it has to have shape {wanted}, as the other arrays have, and dtype {box.dtype}."
            )
        if array.dtype.kind == "f" and not np.isfinite(array).all():
            raise UsageError(
                f"Observation {name} holds {array[~np.isfinite(array)][0]}; it has to be finite."
            )
        count = here
    return count


def check_render_mode(mode: str | None) -> str | None:
    """Return the mode if it is one of ours or none, else raise :func:`unknown`."""
    return None if mode is None else check_choice("render_mode", mode, ("rgb_array",))


def check_choice(what: str, value: str, valid: Iterable[str]) -> str:
    """Return ``value`` if it is valid, else raise :func:`unknown`."""
    valid = tuple(valid)
    if value not in valid:
        raise unknown(what, value, valid)
    return value
