"""Cutting demonstrations into object-centric segments, and moving, bridging and re-timing them.

The idea is MimicGen's (Mandlekar et al., "MimicGen: A Data Generation System for Scalable Robot Learning
using Human Demonstrations", 2023). Poses are (4, 4) in the base frame, in metres.
"""

from __future__ import annotations

from dataclasses import dataclass, replace

import numpy as np
from scipy.spatial.transform import Rotation, Slerp

from simreal_datasets.store.episode import DatagenInfo, binary_gripper
from simreal_envs.errors import DataError
from simreal_envs.spec import CONTROL_HZ
from simreal_envs.tasks import Subtask, Task

MAX_SPEED_MPS = 0.3
MAX_TURN_RADPS = 2.0
"""How fast re-timed targets move at most."""

STEPS_BEFORE_SWITCH, STEPS_AFTER_SWITCH = 4, 12
"""For so many steps before and after a change of the gripper the demonstration keeps its own timing. Longer
waiting before it, as people do, is cut: a policy without memory cannot learn to wait. The steps after it are
what the fingers take to move."""

MIN_BRIDGE_STEPS = 5

RESTING_M, RESTING_RAD = 1e-4, 0.002
"""An object that moves less from one step to the next is at rest."""

FLICKER_STEPS = 10
"""A stage whose condition fails for at most so many steps is not undone: a finger lost touch for a moment."""


@dataclass(frozen=True)
class Switch:
    """A change of the gripper's command.

    Attributes:
        step: the first step of the segment with the new command.
        hand: (4, 4) where the end effector was when the demonstrator chose that command.
    """

    step: int
    hand: np.ndarray


@dataclass(frozen=True)
class Segment:
    """One subtask of one demonstration.

    Attributes:
        subtask: the subtask.
        targets: (T, 4, 4) end-effector targets.
        gripper: (T,) commands, -1 or 1.
        reference: (4, 4) pose of the subtask's object, see :func:`rest_or_reach`.
        held_in_hand: (3,) position in the end effector's frame of the object that is held, if one is.
        switches: every change of the gripper's command, the first step's from that of the segment before.
    """

    subtask: Subtask
    targets: np.ndarray
    gripper: np.ndarray
    reference: np.ndarray
    held_in_hand: np.ndarray | None
    switches: tuple[Switch, ...] = ()


def cut(info: DatagenInfo, task: Task, where: str = "demonstration") -> list[Segment]:
    """Cut a demonstration where each subtask is completed for good.

    An attempt that was undone (the object slipped) belongs to no segment: a segment begins where the last
    attempt at its subtask begins.

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
    start = 0
    segments: list[Segment] = []
    commands = binary_gripper(info.gripper_action[:, 0])
    for subtask in task.subtasks:
        end = len(info.target_pose)
        if subtask.until is not None:
            start, end = _last_attempt(info.subtask_term_signals[subtask.until], start)
            if end == start:
                raise DataError(
                    f"{where}: its part {subtask.name!r} cannot be cut, since the stage {subtask.until!r} is "
                    "never reached."
                )
        held = None
        if subtask.held is not None:
            held = _position_in(info.eef_pose[start], info.object_poses[subtask.held][start])
        part = slice(start, end)
        targets, gripper, origin = retime(info.target_pose[part], commands[part])
        before = segments[-1].gripper[-1] if segments else gripper[0]
        reference = info.object_poses[subtask.reference][part]
        segments.append(
            Segment(
                subtask,
                targets,
                gripper,
                reference[rest_or_reach(reference, commands[part])],
                held,
                _switches(gripper, before, origin, info.eef_pose[part]),
            )
        )
        start = end
    return segments


def rest_or_reach(poses: np.ndarray, gripper: np.ndarray) -> int:
    """The first step at which an object (T, 4, 4) is at rest, or else at which the gripper reaches it.

    A demonstration may begin while its objects still fall onto the table, so an object's first pose is not
    the one that the demonstrator reached for.
    """
    moved_m = np.linalg.norm(np.diff(poses[:, :3, 3], axis=0), axis=1)
    turns = Rotation.from_matrix(poses[1:, :3, :3] @ poses[:-1, :3, :3].transpose(0, 2, 1)).magnitude()
    changes = np.flatnonzero(np.diff(gripper))
    reached = int(changes[0]) + 1 if len(changes) else len(poses) - 1
    resting = np.flatnonzero((moved_m < RESTING_M) & (turns < RESTING_RAD))
    return min(int(resting[0]), reached) if len(resting) else reached


def _last_attempt(signal: np.ndarray, start: int) -> tuple[int, int]:
    """The step where the attempt begins that completes a stage for good, and the end of the completing step.

    Both are ``start`` if the stage is never reached from there on.
    """
    holds = np.flatnonzero(signal[start:]) + start
    if len(holds) == 0:
        return start, start
    undone = np.flatnonzero(np.diff(holds) > FLICKER_STEPS)
    if len(undone) == 0:
        return start, int(holds[0]) + 1
    last = int(undone[-1])
    return int(holds[last]) + 1, int(holds[last + 1]) + 1


def _switches(gripper: np.ndarray, before: float, origin: np.ndarray, hand: np.ndarray) -> tuple[Switch, ...]:
    """The changes of a re-timed command, which followed ``before``; ``origin`` as :func:`retime` gives it."""
    steps = np.flatnonzero(np.diff(np.r_[before, gripper]))
    return tuple(Switch(int(step), hand[origin[step]]) for step in steps)


def retime(targets: np.ndarray, gripper: np.ndarray) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """Speed a slow path up to the limits, but keep its pace where the gripper opens or closes.

    Every step of the original takes as long as the speed limits require, and near a switch of the gripper at
    least one control step. The path is then sampled at the control rate.

    Returns:
        Targets (S, 4, 4), gripper (S,), and the original step (S,) that each command is from. Where the
        command changes it is the original's first step with the new command.
    """
    if len(targets) < 2:
        return targets, gripper, np.arange(len(targets))
    turns = Rotation.from_matrix(targets[1:, :3, :3] @ targets[:-1, :3, :3].transpose(0, 2, 1)).magnitude()
    lengths_m = np.linalg.norm(np.diff(targets[:, :3, 3], axis=0), axis=1)
    duration = CONTROL_HZ * np.maximum(lengths_m / MAX_SPEED_MPS, turns / MAX_TURN_RADPS)
    switches = np.flatnonzero(np.diff(gripper))
    for switch in switches:
        near = slice(max(0, switch - STEPS_BEFORE_SWITCH), switch + STEPS_AFTER_SWITCH + 1)
        duration[near] = np.maximum(duration[near], 1.0)
    duration = np.maximum(duration, 1e-6)
    clock = np.concatenate([[0.0], np.cumsum(duration)])
    ticks = np.linspace(0.0, clock[-1], max(2, round(clock[-1]) + 1))
    sampled = _sample(targets, clock, ticks)
    origin = np.clip(np.searchsorted(clock, ticks, side="right") - 1, 0, len(gripper) - 1)
    commands = gripper[origin]
    for step in np.flatnonzero(np.diff(commands)) + 1:
        origin[step] = switches[np.searchsorted(switches, origin[step - 1])] + 1
    return sampled, commands, origin


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
) -> Segment:
    """The segment in a new scene.

    Its poses keep their place relative to the reference object: ``T_now inverse(T_demonstrated) pose``. Of
    the object's equivalent yaws the one that turns the hand least is taken. What is held lies differently in
    the hand each time; the hand is displaced so that the *object* goes where the demonstration took it.

    Args:
        reference_now: (4, 4) pose of the reference object now.
        symmetry: number of yaws under which it is the same.
        hand_now: (4, 4) pose of the end effector now.
        held_now: (4, 4) pose now of the object that is held, if one is.
    """
    first = segment.targets[0, :3, :3]
    moved_by = min(
        (turned @ np.linalg.inv(segment.reference) for turned in equivalents(reference_now, symmetry)),
        key=lambda t: Rotation.from_matrix(hand_now[:3, :3].T @ t[:3, :3] @ first).magnitude(),
    )
    correction = np.zeros(3)
    if segment.held_in_hand is not None and held_now is not None:
        correction = segment.held_in_hand - _position_in(hand_now, held_now)

    def placed(poses: np.ndarray) -> np.ndarray:
        there = moved_by @ poses
        there[..., :3, 3] += there[..., :3, :3] @ correction
        return there

    switches = tuple(Switch(switch.step, placed(switch.hand)) for switch in segment.switches)
    return replace(
        segment, targets=placed(segment.targets), reference=reference_now.copy(), switches=switches
    )


def equivalents(pose_in_base: np.ndarray, symmetry: int) -> list[np.ndarray]:
    """The poses (4, 4) in which an object looks the same: ``symmetry`` turns about its own z axis."""
    poses = []
    for k in range(symmetry):
        turned = pose_in_base.copy()
        turned[:3, :3] = turned[:3, :3] @ Rotation.from_euler("z", 2 * np.pi * k / symmetry).as_matrix()
        poses.append(turned)
    return poses


def _position_in(frame: np.ndarray, pose: np.ndarray) -> np.ndarray:
    return frame[:3, :3].T @ (pose[:3, 3] - frame[:3, 3])


def _sample(poses: np.ndarray, clock: np.ndarray, ticks: np.ndarray) -> np.ndarray:
    """Interpolate poses (T, 4, 4) given at increasing times: positions linearly, rotations spherically."""
    sampled = np.tile(np.eye(4), (len(ticks), 1, 1))
    sampled[:, :3, :3] = Slerp(clock, Rotation.from_matrix(poses[:, :3, :3]))(ticks).as_matrix()
    for axis in range(3):
        sampled[:, axis, 3] = np.interp(ticks, clock, poses[:, axis, 3])
    return sampled
