"""The package's own shifts: each changes what it says, by as much as it says, and nothing else."""

from __future__ import annotations

from typing import Any

import gymnasium as gym
import mujoco
import numpy as np
import pytest
from scipy.spatial.transform import Rotation

from simreal_agents.actors.experts import make_expert
from simreal_envs.cameras import CAMERA_SPECS
from simreal_envs.errors import UsageError
from simreal_envs.loop import run_episode
from simreal_envs.poses import reachable_action
from simreal_envs.shifts import SHIFTS, EpisodeDraws, may_move_cameras, parse_shift
from simreal_envs.sim.env import SimEnv
from simreal_envs.sim.parts import object_geoms
from simreal_envs.sim.scene import compiled_scene
from simreal_envs.tasks import TASKS
from simreal_envs.world_config import WorldConfig


def make(shift: str, task: str = "Lift", **kwargs: Any) -> Any:
    return gym.make(f"simreal_envs:simreal/{task}-v0", shift=shift, **kwargs)


CHANGES: dict[str, set[str]] = {
    "viewpoint": {"image", "depth", "cloud"},
    "viewpoint-teaser": {"image", "depth", "cloud"},
    "camera-jitter": {"image", "depth", "cloud"},
    "texture": {"image"},
    "random-texture": {"image"},
    "light": {"image", "colours"},
    "random-light": {"image", "colours"},
    "object-texture": {"image", "colours"},
    "random-object-texture": {"image", "colours"},
    "colour": {"image", "colours"},
    "noise": {"image", "depth", "cloud"},
    "exposure": {"image", "colours"},
    "blur": {"image", "colours"},
    "sensor-noise": {"image", "colours"},
    "jpeg": {"image", "colours"},
    "depth": {"depth", "cloud"},
    "points": {"cloud"},
    "object-shape": {"image", "depth", "cloud", "objects"},
    "friction": set(),
    "mass": set(),
    "gains": {"arm"},
    "action-delay": {"arm"},
    "image-delay": set(),
}
"""What each shift changes while nothing is touched: at the reset, the arm in the steps after it.

No point of a cloud is on the table, so that its texture changes no colours of them.
"""
MOVED = 2e-4
"""Metres and radians: objects come to rest on the table, and a scene that is compiled anew is rounded."""


def parts_of(observation: dict[str, np.ndarray]) -> dict[str, list[np.ndarray]]:
    points, colours = observation["pointcloud"], observation["pointcloud_rgb"]
    return {
        "image": [observation["agentview_image"]],
        "depth": [observation["agentview_depth"]],
        "points": [points],
        "colours": [colours],
        "objects": [observation["object"]],
        "arm": [observation[key] for key in observation if key.startswith("robot0_")],
    }


def test_every_shift_says_what_it_changes() -> None:
    assert CHANGES.keys() == set(SHIFTS.built_in)


@pytest.fixture(scope="module")
def plain() -> Seen:
    return seen_under("none")


Seen = tuple[dict[str, list[np.ndarray]], dict[str, list[np.ndarray]]]


def seen_under(shift: str) -> Seen:
    """The parts of the observations after a reset, and after two steps towards two targets."""
    env = make(shift, obs="state+image+depth+pointcloud+pointcolour", points=64)
    seen = [env.reset(seed=2)[0]]
    action = reachable_action(env.unwrapped.end_effector_pose_in_base(), 1.0)
    for _ in range(2):
        action[:3] += np.array([0.02, 0.02, -0.03], np.float32)
        seen.append(env.step(action)[0])
    assert all(observation in env.observation_space for observation in seen)
    env.close()
    return parts_of(seen[0]), parts_of(seen[-1])


@pytest.mark.slow
@pytest.mark.parametrize("shift", CHANGES)
def test_each_shift_changes_what_it_is_for_and_nothing_else(shift: str, plain: Seen) -> None:
    now, later = (
        {
            part
            for part, arrays in one.items()
            if not all(
                np.allclose(*pair, atol=MOVED, rtol=0) for pair in zip(arrays, other[part], strict=True)
            )
        }
        for one, other in zip(plain, seen_under(shift), strict=True)
    )
    expected = CHANGES[shift]
    moves = {"arm", "objects"}
    if "cloud" in expected:  # other points may have the same colours
        now, expected = now - {"colours"}, expected - {"cloud"} | {"points"}
    assert now == expected - {"arm"}
    assert later & moves == expected & moves


@pytest.mark.slow
@pytest.mark.parametrize("task", TASKS.built_in)
def test_every_task_is_solved_with_other_objects_and_late_actions(task: str) -> None:
    """`benchmarks/experts.py --shifts` counts how often, for each shift by itself."""
    shift = "object-shape+random-object-texture+friction+mass+action-delay:0.5"
    env = WorldConfig(task, shift=shift).make("all")
    world: Any = env.unwrapped
    assert env.reset(seed=0)[0] in env.observation_space
    before, after = compiled_scene(task).model, world.physics.model
    is_object = object_geoms(before)
    assert (before.body_mass != after.body_mass)[np.unique(before.geom_bodyid[is_object])].all()
    assert not np.array_equal(before.geom_size[is_object], after.geom_size[is_object])
    expert = make_expert(env)
    assert run_episode(env, expert, seed=0).success
    env.close()


def test_a_camera_jitters_within_its_bounds_about_where_other_shifts_put_it() -> None:
    for text in ("camera-jitter", "viewpoint+camera-jitter", "camera-jitter+viewpoint", "camera-jitter:0.5"):
        shifts = parse_shift(text)
        for number, spec in enumerate(CAMERA_SPECS.values()):
            still = EpisodeDraws(0).camera(spec, [s for s in shifts if not s.is_drawn], number)
            poses = [EpisodeDraws(seed).camera(spec, shifts, number).pose_in_mount for seed in range(50)]
            share = (0.5 if "0.5" in text else 1.0) * (0.25 if spec.mount == "hand" else 1.0)
            off = np.array([np.linalg.inv(still.pose_in_mount) @ pose for pose in poses])
            most_m = np.abs(off[:, :3, 3]).max()
            most_deg = np.rad2deg(np.abs(Rotation.from_matrix(off[:, :3, :3]).as_rotvec()).max())
            assert 0.9 * share * 0.02 < most_m <= share * 0.02 + 1e-9
            assert 0.9 * share * 3 < most_deg <= share * 3 + 1e-6


def test_of_what_is_drawn_only_the_jitter_moves_cameras() -> None:
    assert [name for name in CHANGES if may_move_cameras(parse_shift(name)[0])] == ["camera-jitter"]


def test_the_viewpoints_are_the_papers() -> None:
    for name, euler, at in (
        ("viewpoint", (-2.519, 0.0, 1.9), (0.87, 0.13, 0.42)),
        ("viewpoint-teaser", (-2.35, 0.0, 1.57), (0.92, 0.0, 0.54)),
    ):
        placed = EpisodeDraws(0).camera(CAMERA_SPECS["agentview"], parse_shift(name)).pose_in_mount
        np.testing.assert_allclose(placed[:3, :3], Rotation.from_euler("xyz", euler).as_matrix(), atol=1e-12)
        np.testing.assert_allclose(placed[:3, 3], at, atol=1e-12)


def test_depth_of_a_d435_has_its_noise_steps_and_holes() -> None:
    depth_m = np.full((240, 320), 0.9, np.float32)
    depth_m[:, 160:] = 0.8
    depth_m[:20] = 0.1
    seen = parse_shift("depth")[0].sense_depth(depth_m, np.random.default_rng(0))
    assert (seen[:20] == 0).all()
    assert (seen[30:, 159:161] == 0).all()
    for part, true_m in ((seen[30:, :150], 0.9), (seen[30:, 170:], 0.8)):
        assert 0.002 < (part == 0).mean() < 0.01
        read = part[part > 0].astype(float)
        deviation_m = 0.08 * true_m**2 / (385.4 * 0.05)
        np.testing.assert_allclose(read.std(), deviation_m, rtol=0.1)
        np.testing.assert_allclose(read.mean(), true_m, atol=2e-4)
        steps = 385.4 * 0.05 / read * 32
        np.testing.assert_allclose(steps, steps.round(), atol=1e-3)


def test_points_that_are_lost_are_repeats_with_their_colours() -> None:
    points = np.random.default_rng(0).random((2000, 3)).astype(np.float32)
    cloud = {"pointcloud": points, "pointcloud_rgb": (255 * points).astype(np.uint8)}
    seen = EpisodeDraws(0).cloud(cloud, parse_shift("points"), 0)
    assert seen["pointcloud"].shape == points.shape
    off_m = np.linalg.norm(seen["pointcloud"] - seen["pointcloud_rgb"] / 255, axis=1)
    assert np.quantile(off_m, 0.95) < 0.025  # of which colours of 8 bits are 4 mm
    lost = 1 - len(np.unique(seen["pointcloud_rgb"], axis=0)) / len(
        np.unique(cloud["pointcloud_rgb"], axis=0)
    )
    assert 0.05 < lost < 0.15
    alone = EpisodeDraws(0).cloud({"pointcloud_rgb": cloud["pointcloud_rgb"]}, parse_shift("points"), 0)
    np.testing.assert_array_equal(alone["pointcloud_rgb"], seen["pointcloud_rgb"])


def test_friction_and_mass_stay_within_their_bounds_and_are_restored() -> None:
    for shift, array in (("friction", "geom_friction"), ("mass", "body_mass")):
        plain, shifted = make("none", obs="state").unwrapped, make(shift, obs="state").unwrapped
        before = getattr(plain.physics.model, array).copy()
        drawn = []
        for seed in (0, 1, 0):
            shifted.reset(seed=seed)
            ratio = getattr(shifted.physics.model, array)[before > 0] / before[before > 0]
            assert ratio.min() >= 0.5 - 1e-9
            assert ratio.max() <= 2 + 1e-9
            drawn.append(ratio)
        np.testing.assert_array_equal(drawn[0], drawn[2])
        assert not np.array_equal(drawn[0], drawn[1])
        np.testing.assert_array_equal(getattr(plain.physics.model, array), before)
        model = shifted.physics.model
        is_robot = np.array(
            [model.body(b).name.startswith(("robot0_", "gripper0_")) for b in range(model.nbody)]
        )
        if shift == "mass":
            np.testing.assert_array_equal(model.body_mass[is_robot], plain.physics.model.body_mass[is_robot])
        plain.close()
        shifted.close()


def test_an_objects_other_shape_lies_on_the_table_and_has_the_size_that_it_says() -> None:
    for shift, exponent in (("object-shape", 1.0), ("object-shape:0.5", 0.5)):
        env = make(shift, obs="state")
        env.reset(seed=0, options={"placement": {"cube": (0.0, 0.0, 0.0)}})
        model = env.unwrapped.physics.model
        size_m = model.geom("cube_g0").size
        np.testing.assert_allclose(size_m[:2], [0.021 * 1.2**exponent, 0.021 * 1.3**exponent])
        assert model.geom("cube_g0").type == mujoco.mjtGeom.mjGEOM_CYLINDER
        height_m = env.unwrapped.object_poses_in_base()["cube"][2, 3]
        np.testing.assert_allclose(height_m, size_m[1], atol=2e-3)
        env.close()


def test_a_task_without_other_shapes_refuses_them(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(TASKS["Stack"], "other_shapes", {})
    for make_it in (WorldConfig, SimEnv):
        with pytest.raises(
            UsageError, match=r"Task 'Stack' has no other shapes.*Valid: BoxInBin, Drawer, Lift"
        ):
            make_it("Stack", shift="object-shape")
