"""Scenes of tasks: they lie still, nothing is solved by itself, and experts solve them for good."""

from __future__ import annotations

import json
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import gymnasium as gym
import mujoco
import numpy as np
import pytest
from scipy.spatial.transform import Rotation

import simreal_envs  # noqa: F401
from simreal_agents.actors.experts import make_expert
from simreal_agents.study.collect import ActorRecorder
from simreal_datasets.making.fill import fill_dataset
from simreal_datasets.making.generate import Generator
from simreal_envs.loop import run_episode
from simreal_envs.poses import reachable_action
from simreal_envs.registration import make_env
from simreal_envs.rig.gripper import Fingers
from simreal_envs.rig.world import RigWorld
from simreal_envs.sim.physics import object_body
from simreal_envs.spec import BASE_IN_WORLD_M, TABLE_CENTRE_IN_BASE_M
from simreal_envs.tasks import TASKS, moves
from simreal_envs.tasks.box_in_bin import IN_BIN_M
from simreal_envs.tasks.mug import HALF_HEIGHT_M
from simreal_envs.world_config import WorldConfig

Env = gym.Env[Any, Any]
LATER = tuple(task for task in TASKS if task not in ("Lift", "Stack"))
"""Lift and Stack have tests of their own for these."""


@pytest.fixture
def make() -> Iterator[Callable[..., Any]]:
    made: list[Any] = []

    def one(task: str, region: str = "all") -> Any:
        made.append(make_env(task, obs="state", region=region))
        return made[-1]

    yield one
    for env in made:
        env.close()


def solve(env: Any, seed: int) -> list[dict[str, Any]]:
    """The infos of an expert's episode, the reset's first."""
    expert, state = make_expert(env), None
    observation, info = env.reset(seed=seed)
    infos, over = [info], False
    while not over and len(infos) <= 300:
        action, state = expert.predict(observation, state)
        observation, _, over, _, info = env.step(action)
        infos.append(info)
    return infos


@pytest.mark.slow
@pytest.mark.parametrize("region", ["in", "ood"])
@pytest.mark.parametrize("task", TASKS.names())
def test_what_lies_on_the_table_lies_still(task: str, region: str, make: Callable[..., Any]) -> None:
    env = make(task, region)
    before = env.reset(seed=0)[1]["object_poses_in_base"]
    physics = env.physics
    for step in range(round(10.0 / physics.model.opt.timestep)):
        mujoco.mj_step1(physics.model, physics.data)
        physics.controller.apply()
        mujoco.mj_step2(physics.model, physics.data)
        if step > 100:  # a fifth of a second, in which what was put down sinks by a tenth of a millimetre
            assert all(physics.object_speed_mps(name) < 1e-3 for name in before)
    for name, pose in env.object_poses_in_base().items():
        assert np.linalg.norm(pose[:3, 3] - before[name][:3, 3]) < 5e-4, name
        np.testing.assert_allclose(pose[:3, :3], before[name][:3, :3], atol=0.005)


@pytest.mark.slow
@pytest.mark.parametrize("task", TASKS.names())
def test_nothing_is_solved_at_reset_or_by_holding_still(task: str, make: Callable[..., Any]) -> None:
    env = make(task)
    _, info = env.reset(seed=1)
    action = reachable_action(env.end_effector_pose_in_base(), -1.0)
    reward, terminated = 0.0, False
    for _ in range(200):
        assert (reward, terminated, info["success"], info["stage"]) == (0.0, False, False, "start")
        _, reward, terminated, _, info = env.step(action)


@pytest.mark.slow
@pytest.mark.slow
@pytest.mark.parametrize("task", TASKS.names())
def test_the_rigs_fingers_stop_at_what_they_grasp(task: str) -> None:
    """The arm's inertia is changed after the model was compiled; no contact may be lost by that."""
    world = RigWorld(task)
    model, data, physics = world.model, world.data, world.physics
    assert json.loads(json.dumps(world.stages_reached())) == world.stages_reached()
    name = {"Stack": "cubeA", "BoxInBin": "box", "Drawer": "pod", "Square": "nut"}.get(
        task, world.task.objects[0]
    )
    model.opt.gravity[:] = 0
    for number in range(1, 8):  # the arm does not yield
        model.dof_armature[model.joint(f"robot0_joint{number}").dofadr[0]] = 1e5
    body = model.body_rootid[object_body(model, name)]
    place = slice(*(model.jnt_qposadr[model.body_jntadr[body]] + [0, 7]))
    rule = world.task.expert
    assert rule is not None
    # Bring the object, as it lies, to where its expert would have the hand grasp it.
    found = world.object_poses_in_base()
    hand = physics.end_effector_pose_in_base()
    grasp = hand.copy()
    for _ in range(200):
        command = rule(moves.Scene(grasp, 0.08, found, 0))
        if command.gripper == moves.CLOSE:
            break
        grasp[:3, 3] += 0.2 * (command.position_in_base - grasp[:3, 3])
        grasp[:3, :3] = (
            Rotation.from_euler("z", command.yaw) * Rotation.from_matrix(np.diag([1.0, -1.0, -1.0]))
        ).as_matrix()
    moved = hand @ np.linalg.inv(grasp) @ found[name]
    data.qpos[place] = [
        *(moved[:3, 3] + BASE_IN_WORLD_M),
        *Rotation.from_matrix(moved[:3, :3]).as_quat(scalar_first=True),
    ]
    fingers = Fingers(model, data)
    mujoco.mj_forward(model, data)
    fingers.goal_m = 0.0
    for _ in range(1500):
        fingers.step()
        mujoco.mj_step(model, data)
    assert fingers.width_m > 0.012, task
    assert physics.is_grasped(name)


@pytest.mark.parametrize("region", ["in", "ood"])
@pytest.mark.parametrize("task", LATER)
def test_the_expert_solves_every_region_stage_by_stage(
    task: str, region: str, make: Callable[..., Any]
) -> None:
    env = make(task, region)
    for seed in range(5):
        infos = solve(env, seed)
        assert infos[0]["placement_region"] == region
        reached = [info["stages_reached"] for info in infos]
        assert reached == sorted(reached)
        assert set(reached) == set(range(len(env.task.stages) + 1))  # none is passed over
        assert infos[-1]["success"]
        assert 20 < len(infos) < 250


@pytest.mark.slow
@pytest.mark.parametrize("task", LATER)
def test_demonstrations_of_one_region_are_moved_to_the_other(task: str, tmp_path: Path) -> None:
    recorder = ActorRecorder(WorldConfig(task, obs="state"), "in")
    assert len(list(fill_dataset(tmp_path / "few", recorder, 2, 0, 1))) == 2
    recipe = Generator(tmp_path / "few", WorldConfig(task, obs="state"), region="ood")
    assert len(list(fill_dataset(tmp_path / "many", recipe, 4, 100, 1))) <= 5


@pytest.mark.parametrize("task", ["BoxInBin", "MugLift", "MugHang"])
def test_objects_are_placed_where_asked(task: str, make: Callable[..., Any]) -> None:
    env = make(task)
    asked = {"box": (0.02, 0.15, 0.1), "bin": (-0.01, -0.12, 0.2)}
    asked |= {"mug": (0.05, -0.14, -1.4), "tree": (-0.02, 0.12, -1.5)}
    asked = {name: asked[name] for name in env.task.objects}
    poses = env.reset(seed=0, options={"placement": asked})[1]["object_poses_in_base"]
    for name, (x, y, yaw) in asked.items():
        np.testing.assert_allclose(poses[name][:2, 3], TABLE_CENTRE_IN_BASE_M[:2] + [x, y], atol=1e-9)
        assert np.arctan2(poses[name][1, 0], poses[name][0, 0]) == pytest.approx(yaw)
    if "mug" in asked:
        assert poses["mug"][2, 3] == pytest.approx(HALF_HEIGHT_M, abs=1e-6)


def moved(env: Any, name: str, by_m: tuple[float, float, float]) -> dict[str, bool]:
    """Which stages hold when an object is elsewhere by so much, along the axes of the task's last object."""
    state = env.sim_state()
    displaced = state.copy()
    at = 1 + env.physics.model.joint(f"{name}_joint0").qposadr[0]
    displaced[at : at + 3] += env.physics.object_pose_in_base(env.task.objects[-1])[:3, :3] @ by_m
    env.set_sim_state(displaced)
    stages: dict[str, bool] = env.task.stages_reached(env.physics)
    env.set_sim_state(state)
    return stages


def test_a_box_is_in_the_bin_only_if_it_stands_on_its_floor(make: Callable[..., Any]) -> None:
    env = make("BoxInBin")
    assert solve(env, 0)[-1]["success"]
    assert moved(env, "box", (0.0, 0.0, 0.0))["release"]
    assert moved(env, "box", (0.02, -0.01, 0.0))["release"]
    outside = ((IN_BIN_M[0] + 0.01, 0, 0), (0, -IN_BIN_M[1] - 0.01, 0), (0, 0, 0.01), (0, 0, 0.039))
    for elsewhere in (*outside, (0, 0, -0.01), (0, 0, -0.08)):
        assert not moved(env, "box", elsewhere)["place"]


@pytest.mark.slow
@pytest.mark.parametrize(
    ("task", "inner", "outer", "stage"),
    [
        ("BoxInBin", "box", "bin", "place"),
        ("Drawer", "pod", "cabinet", "place"),
        ("MugHang", "mug", "tree", "thread"),
    ],
)
def test_what_is_turned_over_with_its_content_is_no_success(
    task: str, inner: str, outer: str, stage: str, make: Callable[..., Any]
) -> None:
    """A bin that is put over a box, for instance."""
    env = make(task)
    assert solve(env, 0)[-1]["success"]
    solved, centre = env.sim_state(), env.physics.data.joint(f"{outer}_joint0").qpos[:3].copy()
    for angle, counts in ((0.0, True), (np.deg2rad(10), True), (np.deg2rad(20), False), (np.pi, False)):
        state, turn = solved.copy(), Rotation.from_euler("x", angle)
        for name in (inner, outer):
            at = 1 + env.physics.model.joint(f"{name}_joint0").qposadr[0]
            state[at : at + 3] = centre + turn.apply(state[at : at + 3] - centre)
            turned = turn * Rotation.from_quat(state[at + 3 : at + 7][[1, 2, 3, 0]])
            state[at + 3 : at + 7] = turned.as_quat()[[3, 0, 1, 2]]
        env.set_sim_state(state)
        signals = env.task.stages_reached(env.physics)
        assert signals[stage] == counts, angle
        assert counts or not signals[env.task.stages[-1]], angle


def test_a_mug_that_is_flung_up_is_not_lifted(make: Callable[..., Any]) -> None:
    env = make("MugLift")
    env.reset(seed=0)
    data = env.physics.data
    data.qpos[env.physics.model.jnt_qposadr[-1] + 2] += 0.2
    mujoco.mj_forward(env.physics.model, data)
    now = env.task.stages_reached(env.physics)
    assert env.object_poses_in_base()["mug"][2, 3] > 0.2
    assert not now["lift"]


def test_a_mug_that_hangs_stays_and_one_beside_the_branch_does_not_hang(make: Callable[..., Any]) -> None:
    env = make("MugHang")
    assert solve(env, 0)[-1]["success"]
    hand = env.end_effector_pose_in_base()
    before = env.object_poses_in_base()["mug"]
    for _ in range(40):
        env.physics.step(hand, -1.0)
    assert np.linalg.norm(env.object_poses_in_base()["mug"][:3, 3] - before[:3, 3]) < 0.02
    assert env.task.stages_reached(env.physics)["hang"]
    assert moved(env, "mug", (0.0, 0.0, 0.0))["thread"]
    for elsewhere in ((0.06, 0, 0), (0, 0.03, 0), (0, -0.03, 0), (0, 0, 0.06), (0, 0, -0.06)):
        assert not moved(env, "mug", elsewhere)["thread"], elsewhere


@pytest.mark.alone
@pytest.mark.parametrize("task", ["BoxInBin", "MugHang"])
def test_the_expert_solves_a_task_of_many_contacts_on_the_rig(task: str) -> None:
    """In real time, through the robot's driver and its limits."""
    env = WorldConfig(task, "rig", obs="state").make("in")
    try:
        outcome = run_episode(env, make_expert(env), seed=1)
    finally:
        env.close()
    assert outcome.success, outcome
