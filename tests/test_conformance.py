"""What every world must keep, whichever backend it has."""

from __future__ import annotations

import hashlib
import subprocess
import sys
from collections.abc import Iterator
from typing import Any

import gymnasium as gym
import numpy as np
import pytest
from gymnasium.utils.env_checker import check_env as gymnasium_check
from stable_baselines3.common.env_checker import check_env as sb3_check

import simreal_envs  # noqa: F401  registers the tasks
from simreal_envs import spec
from simreal_envs.errors import UsageError
from simreal_envs.loop import run_episode
from simreal_envs.poses import reachable_action
from simreal_envs.tasks import TASKS
from simreal_envs.world_config import WorldConfig
from simreal_envs.wrappers import ActionNoise, DeltaActions, JointActions

Env = gym.Env[Any, Any]
WORLDS = [*((task, "sim") for task in TASKS), pytest.param(("Stack", "rig"), marks=pytest.mark.alone)]


def hold(env: Env, gripper: float = -1.0) -> np.ndarray:
    """The pose action that stays where the hand is."""
    world: Any = env.unwrapped
    return reachable_action(world.end_effector_pose_in_base(), gripper)


def real_time(env: Env) -> bool:
    """Whether time passes by itself there, so that nothing can be the same bit for bit."""
    world: Any = env.unwrapped
    return bool(world.real_time)


@pytest.fixture(scope="module", params=WORLDS, ids=lambda world: "-".join(world))
def env(request: pytest.FixtureRequest) -> Iterator[Env]:
    task, backend = request.param
    if backend == "rig":
        request.getfixturevalue("rig_camera")
    made = gym.make(f"simreal/{task}-v0", env=backend, obs="state+image+depth+pointcloud")
    yield made
    made.close()


@pytest.mark.slow
@pytest.mark.filterwarnings("ignore::UserWarning")
def test_both_checkers_pass(env: Env) -> None:
    if not real_time(env):  # Gymnasium's compares two resets with one seed bit for bit
        gymnasium_check(env.unwrapped, skip_render_check=True)
    sb3_check(env)


@pytest.mark.filterwarnings("ignore::UserWarning")
@pytest.mark.parametrize("wrapper", [DeltaActions, JointActions])
def test_checkers_pass_with_other_actions(env: Env, wrapper: Any) -> None:
    sb3_check(wrapper(env))


def test_observations_are_those_of_the_contract(env: Env) -> None:
    observation, info = env.reset(seed=0)
    assert env.observation_space.contains(observation)
    world: Any = env.unwrapped
    assert set(observation) == {f.key for f in world.world_spec.features}
    assert set(observation) == {
        *spec.PROPRIOCEPTION,
        *(spec.OBJECT_KEY, "agentview_image", "agentview_depth", "pointcloud"),
    }
    hand = info["end_effector_pose_in_base"]
    np.testing.assert_allclose(observation["robot0_eef_pos"], hand[:3, 3], atol=1e-6)
    np.testing.assert_allclose(world.end_effector_pose_in_base(), hand, atol=1e-3)
    assert observation["robot0_eef_quat"][3] >= 0
    assert observation[spec.OBJECT_KEY].shape == (7 * len(world.task.objects),)
    assert {"success", "stage", "stages_reached", "time_s"} <= set(info)


def test_the_point_cloud_shows_the_objects_where_they_are(env: Env) -> None:
    """On the rig it is made of what a D435's stereo measures, which is off by some millimetres."""
    observation, _ = env.reset(seed=2)
    world: Any = env.unwrapped
    simulated: Any = gym.make(f"simreal/{world.task.name}-v0", obs="state").unwrapped
    simulated.reset(seed=2)
    cloud = observation["pointcloud"]
    for name in world.task.objects:
        depth_m = np.max([depth_in(simulated, geom, cloud) for geom in own_geoms(simulated, name)], axis=0)
        assert (depth_m > -0.015).sum() > 20, name
        assert depth_m.max() < 0.015, name


def own_geoms(world: Any, name: str) -> list[int]:
    """The geoms that touch others of an object itself, without those of parts that move."""
    physics = world.physics
    body = physics._bodies[name]
    return [geom for geom in physics._geoms[name] if physics.model.geom_bodyid[geom] == body]


def depth_in(world: Any, geom: int, points: np.ndarray) -> np.ndarray:
    """How deep points (N, 3) in the base frame lie in the box around a geom; negative outside, metres."""
    model, data = world.physics.model, world.physics.data
    axes, centre, half = data.geom_xmat[geom].reshape(3, 3), *np.split(model.geom_aabb[geom], 2)
    in_geom = (points + spec.BASE_IN_WORLD_M - data.geom_xpos[geom]) @ axes - centre
    return (half - np.abs(in_geom)).min(axis=1)


def test_a_held_pose_is_held_and_a_target_is_reached(env: Env) -> None:
    env.reset(seed=1)
    tolerance_m = 0.005 if real_time(env) else 0.001  # impedance control gives way to friction
    world: Any = env.unwrapped
    start = world.end_effector_pose_in_base()
    for _ in range(10):
        env.step(hold(env))
    assert np.linalg.norm(world.end_effector_pose_in_base()[:3, 3] - start[:3, 3]) < 0.002
    target = start.copy()
    target[:3, 3] += [0.05, -0.04, 0.03]
    for _ in range(40):
        env.step(reachable_action(target, -1.0))
    assert np.linalg.norm(world.end_effector_pose_in_base()[:3, 3] - target[:3, 3]) < tolerance_m


def rollout(env: Env, seed: int, steps: int = 12) -> list[dict[str, np.ndarray]]:
    rng = np.random.default_rng(seed)
    observation, _ = env.reset(seed=seed)
    seen = [observation]
    for _ in range(steps):
        action = hold(env)
        action[:3] += rng.uniform(-0.03, 0.03, 3).astype(np.float32)
        seen.append(env.step(action)[0])
    return seen


def start_poses(env: Env, seed: int) -> np.ndarray:
    """Positions of hand and objects after a reset, metres."""
    observation, _ = env.reset(seed=seed)
    objects = observation[spec.OBJECT_KEY].reshape(-1, 7)[:, :3]
    return np.concatenate([observation["robot0_eef_pos"], objects.ravel()])


def same(first: list[dict[str, np.ndarray]], second: list[dict[str, np.ndarray]]) -> bool:
    return all(np.array_equal(a[key], b[key]) for a, b in zip(first, second, strict=True) for key in first[0])


def test_the_same_seed_gives_the_same_start_in_every_world(env: Env) -> None:
    world: Any = env.unwrapped
    simulated = gym.make(f"simreal/{world.task.name}-v0", obs="state")
    np.testing.assert_allclose(start_poses(env, 5), start_poses(simulated, 5), atol=0.003)


def test_the_same_seed_gives_the_same_episode_after_other_episodes(env: Env) -> None:
    if real_time(env):
        assert not same(rollout(env, seed=5), rollout(env, seed=7))
        return
    before = rollout(env, seed=5)
    rollout(env, seed=6, steps=30)
    assert same(before, rollout(env, seed=5))
    assert not same(before, rollout(env, seed=7))


def digest(task: str) -> str:
    """Of every observation of an episode."""
    env = gym.make(f"simreal/{task}-v0", obs="state+image+depth", shift="viewpoint+texture+light+noise")
    hashed = hashlib.sha256()
    for observation in rollout(env, seed=5):
        for key in sorted(observation):
            hashed.update(observation[key].tobytes())
    env.close()
    return hashed.hexdigest()


@pytest.mark.slow
def test_the_same_seed_gives_the_same_episode_in_another_process() -> None:
    code = f"from test_conformance import digest; print(*map(digest, {TASKS.names()}))"
    other = subprocess.run(
        [sys.executable, "-c", code], cwd="tests", capture_output=True, text=True, check=True
    )
    assert other.stdout.split() == [digest(task) for task in TASKS]


def test_a_bad_action_is_refused_by_name_and_nothing_moves(env: Env) -> None:
    env.reset(seed=0)
    world: Any = env.unwrapped
    before = world.end_effector_pose_in_base()
    for value in (np.nan, np.inf, 9.0):
        for component, name in enumerate(("x", "y", "z", "rx", "ry", "rz", "gripper")):
            action = hold(env)
            action[component] = value
            with pytest.raises(UsageError, match=f"component {name} "):
                env.step(action)
    with pytest.raises(UsageError, match=r"shape \(6,\)"):
        env.step(np.zeros(6, np.float32))
    tolerance_m = 1e-3 if real_time(env) else 0.0
    np.testing.assert_allclose(world.end_effector_pose_in_base(), before, rtol=0, atol=tolerance_m)


def test_regions_start_where_they_say(env: Env) -> None:
    world: Any = env.unwrapped
    task = world.task
    rng = np.random.default_rng(0)
    for _ in range(50):
        assert task.region_of(task.sample_placement("in", rng)) == "in"
        assert task.region_of(task.sample_placement("ood", rng)) == "ood"


@pytest.mark.parametrize("region", ["in", "ood"])
@pytest.mark.parametrize(("task", "name", "axis"), [("Lift", "cube", 1), ("Stack", "cubeA", 0)])
def test_a_region_is_its_half_of_the_table(task: str, name: str, axis: int, region: str) -> None:
    env = gym.make(f"simreal/{task}-v0", env="sim", obs="state", shift="viewpoint+texture", region=region)
    for seed in range(10):
        _, info = env.reset(seed=seed)
        offset_m = info["object_poses_in_base"][name][axis, 3] - spec.TABLE_CENTRE_IN_BASE_M[axis]
        assert (offset_m > 0) == (region == "ood")
        assert info["placement_region"] == region
    env.close()


def test_an_asked_for_placement_is_taken(env: Env) -> None:
    world: Any = env.unwrapped
    name = world.task.objects[0]
    env.reset(seed=0, options={"placement": {name: (0.03, -0.07, 0.2)}})
    pose = world.object_poses_in_base()[name]
    np.testing.assert_allclose(
        pose[:2, 3] - spec.TABLE_CENTRE_IN_BASE_M[:2], [0.03, -0.07], atol=1e-3 if real_time(env) else 1e-9
    )
    with pytest.raises(UsageError, match="Unknown object 'teapot'"):
        env.reset(options={"placement": {"teapot": (0, 0, 0)}})


def test_episodes_are_truncated_at_the_horizon() -> None:
    env = gym.make("simreal/Lift-v0", obs="state", max_episode_steps=7)

    class Hold:
        def predict(self, *_: Any) -> tuple[np.ndarray, None]:
            return hold(env), None

    outcome = run_episode(env, Hold(), seed=0)
    assert (outcome.steps, outcome.success, outcome.stage) == (7, False, "start")
    default = gym.spec("simreal/Lift-v0")
    assert default.max_episode_steps == spec.HORIZON


ASYNC = {"vectorization_mode": "async", "vector_kwargs": {"context": "spawn"}}


@pytest.mark.parametrize(
    "mode", [{"vectorization_mode": "sync"}, ASYNC], ids=lambda mode: mode["vectorization_mode"]
)
def test_vector_environments_agree_with_single_ones(mode: dict[str, Any]) -> None:
    vector = gym.make_vec("simreal_envs:simreal/Lift-v0", num_envs=2, obs="state+image", **mode)
    singles = [gym.make("simreal/Lift-v0", obs="state+image") for _ in range(2)]
    together, _ = vector.reset(seed=3)
    alone = [env.reset(seed=3 + i)[0] for i, env in enumerate(singles)]
    actions = [hold(env) for env in singles]
    for _ in range(2):
        for i, observation in enumerate(alone):
            for key, value in observation.items():
                np.testing.assert_array_equal(together[key][i], value)
        together = vector.step(np.stack(actions))[0]
        alone = [env.step(action)[0] for env, action in zip(singles, actions, strict=True)]
    for env in (vector, *singles):
        env.close()


def test_wrappers_are_rebuilt_from_the_spec() -> None:
    env = DeltaActions(ActionNoise(gym.make("simreal/Lift-v0", obs="state"), std_m=0.02))
    again = gym.make(env.spec)
    assert again.get_wrapper_attr("action_kind") == "delta"
    assert again.spec == env.spec


@pytest.mark.parametrize("kind", spec.ACTION_KINDS)
def test_a_world_is_commanded_as_its_description_says(kind: str) -> None:
    env = WorldConfig("Lift", obs="state", action_kind=kind).make("in")
    assert env.get_wrapper_attr("action_kind") == kind
    assert env.action_space == spec.action_space(kind)


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        ({"env": "matrix"}, "Unknown env 'matrix'. Valid: sim, rig, real"),
        ({"host": "127.0.0.2"}, "env 'sim' has no host"),
        ({"env": "real"}, "env 'real' needs the address of the robot"),
        ({"env": "real", "host": "127.0.0.2", "shift": "texture"}, "cannot be had on hardware"),
        ({"env": "real", "host": "127.0.0.2", "obs": "state"}, "Unknown observation 'state' for env 'real'"),
        ({"actions": "joint"}, "env 'sim' takes 'pose' actions, not 'joint'"),
        ({"render_mode": "human"}, "Unknown render_mode 'human'. Valid: rgb_array"),
        ({"env": "rig", "actions": "delta"}, "Unknown actions 'delta'. Valid: pose, joint"),
        ({"obs": "smell"}, "Unknown observation 'smell'. Valid: state, image, depth"),
        ({"region": "left"}, "Unknown region 'left'. Valid: in, ood, all"),
        ({"shift": "viewpoint+fog"}, "Unknown shift 'fog'. Valid: none, viewpoint, texture, light"),
        ({"shift": "viewpoint:7"}, "Strength '7' of shift 'viewpoint'"),
        ({"shift": "light+texture:0.3"}, "write 'texture' instead of 'texture:0.3'"),
        ({"shift": "noise+noise"}, "named twice"),
        ({"quality": "best"}, "Unknown quality 'best'. Valid: fast, full"),
        ({"image_size": (0, 84)}, "image_size"),
        ({"camera": "front"}, "Unknown argument 'camera'. Valid: env, host, shift, serial, actions, obs"),
        (
            {"env": "rig", "serial": "817"},
            "env 'rig' has one camera of its own: serial '817' goes with env 'real'",
        ),
        ({"env": "rig", "quality": "full"}, "Unknown argument 'quality'. Valid: env, host"),
    ],
)
def test_bad_arguments_are_named_with_the_valid_ones(arguments: dict[str, Any], message: str) -> None:
    with pytest.raises(UsageError) as raised:
        gym.make("simreal/Lift-v0", **arguments)
    assert message in str(raised.value)
