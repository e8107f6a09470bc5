"""The limits of the robot, and the functions that hold targets to them.

A policy's action is checked by :func:`simreal_envs.spec.check_action` first (shape, NaN, infinity). Then
:func:`limit_target` moves it to where the arm may go, and says which limit did so.
"""

from __future__ import annotations

import math
from dataclasses import dataclass
from pathlib import Path
from typing import Annotated, Any, NamedTuple, get_type_hints

import numpy as np
import yaml
from scipy.spatial.transform import Rotation

from simreal_envs import kinematics
from simreal_envs.errors import UsageError, unknown
from simreal_envs.poses import pose
from simreal_envs.spec import JOINT_HIGH_RAD, JOINT_LOW_RAD, FloatArray

DEFAULT_FILE = Path(__file__).with_name("limits.yaml")
JOINT_MARGIN_RAD = 0.05
"""Joint targets stay this far from the joints' ends."""
LOWEST_JOINTS_RAD, HIGHEST_JOINTS_RAD = JOINT_LOW_RAD + JOINT_MARGIN_RAD, JOINT_HIGH_RAD - JOINT_MARGIN_RAD
"""Of joint targets, each (7,)."""

Vector = tuple[float, ...]


class Between(NamedTuple):
    """The plausible values of a limit, or of each of the ``length`` components of a vector."""

    low: float
    high: float
    length: int = 0


@dataclass(frozen=True)
class Limits:
    """Every limit; ``limits.yaml`` says what each means and holds the defaults.

    Raises:
        UsageError: a value of the wrong kind or outside its plausible range; names it.
    """

    workspace_low_m: Annotated[Vector, Between(-0.855, 1.2, 3)]
    workspace_high_m: Annotated[Vector, Between(-0.855, 1.2, 3)]
    max_translation_per_step_m: Annotated[float, Between(1e-4, 0.1)]
    max_rotation_per_step_rad: Annotated[float, Between(1e-4, 0.6)]
    max_speed_mps: Annotated[float, Between(1e-3, 1.7)]
    max_rotation_speed_radps: Annotated[float, Between(1e-3, 2.5)]
    max_joint_speed_radps: Annotated[float, Between(1e-3, 2.175)]
    max_contact_force_N: Annotated[float, Between(1.0, 100.0)]
    max_contact_torque_Nm: Annotated[float, Between(0.5, 50.0)]
    contact_time_s: Annotated[float, Between(0.0, 0.5)]
    stop_speed_mps: Annotated[float, Between(0.05, 1.7)]
    watchdog_hold_s: Annotated[float, Between(0.06, 1.0)]
    watchdog_stop_s: Annotated[float, Between(0.1, 5.0)]
    max_frame_age_s: Annotated[float, Between(0.04, 2.0)]
    collision_force_N: Annotated[float, Between(1.0, 150.0)]
    collision_torque_Nm: Annotated[float, Between(1.0, 100.0)]
    collision_joint_torque_Nm: Annotated[Vector, Between(1.0, 100.0, 7)]
    translational_stiffness_Npm: Annotated[float, Between(10.0, 3000.0)]
    rotational_stiffness_Nmprad: Annotated[float, Between(1.0, 300.0)]
    damping_ratio: Annotated[float, Between(0.3, 2.0)]
    nullspace_stiffness_Nmprad: Annotated[float, Between(0.0, 50.0)]
    interpolation_s: Annotated[float, Between(0.005, 0.2)]
    filter_coefficient: Annotated[float, Between(0.005, 1.0)]
    joint_stiffness_Nmprad: Annotated[Vector, Between(10.0, 1000.0, 7)]
    joint_damping_Nmsprad: Annotated[Vector, Between(1.0, 100.0, 7)]
    guiding_damping_Nmsprad: Annotated[Vector, Between(0.0, 20.0, 7)]
    move_speed: Annotated[float, Between(0.01, 0.5)]
    gripper_speed_mps: Annotated[float, Between(0.01, 0.2)]
    grasp_force_N: Annotated[float, Between(1.0, 70.0)]
    gripper_timeout_s: Annotated[float, Between(1.0, 30.0)]
    load_mass_kg: Annotated[float, Between(0.0, 3.0)]
    load_centre_in_flange_m: Annotated[Vector, Between(-0.5, 0.5, 3)]
    load_inertia_kgm2: Annotated[Vector, Between(0.0, 0.5, 3)]

    def __post_init__(self) -> None:
        for name, kind in get_type_hints(Limits, include_extras=True).items():
            object.__setattr__(self, name, _checked(name, getattr(self, name), kind.__metadata__[0]))
        if not np.all(np.asarray(self.workspace_low_m) < np.asarray(self.workspace_high_m)):
            raise UsageError(
                f"workspace_low_m {self.workspace_low_m} must be below workspace_high_m "
                f"{self.workspace_high_m} in every coordinate."
            )
        if self.watchdog_hold_s >= self.watchdog_stop_s:
            raise UsageError(
                f"watchdog_hold_s {self.watchdog_hold_s} must be shorter than "
                f"watchdog_stop_s {self.watchdog_stop_s}."
            )

    def to_json(self) -> dict[str, Any]:
        """All limits by name; ``Limits(**limits.to_json())`` gives them back."""
        return {name: list(v) if isinstance(v, tuple) else v for name, v in vars(self).items()}

    def contains(self, position_in_base_m: FloatArray) -> bool:
        """Whether a position (3,) lies in the workspace."""
        inside = (position_in_base_m >= self.workspace_low_m) & (position_in_base_m <= self.workspace_high_m)
        return bool(inside.all())


def _checked(name: str, value: Any, between: Between) -> float | Vector:
    low, high, length = between
    numbers = list(value) if length and isinstance(value, list | tuple) else [value]
    if len(numbers) != max(length, 1) or not all(isinstance(n, int | float) for n in numbers):
        raise UsageError(f"{name} {value!r} must be {f'{length} numbers' if length else 'a number'}.")
    if not all(low <= n <= high for n in numbers):  # NaN compares false, so it is refused too
        raise UsageError(f"{name} {value!r} is not plausible; valid: {low} to {high}.")
    return tuple(map(float, numbers)) if length else float(numbers[0])


def load_limits(file: Path | str | None = None) -> Limits:
    """The package's limits, with those of a user's YAML file in their place.

    Raises:
        UsageError: the file is missing or no mapping, or holds an unknown name or an implausible value.
    """
    values = yaml.safe_load(DEFAULT_FILE.read_text())
    if file is not None:
        path = Path(file)
        if not path.is_file():
            raise UsageError(f"Limits file {path} does not exist.")
        try:
            own = yaml.safe_load(path.read_text()) or {}
        except yaml.YAMLError as error:
            raise UsageError(f"Limits file {path} is not YAML: {error}") from error
        if not isinstance(own, dict):
            raise UsageError(f"Limits file {path} must hold lines of the form 'name: value'.")
        for name in own:
            if name not in values:
                raise unknown(f"limit in {path}", name, values)
        values |= own
    return Limits(**values)


def limit_target(
    previous: FloatArray, wanted: FloatArray, limits: Limits, dt_s: float
) -> tuple[FloatArray, tuple[str, ...]]:
    """The pose (4, 4) nearest to ``wanted`` on the way from ``previous`` that the limits allow.

    Args:
        previous: target of the last action, in the workspace.
        wanted: pose that the action asks for, finite.
        dt_s: time since the last action.

    Returns:
        The target, in the workspace, and the limits that made it differ from ``wanted``.
    """
    events = []
    low, high = np.array(limits.workspace_low_m), np.array(limits.workspace_high_m)
    position = np.minimum(np.maximum(wanted[:3, 3], low), high)
    if (position != wanted[:3, 3]).any():
        events.append("workspace")

    way = position - previous[:3, 3]
    way, event = _shorten(way, limits.max_translation_per_step_m, limits.max_speed_mps * dt_s)
    events += [f"translation {event}"] if event else []

    turn = Rotation.from_matrix(wanted[:3, :3] @ previous[:3, :3].T).as_rotvec()
    turn, event = _shorten(turn, limits.max_rotation_per_step_rad, limits.max_rotation_speed_radps * dt_s)
    events += [f"rotation {event}"] if event else []

    # The box is convex, so the way stays inside it, except for rounding.
    position = np.minimum(np.maximum(previous[:3, 3] + way, low), high)
    rotation = Rotation.from_rotvec(turn).as_matrix() @ previous[:3, :3]
    return pose(rotation, position), tuple(events)


def limit_joints(
    previous_rad: FloatArray, wanted_rad: FloatArray, limits: Limits, dt_s: float
) -> tuple[FloatArray, tuple[str, ...]]:
    """Joint angles (7,) towards ``wanted_rad``; the end effector keeps the limits of :func:`limit_target`."""
    events = []
    low, high = np.minimum(LOWEST_JOINTS_RAD, previous_rad), np.maximum(HIGHEST_JOINTS_RAD, previous_rad)
    way = np.clip(wanted_rad, low, high) - previous_rad
    if not np.allclose(previous_rad + way, wanted_rad):
        events.append("joint range")
    fastest = np.abs(way).max()
    if fastest > limits.max_joint_speed_radps * dt_s:
        way *= limits.max_joint_speed_radps * dt_s / fastest
        events.append("joint speed")

    before = kinematics.forward(previous_rad)
    max_translation = min(limits.max_translation_per_step_m, limits.max_speed_mps * dt_s)
    max_rotation = min(limits.max_rotation_per_step_rad, limits.max_rotation_speed_radps * dt_s)
    while True:
        after = kinematics.forward(previous_rad + way)
        translation = np.linalg.norm(after[:3, 3] - before[:3, 3])
        rotation = Rotation.from_matrix(after[:3, :3] @ before[:3, :3].T).magnitude()
        excess = max(translation / max_translation, rotation / max_rotation)
        if excess <= 1:
            break
        way *= 0.99 / excess
        events += [] if "speed" in events else ["speed"]
    if not limits.contains(after[:3, 3]):
        return previous_rad.copy(), (*events, "workspace")
    return previous_rad + way, tuple(events)


def joint_goal_error(joints_rad: FloatArray, limits: Limits) -> str:
    """Why a move must not end at these joint angles (7,); empty if it may."""
    outside = np.flatnonzero((joints_rad < LOWEST_JOINTS_RAD) | (joints_rad > HIGHEST_JOINTS_RAD))
    if len(outside):
        i = int(outside[0])
        valid = f"[{LOWEST_JOINTS_RAD[i]:.4f}, {HIGHEST_JOINTS_RAD[i]:.4f}]"
        return f"Joint {i + 1} at {joints_rad[i]:.4f} rad is outside {valid}."
    position = kinematics.forward(joints_rad)[:3, 3]
    if not limits.contains(position):
        return (
            f"The end effector would go to {np.round(position, 3).tolist()} m, outside the workspace "
            f"{limits.workspace_low_m} to {limits.workspace_high_m}."
        )
    return ""


def _shorten(vector: FloatArray, per_step: float, by_speed: float) -> tuple[FloatArray, str]:
    """Shorten a vector to both lengths; also the shorter one's name if it did."""
    length = math.sqrt(vector @ vector)
    shortest = min(per_step, by_speed)
    if length <= shortest:
        return vector, ""
    return vector * (shortest / length), "per step" if per_step < by_speed else "speed"


class Guard:
    """Watches what the robot measures, and names the limit that was passed."""

    SPEED_WINDOW_S = 0.02
    """Over this time a speed is measured; over single states it would be noise."""

    def __init__(self, limits: Limits) -> None:
        self._limits = limits
        self._contact_since_s: float | None = None
        self._from: tuple[float, FloatArray] | None = None

    def check(self, time_s: float, position: FloatArray, force: FloatArray, torque: FloatArray) -> str:
        """Why the arm must stop, or an empty string.

        Args:
            time_s: our clock; the robot's may jump.
            position: of the end effector (3,), m. ``force`` (3,) in N and ``torque`` (3,) in N m act on it.
        """
        return self._contact(time_s, force, torque) or self._speed(time_s, position)

    def _contact(self, time_s: float, force: FloatArray, torque: FloatArray) -> str:
        limits = self._limits
        force_N, torque_Nm = np.linalg.norm(force), np.linalg.norm(torque)
        if force_N <= limits.max_contact_force_N and torque_Nm <= limits.max_contact_torque_Nm:
            self._contact_since_s = None
            return ""
        if self._contact_since_s is None:
            self._contact_since_s = time_s
        if time_s - self._contact_since_s < limits.contact_time_s:
            return ""
        return (
            f"contact with {force_N:.0f} N and {torque_Nm:.1f} N m "
            f"(limits {limits.max_contact_force_N:g} N, {limits.max_contact_torque_Nm:g} N m)"
        )

    def _speed(self, time_s: float, position: FloatArray) -> str:
        if self._from is None:
            self._from = (time_s, position)
        since_s, before = self._from
        if time_s - since_s < self.SPEED_WINDOW_S:
            return ""
        speed = float(np.linalg.norm(position - before)) / (time_s - since_s)
        self._from = (time_s, position)
        limit = self._limits.stop_speed_mps
        return f"end effector at {speed:.2f} m/s (limit {limit:g})" if speed > limit else ""
