"""Images of one camera, brought into the view of another."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import pytest

from simreal_agents.policies.config import load_config
from simreal_agents.policies.policy import load_policy
from simreal_agents.policies.rectify import HEIGHT_M, Rectifier
from simreal_agents.study.collect import ActorRecorder
from simreal_agents.training.train import train
from simreal_datasets.loading.frames import Frames
from simreal_datasets.making.fill import fill_dataset
from simreal_envs.cameras import OTHER_VIEWPOINT_IN_BASE, THIRD_PERSON
from simreal_envs.errors import DataError
from simreal_envs.shifts import SHIFTS, Shift
from simreal_envs.world_config import WorldConfig

CAMERA = THIRD_PERSON.resized((144, 192))
OTHER = CAMERA.moved(OTHER_VIEWPOINT_IN_BASE)


def test_the_same_camera_needs_nothing() -> None:
    images = np.random.default_rng(0).integers(0, 256, (2, 144, 192, 3), dtype=np.uint8)
    assert np.array_equal(Rectifier(CAMERA, CAMERA)(images), images)


def test_points_of_the_plane_come_to_where_the_reference_sees_them() -> None:
    for x, y in [(0.5, -0.12), (0.6, 0.1), (0.56, 0.0)]:
        point = np.array([[x, y, HEIGHT_M]])
        u, v = np.round(OTHER.project(point)[0]).astype(int)
        images = np.zeros((1, 144, 192, 3), np.uint8)
        images[0, v - 2 : v + 3, u - 2 : u + 3] = 255
        moved = Rectifier(OTHER, CAMERA)(images)[0, ..., 0].astype(float)
        rows, columns = np.indices(moved.shape)
        centre = [(grid * moved).sum() / moved.sum() for grid in (columns, rows)]
        np.testing.assert_allclose(centre, CAMERA.project(point)[0], atol=0.8)


def test_a_rectified_scene_looks_like_the_references() -> None:
    """The cube in the rendered image of the shifted world lands where the unshifted world shows it."""

    def cube_px(image: np.ndarray) -> np.ndarray:
        red = image.astype(int)
        return np.argwhere(red[..., 0] > 2 * red[..., 1]).mean(axis=0)

    plain, shifted = (
        WorldConfig("Lift", shift=s, image_size=(144, 192)).make("all") for s in ("none", "viewpoint:1.5")
    )
    worlds: list[Any] = [plain.unwrapped, shifted.unwrapped]
    for seed in range(4):
        images = [env.reset(seed=seed)[0]["agentview_image"] for env in (plain, shifted)]
        rectified = Rectifier(worlds[1].camera_now(), worlds[0].camera_now())(images[1][None])[0]
        before, after = (np.linalg.norm(cube_px(i) - cube_px(images[0])) for i in (images[1], rectified))
        assert after < 3
        assert before > 3 * after
    plain.close()
    shifted.close()


@pytest.fixture(scope="module")
def run(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A policy of two domains whose cameras stand apart, trained for a moment."""
    folder = tmp_path_factory.mktemp("calibrated")
    for name, shift in (("source", "none"), ("target", "viewpoint")):
        recipe = ActorRecorder(WorldConfig("Lift", shift=shift, image_size=(36, 48)), "in")
        assert all(attempt.episode for attempt in fill_dataset(folder / name, recipe, 2, 0, 1))
    settings = ["encoder.view=calibrated", "threads=1", "batch.size=8", "batch.alignment_size=8"]
    paths = [f"data.{name}={folder / name}" for name in ("source", "target")]
    train(load_config("cpu-image", "uot", [*settings, *paths, "optim.updates=2"]), folder / "run")
    return folder / "run"


def test_a_policy_rectifies_the_images_of_any_calibrated_camera(run: Path) -> None:
    policy = load_policy(run)
    for shift, domain in (("none", "source"), ("viewpoint", "target"), ("viewpoint:0.5", "target")):
        env = WorldConfig("Lift", shift=shift, image_size=(36, 48)).make("in")
        world: Any = env.unwrapped
        observation, _ = env.reset(seed=5)
        policy.face(env)
        assert policy.domain == domain
        reference = policy.cameras["source"]["agentview"]
        rectified = Rectifier(world.camera_now(), reference)(observation["agentview_image"][None])[0]
        direct = load_policy(run)
        direct.cameras, direct.domain = {}, domain
        direct.see(None)
        expected, _ = direct.predict(observation | {"agentview_image": rectified})
        action, _ = policy.predict(observation)
        np.testing.assert_array_equal(action, expected)
        env.close()


def test_features_of_a_domain_are_those_of_its_rectified_images(run: Path) -> None:
    policy = load_policy(run)
    images = Frames.load(run.parent / "target").arrays["agentview_image"][:3]
    cameras = [policy.cameras[domain]["agentview"] for domain in ("target", "source")]
    expected = policy.encode({"agentview_image": images}, "target")
    policy.cameras = {}
    shown = {"agentview_image": Rectifier(*cameras)(images)}
    np.testing.assert_array_equal(policy.encode(shown, "target"), expected)


class Shaken(Shift):
    """The camera may stand elsewhere in every episode."""

    stream = 106
    is_drawn = True


def test_a_calibrated_policy_refuses_a_camera_that_every_episode_moves(
    run: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setitem(SHIFTS.built_in, "shaken", Shaken)  # type: ignore[arg-type]
    env = WorldConfig("Lift", shift="shaken", image_size=(36, 48)).make("in")
    with pytest.raises(DataError, match="shaken"):
        load_policy(run).face(env)
    env.close()
