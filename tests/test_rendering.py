"""What images show: the renderer's quality, and the shifts."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import gymnasium as gym
import numpy as np
import pytest

import simreal_envs  # noqa: F401
from simreal_envs import spec
from simreal_envs.cameras import THIRD_PERSON
from simreal_envs.errors import UsageError
from simreal_envs.rig.camera import SceneD435
from simreal_envs.shifts import SHIFTS, STAND_IN, EpisodeDraws, canonical, parse_shift
from simreal_envs.sim.physics import Physics
from simreal_envs.sim.renderer import Renderer
from simreal_envs.sim.scene import TabletopScene
from simreal_envs.tasks import get_task

LARGE = (480, 640)
PLACEMENT = {"cubeA": (0.05, -0.1, 0.2), "cubeB": (-0.05, 0.1, -0.1)}
TARGET = np.array([0.5, 0.1, 0.2, np.pi, 0.0, 0.0, -1.0], np.float32)

Frames = list[dict[str, np.ndarray]]


@pytest.fixture(scope="module")
def scene() -> TabletopScene:
    made = TabletopScene(get_task("Stack"))
    made.reset()
    return made


def physics_of(scene: TabletopScene) -> Physics:
    return Physics(scene.sim.model._model, scene.sim.data._data, scene.task.objects)


def play(between: Callable[[Any], Any] = lambda world: None, **arguments: Any) -> Frames:
    """A few frames of one seed; ``between`` is called with the world before each."""
    env = gym.make("simreal/Lift-v0", render_mode="rgb_array", **arguments)
    frames = [env.reset(seed=4)[0]]
    for _ in range(3):
        between(env.unwrapped)
        frames.append(env.step(TARGET)[0])
    env.close()
    return frames


def assert_same(key: str, *played: Frames) -> None:
    for frames in zip(*played, strict=True):
        for other in frames[1:]:
            np.testing.assert_array_equal(frames[0][key], other[key])


# --- quality ----------------------------------------------------------------------------------------


def test_fast_images_look_like_full_ones() -> None:
    env = gym.make("simreal/Lift-v0", obs="image+depth")
    world: Any = env.unwrapped
    env.reset(seed=0)
    for k in range(25):  # bring the arm into view
        target = np.array([0.55, 0.0, max(0.05, 0.27 - 0.01 * k), np.pi, 0.0, 0.0, -1.0], np.float32)
        env.step(target)
    full = Renderer(world.physics.model, world.camera_now(), [], quality="full")
    image, depth = full.render(world.physics.data, depth=True)
    observation = world.observe()
    difference = np.abs(image.astype(int) - observation["agentview_image"].astype(int))
    assert difference.mean() < 6
    assert np.median(difference) <= 3
    assert depth is not None
    # Multisampling takes the depth up to half a pixel beside the centre: 4 mm a row on the table.
    assert np.median(np.abs(depth - observation["agentview_depth"])) < 2e-3
    assert (np.abs(depth - observation["agentview_depth"]) > 0.01).mean() < 0.05


@pytest.mark.parametrize("shift", ["none", "texture"])
def test_textures_that_are_shrunk_are_not_seen(
    scene: TabletopScene, shift: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    physics = physics_of(scene)
    physics.reset(spec.START_JOINTS_RAD, PLACEMENT)
    images, texels = [], []
    for shrunk in (True, False):
        with monkeypatch.context() as patch:
            if not shrunk:
                patch.setattr("simreal_envs.sim.renderer.shrink_unseen_textures", lambda model: None)
            renderer = Renderer(physics.model, THIRD_PERSON.resized((240, 320)), parse_shift(shift))
        images.append(renderer.render(physics.data)[0])
        texels.append(int((renderer._model.tex_width * renderer._model.tex_height).sum()))
        renderer.close()
    np.testing.assert_array_equal(*images)
    assert texels[0] < texels[1]


# --- shifts -----------------------------------------------------------------------------------------


@pytest.mark.parametrize("shift", ["viewpoint", "texture", "light", "colour", "noise"])
def test_each_shift_changes_what_is_seen_and_nothing_else(shift: str) -> None:
    plain, shifted = (gym.make("simreal/Lift-v0", obs="image+state", shift=s) for s in ("none", shift))
    a, b = plain.reset(seed=2)[0], shifted.reset(seed=2)[0]
    assert np.abs(a["agentview_image"].astype(int) - b["agentview_image"]).mean() > 1
    for key in set(a) - {"agentview_image"}:
        np.testing.assert_array_equal(a[key], b[key])
    plain.close()
    shifted.close()


def test_one_shift_has_one_canonical_name() -> None:
    assert canonical("none") == "none"
    assert canonical("light:1.0+viewpoint:0.50") == canonical("viewpoint:.5+light") == "viewpoint:0.5+light"
    assert canonical("noise+colour") != canonical("colour+noise")  # which is another image
    assert canonical(STAND_IN) == STAND_IN
    with pytest.raises(UsageError, match="Strength '' of shift 'light'"):
        canonical("light:")


def test_shifts_compose_in_the_order_named() -> None:
    names = [type(s).__name__ for s in parse_shift("texture+viewpoint:0.5")]
    assert names == ["Texture", "Viewpoint"]


def test_sensor_noise_has_holes_in_depth_and_keeps_the_scale() -> None:
    env = gym.make("simreal/Lift-v0", obs="depth", shift="noise")
    clean = gym.make("simreal/Lift-v0", obs="depth")
    noisy, true = env.reset(seed=0)[0]["agentview_depth"], clean.reset(seed=0)[0]["agentview_depth"]
    holes = noisy == 0
    assert 0 < holes.mean() < 0.2
    assert np.abs(noisy - true)[~holes].std() < 0.01
    env.close()
    clean.close()


@pytest.mark.parametrize("shift", ["none", "texture", "colour", "noise", "viewpoint:0.5+light+noise+colour"])
def test_a_picture_for_people_shows_what_is_observed(shift: str) -> None:
    env = gym.make("simreal/Lift-v0", image_size=LARGE, shift=shift, render_mode="rgb_array")
    observation, _ = env.reset(seed=0)
    np.testing.assert_array_equal(observation["agentview_image"], env.render())
    observation = env.step(TARGET)[0]
    np.testing.assert_array_equal(env.render(), observation["agentview_image"])
    env.close()


def test_looking_changes_nothing_that_is_observed() -> None:
    plain = play(obs="image+depth", shift="noise")
    shown = play(lambda world: [world.render(), world.render()], obs="image+depth", shift="noise")
    looked_at = play(lambda world: world.observe(), obs="image+depth", shift="noise")
    for key in ("agentview_image", "agentview_depth"):
        assert_same(key, plain, shown, looked_at)
        assert not np.array_equal(plain[1][key], plain[2][key])


def test_what_else_is_observed_or_shifted_changes_no_draw() -> None:
    both = play(obs="state+image+depth", shift="noise")
    assert_same("agentview_image", both, play(obs="image", shift="noise"))
    assert_same(
        "agentview_depth", both, play(obs="depth", shift="noise"), play(obs="depth", shift="colour+noise")
    )


def test_recorded_states_look_as_they_did_when_they_were_played() -> None:
    env = gym.make("simreal/Lift-v0", obs="image+depth", shift="noise")
    world: Any = env.unwrapped
    observation, info = env.reset(seed=4)
    played = [(info["sim_state"], observation)]
    for _ in range(3):
        observation, _, _, _, info = env.step(TARGET)
        played.append((info["sim_state"], observation))
    env.reset(seed=4)
    for state, expected in reversed(played):
        world.set_sim_state(state)
        seen = world.observe()
        np.testing.assert_array_equal(seen["agentview_image"], expected["agentview_image"])
        np.testing.assert_array_equal(seen["agentview_depth"], expected["agentview_depth"])
    env.close()


def test_every_shift_has_a_random_stream_of_its_own() -> None:
    assert len({shift.stream for shift in SHIFTS.loaded().values()}) == len(SHIFTS)
    gains = EpisodeDraws(2**62 + 3).gains(parse_shift("gains"))
    assert gains == EpisodeDraws(2**62 + 3).gains(parse_shift("noise+gains+light"))
    assert gains != EpisodeDraws(2**62 + 4).gains(parse_shift("gains"))


def test_the_rigs_depth_is_the_same_whatever_its_colours_suffer(scene: TabletopScene) -> None:
    physics = physics_of(scene)
    physics.reset(spec.START_JOINTS_RAD, PLACEMENT)
    cameras = [SceneD435(physics.model, shift, seed=0) for shift in ("none", "noise")]
    for _ in range(2):
        plain, noisy = (camera.capture(physics.data.qpos) for camera in cameras)
        assert not np.array_equal(plain[0], noisy[0])
        np.testing.assert_array_equal(plain[1], noisy[1])
    for camera in cameras:
        camera.close()
