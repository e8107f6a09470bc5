"""The virtual rig as processes: its own channel, the real libraries that connect, its start and its end."""

from __future__ import annotations

import os
import signal
import socket
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from pathlib import Path

import mujoco
import numpy as np
import pytest
from fci_client import END_EFFECTOR
from typer.testing import CliRunner

from simreal_cli.main import app
from simreal_envs import kinematics
from simreal_envs.errors import RobotError, UsageError
from simreal_envs.rig import protocol
from simreal_envs.rig.control import RigControl
from simreal_envs.rig.launch import Rig, free_address
from simreal_envs.spec import START_JOINTS_RAD

pytestmark = pytest.mark.alone


@pytest.fixture(scope="module")
def running() -> Iterator[Rig]:
    """A rig in processes of its own, without a camera."""
    with Rig("Lift", camera=False) as rig:
        yield rig


@pytest.fixture
def control(running: Rig) -> Iterator[RigControl]:
    with RigControl(running.host) as control:
        yield control
        control.inject("none")


@pytest.fixture
def back_to_ordinary() -> Iterator[None]:
    """libfranka leaves the thread that moves the arm in real time, and what that starts inherits it."""
    yield
    os.sched_setscheduler(0, os.SCHED_OTHER, os.sched_param(0))


def test_objects_are_placed_and_found(control: RigControl):
    control.place({"cube": (0.05, -0.1, 0.3)})
    time.sleep(0.3)
    pose = control.object_poses_in_base()["cube"]
    np.testing.assert_allclose(pose[:3, 3], [0.61, -0.1, 0.021], atol=1e-3)
    assert np.arctan2(pose[1, 0], pose[0, 0]) == pytest.approx(0.3, abs=0.01)
    assert control.subtask_signals() == {"reach": False, "grasp": False, "lift": False}
    assert control.describe()["task"] == "Lift"
    model = mujoco.MjModel.from_xml_string(control.model_xml())
    assert len(control.sim_state()) == 1 + model.nq + model.nv


def test_the_channel_refuses_what_does_not_exist(control: RigControl):
    with pytest.raises(UsageError, match=r"Unknown object 'cup'\. Valid: cube"):
        control.place({"cup": (0, 0, 0)})
    with pytest.raises(UsageError, match="Unknown fault 'fog'"):
        control.inject("fog")
    with pytest.raises(UsageError, match="shape"):
        control.pull(np.eye(3))
    with pytest.raises(RobotError, match=r"No virtual rig at .*simreal rig"):
        RigControl(free_address())


@pytest.mark.usefixtures("back_to_ordinary")
def test_panda_py_moves_the_arm_and_the_hand(running: Rig, control: RigControl):
    panda_py = pytest.importorskip("panda_py", reason="needs the real extra: pip install 'simreal[real]'")
    from panda_py.controllers import CartesianImpedance

    arm = panda_py.Panda(running.host)
    arm.get_robot().set_ee(END_EFFECTOR.tolist())
    with pytest.raises(RuntimeError, match="libfranka"):
        panda_py.Panda(running.host)
    arm.set_default_behavior()
    goal = START_JOINTS_RAD + 0.1
    assert arm.move_to_joint_position(goal, speed_factor=0.5)
    np.testing.assert_allclose(arm.get_robot().read_once().q, goal, atol=1e-3)
    start = arm.get_pose()
    np.testing.assert_allclose(start, kinematics.forward(goal), atol=2e-3)

    impedance = CartesianImpedance(filter_coeff=0.05)
    arm.start_controller(impedance)
    target = start[:3, 3].copy()
    for _ in range(30):
        target[1] += 0.003
        impedance.set_control(target, arm.get_orientation())
        time.sleep(0.02)
    time.sleep(0.5)
    assert np.abs(arm.get_position() - target).max() < 0.01
    control.inject("reflex", "cartesian_reflex")
    time.sleep(0.1)
    with pytest.raises(RuntimeError, match="cartesian_reflex"):
        arm.raise_error()
    arm.stop_controller()
    arm.recover()
    assert arm.move_to_joint_position(START_JOINTS_RAD, speed_factor=0.5)

    gripper = panda_py.libfranka.Gripper(running.host)
    assert gripper.move(0.02, 0.1)
    assert gripper.read_once().width == pytest.approx(0.02, abs=2e-3)
    assert not gripper.grasp(0.06, 0.1, 20, 0.005, 0.005)
    assert gripper.move(0.08, 0.1)


@pytest.mark.usefixtures("back_to_ordinary")
def test_a_second_library_moves_the_arm_and_the_hand(running: Rig, control: RigControl):
    franka = pytest.importorskip("franka", reason="pip install franka-rs")
    robot = franka.Robot(running.host, realtime="ignore")
    q = np.array(robot.read_once().q)
    with robot.cartesian_targets(max_velocity=0.3, max_acceleration=1.0, max_jerk=50.0) as arm:
        target = np.array(arm.target())[:3]
        for _ in range(20):
            target[1] += 0.003
            arm.move_to(target.tolist())
            time.sleep(0.05)
        time.sleep(0.5)
        reached = np.asarray(arm.state().O_T_EE)[:3, 3]
    assert np.abs(reached - target).max() < 0.02
    with robot.joint_targets(fraction=0.3, backend="robot") as arm:
        arm.move_to((q + 0.05).tolist())
        time.sleep(1.5)
    np.testing.assert_allclose(robot.read_once().q, q + 0.05, atol=5e-3)
    hand = robot.gripper()
    assert hand.move(0.03, 0.1)
    assert hand.read_once().width == pytest.approx(0.03, abs=2e-3)


def test_a_rig_that_cannot_be_started_says_why():
    with pytest.raises(UsageError, match="Unknown task 'Lyft'"):
        Rig("Lyft")
    with pytest.raises(UsageError, match="not an IP address"):
        Rig("Lift", host="rig")
    with pytest.raises(UsageError, match=r"reached by other machines.*--expose"):
        Rig("Lift", host="0.0.0.0")
    with (
        socket.create_server((host := free_address(), protocol.CONTROL_PORT)),
        pytest.raises(UsageError, match=f"cannot listen at {host}: Address already in use"),
    ):
        Rig("Lift", host=host, camera=False)


def answers(host: str) -> bool:
    try:
        socket.create_connection((host, protocol.CONTROL_PORT), 1).close()
    except OSError:
        return False
    return True


def wait_until(condition: Callable[[], bool], seconds: float = 30.0) -> None:
    end = time.monotonic() + seconds
    while not condition():
        assert time.monotonic() < end, "it did not happen in time"
        time.sleep(0.05)


def test_a_running_rig_is_broken_and_mended_from_the_command_line(running: Rig, control: RigControl):
    def inject(*faults: str) -> None:
        options = [word for fault in faults for word in ("--inject", fault)]
        done = CliRunner().invoke(app, ["rig", "--host", running.host, *options])
        assert done.exit_code == 0, done.output

    inject("gripper_stuck", "packet_loss:0.02")
    assert control.status()["faults"] == {"gripper_stuck": True, "packet_loss": 0.02}
    inject("none")
    assert control.status()["faults"] == {}


@pytest.mark.parametrize(
    ("how", "in_background"), [(signal.SIGINT, False), (signal.SIGKILL, False), (signal.SIGKILL, True)]
)
def test_nothing_is_left_of_a_rig_when_its_program_ends(how: signal.Signals, in_background: bool):
    simreal = str(Path(sys.executable).with_name("simreal"))
    host = free_address()
    program = subprocess.Popen(
        [simreal, "rig", "--task", "Lift", "--host", host, "--no-camera", "--fault", "packet_loss:0.01"],
        stdout=subprocess.PIPE,
        text=True,
        env=os.environ | {"COLUMNS": "100"},
        # as shells start what runs in the background
        preexec_fn=(lambda: signal.signal(signal.SIGINT, signal.SIG_IGN)) if in_background else None,
    )
    assert program.stdout is not None
    assert program.stdout.readline().startswith(f"Lift at {host}")
    with RigControl(host) as control:
        assert control.status()["faults"] == {"packet_loss": 0.01}
    program.send_signal(how)
    assert program.wait(10) == (0 if how == signal.SIGINT else -signal.SIGKILL)
    wait_until(lambda: not answers(host))
    wait_until(lambda: not list(Path("/dev/shm").glob(f"simreal-rig-{host}-*")))
