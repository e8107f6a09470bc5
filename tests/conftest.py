"""Fixtures that several test files share."""

from __future__ import annotations

import signal
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import TYPE_CHECKING

import pytest
from hypothesis import settings

if TYPE_CHECKING:
    from fci_client import Client

    from simreal_envs.rig.control import RigControl
    from simreal_envs.rig.server import RigServer
    from simreal_envs.robot.arm import Arm

# Shells start what runs in the background with Ctrl-C ignored, and programs of tests would inherit that.
signal.signal(signal.SIGINT, signal.default_int_handler)
# A machine busy with other work may take its time.
settings.register_profile("simreal", deadline=None)
settings.load_profile("simreal")


@pytest.fixture(scope="session")
def rig_camera() -> None:
    """Skip what needs the virtual rig's camera, where there is none. A missing extra is a failure."""
    if sys.version_info >= (3, 12):
        pytest.skip("the rig's camera needs pyrealsense2 2.54.2, which Python 3.12 has not")


@pytest.fixture(scope="session")
def patient_limits(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A file of limits for a machine with other things to do: what comes a little late ends no episode."""
    file = tmp_path_factory.mktemp("limits") / "patient.yaml"
    file.write_text("{max_frame_age_s: 1.0, watchdog_hold_s: 0.5, watchdog_stop_s: 3.0}")
    return file


@pytest.fixture(scope="module")
def served() -> Iterator[RigServer]:
    """A virtual rig in this process, whose time passes tick by tick."""
    from threadpoolctl import threadpool_limits

    from simreal_envs.rig.launch import free_address
    from simreal_envs.rig.server import RigServer

    with threadpool_limits(1):  # as in its own process
        rig = RigServer(free_address(), "Lift", "none", camera=False, enforce_loss=False)
        yield rig
        rig.close()


@pytest.fixture
def rig(served: RigServer) -> Iterator[RigServer]:
    """The same, as it was in the beginning."""
    yield served
    served.operations["inject"]("none")
    served.operations["pull"](None)
    for _ in range(300):
        served.tick()
    served.robot.state.recover()
    served.operations["reset"]()
    served.robot.enforce_loss = False


@pytest.fixture
def client(rig: RigServer) -> Iterator[Client]:
    """Connected to it."""
    from fci_client import Client

    client = Client(rig)
    yield client
    client.close()


@pytest.fixture(scope="module")
def data(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Demonstrations of two domains, in the folders ``source`` and ``target``."""
    from demonstrations import write_dataset

    folder = tmp_path_factory.mktemp("data")
    write_dataset(folder / "source", 8, seed=0)
    write_dataset(folder / "target", 5, seed=1)
    return folder


@pytest.fixture(scope="module")
def host() -> Iterator[str]:
    """Address of a virtual rig in a process of its own, without a camera."""
    from simreal_envs.rig.launch import Rig

    with Rig("Lift", camera=False) as rig:
        yield rig.host


@pytest.fixture
def control(host: str) -> Iterator[RigControl]:
    """Its own channel, beside the robot's; no fault is on."""
    from simreal_envs.rig.control import RigControl

    with RigControl(host) as rig:
        rig.inject("none")
        yield rig
        rig.inject("none")


@pytest.fixture(scope="module")
def connected(host: str) -> Iterator[Arm]:
    """The driver of its arm, as the test before left it."""
    from simreal_envs.robot.arm import Arm
    from simreal_envs.robot.safety import load_limits

    with Arm(host, load_limits()) as arm:
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
