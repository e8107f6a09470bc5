"""Demonstrations in memory, and the budget that binds everything made from them."""

from __future__ import annotations

from dataclasses import replace
from itertools import pairwise
from pathlib import Path

import numpy as np
import pytest
from demonstrations import random_episode, write_dataset
from scipy.spatial.transform import Rotation

from simreal_datasets.frames import Frames
from simreal_datasets.store import Dataset, DatasetWriter
from simreal_envs.errors import DataError, UsageError
from simreal_envs.kinematics import inverse
from simreal_envs.poses import pose
from simreal_envs.spec import DELTA_POSITION_M, START_JOINTS_RAD


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return write_dataset(tmp_path_factory.mktemp("data") / "demos", episodes=6)


def test_frames_are_the_episodes_in_order(folder: Path) -> None:
    frames, dataset = Frames.load(folder), Dataset(folder)
    assert len(frames.paths_m(commanded=True)) == len(frames.files) == len(dataset) == 6
    assert frames.world == {"task": "Lift", "action_kind": "pose", "image_size": [32, 32]}
    paths = zip(frames.paths_m(commanded=False), frames.paths_m(commanded=True), strict=True)
    for i, (went, sent) in enumerate(paths):
        episode = dataset.read(i)
        rows = slice(frames.starts[i], frames.starts[i + 1])
        assert np.array_equal(frames.images[rows], episode.observations["agentview_image"])
        assert np.array_equal(went, episode.observations["robot0_eef_pos"])
        assert np.allclose(sent, episode.actions[:, :3])
        assert np.allclose(frames.actions[rows], episode.actions)


def test_budget_draws_distinct_episodes_and_smaller_budgets_are_subsets(folder: Path) -> None:
    small, large = Frames.load(folder, 2, seed=3), Frames.load(folder, 4, seed=3)
    assert len(set(large.files)) == 4
    assert set(small.files) < set(large.files)
    assert Frames.load(folder, 4, seed=3).files == large.files
    assert len({Frames.load(folder, 2, seed=seed).files for seed in range(8)}) > 1
    assert len(small) == small.starts[-1] == len(small.images)


def test_chunks_stop_at_the_end_of_the_episode(folder: Path) -> None:
    frames = Frames.load(folder)
    first, second = int(frames.starts[0]), int(frames.starts[1])
    indices = frames.chunk_indices(np.array([first, second - 2, second - 1, second]), 4)
    assert indices.tolist() == [
        [first, first + 1, first + 2, first + 3],
        [second - 2, second - 1, second - 1, second - 1],
        [second - 1] * 4,
        [second, second + 1, second + 2, second + 3],
    ]


def test_bad_requests_are_named(folder: Path, tmp_path: Path) -> None:
    with pytest.raises(UsageError, match=r"Budget of 7 .* Valid: 1 to 6"):
        Frames.load(folder, 7)
    with pytest.raises(UsageError, match="Budget of 0"):
        Frames.load(folder, 0)
    with pytest.raises(DataError, match="does not exist"):
        Frames.load(tmp_path / "nothing")
    other = Frames.load(write_dataset(tmp_path / "other", 1, size=(24, 32), task="Stack"))
    with pytest.raises(DataError, match="task 'Stack' instead of 'Lift', image_size"):
        Frames.load(folder).require_same_world(other, "Target dataset")


def test_keyframes_are_where_the_gripper_changes_next_and_then_the_end(folder: Path) -> None:
    frames = Frames.load(folder)
    for start, end in pairwise(frames.starts):
        closed = frames.actions[start:end, -1] > 0
        for i, (first, second) in enumerate(frames.keyframes(2)[start:end]):
            changes = [j for j in range(i, end - start - 1) if closed[j] != closed[j + 1]]
            expected = [start + j for j in changes] + [end - 1] * 2
            assert [first, second] == expected[:2]


def test_where_the_hand_is_sent_does_not_depend_on_the_kind_of_action(folder: Path) -> None:
    frames = Frames.load(folder)
    hand = pose(Rotation.from_rotvec([np.pi, 0, 0]).as_matrix(), np.array([0.5, 0.0, 0.2]))
    joints = inverse(hand, START_JOINTS_RAD)
    assert joints is not None
    at = np.tile(np.array([0.48, 0.02, 0.21], np.float32), (len(frames), 1))
    for kind, action in (
        ("pose", np.r_[hand[:3, 3], np.pi, 0, 0, 1]),
        ("delta", np.r_[(hand[:3, 3] - at[0]) / DELTA_POSITION_M, 0, 0, 0, 1]),
        ("joint", np.r_[joints, 1]),
    ):
        actions = np.tile(action.astype(np.float32), (len(frames), 1))
        proprioception = frames.proprioception | {"robot0_eef_pos": at}
        world = frames.world | {"action_kind": kind}
        same = replace(frames, actions=actions, proprioception=proprioception, world=world)
        np.testing.assert_allclose(same.commanded_positions_m, np.tile(hand[:3, 3], (len(at), 1)), atol=1e-5)


def test_a_damaged_episode_is_skipped_and_named(tmp_path: Path, caplog: pytest.LogCaptureFixture) -> None:
    folder = write_dataset(tmp_path / "demos", 3)
    damaged = Dataset(folder).infos[1].path
    damaged.write_bytes(damaged.read_bytes()[:1000])
    assert len(Frames.load(folder).paths_m(commanded=True)) == 2
    assert damaged.name in caplog.text


@pytest.mark.parametrize("key", ["env", "shift"])
def test_an_episode_that_does_not_say_how_its_world_looked_is_refused(key: str, tmp_path: Path) -> None:
    episode = random_episode(np.random.default_rng(0))
    del episode.meta[key]
    with DatasetWriter(tmp_path) as writer:
        path = writer.add(episode)
    with pytest.raises(DataError, match=rf"{path.name} does not say its {key}"):
        Frames.load(tmp_path)
