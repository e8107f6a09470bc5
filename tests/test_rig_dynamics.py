"""The virtual rig's arm: its dynamics, what it measures, and what may be set on it."""

from __future__ import annotations

from pathlib import Path

import mujoco
import numpy as np
import pytest
from fci_client import END_EFFECTOR, Client
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from simreal_envs import kinematics
from simreal_envs.errors import MissingDependencyError
from simreal_envs.rig import dynamics, model_library, panda, protocol
from simreal_envs.rig.protocol import Command
from simreal_envs.rig.server import RigServer
from simreal_envs.rig.world import RigWorld
from simreal_envs.spec import JOINT_HIGH_RAD, JOINT_LOW_RAD, START_JOINTS_RAD

joints = st.tuples(*(st.floats(low, high) for low, high in zip(JOINT_LOW_RAD, JOINT_HIGH_RAD, strict=True)))
speeds = st.tuples(*([st.floats(-2.0, 2.0)] * 7))


@settings(max_examples=50, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(q=joints, dq=speeds)
def test_the_model_library_is_the_dynamics_of_the_served_scene(served: RigServer, q, dq):
    model = served.world.model
    data = mujoco.MjData(model)
    data.qpos[:], data.qpos[:7], data.qvel[:7] = model.qpos0, q, dq
    data.qpos[7:9] = 0.04, -0.04
    mujoco.mj_forward(model, data)
    mass = np.zeros((model.nv, model.nv))
    mujoco.mj_fullM(model, mass, data.qM)
    library = model_library.ModelLibrary(model_library.build(panda.LINKS))
    library.set_payload(dynamics.payload(model, data))
    library.q[:], library.dq[:] = q, dq
    link_side = mass[:7, :7] - np.diag(model.dof_armature[:7])
    np.testing.assert_allclose(library.mass_matrix(), link_side, atol=1e-12)
    bias = library.gravity().copy() + library.coriolis()
    np.testing.assert_allclose(bias, data.qfrc_bias[:7], atol=1e-9)


@settings(max_examples=50)
@given(q=joints)
def test_the_model_librarys_kinematics_are_ours(q):
    library = model_library.ModelLibrary(model_library.build(panda.LINKS))
    flange = library.end_pose().copy()  # at zero, without an end effector
    library.flange_to_end[:] = np.linalg.inv(flange) @ kinematics.forward(np.zeros(7))
    library.q[:] = q
    np.testing.assert_allclose(library.end_pose(), kinematics.forward(np.array(q)), atol=1e-12)
    jacobian, step = library.end_jacobian().copy(), 1e-6
    for i in range(7):
        library.q[:] = q
        library.q[i] += step
        moved = library.end_pose()[:3, 3].copy()
        library.q[i] -= 2 * step
        slope = (moved - library.end_pose()[:3, 3]) / (2 * step)
        np.testing.assert_allclose(jacobian[:3, i], slope, atol=1e-8)


def test_the_model_library_is_compiled_once(tmp_path: Path, monkeypatch: pytest.MonkeyPatch):
    monkeypatch.setenv("SIMREAL_CACHE", str(tmp_path))
    built = model_library.build(panda.LINKS)
    monkeypatch.setenv("PATH", "")  # no compiler any more
    assert model_library.build(panda.LINKS) == built
    with pytest.raises(MissingDependencyError, match="found no C compiler"):
        model_library.build(panda.LINKS[::-1])
    broken = tmp_path / "cc"
    broken.write_text("#!/bin/sh\necho stdio.h: no such file >&2\nexit 1\n")
    broken.chmod(0o755)
    monkeypatch.setenv("PATH", f"{tmp_path}:/bin")
    with pytest.raises(MissingDependencyError, match=r"stdio\.h: no such file"):
        model_library.build(panda.LINKS[::-1])


def test_without_torque_the_arm_floats(rig: RigServer, client: Client):
    client.move()
    client.control(np.zeros(7), 300)
    np.testing.assert_allclose(client.state["q"], START_JOINTS_RAD, atol=2e-4)
    assert np.abs(client.state["tau_J"]).max() > 5  # which gravity takes
    assert np.abs(client.state["tau_J_d"]).max() == 0


def test_the_wrench_is_what_the_robot_exerts(rig: RigServer, client: Client):
    client.ask(Command.SET_NE_TO_EE, END_EFFECTOR.tobytes())
    client.run(2)
    up = client.state["O_T_EE"].reshape(4, 4).T.copy()
    np.testing.assert_allclose(up, kinematics.forward(client.state["q"]), atol=1e-9)
    up[2, 3] += 0.05
    rig.operations["pull"](up.tolist())  # 300 N/m: 15 N
    client.run(500)
    force = client.state["O_F_ext_hat_K"][:3]
    assert force[2] == pytest.approx(-15, abs=1)
    assert np.abs(force[:2]).max() < 1.5
    # Stated at a point 0.1 m along the hand's x axis, the torque is that of the force's lever.
    frame = np.eye(4)
    frame[0, 3] = 0.1
    client.ask(Command.SET_EE_TO_K, frame.T.tobytes())
    before = client.state["O_F_ext_hat_K"][3:].copy()
    client.run(2)
    lever = client.state["O_T_EE"].reshape(4, 4).T[:3, :3] @ frame[:3, 3]
    expected = before - np.cross(lever, client.state["O_F_ext_hat_K"][:3])
    np.testing.assert_allclose(client.state["O_F_ext_hat_K"][3:], expected, atol=0.05)
    client.ask(Command.SET_EE_TO_K, np.eye(4).tobytes())
    rig.operations["pull"](None)
    client.run(300)
    assert np.abs(client.state["O_F_ext_hat_K"]).max() < 0.5


def test_a_load_that_is_not_there_lifts_the_arm(client: Client):
    load = np.concatenate([[1.0, 0.0, 0.0, 0.1], np.eye(3).ravel() * 1e-3])
    client.ask(Command.SET_LOAD, load.tobytes())
    client.move()
    before = client.state["O_T_EE"][14]
    client.control(np.zeros(7), 200)
    assert client.state["m_load"] == 1.0
    assert client.state["O_T_EE"][14] - before > 0.01
    client.control(np.zeros(7), 1, finished=True)
    client.run(600)
    client.ask(Command.SET_LOAD, np.zeros(13).tobytes())
    client.run(1)


@pytest.mark.parametrize(
    ("command", "values"),
    [
        (Command.SET_LOAD, np.full(13, -1.0)),
        (Command.SET_LOAD, np.full(13, np.nan)),
        (Command.SET_NE_TO_EE, np.ones(16)),
        (Command.SET_EE_TO_K, np.zeros(16)),
        (Command.SET_JOINT_IMPEDANCE, np.full(7, -1.0)),
        (Command.SET_CARTESIAN_IMPEDANCE, np.full(6, 1e6)),
        (Command.SET_COLLISION_BEHAVIOR, np.arange(52.0)[::-1].copy()),
    ],
)
def test_a_setting_that_makes_no_sense_is_refused(client: Client, command: Command, values: np.ndarray):
    number = client.ask(command, values.tobytes())
    client.run(2)
    assert client.statuses(command, number) == [protocol.INVALID_ARGUMENT]
    client.run(20)
    assert np.abs(client.state["dq"]).max() < 0.01


def test_nothing_is_set_while_the_arm_is_controlled(client: Client):
    client.move()
    number = client.ask(Command.SET_LOAD, np.zeros(13).tobytes())
    client.run(2)
    assert client.statuses(Command.SET_LOAD, number) == [protocol.REJECTED]


def test_placing_an_object_changes_that_object_only():
    world = RigWorld("Stack")
    model, data = world.model, world.data
    rng = np.random.default_rng(0)
    for name in ("qvel", "ctrl", "qfrc_applied", "xfrc_applied"):
        getattr(data, name)[:] = rng.normal(0, 0.1, getattr(data, name).shape)
    for _ in range(20):
        mujoco.mj_step(model, data)
    kept = ("time", "qpos", "qvel", "act", "ctrl", "qfrc_applied", "xfrc_applied")
    before = {name: np.array(getattr(data, name)) for name in kept}
    world.place({"cubeA": (0.1, -0.1, 0.5)})
    joint = model.joint("cubeA_joint0")
    own = {"qpos": np.arange(7) + joint.qposadr[0], "qvel": np.arange(6) + joint.dofadr[0]}
    for name in kept:
        after = np.array(getattr(data, name))
        rest = np.delete(after, own.get(name, []))
        np.testing.assert_array_equal(rest, np.delete(before[name], own.get(name, [])), err_msg=name)
    assert np.abs(before["qvel"][:7]).min() > 0  # the arm was moving, and so was the other cube
    assert np.abs(before["qvel"][model.joint("cubeB_joint0").dofadr[0] :][:6]).min() > 0
    assert not data.qvel[own["qvel"]].any()
    np.testing.assert_allclose(world.object_poses_in_base()["cubeA"][:2, 3], [0.66, -0.1])


def test_an_arm_in_motion_goes_on_while_objects_are_placed(rig: RigServer):
    start = rig.arm.q.copy()
    ahead = start + [0.0, 0.0, 0.0, 0.0, 0.0, 0.3, 0.0]
    speeds = []
    for tick in range(200):
        rig.arm.step(rig.arm.joint_impedance(ahead))
        if tick % 20 == 0:
            rig.operations["place"]({"cube": (0.02 * (tick % 7) - 0.2, 0.1, 0.0)})
        speeds.append(rig.arm.dq[5])
    steps = np.abs(np.diff(speeds))
    assert max(speeds) > 0.5
    assert steps[19::20].max() < 2 * steps.max(initial=0, where=np.arange(199) % 20 != 19)
