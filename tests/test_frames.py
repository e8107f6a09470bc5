"""Demonstrations in memory, and the budget that binds everything made from them."""

from __future__ import annotations

import os
from dataclasses import replace
from itertools import pairwise
from pathlib import Path
from typing import Any

import h5py
import numpy as np
import pytest
from demonstrations import random_episode, write_dataset
from scipy.spatial.transform import Rotation

from simreal_agents.policies.actions import ActionCodec
from simreal_datasets.loading.frames import Frames, spec_of
from simreal_datasets.store.dataset import Dataset, DatasetWriter
from simreal_datasets.store.editing import drop_episodes
from simreal_envs.errors import DataError, UsageError
from simreal_envs.features import ObservationSpec
from simreal_envs.kinematics import inverse
from simreal_envs.poses import pose
from simreal_envs.spec import DELTA_POSITION_M, START_JOINTS_RAD
from simreal_envs.world_config import WorldConfig


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return write_dataset(tmp_path_factory.mktemp("data") / "demos", episodes=6)


def test_frames_are_the_episodes_in_order(folder: Path) -> None:
    frames, dataset = Frames.load(folder), Dataset(folder)
    assert len(frames.paths_m(commanded=True)) == len(frames.files) == len(dataset) == 6
    assert frames.spec == dataset.spec == WorldConfig("Lift", image_size=(32, 32)).spec
    paths = zip(frames.paths_m(commanded=False), frames.paths_m(commanded=True), strict=True)
    for i, (went, sent) in enumerate(paths):
        episode = dataset.read(i)
        rows = slice(frames.starts[i], frames.starts[i + 1])
        assert np.array_equal(frames.arrays["agentview_image"][rows], episode.observations["agentview_image"])
        assert np.array_equal(went, episode.observations["robot0_eef_pos"])
        assert np.allclose(sent, episode.actions[:, :3])
        assert np.allclose(frames.actions[rows], episode.actions)


def test_budget_draws_distinct_episodes_and_smaller_budgets_are_subsets(folder: Path) -> None:
    small, large = Frames.load(folder, 2, seed=3), Frames.load(folder, 4, seed=3)
    assert len(set(large.files)) == 4
    assert set(small.files) < set(large.files)
    assert Frames.load(folder, 4, seed=3).files == large.files
    assert len({Frames.load(folder, 2, seed=seed).files for seed in range(8)}) > 1
    assert len(small) == small.starts[-1] == len(small.arrays["agentview_image"])


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
    with pytest.raises(DataError, match=r"agentview_depth.*--obs"):
        spec_of(folder, ObservationSpec(("depth",)))


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
        spec = replace(frames.spec, action_kind=kind)
        same = replace(frames, actions=actions, arrays=frames.arrays | {"robot0_eef_pos": at}, spec=spec)
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


def test_flipped_bits_are_never_trained_on(tmp_path: Path, caplog: pytest.LogCaptureFixture) -> None:
    """Also where size and time of the file stay the same: the budget is drawn anew from what is whole."""
    folder = write_dataset(tmp_path / "demos", 4)
    damaged = folder / Frames.load(folder, 2, seed=1).files[0]
    stat, content = damaged.stat(), bytearray(damaged.read_bytes())
    content[-100] ^= 4
    damaged.write_bytes(content)
    os.utime(damaged, ns=(stat.st_atime_ns, stat.st_mtime_ns))
    files = Frames.load(folder, 2, seed=1).files
    assert len(files) == 2
    assert damaged.name not in files
    assert f"Skipped the damaged episode {damaged}" in caplog.text
    with pytest.raises(DataError, match=rf"lacks {damaged.name} \(deleted or damaged\)"):
        Frames.load(folder, files=[damaged.name])


# Which episodes


ENDINGS: tuple[dict[str, Any], ...] = (
    {"success": True}, {"success": False}, {"success": False, "interrupted": "reflex"}, {"success": True},
    {"success": True, "interrupted": "the link was lost"}, {"success": None},
)  # fmt: skip


@pytest.fixture
def mixed(tmp_path: Path) -> Path:
    """Two solved episodes (0 and 3), two failed and two interrupted ones."""
    rng = np.random.default_rng(0)
    with DatasetWriter(tmp_path / "mixed") as writer:
        for ending in ENDINGS:
            episode = random_episode(rng)
            episode.meta |= ending
            writer.add(episode)
    return tmp_path / "mixed"


def numbers(frames: Frames) -> list[int]:
    return [int(name[8:14]) for name in frames.files]


def test_only_successes_are_demonstrations_and_the_rest_is_counted_aloud(
    mixed: Path, caplog: pytest.LogCaptureFixture
) -> None:
    assert numbers(Frames.load(mixed)) == [0, 3]
    assert "4 of 6 episodes are left out: 2 failed, 2 interrupted." in caplog.text
    assert {tuple(numbers(Frames.load(mixed, 2, seed=seed))) for seed in range(4)} == {(0, 3)}
    with pytest.raises(UsageError, match=r"Budget of 3 .* Valid: 1 to 2"):
        Frames.load(mixed, 3)
    caplog.clear()
    assert len(Frames.load(mixed, which="all").files) == 6
    assert "of 6 episodes used, 2 failed, 2 interrupted." in caplog.text
    with h5py.File(mixed / "dataset.hdf5") as file:
        assert file["mask/success"][()].tolist() == [b"demo_0", b"demo_3"]


def test_without_a_success_there_is_nothing_to_train_on(tmp_path: Path) -> None:
    episode = random_episode(np.random.default_rng(0))
    episode.meta["success"] = False
    with DatasetWriter(tmp_path) as writer:
        writer.add(episode)
    with pytest.raises(DataError, match="1 of 1 episodes are left out: 1 failed"):
        Frames.load(tmp_path)


def test_a_datasets_own_masks_choose_and_survive(mixed: Path, caplog: pytest.LogCaptureFixture) -> None:
    """As robomimic's scripts write them: lists of demonstrations under mask/ in the index."""
    with h5py.File(mixed / "dataset.hdf5", "a") as file:
        file["mask/train"] = np.array([b"demo_0", b"demo_1", b"demo_5"])
        file.create_dataset("mask/valid/of mine", data=["demo_3"], dtype=h5py.string_dtype())
        file["mask/numbers"] = np.arange(3)
    assert numbers(Frames.load(mixed, which="train")) == [0, 1, 5]
    assert "3 of 6 episodes are left out: not in the mask 'train'" in caplog.text
    assert "of 3 episodes used, 2 failed." in caplog.text
    assert "mask/numbers is no list of demonstrations" in caplog.text
    with DatasetWriter(mixed) as writer:
        writer.add(random_episode(np.random.default_rng(7)))
    drop_episodes(mixed, [1, 5])
    with DatasetWriter(mixed) as writer:  # another number 5 is not the one that was meant
        writer.add(random_episode(np.random.default_rng(8)))
    assert numbers(Frames.load(mixed, which="train")) == [0]
    assert numbers(Frames.load(mixed, which="valid/of mine")) == [3]
    with pytest.raises(UsageError, match=r"'test'\. Valid: success, all, in, train, valid/of mine"):
        Frames.load(mixed, which="test")


@pytest.mark.parametrize(
    ("commands", "said"),
    [
        ([-1, 1, 0, 0, -1, 0], [-1, 1, 1, 1, -1, -1]),
        ([0, 0, 0.3, 0, -0.2], [-1, -1, 1, 1, -1]),
        ([1, 1], [1, 1]),
    ],
)
def test_a_gripper_that_holds_is_not_learnt_as_open(
    tmp_path: Path, commands: list[float], said: list[float]
) -> None:
    with DatasetWriter(tmp_path) as writer:
        for _ in range(2):  # an episode starts open, whatever the one before ended with
            episode = random_episode(np.random.default_rng(0), steps=len(commands))
            episode.actions[:, -1] = commands
            writer.add(episode)
    frames = Frames.load(tmp_path)
    assert frames.actions[:, -1].tolist() == said * 2
    codec = ActionCodec("pose", "base")
    again = codec.decode(
        codec.encode(frames.actions[:, None], frames.end_effector_positions_m),
        frames.end_effector_positions_m,
    )
    assert again[:, 0, -1].tolist() == said * 2
    changes = [i for i, (a, b) in enumerate(pairwise(said)) if a != b]
    assert frames.keyframes()[0].tolist() == [*changes, len(said) - 1, len(said) - 1][:2]
