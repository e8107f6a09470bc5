"""No action, however wild, makes the commanded pose leave the workspace or pass a limit."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from hypothesis.extra import numpy as arrays
from scipy.spatial.transform import Rotation

from simreal_envs import kinematics, spec
from simreal_envs.errors import UsageError
from simreal_envs.poses import pose
from simreal_envs.robot.interpolation import PoseInterpolator
from simreal_envs.robot.safety import Guard, Limits, limit_joints, limit_target, load_limits
from simreal_envs.spec import CONTROL_HZ, START_JOINTS_RAD

LIMITS = load_limits()
DT_S = 1 / CONTROL_HZ
START = kinematics.forward(START_JOINTS_RAD)
ROUNDING = 1e-9


def distances(before: np.ndarray, after: np.ndarray) -> tuple[float, float]:
    """Metres and radians from one pose to the next."""
    turn = Rotation.from_matrix(after[:3, :3] @ before[:3, :3].T).magnitude()
    return float(np.linalg.norm(after[:3, 3] - before[:3, 3])), float(turn)


@pytest.mark.slow
def test_100_000_random_actions_never_leave_the_box_nor_exceed_a_limit() -> None:
    rng = np.random.default_rng(0)
    number = 100_000
    low = np.r_[spec.WORKSPACE_LOW_M - 0.5, -np.full(3, np.pi)]
    high = np.r_[spec.WORKSPACE_HIGH_M + 0.5, np.full(3, np.pi)]
    actions = rng.uniform(low, high, (number, 6))
    small = rng.random(number) < 0.5  # near the last target, where the limits should let through
    dts_s = rng.uniform(0.001, 0.3, number)
    targets = np.empty((number, 4, 4))
    target, free = START, 0
    turned = Rotation.from_rotvec(actions[:, 3:]).as_matrix()
    for i, (action, dt_s) in enumerate(zip(actions, dts_s, strict=True)):
        position_m = target[:3, 3] + 0.02 * (action[:3] - low[:3]) if small[i] else action[:3]
        target, events = limit_target(target, pose(turned[i], position_m), LIMITS, float(dt_s))
        free += not events
        targets[i] = target
    assert 0 < free < number  # limits act on some and let others through
    before = np.concatenate([START[None], targets[:-1]])
    metres = np.linalg.norm(targets[:, :3, 3] - before[:, :3, 3], axis=1)
    rotations = Rotation.from_matrix(targets[:, :3, :3] @ before[:, :3, :3].transpose(0, 2, 1)).magnitude()
    assert (targets[:, :3, 3] >= LIMITS.workspace_low_m).all()
    assert (targets[:, :3, 3] <= LIMITS.workspace_high_m).all()
    assert (
        metres <= np.minimum(LIMITS.max_translation_per_step_m, LIMITS.max_speed_mps * dts_s) + 1e-9
    ).all()
    turns = np.minimum(LIMITS.max_rotation_per_step_rad, LIMITS.max_rotation_speed_radps * dts_s)
    assert (rotations <= turns + 1e-7).all()
    np.testing.assert_allclose(
        targets[:, :3, :3] @ targets[:, :3, :3].transpose(0, 2, 1),
        np.tile(np.eye(3), (number, 1, 1)),
        atol=1e-9,
    )


positions = arrays.arrays(np.float64, 3, elements=st.floats(-2, 2))
rotvecs = arrays.arrays(np.float64, 3, elements=st.floats(-1.8, 1.8))


@given(positions, rotvecs)
def test_a_target_that_keeps_the_limits_is_reached_unchanged_and_any_other_is_approached(
    position: np.ndarray, rotvec: np.ndarray
) -> None:
    wanted = pose(Rotation.from_rotvec(rotvec).as_matrix(), position)
    target, events = limit_target(START, wanted, LIMITS, DT_S)
    if events:
        reachable = pose(wanted[:3, :3], np.clip(position, LIMITS.workspace_low_m, LIMITS.workspace_high_m))
        before, after = distances(START, reachable), distances(target, reachable)
        assert after[0] <= before[0] + ROUNDING
        assert after[1] <= before[1] + 1e-6
    else:
        np.testing.assert_allclose(target, wanted, atol=1e-12)


def test_a_small_step_passes_and_a_far_one_is_walked_to_at_the_greatest_speed() -> None:
    wanted = START.copy()
    wanted[0, 3] += 0.01
    target, events = limit_target(START, wanted, LIMITS, DT_S)
    assert events == ()
    np.testing.assert_allclose(target, wanted, atol=1e-12)
    wanted[0, 3] += 0.20
    target, events = limit_target(START, wanted, LIMITS, DT_S)
    assert events == ("translation speed",)
    np.testing.assert_allclose(target[0, 3] - START[0, 3], LIMITS.max_speed_mps * DT_S)
    _, events = limit_target(START, wanted, LIMITS, 0.3)  # a late action does not earn a longer step
    assert events == ("translation per step",)
    wanted[2, 3] = 5.0
    assert "workspace" in limit_target(START, wanted, LIMITS, DT_S)[1]


@settings(max_examples=200)
@given(st.lists(arrays.arrays(np.float64, 7, elements=st.floats(-4, 4)), min_size=1, max_size=5))
def test_joint_targets_keep_the_same_limits(wanted: list[np.ndarray]) -> None:
    joints = START_JOINTS_RAD
    for want in wanted:
        after, _ = limit_joints(joints, want, LIMITS, DT_S)
        assert LIMITS.contains(kinematics.forward(after)[:3, 3])
        metres, radians = distances(kinematics.forward(joints), kinematics.forward(after))
        assert metres <= LIMITS.max_speed_mps * DT_S + ROUNDING
        assert radians <= LIMITS.max_rotation_speed_radps * DT_S + ROUNDING
        assert np.abs(after - joints).max() <= LIMITS.max_joint_speed_radps * DT_S + ROUNDING
        assert (after >= spec.JOINT_LOW_RAD).all()
        assert (after <= spec.JOINT_HIGH_RAD).all()
        joints = after


@settings(max_examples=100)
@given(st.lists(st.tuples(positions, rotvecs, st.floats(0.0, 0.2)), min_size=1, max_size=8))
def test_between_targets_the_arm_is_never_asked_to_jump_and_the_quaternion_never_flips(
    steps: list[tuple[np.ndarray, np.ndarray, float]],
) -> None:
    tick_s = 0.005
    path = PoseInterpolator(START, LIMITS, 0.0)
    target, now_s = START, 0.0
    position, quaternion = path.at(0.0)
    for wanted, rotvec, gap_s in steps:
        target, _ = limit_target(
            target, pose(Rotation.from_rotvec(rotvec).as_matrix(), wanted), LIMITS, gap_s
        )
        path.aim(target, now_s)
        for _ in range(round(gap_s / tick_s)):
            now_s += tick_s
            next_position, next_quaternion = path.at(now_s)
            step_m = np.linalg.norm(next_position - position)
            turn = (Rotation.from_quat(quaternion).inv() * Rotation.from_quat(next_quaternion)).magnitude()
            assert step_m <= LIMITS.max_speed_mps * tick_s + ROUNDING
            assert turn <= LIMITS.max_rotation_speed_radps * tick_s + 1e-6
            assert next_quaternion @ quaternion > 0
            assert LIMITS.contains(np.round(next_position, 12))
            position, quaternion = next_position, next_quaternion
    for _ in range(400):
        now_s += tick_s
        position, quaternion = path.at(now_s)
    np.testing.assert_allclose(position, target[:3, 3], atol=1e-9)  # and it arrives


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("max_sped_mps: 1", "Unknown limit.*'max_sped_mps'.*max_speed_mps"),
        ("max_speed_mps: 9", "max_speed_mps 9 is not plausible; valid: 0.001 to 1.7"),
        ("max_speed_mps: .nan", "max_speed_mps nan is not plausible"),
        ("max_speed_mps: fast", "max_speed_mps 'fast' must be a number"),
        ("workspace_low_m: [0.2, 0.1]", "must be 3 numbers"),
        ("workspace_low_m: [0.9, 0.0, 0.0]", "must be below workspace_high_m"),
        ("watchdog_hold_s: 1.0", "must be shorter than watchdog_stop_s"),
        ("- 1", "must hold lines of the form"),
        ("a: [", "is not YAML"),
    ],
)
def test_a_wrong_limits_file_is_refused_by_name(tmp_path: Path, text: str, message: str) -> None:
    file = tmp_path / "mine.yaml"
    file.write_text(text)
    with pytest.raises(UsageError, match=message):
        load_limits(file)


def test_a_users_file_changes_what_it_names_and_nothing_else(tmp_path: Path) -> None:
    file = tmp_path / "slow.yaml"
    file.write_text("max_speed_mps: 0.1\n")
    limits = load_limits(file)
    assert limits.max_speed_mps == 0.1
    assert limits.to_json() | {"max_speed_mps": LIMITS.max_speed_mps} == LIMITS.to_json()
    assert Limits(**limits.to_json()) == limits
    with pytest.raises(UsageError, match="does not exist"):
        load_limits(tmp_path / "none.yaml")


def test_the_default_workspace_lies_within_the_action_space() -> None:
    assert (np.asarray(LIMITS.workspace_low_m) >= spec.WORKSPACE_LOW_M).all()
    assert (np.asarray(LIMITS.workspace_high_m) <= spec.WORKSPACE_HIGH_M).all()
    assert LIMITS.contains(START[:3, 3])


def test_the_guard_stops_at_lasting_contact_but_not_at_a_peak() -> None:
    guard = Guard(LIMITS)
    at, none, hard = START[:3, 3], np.zeros(3), np.array([0.0, 0.0, 60.0])
    assert guard.check(0.000, at, hard, none) == ""
    assert guard.check(0.005, at, none, none) == ""
    for k in range(4):
        assert guard.check(0.010 + 0.005 * k, at, hard, none) == ""
    assert "contact with 60 N" in guard.check(0.031, at, hard, none)


def test_the_guard_stops_an_end_effector_that_moves_too_fast() -> None:
    guard, none = Guard(LIMITS), np.zeros(3)
    slow = [guard.check(0.005 * k, np.array([0.5, 0.001 * k, 0.3]), none, none) for k in range(40)]
    assert not any(slow)
    guard = Guard(LIMITS)
    fast = [guard.check(0.005 * k, np.array([0.5, 0.01 * k, 0.3]), none, none) for k in range(40)]
    assert any("2.00 m/s (limit 1.2)" in cause for cause in fast)
