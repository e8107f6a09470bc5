"""The arm's driver against the virtual rig: it follows, limits, holds, stops, and names what went wrong."""

from __future__ import annotations

import dataclasses
import os
import signal
import threading
import time

import numpy as np
import pytest

from simreal_envs import spec
from simreal_envs.errors import RobotError, UsageError
from simreal_envs.poses import pose_from_action
from simreal_envs.robot.arm import Arm
from simreal_envs.spec import START_JOINTS_RAD

pytest.importorskip("panda_py", reason="needs the extra 'real'")

from driving import LIMITS, PERIOD_S, follow, moved_by, rig_joints, until

from simreal_envs.rig.control import RigControl

pytestmark = pytest.mark.alone

OUTSIDE_RAD = np.array([1.6, -0.2, 0.0, -2.5, 0.0, 2.3, 0.8])
"""Beside the workspace."""


# --- following ------------------------------------------------------------------------------------


def test_control_starts_without_a_jump_and_reaches_its_targets(arm: Arm) -> None:
    start = arm.state()
    arm.start()
    assert arm.state().mode == "controlling"
    np.testing.assert_allclose(arm.state().pose_target_in_base, start.pose_in_base, atol=1e-4)
    follow(arm, start.pose_in_base, 0.3)
    assert np.abs(arm.state().joints_rad - start.joints_rad).max() < 0.005
    target = moved_by(start.pose_in_base, 0.03, -0.04, 0.02)
    state = follow(arm, target, 1.2)
    np.testing.assert_allclose(state.pose_in_base[:3, 3], target[:3, 3], atol=0.004)
    np.testing.assert_allclose(state.pose_in_base[:3, :3], target[:3, :3], atol=0.02)
    arm.stop()
    assert arm.state().mode == "idle"
    assert not arm.state().fault


def test_wild_actions_move_the_arm_within_the_workspace_and_hurt_nothing(arm: Arm) -> None:
    rng = np.random.default_rng(1)
    space = spec.action_space("pose")
    low, high = np.asarray(LIMITS.workspace_low_m), np.asarray(LIMITS.workspace_high_m)
    arm.start()
    for k in range(60):
        if k % 4 == 0:  # half-way between random and constant: the arm gets somewhere
            action = rng.uniform(space.low, space.high)
            action[3:6] = [0.98 * np.pi, 0, 0]
        arm.command(pose_from_action(action), float(action[6]))
        time.sleep(PERIOD_S)
        state = arm.state()
        assert not state.fault
        target = state.pose_target_in_base[:3, 3]
        assert (target >= low).all()
        assert (target <= high).all()
        assert (state.pose_in_base[:3, 3] > low - 0.02).all()
    arm.stop()
    kinds = {event.message for event in arm.events() if event.kind == "limited"}
    assert "target limited by translation speed" in kinds


def test_joint_targets_are_followed_too(arm: Arm) -> None:
    joints = arm.state().joints_rad
    arm.start(joints=True)
    goal = joints + [0.15, 0, 0, 0, 0, 0, 0.1]
    for _ in range(20):
        arm.command_joints(goal, -1.0)
        time.sleep(PERIOD_S)
    np.testing.assert_allclose(arm.state().joints_rad, goal, atol=0.02)
    arm.stop()


@pytest.mark.parametrize(
    "target", [np.full((4, 4), np.nan), np.full((4, 4), np.inf), np.eye(3), np.zeros((4, 4))]
)
def test_a_target_that_is_no_finite_pose_is_refused(arm: Arm, target: np.ndarray) -> None:
    with pytest.raises(UsageError, match=r"must be (\(4, 4\) finite numbers|a rotation)"):
        arm.command(target, 0.0)


def test_the_hand_closes_and_opens_without_the_loop_waiting_for_it(arm: Arm) -> None:
    start = arm.state().pose_in_base
    arm.start()
    ages_s = []
    for k in range(50):
        arm.command(start, 1.0 if k < 25 else -1.0)
        time.sleep(PERIOD_S)
        ages_s.append(time.monotonic() - arm.state().time_s)
        if k == 24:
            assert arm.state().gripper_width_m < 0.01
    assert arm.state().gripper_width_m > 0.075
    assert np.median(ages_s) < 0.02
    assert max(ages_s) < 0.15
    arm.stop()


def test_moves_arrive_and_a_guided_arm_goes_where_it_is_pulled(arm: Arm, control: RigControl) -> None:
    start = arm.state().pose_in_base
    arm.move_up(0.08)
    np.testing.assert_allclose(arm.state().pose_in_base[:3, 3], moved_by(start, 0, 0, 0.08)[:3, 3], atol=0.01)
    arm.move_to_joints(START_JOINTS_RAD, speed=0.3)
    np.testing.assert_allclose(arm.state().joints_rad, START_JOINTS_RAD, atol=0.02)
    arm.guide(True)
    assert arm.state().mode == "guiding"
    goal = moved_by(arm.state().pose_in_base, 0.0, 0.1, 0.0)
    control.pull(goal)
    until(lambda: abs(arm.state().pose_in_base[1, 3] - goal[1, 3]) < 0.03, 4.0)
    control.pull(None)
    arm.guide(False)
    assert arm.state().mode == "idle"
    with pytest.raises(UsageError, match="Joint 4 at 1"):
        arm.move_to_joints(np.ones(7))
    with pytest.raises(UsageError, match="outside the workspace"):
        arm.move_to_joints(OUTSIDE_RAD)


def test_a_move_is_over_when_it_has_arrived_and_not_when_it_has_become_slow(arm: Arm) -> None:
    arm.move_up(0.1)
    arm.move_to_joints(START_JOINTS_RAD)
    np.testing.assert_allclose(arm.state().joints_rad, START_JOINTS_RAD, atol=0.002)


def test_control_outside_the_workspace_is_refused(arm: Arm, monkeypatch: pytest.MonkeyPatch) -> None:
    with monkeypatch.context() as patch:
        patch.setattr(arm, "limits", dataclasses.replace(LIMITS, workspace_low_m=(-0.8, -0.8, -0.8)))
        patch.setattr(arm, "limits", dataclasses.replace(arm.limits, workspace_high_m=(0.85, 1.0, 1.0)))
        arm.move_to_joints(OUTSIDE_RAD, speed=0.5)
    with pytest.raises(RobotError, match="is outside the workspace"):
        arm.start()


# --- what stops the arm ------------------------------------------------------------------------------


def test_a_guided_arm_is_held_once_the_program_shows_no_life(arm: Arm) -> None:
    arm.guide(True)
    for _ in range(30):
        time.sleep(PERIOD_S)
        assert arm.state().mode == "guiding"
    time.sleep(LIMITS.watchdog_stop_s + 1.0)
    assert "no sign of life came for 1.0" in arm.state().fault
    assert arm.state().mode == "stopped"


def test_leaving_the_workspace_by_hand_is_said(arm: Arm, control: RigControl) -> None:
    arm.guide(True)
    control.pull(moved_by(arm.state().pose_in_base, 0.0, 0.6, 0.0))
    until(lambda: any("left the workspace" in event.message for event in arm.events()), 6.0)
    control.pull(None)
    arm.guide(False)


def test_a_driver_that_hangs_while_it_controls_is_found_out_at_once(arm: Arm) -> None:
    arm.start()
    for _ in range(5):
        if not (fault := follow(arm, arm.state().pose_in_base, 0.2).fault):
            break
        assert "communication_constraints_violation" in fault  # a machine with too much else to do
        arm.recover()
        arm.start()
    assert arm.state().mode == "controlling"
    driver = arm._driver.pid
    os.kill(driver, signal.SIGSTOP)
    try:
        assert until(lambda: "driver hangs" in arm.state().fault, 2.0) < 0.6
    finally:
        os.kill(driver, signal.SIGCONT)


def test_a_driver_that_hangs_after_a_fault_is_found_out_and_can_be_replaced(arm: Arm) -> None:
    arm.start()
    follow(arm, arm.state().pose_in_base, 0.2)
    until(lambda: "no action came" in arm.state().fault, 3.0)
    driver = arm._driver.pid
    os.kill(driver, signal.SIGSTOP)
    try:
        until(lambda: "driver hangs" in arm.state().fault, 8.0)
        assert "no action came" in arm.state().fault
    finally:
        os.kill(driver, signal.SIGCONT)
    arm.recover()
    assert not arm.state().fault


def test_without_actions_the_pose_is_held_and_then_control_ends(
    arm: Arm, caplog: pytest.LogCaptureFixture
) -> None:
    arm.start()
    follow(arm, moved_by(arm.state().pose_in_base, 0.05, 0, 0), 0.3)
    last_s = time.monotonic()
    until(lambda: arm.state().mode == "holding", 0.5)
    assert time.monotonic() - last_s < LIMITS.watchdog_hold_s + 0.1
    until(lambda: arm.state().mode == "stopped", 2.0)
    assert LIMITS.watchdog_stop_s - 0.1 < time.monotonic() - last_s < LIMITS.watchdog_stop_s + 0.5
    assert "no action came for 1.0" in arm.state().fault
    with pytest.raises(RobotError, match=r"no action came.*Recover first"):
        arm.start()
    arm.recover()
    arm.start()
    arm.stop()
    assert [event.kind for event in arm.events() if event.kind != "limited"] == ["hold", "stop", "recovered"]
    assert [record.message[:9] for record in caplog.records] == ["hold: no ", "stop: no "]


def test_leaving_a_move_with_ctrl_c_stops_the_arm(host: str, arm: Arm) -> None:
    threading.Timer(0.4, lambda: os.kill(os.getpid(), signal.SIGINT)).start()
    with pytest.raises(KeyboardInterrupt):
        arm.move_to_joints(START_JOINTS_RAD + [1.0, 0, 0, 0, 0, 0, 0], speed=0.05)
    until(lambda: arm.state().mode == "idle", 1.0)
    before = rig_joints(host)
    time.sleep(0.2)
    np.testing.assert_allclose(rig_joints(host), before, atol=0.003)
    assert abs(before[0] - START_JOINTS_RAD[0]) < 0.3
