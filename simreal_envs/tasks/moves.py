"""Building blocks of the rules of scripted experts. A rule is a function from the scene to a command.

A rule depends only on the present scene, not on a clock. So an expert recovers from disturbances, and a
policy can imitate it from single observations. A :class:`Style` says in which manner.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

from simreal_envs.spec import FloatArray
from simreal_envs.tasks.styles import LEAD_M, PLAIN, Style
from simreal_envs.tasks.vectors import raised

HOVER_M = 0.10
CLEAR_M = 0.06
ALIGNED_M = 0.012
AT_M = 0.008
HELD_M = 0.025
OPEN, CLOSE = -1.0, 1.0


@dataclass
class Scene:
    """What an expert sees in one step, base frame, metres."""

    hand: FloatArray
    width_m: float
    objects: dict[str, FloatArray]
    grip_steps: int
    """Steps since the gripper was told to close and has stopped moving, else 0."""
    style: Style = PLAIN


@dataclass
class Command:
    """Where the hand shall go and what the fingers shall do."""

    position_in_base: FloatArray
    yaw: float
    gripper: float


def yaw_of(pose: FloatArray, symmetry: int) -> float:
    """The object's yaw among its equivalents that is nearest to zero."""
    period = 2 * np.pi / symmetry
    yaw = float(np.arctan2(pose[1, 0], pose[0, 0]))
    return yaw - period * round(yaw / period)


def approach(scene: Scene, target: FloatArray, yaw: float, gripper: float) -> Command:
    """Over the target at a clear height until aligned, then straight down."""
    offset = np.linalg.norm(scene.hand[:2, 3] - target[:2])
    above = raised(target, CLEAR_M if offset < 2 * ALIGNED_M else scene.style.hover * HOVER_M)
    return Command(target if offset < ALIGNED_M else above, yaw, gripper)


def holding(scene: Scene, name: str) -> bool:
    """Whether the object is between the fingers, which have closed on it."""
    return holding_at(scene, scene.objects[name][:3, 3])


def holding_at(scene: Scene, point: FloatArray) -> bool:
    """Whether a point of an object is between the fingers, which have closed on it."""
    return scene.grip_steps > 0 and bool(np.linalg.norm(point - scene.hand[:3, 3]) < HELD_M)


def grasp(scene: Scene, name: str) -> Command:
    """Come to the object from above and close the fingers on it, across its faces."""
    return grasp_at(scene, scene.objects[name][:3, 3], yaw_of(scene.objects[name], 4))


def grasp_at(scene: Scene, target: FloatArray, yaw: float, at_m: float = AT_M) -> Command:
    """Come to a point of an object from above and close the fingers on it, with the hand at a yaw.

    They close once the hand is nearer to it than ``at_m``.
    """
    at = np.linalg.norm(scene.hand[:3, 3] - target) < at_m
    closing = scene.width_m < 0.075 and np.linalg.norm(scene.hand[:3, 3] - target) < HELD_M
    if at or closing:
        return Command(target, yaw, CLOSE)
    return approach(scene, target, yaw, OPEN)


def lift(scene: Scene, name: str) -> Command:
    """Grasp the object and rise."""
    if not holding(scene, name):
        return grasp(scene, name)
    return Command(raised(scene.hand[:3, 3], LEAD_M), yaw_of(scene.objects[name], 4), CLOSE)
