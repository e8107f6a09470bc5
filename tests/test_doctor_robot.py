"""What ``simreal doctor`` says of robots: those that are there, those that are not, and a bad connection."""

from __future__ import annotations

import resource
from collections.abc import Iterator

import pytest

from simreal_cli.doctor_robot import examine_robot
from simreal_cli.finding import Finding
from simreal_envs.rig.control import RigControl
from simreal_envs.rig.launch import Rig, free_address

pytestmark = pytest.mark.alone


def examined(env: str, host: str | None) -> dict[str, Finding]:
    return {finding.subject: finding for finding in examine_robot(env, host, serial=None)}


@pytest.fixture(scope="module")
def host(rig_camera: None) -> Iterator[str]:
    """Address of a virtual rig with a camera."""
    with Rig("Lift") as rig:
        yield rig.host


def test_a_rig_is_found_well(host: str) -> None:
    findings = examined("rig", host)
    assert {finding.status for finding in findings.values()} <= {"ok", "warn"}, findings
    assert findings["FCI"].found == "version 5"
    assert findings["hand"].found == "homed, open 80 mm of 80"
    assert "Hz of 30" in findings["frame rate"].found


def test_another_client_on_the_robot_is_a_failure_of_fci(host: str) -> None:
    from simreal_envs.robot.franka import panda_py

    libfranka = panda_py().libfranka
    robot = libfranka.Robot(host, libfranka.RealtimeConfig.kIgnore)
    findings = examined("rig", host)
    assert findings["FCI"].status == "fail"
    assert "other program" in findings["FCI"].remedy
    del robot


def test_lost_states_and_a_hand_that_is_not_homed_are_noticed(host: str, control: RigControl) -> None:
    control.inject("packet_loss", 0.2)
    control.inject("gripper_unhomed")
    findings = examined("rig", host)
    assert findings["state rate"].status == "warn"
    assert "cable" in findings["state rate"].remedy
    assert findings["hand"].status == "warn"
    assert "home it in Franka Desk" in findings["hand"].remedy


def test_an_address_without_a_robot_is_named_with_what_to_do() -> None:
    host = free_address()
    findings = examined("real", host)
    assert findings["robot"].status == "fail"
    assert host in findings["robot"].found
    assert "activate FCI" in findings["robot"].remedy
    assert "FCI" not in findings  # nothing to say of what cannot be reached
    assert findings["camera"].status == "fail"


def test_without_an_address_the_rest_is_looked_at() -> None:
    findings = examined("real", None)
    assert findings["robot"].remedy.startswith("simreal doctor --env real --host")
    assert {"kernel", "permissions", "camera"} <= set(findings)


def test_less_real_time_priority_than_libfranka_asks_for_is_no_success() -> None:
    soft, hard = resource.getrlimit(resource.RLIMIT_RTPRIO)
    resource.setrlimit(resource.RLIMIT_RTPRIO, (80 if hard < 0 else min(80, hard), hard))
    try:
        assert examined("real", None)["permissions"].status in ("warn", "fail")
    finally:
        resource.setrlimit(resource.RLIMIT_RTPRIO, (soft, hard))
