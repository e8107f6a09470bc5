"""The arm's driver against the virtual rig: it follows, limits, holds, stops, and names what went wrong."""

from __future__ import annotations

import dataclasses
import multiprocessing
import os
import signal
import socket
import subprocess
import sys
import threading
import time
from collections.abc import Callable, Iterator
from pathlib import Path

import numpy as np
import pytest

from simreal_envs import spec
from simreal_envs.errors import MissingDependencyError, RobotError, UsageError
from simreal_envs.latest import Latest
from simreal_envs.poses import pose_from_action
from simreal_envs.robot.arm import Arm, ArmState
from simreal_envs.robot.franka import END_EFFECTOR_IN_FLANGE, check_hand
from simreal_envs.robot.safety import load_limits
from simreal_envs.spec import CONTROL_HZ, START_JOINTS_RAD

pytest.importorskip("panda_py", reason="needs the extra 'real'")

from simreal_envs.rig.control import RigControl
from simreal_envs.rig.launch import Rig
from simreal_envs.rig.world import STATE as RIG_STATE

LIMITS = load_limits()
PERIOD_S = 1 / CONTROL_HZ
OUTSIDE_RAD = np.array([1.6, -0.2, 0.0, -2.5, 0.0, 2.3, 0.8])
"""Beside the workspace."""


@pytest.fixture(scope="module")
def host() -> Iterator[str]:
    with Rig("Lift", camera=False) as rig:
        yield rig.host


@pytest.fixture
def control(host: str) -> Iterator[RigControl]:
    with RigControl(host) as rig:
        rig.inject("none")
        yield rig
        rig.inject("none")


@pytest.fixture(scope="module")
def connected(host: str) -> Iterator[Arm]:
    with Arm(host, LIMITS) as arm:
        yield arm


@pytest.fixture
def arm(connected: Arm, control: RigControl) -> Arm:
    """At rest in the middle of the workspace, whatever the test before did."""
    if connected.state().fault:
        connected.recover()
    connected.stop()
    control.reset()
    connected.open_gripper()
    connected.events()
    return connected


def follow(arm: Arm, target: np.ndarray, seconds: float, gripper: float = -1.0) -> ArmState:
    """Command a pose at the control rate; ends early at a fault."""
    for _ in range(round(seconds / PERIOD_S)):
        arm.command(target, gripper)
        time.sleep(PERIOD_S)
        if arm.state().fault:
            break
    return arm.state()


def until(condition: Callable[[], bool], seconds: float) -> float:
    """Wait for something; how long it took. Fails if it does not come."""
    since_s = time.monotonic()
    while not condition():
        assert time.monotonic() - since_s < seconds, "did not happen in time"
        time.sleep(0.005)
    return time.monotonic() - since_s


def rig_joints(host: str) -> np.ndarray:
    """Where the arm really is, without asking the driver."""
    return Latest(f"rig-{host}-state", RIG_STATE).read()["qpos"][:7].copy()


def moved_by(pose: np.ndarray, *offset_m: float) -> np.ndarray:
    target = pose.copy()
    target[:3, 3] += offset_m
    return target


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
            action[3:6] = arm.state().pose_in_base[:3, :3][:, 0] * 0 + [np.pi * 0.98, 0, 0]
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


def test_a_stop_from_before_is_not_cleared_without_a_word() -> None:
    with Rig("Lift", camera=False) as rig, RigControl(rig.host) as control:
        control.inject("user_stop")
        with pytest.raises(RobotError, match="cannot be recovered: user stop"):
            Arm(rig.host, LIMITS)
        control.inject("none")
        control.inject("reflex")
        with Arm(rig.host, LIMITS) as arm:
            assert "the robot had stopped before: reflex (joint_reflex)" in arm.events()[1].message
            assert not arm.state().fault


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


# --- faults ------------------------------------------------------------------------------------------


def arm_works(arm: Arm) -> None:
    """After a recovery."""
    assert not arm.state().fault
    arm.start()
    target = moved_by(arm.state().pose_in_base, 0, 0, 0.03)
    state = follow(arm, target, 0.8)
    assert not state.fault
    np.testing.assert_allclose(state.pose_in_base[:3, 3], target[:3, 3], atol=0.006)
    arm.stop()


def test_a_reflex_is_named_and_recovered_from_only_when_asked(arm: Arm, control: RigControl) -> None:
    arm.start()
    target = arm.state().pose_in_base
    follow(arm, target, 0.2)
    control.inject("reflex", "cartesian_reflex")
    state = follow(arm, target, 1.0)
    assert state.fault == "reflex (cartesian_reflex)"
    assert state.mode == "fault"
    with pytest.raises(RobotError, match=r"reflex \(cartesian_reflex\)\. Recover first"):
        arm.start()
    arm.recover()
    arm_works(arm)
    control.inject("reflex")  # also while nothing moves
    until(lambda: arm.state().fault == "reflex (joint_reflex)", 1.0)
    arm.recover()
    assert "recovered" in [event.kind for event in arm.events()]


def test_a_lost_link_is_noticed_at_once_and_connected_anew(
    arm: Arm, control: RigControl, monkeypatch: pytest.MonkeyPatch
) -> None:
    arm.start()
    target = arm.state().pose_in_base
    follow(arm, target, 0.2)
    control.inject("link_cut")
    since_s = time.monotonic()
    state = follow(arm, target, 2.0)
    assert state.fault.startswith("link lost")
    assert state.mode == "fault"
    assert time.monotonic() - since_s < 0.7
    with monkeypatch.context() as patch:
        patch.setattr("simreal_envs.robot.arm.CONNECT_TIME_S", 4.0)
        with pytest.raises(RobotError):
            arm.recover()  # the cable is still out
    control.inject("none")
    arm.recover()
    arm_works(arm)


def test_lost_packets_and_a_jumping_clock_disturb_nobody_but_are_told_of(
    arm: Arm, control: RigControl, caplog: pytest.LogCaptureFixture
) -> None:
    arm.start()
    target = arm.state().pose_in_base
    control.inject("packet_loss", 0.1)
    state = follow(arm, target, 0.6)
    assert not state.fault
    assert 0.7 < state.success_rate < 0.97
    control.inject("none")
    control.inject("clock_jump", 5.0)
    assert not follow(arm, target, 0.4).fault
    arm.stop()
    assert "link" in [event.kind for event in arm.events()]
    assert "of the commands reach the robot in time" in caplog.text


def test_a_driver_that_was_killed_is_a_fault_that_recovery_mends(arm: Arm, control: RigControl) -> None:
    arm.start()
    target = arm.state().pose_in_base
    follow(arm, target, 0.2)
    children = Path(f"/proc/{arm._driver.pid}/task/{arm._driver.pid}/children").read_text().split()
    arm._driver.kill()
    state = follow(arm, target, 1.0)
    assert "driver ended" in state.fault
    assert children
    until(lambda: not any(Path(f"/proc/{child}").exists() for child in children), 2.0)
    assert state.mode == "fault"
    until(lambda: not control.status()["moving"], 1.0)
    arm.recover()
    arm_works(arm)


def test_a_robot_with_another_hand_is_refused() -> None:
    check_hand(END_EFFECTOR_IN_FLANGE)
    with pytest.raises(RobotError, match=r"0\.1034\] m from the flange .* choose 'Franka Hand'"):
        check_hand(moved_by(END_EFFECTOR_IN_FLANGE, 0, 0, 0.0069))


def test_each_way_not_to_connect_has_its_own_message(
    host: str, arm: Arm, monkeypatch: pytest.MonkeyPatch
) -> None:
    with pytest.raises(RobotError, match="another client"):
        Arm(host, LIMITS)
    with pytest.raises(RobotError, match=r"nothing listens at 127\.0\.0\.111: .*activate FCI"):
        Arm("127.0.0.111", LIMITS)
    monkeypatch.setattr("simreal_envs.robot.arm.CONNECT_TIME_S", 3.0)
    with socket.create_server(("127.0.0.112", 1337)), pytest.raises(RobotError, match="no answer from"):
        Arm("127.0.0.112", LIMITS)  # something that is no robot
    assert not arm.state().fault


def test_without_the_drivers_library_the_message_says_how_to_install_it(
    monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    (tmp_path / "panda_py.py").write_text("raise ImportError('not here')")
    monkeypatch.setenv("PYTHONPATH", str(tmp_path))
    with pytest.raises(MissingDependencyError, match=r"pip install 'simreal\[real\]'"):
        Arm("127.0.0.111", LIMITS)


# --- with a connection of their own ------------------------------------------------------------------


def test_pressing_on_the_table_stops_the_arm(host: str, connected: Arm, control: RigControl) -> None:
    connected.close()
    gentle = dataclasses.replace(LIMITS, workspace_low_m=(0.2, -0.45, -0.05), max_contact_force_N=15.0)
    with Arm(host, gentle) as arm:
        arm.start()
        down = arm.state().pose_in_base
        while down[2, 3] > -0.045 and not arm.state().fault:
            step_m = 0.02 if down[2, 3] > 0.08 else 0.004  # slowly: an impact is the reflex's business
            down = moved_by(down, 0, 0, -step_m)
            state = follow(arm, down, PERIOD_S)
        state = follow(arm, down, 0.5)
        assert "contact with" in state.fault
        until(lambda: arm.state().mode == "stopped", 1.0)
        assert any(event.kind == "stop" for event in arm.events())
        arm.recover()
        arm.move_up(0.1)


USER = """
import sys, time
import numpy as np
from simreal_envs.robot.arm import Arm
from simreal_envs.robot.franka import END_EFFECTOR_IN_FLANGE, check_hand
from simreal_envs.robot.safety import load_limits
arm = Arm(sys.argv[1], load_limits())
arm.start()
pose = arm.state().pose_in_base
print(arm._driver.pid, flush=True)
while True:
    pose[1, 3] += 0.004
    arm.command(pose, -1.0)
    time.sleep(0.05)
"""


@pytest.mark.parametrize("how", [signal.SIGSTOP, signal.SIGKILL])
def test_a_user_process_that_freezes_or_dies_leaves_a_stopped_arm(
    how: signal.Signals, host: str, connected: Arm, control: RigControl
) -> None:
    connected.close()
    control.reset()
    user = subprocess.Popen([sys.executable, "-c", USER, host], stdout=subprocess.PIPE, text=True, cwd="/")
    try:
        assert user.stdout is not None
        driver = int(user.stdout.readline())
        until(lambda: rig_joints(host)[0] - START_JOINTS_RAD[0] > 0.05, 5.0)  # it is on its way
        user.send_signal(how)
        time.sleep(0.7)
        held = rig_joints(host)
        if how == signal.SIGSTOP:
            assert control.status()["moving"]  # in control, holding
            until(lambda: not control.status()["moving"], 1.5)
        else:
            until(lambda: control.status()["client"] is None, 2.0)
        np.testing.assert_allclose(rig_joints(host), held, atol=0.01)
    finally:
        user.kill()
        user.wait()
    until(lambda: not Path(f"/proc/{driver}").exists(), 5.0)
    assert not list(Path("/dev/shm").glob(f"simreal-robot-{user.pid}-*"))
    control.inject("none")


def test_closing_in_the_middle_of_control_stops_the_arm_and_leaves_nothing_behind(
    connected: Arm, control: RigControl
) -> None:
    connected.close()
    with Arm(control.host, LIMITS) as arm:
        arm.start()
        follow(arm, moved_by(arm.state().pose_in_base, 0, 0.05, 0), 0.2)
        heir = multiprocessing.get_context("fork").Process(target=time.sleep, args=(60,), daemon=True)
        heir.start()  # has inherited what connects us to the driver
        since_s = time.monotonic()
    heir.kill()
    assert time.monotonic() - since_s < 2.0
    until(lambda: control.status()["client"] is None, 1.0)
    assert not control.status()["moving"]
    assert not list(Path("/dev/shm").glob(f"simreal-robot-{os.getpid()}-*"))


def test_a_stuck_hand_stops_the_arm_and_is_connected_anew(
    host: str, connected: Arm, control: RigControl
) -> None:
    connected.close()
    control.inject("reflex")  # left by the program before: connecting recovers from it
    with Arm(host, LIMITS) as arm:
        arm.start()
        control.inject("gripper_stuck")
        state = follow(arm, arm.state().pose_in_base, 2.5, gripper=1.0)
        assert "gripper: stuck at 80 mm when it was to close" in state.fault
        until(lambda: arm.state().mode == "stopped", 1.0)
        control.inject("none")
        arm.recover()
        arm.close_gripper()
        assert arm.state().gripper_width_m < 0.01
        arm.open_gripper()
        arm_works(arm)
