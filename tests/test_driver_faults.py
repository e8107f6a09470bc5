"""Faults of robot, hand, link, driver and program: each stops the arm, is named, and is recovered from."""

from __future__ import annotations

import dataclasses
import multiprocessing
import os
import signal
import socket
import subprocess
import sys
import time
from pathlib import Path

import numpy as np
import pytest

from simreal_envs.errors import MissingDependencyError, RobotError
from simreal_envs.robot.arm import Arm
from simreal_envs.robot.franka import END_EFFECTOR_IN_FLANGE, check_hand
from simreal_envs.spec import START_JOINTS_RAD

pytest.importorskip("panda_py", reason="needs the extra 'real'")

from driving import LIMITS, PERIOD_S, assert_arm_works, follow, moved_by, rig_joints, until

from simreal_envs.rig.control import RigControl

pytestmark = pytest.mark.alone


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
    assert_arm_works(arm)
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
    assert_arm_works(arm)


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
    assert_arm_works(arm)


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


def test_a_stop_from_before_is_not_cleared_without_a_word(
    host: str, connected: Arm, control: RigControl
) -> None:
    connected.close()
    control.inject("user_stop")
    with pytest.raises(RobotError, match="cannot be recovered: user stop"):
        Arm(host, LIMITS)
    control.inject("none")
    control.inject("reflex")
    with Arm(host, LIMITS) as arm:
        assert "the robot had stopped before: reflex (joint_reflex)" in arm.events()[1].message
        assert not arm.state().fault


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
        assert_arm_works(arm)
