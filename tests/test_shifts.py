"""Hooks of shifts: each acts at its moment, is drawn by itself, and leaves no trace in another world."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Any, get_args

import gymnasium as gym
import mujoco
import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

import simreal_envs  # noqa: F401 - registers the worlds
from simreal_cli.options import Shift as ShiftOption
from simreal_envs.cameras import CAMERA_SPECS, CameraSpec
from simreal_envs.errors import UsageError
from simreal_envs.poses import reachable_action
from simreal_envs.shifts import (
    PRESETS,
    SHIFTS,
    EpisodeDraws,
    Shift,
    canonical,
    expanded,
    parse_seen,
    parse_shift,
    seen,
    that_override,
)
from simreal_envs.spec import BASE_IN_WORLD_M
from simreal_envs.world_config import WorldConfig


class Heavy(Shift):
    """Everything has another mass and friction in every episode."""

    stream = 101

    def reset_physics(self, model: mujoco.MjModel, rng: np.random.Generator) -> None:
        model.body_mass[:] *= rng.uniform(2, 3)
        model.geom_friction[:, 0] *= rng.uniform(0.1, 0.2)


class Late(Shift):
    """Actions come two steps late."""

    stream = 102

    def act(self, actions: Sequence[np.ndarray], rng: np.random.Generator) -> np.ndarray:
        return actions[max(0, len(actions) - 3)]


class Shaking(Shift):
    """The camera stands elsewhere, and the light has another colour, in every episode."""

    stream = 103
    is_drawn = True

    def reset_camera(self, camera: CameraSpec, rng: np.random.Generator) -> CameraSpec:
        pose = camera.pose_in_mount.copy()
        pose[:3, 3] += rng.uniform(0.01, 0.03, 3)
        return camera.moved(pose)

    def reset_look(self, model: mujoco.MjModel, rng: np.random.Generator) -> None:
        model.vis.headlight.diffuse[:] *= rng.uniform(0.3, 0.8, 3)


class Sphere(Shift):
    """A ball hangs over the table."""

    stream = 104

    def build(self, scene: mujoco.MjSpec) -> None:
        scene.worldbody.add_geom(
            type=mujoco.mjtGeom.mjGEOM_SPHERE, size=[0.03, 0, 0], rgba=[0, 0, 1, 1], group=1,
            pos=BASE_IN_WORLD_M + [0.6, 0.0, 0.2], contype=0, conaffinity=0,
        )  # fmt: skip


class Raised(Shift):
    """The cloud is higher by a drawn amount in every step."""

    stream = 105

    def sense_points(self, points: np.ndarray, rng: np.random.Generator) -> np.ndarray:
        return (points + [0, 0, rng.uniform(0.5, 0.6)]).astype(np.float32)


OWN = sorted(set(SHIFTS.built_in))
"""The package's own shifts, before those of these tests are added."""

KINDS = {"heavy": Heavy, "late": Late, "shaking": Shaking, "sphere": Sphere, "raised": Raised}


@pytest.fixture(autouse=True)
def known(monkeypatch: pytest.MonkeyPatch) -> None:
    for name, kind in KINDS.items():
        monkeypatch.setitem(SHIFTS.built_in, name, kind)  # type: ignore[arg-type]


def make(shift: str, **kwargs: Any) -> Any:
    return gym.make("simreal/Lift-v0", shift=shift, **{"obs": "image+pointcloud"} | kwargs)


def play(env: Any, seed: int, steps: int = 12) -> list[dict[str, np.ndarray]]:
    """An episode in which the hand goes to one place and the fingers close."""
    observation, _ = env.reset(seed=seed)
    seen = [observation]
    action = reachable_action(env.unwrapped.end_effector_pose_in_base(), 1.0)
    action[:3] += [0.0, 0.05, -0.05]
    seen += [env.step(action)[0] for _ in range(steps)]
    return seen


def test_physics_of_an_episode_is_drawn_from_the_same_origin() -> None:
    plain, heavy = make("none").unwrapped, make("heavy").unwrapped
    before = plain.physics.model.body_mass.copy()
    ratios = []
    for seed in (0, 1, 0):
        heavy.reset(seed=seed)
        moved = before > 0
        ratio = heavy.physics.model.body_mass[moved] / before[moved]
        np.testing.assert_allclose(ratio, ratio[0])
        ratios.append(ratio[0])
        assert 2 < ratio[0] < 3
    assert ratios[0] == ratios[2] != ratios[1]
    np.testing.assert_array_equal(plain.physics.model.body_mass, before)
    plain.close()
    heavy.close()


def test_actions_that_come_late_are_those_of_before() -> None:
    plain, late = make("none", obs="state"), make("late", obs="state")
    for env in (plain, late):
        env.reset(seed=4)
    first = reachable_action(late.unwrapped.end_effector_pose_in_base(), -1.0)
    actions = []
    for t in range(10):
        action = first.copy()
        action[:3] += [0.0, 0.01 * t, -0.01 * t]
        actions.append(action)
        seen = late.step(action)[0]
        expected = plain.step(actions[max(0, t - 2)])[0]
        np.testing.assert_array_equal(seen["robot0_joint_pos"], expected["robot0_joint_pos"])
    assert np.linalg.norm(seen["robot0_eef_pos"] - first[:3]) > 0.03
    plain.close()
    late.close()


def test_camera_and_light_are_others_in_every_episode_and_the_same_for_one_seed() -> None:
    env, plain = make("shaking"), make("none")
    first, second, again = (env.reset(seed=seed)[0]["agentview_image"] for seed in (0, 1, 0))
    np.testing.assert_array_equal(first, again)
    assert np.abs(first.astype(int) - second).mean() > 3
    placed = env.unwrapped.describe()["cameras"]["agentview"]["pose_camera_in_base"]
    usual = plain.unwrapped.describe()["cameras"]["agentview"]["pose_camera_in_base"]
    moved_m = np.array(placed)[:3, 3] - np.array(usual)[:3, 3]
    assert ((moved_m > 0.009) & (moved_m < 0.031)).all()
    env.close()
    plain.close()


def test_a_scene_that_is_built_otherwise_looks_otherwise_and_moves_alike() -> None:
    plain, built = make("none"), make("sphere")
    one, other = play(plain, seed=2), play(built, seed=2)
    np.testing.assert_allclose(one[-1]["robot0_joint_pos"], other[-1]["robot0_joint_pos"], atol=1e-6)
    blue = other[0]["agentview_image"].astype(int)
    is_ball = blue[..., 2] > 2 * blue[..., :2].max(axis=2)
    assert is_ball.sum() > 20
    camera = built.unwrapped.camera_now()
    row, column = np.argwhere(is_ball).mean(axis=0)
    np.testing.assert_allclose([column, row], camera.project(np.array([[0.6, 0.0, 0.2]]))[0], atol=2)
    far = np.linalg.norm(other[0]["pointcloud"] - [0.6, 0.0, 0.2], axis=1)
    assert (np.abs(far[far < 0.05] - 0.03) < 0.002).sum() > 20
    plain.close()
    built.close()


def test_points_are_sensed_anew_at_every_step() -> None:
    env = make("raised")
    heights = [o["pointcloud"][:, 2].min() for o in play(env, seed=0, steps=3)]
    assert all(0.5 < height < 0.62 for height in heights)
    assert len(set(np.round(heights, 4))) == len(heights)
    env.close()


@pytest.mark.parametrize("order", [lambda names: names, lambda names: names[::-1]])
def test_what_one_shift_draws_changes_no_others_draws(order: Callable[[list[str]], list[str]]) -> None:
    alone, together = make("shaking"), make("+".join(order(["shaking", "heavy", "raised", "late"])))
    one, other = alone.reset(seed=5)[0], together.reset(seed=5)[0]
    np.testing.assert_array_equal(one["agentview_image"], other["agentview_image"])
    alone.close()
    together.close()


@pytest.mark.parametrize("name", ["heavy", "late", "sphere", "gains"])
def test_shifts_of_the_simulated_physics_are_refused_elsewhere(name: str) -> None:
    with pytest.raises(UsageError, match=name):
        parse_seen(f"light+{name}")
    parse_seen("light+shaking+raised")


@pytest.mark.parametrize(
    ("shift", "steps"), [("image-delay:0.5", 1), ("image-delay", 2), ("image-delay:1.2", 3)]
)
def test_images_that_come_late_are_exactly_those_of_before(shift: str, steps: int) -> None:
    both = {"obs": "image+depth+pointcloud", "cameras": "agentview+wrist", "points": 128}
    plain, late = (
        play(make(f"noise+{name}".removesuffix("+none"), **both), 3, 5) for name in ("none", shift)
    )
    for moment in range(6):
        for key, array in late[moment].items():
            of = moment if key.startswith("robot0_") else max(0, moment - steps)
            np.testing.assert_array_equal(array, plain[of][key], err_msg=f"{key} at {moment}")


def test_recorded_states_show_late_images_as_they_were_played() -> None:
    env = make("image-delay+sensor-noise", obs="image", cameras="agentview+wrist")
    world = env.unwrapped
    observation, info = env.reset(seed=4)
    played = [(info["sim_state"], observation)]
    action = reachable_action(world.end_effector_pose_in_base(), 1.0)
    action[:3] += [0.0, 0.05, -0.05]
    for _ in range(5):
        observation, _, _, _, info = env.step(action)
        played.append((info["sim_state"], observation))
    for again in (lambda: env.reset(seed=4), lambda: None):
        again()
        for state, expected in played:
            world.set_sim_state(state)
            seen = world.observe()
            for key in expected:
                np.testing.assert_array_equal(seen[key], expected[key])
    env.reset(seed=4)
    world.set_sim_state(played[4][0])
    with pytest.raises(UsageError, match="show an episode's states in order"):
        world.observe()
    env.close()


@pytest.mark.parametrize(
    ("shift", "steps"), [("action-delay:0.5", 1), ("action-delay", 2), ("action-delay:1.5", 3)]
)
def test_actions_are_late_by_the_steps_that_the_strength_says(shift: str, steps: int) -> None:
    actions = [np.full(7, t, np.float32) for t in range(6)]
    came: dict[int, list[np.ndarray]] = {}
    for t, action in enumerate(actions):
        done = EpisodeDraws(0).action(action, parse_shift(shift), came)
        np.testing.assert_array_equal(done, actions[max(0, t - steps)])


def test_presets_are_recorded_written_out() -> None:
    for name, parts in PRESETS.items():
        assert expanded(name) == parts
        assert canonical(name) == canonical(parts)
        assert WorldConfig("Lift", shift=name).shift == parts
        assert WorldConfig("Lift", shift=f"{name}").spec == WorldConfig("Lift").spec
    env = make("paper-viewpoint+texture", obs="state").unwrapped
    assert env.describe()["shift"] == "viewpoint+texture"
    env.close()
    assert expanded("real-like+viewpoint:0.50").endswith("+viewpoint:0.50")
    assert [s.strength for s in parse_shift("randomise:0.5") if type(s).__name__ == "Blur"] == [0.25]
    assert WorldConfig("Lift", env="rig", shift="paper-texture").shift == "texture"


@pytest.mark.parametrize(
    ("shift", "message"),
    [
        (
            "paper-viewpoint+viewpoint:0.5",
            "'viewpoint' is named twice in .*, which is 'viewpoint\\+viewpoint:0.5'",
        ),
        ("viewpoint+viewpoint-teaser", "both set where the camera stands"),
        ("randomise+texture", "both set the table's texture"),
        ("paper-texture:0.5", "Preset 'paper-texture' has no strength"),
        ("randomise:2", "Strength '2' of preset 'randomise'"),
        ("object-texture:0.5", "write 'object-texture'"),
        (None, "names joined by '\\+', or 'none', not None"),
        (["light", "noise"], "not \\['light', 'noise'\\]"),
        ("fogg", "Valid: none, viewpoint, .*image-delay.*, randomise."),
    ],
)
def test_what_is_no_shift_is_refused_by_name(shift: Any, message: str) -> None:
    with pytest.raises(UsageError, match=message):
        WorldConfig("Lift", shift=shift)


@given(names=st.permutations(OWN), data=st.data())
def test_the_canonical_text_is_the_same_for_equal_shifts_and_is_a_shift(names: list[str], data: Any) -> None:
    chosen = names[: data.draw(st.integers(1, 6))]
    try:
        parse_shift("+".join(chosen))
    except UsageError:  # some exclude each other
        return
    text = canonical("+".join(chosen))
    assert canonical(text) == text
    assert sorted(text.split("+")) == sorted(chosen)
    sensed = ("sense_image", "sense_depth", "sense_points", "choose_points", "act")
    for hook in sensed:
        order = [type(shift) for shift in that_override(hook, parse_shift("+".join(chosen)))]
        assert [type(shift) for shift in that_override(hook, parse_shift(text))] == order
    free = [name for name in chosen if not any(that_override(hook, parse_shift(name)) for hook in sensed)]
    if len(free) == len(chosen):
        assert canonical("+".join(reversed(chosen))) == text


@pytest.mark.parametrize("name", OWN)
def test_a_rig_takes_what_is_seen_and_is_not_its_cameras_own(name: str) -> None:
    refused = {"object-shape", "friction", "mass", "gains", "action-delay", "image-delay", "depth"}
    if name in refused:
        with pytest.raises(UsageError, match=f"'{name}' goes with env 'sim' only.*Valid here: 'light'"):
            parse_seen(f"light+{name}" if name != "light" else name)
    else:
        parse_seen(name)
    look = seen(name)
    assert look == ("none" if name in refused - {"depth", "image-delay"} else name)


def test_a_shift_that_moves_an_object_out_of_the_image_is_told_once(caplog: pytest.LogCaptureFixture) -> None:
    aside = {"options": {"placement": {"cube": (0.1, 0.0, 0.0)}}}
    for shift, told in (("viewpoint-teaser:1.5", 1), ("none", 0), ("camera-jitter:0.1", 0)):
        caplog.clear()
        env = make(shift, obs="image")
        for seed in range(3):
            env.reset(seed=seed, **aside)
        env.close()
        assert [r for r in caplog.records if "outside of its images" in r.message][told:] == []
        assert len(caplog.records) == told, shift


@pytest.mark.parametrize("hook", ["image", "depth", "cloud", "camera"])
def test_draws_of_a_shift_are_the_same_beside_others(hook: str) -> None:
    image = np.random.default_rng(0).integers(0, 256, (72, 96, 3), dtype=np.uint8)
    depth_m = np.random.default_rng(0).uniform(0.4, 1.2, (72, 96)).astype(np.float32)
    cloud = {"pointcloud": np.random.default_rng(0).random((64, 3)).astype(np.float32)}
    draws = EpisodeDraws(7)

    def made(shift: str) -> Any:
        shifts = parse_shift(shift)
        match hook:
            case "image":
                return draws.image(image, shifts, 3)
            case "depth":
                return draws.depth(depth_m, shifts, 3)
            case "cloud":
                return draws.cloud(cloud, shifts, 3)["pointcloud"]
        return draws.camera(CAMERA_SPECS["agentview"], shifts).pose_in_mount

    of_hook = {"image": "exposure", "depth": "depth", "cloud": "points", "camera": "camera-jitter"}[hook]
    others = {"image": "depth+points", "depth": "jpeg+sensor-noise", "cloud": "noise", "camera": "blur"}[hook]
    np.testing.assert_array_equal(made(of_hook), made(of_hook))
    np.testing.assert_array_equal(made(of_hook), made(f"{others}+{of_hook}+mass+random-light"))
    assert not np.array_equal(made(of_hook), made("none"))
    assert not np.array_equal(made(of_hook), made(f"{of_hook}:0.5"))


def test_the_help_names_every_shift_and_preset() -> None:
    helped = get_args(ShiftOption)[1].help
    named = {word.strip(".,:") for word in helped.split()}
    assert {*OWN, *PRESETS} <= named
