"""What a world shows: features, cameras, histories, and whether two worlds fit."""

from __future__ import annotations

import json
import shutil
from dataclasses import replace
from pathlib import Path
from typing import Any

import gymnasium as gym
import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

import simreal_envs  # noqa: F401 - registers the worlds
from simreal_agents.actors.experts import make_expert
from simreal_datasets.store.dataset import Dataset
from simreal_datasets.store.recorder import EpisodeRecorder
from simreal_envs.cameras import CAMERA_SPECS
from simreal_envs.errors import DataError, UsageError
from simreal_envs.features import CAMERAS, GROUPS, History, ObservationSpec, WorldSpec, hint
from simreal_envs.loop import run_episode
from simreal_envs.poses import reachable_action
from simreal_envs.world_config import WorldConfig

SPECS = st.builds(
    ObservationSpec,
    groups=st.sets(st.sampled_from(GROUPS)).map(lambda chosen: tuple(g for g in GROUPS if g in chosen)),
    image_size=st.tuples(st.integers(8, 99), st.integers(8, 99)),
    cameras=st.sets(st.sampled_from(CAMERAS), min_size=1).map(lambda c: tuple(n for n in CAMERAS if n in c)),
    points=st.integers(1, 5000),
    history=st.integers(1, 4),
)


def of(spec: ObservationSpec, **changed: Any) -> WorldSpec:
    return replace(WorldSpec("Lift", "pose", spec.features(1), spec.history), **changed)


@given(spec=SPECS)
def test_a_world_is_described_by_json_and_by_what_it_is_asked_for(spec: ObservationSpec) -> None:
    world = of(spec)
    assert WorldSpec.from_json(json.loads(json.dumps(world.to_json()))) == world
    asked = ObservationSpec.of(world.features, world.history)
    assert of(asked).lacks(world) == []
    assert world.lacks(of(asked)) == []
    assert hint(world)


@given(one=SPECS, other=SPECS)
def test_worlds_differ_by_what_one_of_them_lacks(one: ObservationSpec, other: ObservationSpec) -> None:
    a, b = of(one), of(other)
    assert (a.differences(b) == []) == (a == b) == (b.differences(a) == [])
    if not a.lacks(b):
        assert {f.key for f in a.features} <= {f.key for f in b.features}
    together = replace(a, features=tuple({f.key: f for f in (*b.features, *a.features)}.values()))
    assert a.lacks(together) == []


@pytest.mark.parametrize(
    ("changed", "named"),
    [
        ({"task": "Stack"}, "task is 'Stack' instead of 'Lift'"),
        ({"history": 2}, "history is 2 instead of 1"),
        ({"features": ()}, "agentview_image is not there"),
        (
            {"features": ObservationSpec(("image",), (9, 9)).features(1)},
            "agentview_image uint8 (9, 9, 3)",
        ),
    ],
)
def test_what_is_lacking_is_named(changed: dict[str, Any], named: str) -> None:
    world = of(ObservationSpec(("image",)))
    assert any(named in problem for problem in world.lacks(replace(world, **changed)))


@pytest.mark.parametrize(
    ("arguments", "named"),
    [
        ({"obs": "image+smell"}, "Unknown observation 'smell'. Valid: state, image, depth, pointcloud"),
        ({"obs": "image+image"}, "'image' is named twice"),
        ({"cameras": "front"}, "Unknown camera 'front'. Valid: agentview, wrist"),
        ({"cameras": ("wrist", "wrist")}, "'wrist' is named twice"),
        ({"cameras": ()}, "At least one camera"),
        ({"points": 0}, "points 0 must be a whole number from 1"),
        ({"points": 2.5}, "points 2.5"),
        ({"history": 0}, "history 0 must be a whole number from 1 to 16"),
        ({"history": 99}, "history 99"),
        ({"points": "many"}, "points many must be a whole number"),
        ({"image_size": 84}, "image_size (84,)"),
        ({"image_size": (84, "a")}, "image_size (84, 'a')"),
        ({"cameras": None}, "Unknown camera 'None'"),
    ],
)
def test_what_cannot_be_shown_is_named_with_what_can(arguments: dict[str, Any], named: str) -> None:
    with pytest.raises(UsageError) as raised:
        gym.make("simreal/Lift-v0", **arguments)
    assert named in str(raised.value)
    with pytest.raises(UsageError) as raised:
        WorldConfig("Lift", **arguments)
    assert named in str(raised.value)


def test_a_cloud_of_two_cameras_is_not_that_of_one() -> None:
    one, both = (of(ObservationSpec(("pointcloud",), cameras=names)) for names in (CAMERAS[:1], CAMERAS))
    assert one.lacks(both) == [
        "pointcloud float32 (1024, 3) of agentview+wrist instead of pointcloud float32 (1024, 3) of agentview"
    ]
    assert WorldConfig.showing(both).cameras == CAMERAS


def test_a_world_shows_what_its_spec_says() -> None:
    world = WorldConfig("Stack", obs="state+image+depth+pointcloud+pointcolour", image_size=(24, 32),
                  cameras="agentview+wrist", points=200, history=2)  # fmt: skip
    env = world.make("in")
    observation, _ = env.reset(seed=0)
    assert env.observation_space.contains(observation)
    assert env.unwrapped.world_spec == world.spec  # type: ignore[attr-defined]
    assert {f.key for f in world.spec.features} == set(observation)
    assert WorldConfig.showing(world.spec) == replace(world, cameras=("agentview", "wrist"))
    assert observation["wrist_image"].std() > 5
    env.close()


def test_the_other_camera_and_depth_change_no_image() -> None:
    alone = WorldConfig("Lift", shift="noise").make("in")
    more = WorldConfig("Lift", shift="noise", obs="image+depth+pointcloud", cameras="agentview+wrist").make(
        "in"
    )
    one, both = alone.reset(seed=1)[0], more.reset(seed=1)[0]
    np.testing.assert_array_equal(one["agentview_image"], both["agentview_image"])
    assert not np.array_equal(both["wrist_image"], both["agentview_image"])
    alone.close()
    more.close()


def test_the_wrist_camera_moves_with_the_hand_and_sees_objects_where_geometry_says() -> None:
    env = gym.make("simreal/Lift-v0", obs="image+depth", cameras="wrist", image_size=(120, 160))
    world: Any = env.unwrapped
    env.reset(seed=0, options={"placement": {"cube": (0.0, 0.02, 0.0)}})
    hand = world.end_effector_pose_in_base()
    target = np.r_[0.52, 0.02, 0.2]
    for _ in range(40):
        action = reachable_action(hand, -1.0)
        action[:3] = target
        observation = env.step(action)[0]
    camera = world.camera_now("wrist")
    moved = CAMERA_SPECS["wrist"].at(world.end_effector_pose_in_base())
    np.testing.assert_allclose(camera.pose_in_base, moved.pose_in_base)
    assert np.linalg.norm(world.end_effector_pose_in_base()[:3, 3] - hand[:3, 3]) > 0.03
    points = camera.deproject(observation["wrist_depth"])
    red = observation["wrist_image"].astype(int)
    on_top = (red[..., 0] > 2 * red[..., 1]) & (np.abs(points[..., 2] - 0.042) < 0.001)
    assert on_top.sum() > 100
    centre = world.object_poses_in_base()["cube"][:2, 3]
    np.testing.assert_allclose(points[on_top].mean(axis=0)[:2], centre, atol=0.002)
    env.close()


@given(length=st.integers(1, 5), steps=st.integers(0, 8))
def test_a_history_holds_the_last_moments_and_begins_with_the_first(length: int, steps: int) -> None:
    history = History(length)
    seen = history.begin({"x": np.array([0.0])})
    for step in range(1, steps + 1):
        seen = history.add({"x": np.array([float(step)])})
    expected = [max(0.0, steps - back) for back in range(length - 1, -1, -1)]
    np.testing.assert_array_equal(np.reshape(seen["x"], (length,)), expected)


def test_an_episode_of_a_world_with_a_history_holds_each_moment_once() -> None:
    episodes = []
    for history in (1, 3):
        env = WorldConfig("Lift", obs="state+image", image_size=(12, 16), history=history, max_steps=6).make(
            "in"
        )
        recorder = EpisodeRecorder()
        outcome = run_episode(env, make_expert(env), seed=3, recorder=recorder)
        episodes.append(recorder.finish(env, outcome, "expert"))
        env.close()
    one, other = episodes
    assert WorldSpec.from_json(one.meta) == WorldSpec.from_json(other.meta)
    for key, values in one.observations.items():
        np.testing.assert_array_equal(values, other.observations[key])


def test_episodes_of_format_1_are_read_as_what_they_were(tmp_path: Path) -> None:
    """The file was written by the version before features: one camera, named groups."""
    shutil.copytree(Path(__file__).parent / "data/format_1", tmp_path / "old")
    dataset = Dataset(tmp_path / "old")
    shown = ObservationSpec(("state", "image", "depth"), (12, 16))
    assert dataset.spec == WorldSpec("Lift", "pose", shown.features(1))
    episode = dataset.read(0)
    assert {key: values.shape[1:] for key, values in episode.observations.items()} == {
        f.key: f.shape for f in shown.features(1)
    }
    env = WorldConfig("Lift", shift="viewpoint", obs="image", image_size=(12, 16)).make("all")
    here = env.unwrapped.describe()["cameras"]  # type: ignore[attr-defined]
    env.close()
    assert episode.meta["cameras"] == here
    assert dataset.verify() == []


def test_episodes_of_an_unknown_format_are_refused_by_name(tmp_path: Path) -> None:
    from episodes import make_episode

    from simreal_datasets.store.metadata import read_meta

    meta = make_episode().meta
    for lost in ("task", "features", "history", "control_hz", "action_kind"):
        with pytest.raises(DataError, match=lost):
            read_meta({key: value for key, value in meta.items() if key != lost})
    old = {"format_version": 1, "task": "Pour", "action_kind": "pose", "obs": ["image"], "image_size": [8, 8]}
    with pytest.raises(DataError, match="Pour"):
        read_meta(old)
    with pytest.raises(DataError, match="obs"):
        read_meta({"format_version": 1, "task": "Lift"})
