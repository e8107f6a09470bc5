"""The simulated world against robosuite itself, and the renderer against geometry."""

from __future__ import annotations

import json
from typing import Any

import gymnasium as gym
import mujoco
import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from scipy.spatial.transform import Rotation

import simreal_envs  # noqa: F401
from simreal_envs import kinematics, spec
from simreal_envs.cameras import CAMERA_SPECS, OTHER_VIEWPOINT_IN_BASE, THIRD_PERSON, CameraSpec, between
from simreal_envs.errors import UsageError
from simreal_envs.poses import pose, pose_from_action
from simreal_envs.rig.launch import Rig
from simreal_envs.shifts import STAND_IN
from simreal_envs.sim.physics import GRIP_SITE_IN_HAND, Physics
from simreal_envs.sim.scene import TabletopScene
from simreal_envs.tasks import get_task
from simreal_envs.world_config import WorldConfig
from simreal_envs.wrappers import delta_to_pose, pose_to_delta

PLACEMENT = {"cubeA": (0.05, -0.1, 0.2), "cubeB": (-0.05, 0.1, -0.1)}


@pytest.fixture(scope="module")
def scene() -> TabletopScene:
    made = TabletopScene(get_task("Stack"))
    made.reset()
    return made


def physics_of(scene: TabletopScene) -> Physics:
    return Physics(scene.sim.model._model, scene.sim.data._data, scene.task.objects)


def targets(seed: int, count: int) -> list[tuple[np.ndarray, float]]:
    """Random target poses around the start, with the gripper at times closing."""
    rng = np.random.default_rng(seed)
    down = Rotation.from_matrix(np.diag([1.0, -1.0, -1.0]))
    return [
        (
            pose(
                (Rotation.from_rotvec(rng.normal(0, 0.3, 3)) * down).as_matrix(),
                np.array([0.5, 0.0, 0.2]) + rng.uniform(-0.1, 0.1, 3),
            ),
            float(rng.choice([-1.0, 1.0])),
        )
        for _ in range(count)
    ]


@pytest.mark.parametrize("seed", range(5))
def test_torques_are_robosuites(scene: TabletopScene, seed: int) -> None:
    physics = physics_of(scene)
    rng = np.random.default_rng(seed)
    physics.reset(spec.START_JOINTS_RAD + rng.normal(0, 0.1, 7), PLACEMENT)
    scene.robots[0].composite_controller.update_state()
    arm = scene.robots[0].composite_controller.part_controllers["right"]
    arm.update_initial_joints(physics.joint_positions_rad)
    for target, gripper in targets(seed, 10):
        site = target[:3, :3] @ GRIP_SITE_IN_HAND
        physics.controller.set_goal(target[:3, 3] + spec.BASE_IN_WORLD_M, site, gripper)
        arm.set_goal(np.r_[target[:3, 3], Rotation.from_matrix(site).as_rotvec()])
        for _ in range(physics.substeps):
            mujoco.mj_step1(physics.model, physics.data)
            arm.new_update = True
            np.testing.assert_allclose(physics.controller.torques(), arm.run_controller(), rtol=0, atol=1e-8)
            physics.controller.apply()
            mujoco.mj_step2(physics.model, physics.data)


def test_an_episode_is_robosuites_own(scene: TabletopScene) -> None:
    physics = physics_of(scene)
    physics.reset(spec.START_JOINTS_RAD, PLACEMENT)
    start = physics.get_state()
    plan = targets(seed=7, count=30)
    for target, gripper in plan:
        physics.step(target, gripper)
    ours = physics.get_state()

    robot = scene.robots[0]
    mujoco.mj_resetData(physics.model, physics.data)
    physics.set_state(start)
    robot.composite_controller.update_state()
    robot.composite_controller.part_controllers["right"].update_initial_joints(physics.joint_positions_rad)
    robot.gripper["right"].current_action = np.array([1.0, -1.0])
    for target, gripper in plan:
        site = Rotation.from_matrix(target[:3, :3] @ GRIP_SITE_IN_HAND).as_rotvec()
        scene.step(np.r_[target[:3, 3], site, gripper])
    np.testing.assert_allclose(ours, physics.get_state(), atol=1e-6)


def test_kinematics_are_the_models(scene: TabletopScene) -> None:
    physics = physics_of(scene)
    rng = np.random.default_rng(0)
    for _ in range(20):
        joints = rng.uniform(spec.JOINT_LOW_RAD, spec.JOINT_HIGH_RAD)
        physics.reset(joints, PLACEMENT)
        pose_in_base = physics.end_effector_pose_in_base()
        # robosuite's file turns the hand by 44.97 degrees instead of 45.
        np.testing.assert_allclose(kinematics.forward(joints), pose_in_base, atol=6e-4)


@settings(max_examples=30)
@given(st.lists(st.floats(-0.4, 0.4), min_size=7, max_size=7))
def test_inverse_kinematics_round_trips(offset: list[float]) -> None:
    joints = np.clip(spec.START_JOINTS_RAD + offset, spec.JOINT_LOW_RAD, spec.JOINT_HIGH_RAD)
    reached = kinematics.inverse(kinematics.forward(joints), spec.START_JOINTS_RAD)
    assert reached is not None
    np.testing.assert_allclose(kinematics.forward(reached), kinematics.forward(joints), atol=1e-5)


def test_inverse_kinematics_says_what_is_out_of_reach() -> None:
    far = pose(np.eye(3), np.array([2.0, 0.0, 0.0]))
    assert kinematics.inverse(far, spec.START_JOINTS_RAD) is None


@settings(max_examples=50)
@given(st.lists(st.floats(-1, 1, width=32), min_size=7, max_size=7))
def test_delta_and_pose_actions_round_trip(delta: list[float]) -> None:
    hand = kinematics.forward(spec.START_JOINTS_RAD)
    action = delta_to_pose(np.array(delta), hand)
    np.testing.assert_allclose(pose_to_delta(action, hand), delta, atol=1e-5)
    again = delta_to_pose(pose_to_delta(action, hand), hand)
    np.testing.assert_allclose(pose_from_action(again), pose_from_action(action), atol=1e-5)


# --- camera ----------------------------------------------------------------------------


def test_a_recorded_camera_is_read_back() -> None:
    for name, camera in CAMERA_SPECS.items():
        recorded = camera.resized((72, 96)).moved(OTHER_VIEWPOINT_IN_BASE).to_json()
        assert CameraSpec.from_json(name, json.loads(json.dumps(recorded))).to_json() == recorded


def test_a_resized_camera_sees_the_same_rays() -> None:
    points = np.array([[0.56, 0.0, 0.0], [0.5, 0.1, 0.05]])
    small = THIRD_PERSON.resized((72, 96)).project(points)
    np.testing.assert_allclose((THIRD_PERSON.project(points) + 0.5) * 0.15 - 0.5, small, atol=1e-9)


def test_depth_deprojects_to_the_point_it_came_from() -> None:
    camera = THIRD_PERSON.resized((72, 96))
    depth = np.full((72, 96), 0.6)
    points = camera.deproject(depth)
    v, u = 20, 30
    np.testing.assert_allclose(camera.project(points[v, u][None])[0], [u, v], atol=1e-9)


def test_the_viewpoint_shift_is_the_published_one() -> None:
    start = THIRD_PERSON.pose_in_base
    turn = Rotation.from_matrix(start[:3, :3].T @ OTHER_VIEWPOINT_IN_BASE[:3, :3]).magnitude()
    assert np.rad2deg(turn) == pytest.approx(23.2, abs=0.1)
    assert np.linalg.norm(start[:3, 3] - OTHER_VIEWPOINT_IN_BASE[:3, 3]) == pytest.approx(0.187, abs=1e-3)
    np.testing.assert_allclose(
        between(start, OTHER_VIEWPOINT_IN_BASE, 1.0), OTHER_VIEWPOINT_IN_BASE, atol=1e-4
    )


@pytest.mark.parametrize("shift", ["none", "viewpoint", "viewpoint:0.5"])
@pytest.mark.parametrize("size", [(480, 640), (84, 84), (72, 96)])
def test_objects_appear_where_the_intrinsics_say(shift: str, size: tuple[int, int]) -> None:
    env = gym.make("simreal/Lift-v0", obs="image+depth", image_size=size, shift=shift)
    world: Any = env.unwrapped
    for x, y in [(-0.08, -0.1), (0.08, 0.1), (0.0, 0.0)]:
        observation, _ = env.reset(seed=0, options={"placement": {"cube": (x, y, 0.0)}})
        points = world.camera_now().deproject(observation["agentview_depth"])
        red = observation["agentview_image"].astype(int)
        on_top = (red[..., 0] > 2 * red[..., 1]) & (np.abs(points[..., 2] - 0.042) < 0.0008)
        assert on_top.any()
        found = points[on_top].mean(axis=0)
        # Half a pixel at this distance is 0.5 m / f.
        tolerance_m = 0.001 + 0.5 * 0.55 / world.camera_now().intrinsics[0, 0]
        np.testing.assert_allclose(found[:2], spec.TABLE_CENTRE_IN_BASE_M[:2] + [x, y], atol=tolerance_m)
        corners = np.array([[i, j, 0.021] for i in (-0.021, 0.021) for j in (-0.021, 0.021)])
        expected = world.camera_now().project(world.object_poses_in_base()["cube"][:3, 3] + corners)
        rows_columns = np.argwhere(on_top)
        np.testing.assert_allclose(rows_columns.min(axis=0)[::-1], expected.min(axis=0), atol=1.5)
        np.testing.assert_allclose(rows_columns.max(axis=0)[::-1], expected.max(axis=0), atol=1.5)
    env.close()


def test_depth_of_the_table_is_geometry() -> None:
    env = gym.make("simreal/Lift-v0", obs="depth", image_size=(120, 160))
    world: Any = env.unwrapped
    observation, _ = env.reset(seed=0)
    points = world.camera_now().deproject(observation["agentview_depth"])
    middle = points[60:, 20:140].reshape(-1, 3)
    on_table = np.abs(middle[:, 2]) < 0.001
    assert on_table.mean() > 0.9
    env.close()


def test_shifted_gains_make_the_arm_lag_and_look_the_same() -> None:
    plain, shifted = (gym.make("simreal/Lift-v0", shift=s) for s in ("none", "gains"))
    target = np.array([0.5, 0.1, 0.2, np.pi, 0.0, 0.0, -1.0], np.float32)

    def left_m(env: Any, seed: int) -> float:
        """Distance to the target half a second after it was set."""
        env.reset(seed=seed)
        for _ in range(10):
            observation = env.step(target)[0]
        return float(np.linalg.norm(observation["robot0_eef_pos"] - target[:3]))

    a, b = plain.reset(seed=2)[0], shifted.reset(seed=2)[0]
    for key in a:
        np.testing.assert_array_equal(a[key], b[key])
    lags_m = [left_m(shifted, seed) for seed in range(4)]
    assert min(lags_m) > left_m(plain, 0)
    assert len(set(lags_m)) == 4
    assert left_m(shifted, 0) == lags_m[0]
    plain.close()
    shifted.close()


def test_shifted_gains_are_of_the_simulation_only() -> None:
    with pytest.raises(UsageError, match="'gains' goes with env 'sim' only"):
        gym.make("simreal/Lift-v0", env="rig", shift="gains")
    with pytest.raises(UsageError, match=r"Valid here: 'viewpoint:0\.5'"):
        Rig("Lift", shift="viewpoint:0.5+gains")


def test_worlds_of_one_process_do_not_disturb_one_another() -> None:
    """They share what was compiled; states, looks and descriptions are their own."""
    lift, stack, other = (
        WorldConfig(*what).make("all") for what in (("Lift",), ("Stack",), ("Lift", "sim", STAND_IN))
    )
    alone = lift.reset(seed=0)[0]
    other.reset(seed=1)
    stack.reset(seed=2)
    for env in (other, stack):
        env.step(np.array([0.5, 0.1, 0.2, np.pi, 0.0, 0.0, 1.0], np.float32))
    again = lift.unwrapped.observe()
    for name, values in alone.items():
        np.testing.assert_array_equal(again[name], values)
    for env, bodies in ((lift, {"cube_main"}), (stack, {"cubeA_main", "cubeB_main"})):
        model = mujoco.MjModel.from_xml_string(env.unwrapped.model_xml)
        names = {model.body(i).name for i in range(model.nbody)}
        assert {name for name in names if name.startswith("cube")} == bodies
        assert model.nq == env.unwrapped.physics.model.nq
    for env in (lift, stack, other):
        env.close()
