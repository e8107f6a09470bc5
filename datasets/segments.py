"""Cutting demonstrations into object-centric segments, and moving, bridging and re-timing them.

The idea is MimicGen's (Mandlekar et al., "MimicGen: A Data Generation System for Scalable Robot Learning
using Human Demonstrations", 2023). Poses are (4, 4) in the base frame, in metres.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from scipy.spatial.transform import Rotation, Slerp

from simreal_datasets.episode import DatagenInfo
from simreal_envs.errors import DataError
from simreal_envs.spec import CONTROL_HZ
from simreal_envs.tasks import Subtask, Task

MAX_SPEED_MPS = 0.3
MAX_TURN_RADPS = 2.0
"""How fast re-timed targets move at most."""

STEPS_BEFORE_SWITCH, STEPS_AFTER_SWITCH = 4, 12
"""Around a change of the gripper the demonstration keeps its own timing, for so many steps. Before: until the
arm has settled; people wait there for longer, which a policy without memory cannot learn. After: until the
fingers have moved."""

MIN_BRIDGE_STEPS = 5


@dataclass(frozen=True)
class Segment:
    """One subtask of one demonstration.

    Attributes:
        subtask: which.
        targets: (T, 4, 4) end-effector targets.
        gripper: (T,) commands, -1 or 1.
        reference: (4, 4) pose of the subtask's object when the segment starts.
        held_in_hand: (3,) position in the end effector's frame of the object that is held, if one is.
    """

    subtask: Subtask
    targets: np.ndarray
    gripper: np.ndarray
    reference: np.ndarray
    held_in_hand: np.ndarray | None


def cut(info: DatagenInfo, task: Task, where: str = "demonstration") -> list[Segment]:
    """Cut a demonstration at the first completion of each subtask.

    Raises:
        DataError: a subtask is never completed, or an object's poses or a stage are not there.
    """
    needed = {subtask.reference for subtask in task.subtasks} | {s.held for s in task.subtasks if s.held}
    stages = {subtask.until for subtask in task.subtasks if subtask.until}
    for what, names, there in (
        ("pose", needed, info.object_poses),
        ("stage", stages, info.subtask_term_signals),
    ):
        if missing := sorted(names - set(there)):
            raise DataError(
                f"{where}: it does not tell the {what} {missing[0]!r}; there: {', '.join(there)}."
            )
    start, segments = 0, []
    for subtask in task.subtasks:
        end = len(info.target_pose)
        if subtask.until is not None:
            done = np.flatnonzero(info.subtask_term_signals[subtask.until][start:])
            if len(done) == 0:
                raise DataError(
                    f"{where}: the stage {subtask.until!r} is never reached, so it cannot be cut."
                )
            end = start + int(done[0]) + 1
        held = None
        if subtask.held is not None:
            held = _position_in(info.eef_pose[start], info.object_poses[subtask.held][start])
        targets, gripper = retime(info.target_pose[start:end], np.sign(info.gripper_action[start:end, 0]))
        reference = info.object_poses[subtask.reference][start]
        segments.append(Segment(subtask, targets, gripper, reference, held))
        start = end
    return segments


def retime(targets: np.ndarray, gripper: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """Speed a slow path up to the limits, but keep its pace where the gripper opens or closes.

    Every step of the original takes as long as the limits ask for, near a switch one control step; the
    path is then sampled at the control rate.
    """
    if len(targets) < 2:
        return targets, gripper
    turns = Rotation.from_matrix(targets[1:, :3, :3] @ targets[:-1, :3, :3].transpose(0, 2, 1)).magnitude()
    lengths_m = np.linalg.norm(np.diff(targets[:, :3, 3], axis=0), axis=1)
    duration = CONTROL_HZ * np.maximum(lengths_m / MAX_SPEED_MPS, turns / MAX_TURN_RADPS)
    for switch in np.flatnonzero(np.diff(gripper)):
        near = slice(max(0, switch - STEPS_BEFORE_SWITCH), switch + STEPS_AFTER_SWITCH + 1)
        duration[near] = np.maximum(duration[near], 1.0)
    duration = np.maximum(duration, 1e-6)
    clock = np.concatenate([[0.0], np.cumsum(duration)])
    ticks = np.linspace(0.0, clock[-1], max(2, round(clock[-1]) + 1))
    sampled = _sample(targets, clock, ticks)
    at = np.clip(np.searchsorted(clock, ticks, side="right") - 1, 0, len(gripper) - 1)
    return sampled, gripper[at]


def bridge(start: np.ndarray, end: np.ndarray) -> np.ndarray:
    """Targets (n, 4, 4) from one pose to another within the limits; ``start`` is left out, ``end`` too."""
    turn = Rotation.from_matrix(end[:3, :3] @ start[:3, :3].T).magnitude()
    length_m = np.linalg.norm(end[:3, 3] - start[:3, 3])
    steps = CONTROL_HZ * max(length_m / MAX_SPEED_MPS, turn / MAX_TURN_RADPS)
    count = max(MIN_BRIDGE_STEPS, int(np.ceil(steps)))
    return _sample(np.stack([start, end]), np.array([0.0, count]), np.arange(1.0, count))


def move(
    segment: Segment,
    reference_now: np.ndarray,
    symmetry: int,
    hand_now: np.ndarray,
    held_now: np.ndarray | None,
) -> np.ndarray:
    """The segment's targets for a new scene.

    They keep their pose relative to the reference object: ``T_now inverse(T_demonstrated) target``. Of the
    object's equivalent yaws the one that turns the hand least is taken. What is held lies differently in
    the hand each time; the hand is displaced so that the *object* goes where the demonstration took it.

    Args:
        reference_now: (4, 4) pose of the reference object now.
        symmetry: number of yaws under which it is the same.
        hand_now: (4, 4) pose of the end effector now.
        held_now: (4, 4) pose now of the object that is held, if one is.
    """
    candidates = []
    for k in range(symmetry):
        turned = reference_now.copy()
        turned[:3, :3] = turned[:3, :3] @ Rotation.from_euler("z", 2 * np.pi * k / symmetry).as_matrix()
        candidates.append(turned @ np.linalg.inv(segment.reference))
    first = segment.targets[0, :3, :3]
    moved_by = min(
        candidates,
        key=lambda t: Rotation.from_matrix(hand_now[:3, :3].T @ t[:3, :3] @ first).magnitude(),
    )
    targets = moved_by @ segment.targets
    if segment.held_in_hand is not None and held_now is not None:
        correction = segment.held_in_hand - _position_in(hand_now, held_now)
        targets[:, :3, 3] += targets[:, :3, :3] @ correction
    return targets


def _position_in(frame: np.ndarray, pose: np.ndarray) -> np.ndarray:
    return frame[:3, :3].T @ (pose[:3, 3] - frame[:3, 3])


def _sample(poses: np.ndarray, clock: np.ndarray, ticks: np.ndarray) -> np.ndarray:
    """Interpolate poses (T, 4, 4) given at increasing times: positions linearly, rotations spherically."""
    sampled = np.tile(np.eye(4), (len(ticks), 1, 1))
    sampled[:, :3, :3] = Slerp(clock, Rotation.from_matrix(poses[:, :3, :3]))(ticks).as_matrix()
    for axis in range(3):
        sampled[:, axis, 3] = np.interp(ticks, clock, poses[:, axis, 3])
    return sampled
