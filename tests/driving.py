"""Steering the arm's driver, for tests: command for a while, wait for something, look at the rig's arm."""

from __future__ import annotations

import time
from collections.abc import Callable

import numpy as np

from simreal_envs.latest import Latest
from simreal_envs.rig.world import STATE as RIG_STATE
from simreal_envs.robot.arm import Arm, ArmState
from simreal_envs.robot.safety import load_limits
from simreal_envs.spec import CONTROL_HZ

LIMITS = load_limits()
PERIOD_S = 1 / CONTROL_HZ


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
    """The pose, moved along the base's axes."""
    target = pose.copy()
    target[:3, 3] += offset_m
    return target


def assert_arm_works(arm: Arm) -> None:
    """It takes control and goes where it is told."""
    assert not arm.state().fault
    arm.start()
    target = moved_by(arm.state().pose_in_base, 0, 0, 0.03)
    state = follow(arm, target, 0.8)
    assert not state.fault
    np.testing.assert_allclose(state.pose_in_base[:3, 3], target[:3, 3], atol=0.006)
    arm.stop()
