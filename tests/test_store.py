"""Episodes on disk: nothing finished is ever lost, nothing damaged is ever believed."""

from __future__ import annotations

import json
import re
import shutil
from pathlib import Path
from typing import Any

import h5py
import numpy as np
import pytest
from episodes import META, SHOWN, make_episode, store
from hypothesis import given, settings
from hypothesis import strategies as st

from simreal_datasets.store.dataset import Dataset, DatasetWriter
from simreal_datasets.store.editing import drop_episodes
from simreal_datasets.store.episode import GRIP_SITE_IN_END_EFFECTOR, encode
from simreal_envs.errors import DataError, UsageError
from simreal_envs.poses import actions_from_poses, pose_from_action
from simreal_envs.spec import BASE_IN_WORLD_M


def test_what_is_read_is_what_was_written(tmp_path: Path) -> None:
    episode = make_episode()
    with DatasetWriter(tmp_path) as writer:
        writer.add(episode)
    dataset = Dataset(tmp_path)
    back = dataset.read(0)
    for name, values in episode.observations.items():
        np.testing.assert_array_equal(back.observations[name], values)
        assert back.observations[name].dtype == values.dtype
    for field in ("actions", "rewards", "dones", "states"):
        np.testing.assert_array_equal(getattr(back, field), getattr(episode, field))
    assert back.dones.dtype == bool
    assert back.model_xml == episode.model_xml
    assert {key: back.meta[key] for key in META} == META
    assert back.datagen is not None
    assert episode.datagen is not None
    np.testing.assert_allclose(back.datagen.eef_pose, episode.datagen.eef_pose, atol=1e-12)
    np.testing.assert_allclose(back.datagen.target_pose, episode.datagen.target_pose, atol=1e-12)
    np.testing.assert_allclose(
        back.datagen.object_poses["cube"], episode.datagen.object_poses["cube"], atol=1e-12
    )
    np.testing.assert_array_equal(back.datagen.gripper_action, episode.datagen.gripper_action)
    assert list(dataset.read(0, keys=["object"]).observations) == ["object"]


def test_datagen_info_is_in_robosuites_world_frame_on_disk(tmp_path: Path) -> None:
    episode = make_episode()
    assert episode.datagen is not None
    with DatasetWriter(tmp_path) as writer:
        path = writer.add(episode)
    with h5py.File(path) as file:
        group = file["data/demo_0/datagen_info"]
        assert group.attrs["env_interface_name"] == "MG_Lift"
        assert group.attrs["env_interface_type"] == "robosuite"
        world = group["eef_pose"][()]
        np.testing.assert_allclose(world[:, :3, 3], episode.datagen.eef_pose[:, :3, 3] + BASE_IN_WORLD_M)
        # The grip site's x is the hand's -y: the fingers open along it.
        np.testing.assert_allclose(world[:, :3, 0], -episode.datagen.eef_pose[:, :3, 1])
        np.testing.assert_allclose(
            group["object_poses/cube"][:, :3, :3], episode.datagen.object_poses["cube"][:, :3, :3]
        )
        assert group["subtask_term_signals/grasp"][()].tolist() == [0, 0, 0, 1, 1]


def test_grip_site_is_the_one_of_the_simulation() -> None:
    from simreal_envs.sim.physics import GRIP_SITE_IN_HAND

    np.testing.assert_array_equal(GRIP_SITE_IN_END_EFFECTOR[:3, :3], GRIP_SITE_IN_HAND)


@given(
    rotvec=st.tuples(*[st.floats(-1.7, 1.7)] * 3),
    position=st.tuples(*[st.floats(-1, 1)] * 3),
    gripper=st.floats(-1, 1),
)
def test_pose_actions_round_trip(
    rotvec: tuple[float, ...], position: tuple[float, ...], gripper: float
) -> None:
    action = np.array([*position, *rotvec, gripper])
    back = actions_from_poses([pose_from_action(action)], [gripper])[0]
    np.testing.assert_allclose(back, action, atol=1e-7)


def test_index_is_one_robomimic_dataset_and_survives_moving(tmp_path: Path) -> None:
    store(tmp_path / "here")
    shutil.move(tmp_path / "here", tmp_path / "there")
    # robomimic opens its files in this way
    with h5py.File(tmp_path / "there" / "dataset.hdf5", "r", swmr=True, libver="latest") as file:
        assert sorted(file["data"]) == ["demo_0", "demo_1", "demo_2"]
        assert file["data"].attrs["total"] == 4 + 5 + 6
        assert json.loads(file["data"].attrs["env_args"])["env_name"] == "Lift"
        assert file["mask/success"][()].tolist() == [b"demo_0", b"demo_1", b"demo_2"]
        for i in range(3):
            demo = file[f"data/demo_{i}"]
            assert demo.attrs["num_samples"] == len(demo["actions"]) == 4 + i
            assert demo["obs/agentview_image"].dtype == np.uint8
            assert demo["obs/agentview_depth"].shape == (4 + i, 12, 16, 1)


def test_each_episode_file_is_a_robomimic_dataset_by_itself(tmp_path: Path) -> None:
    path = store(tmp_path)[1]
    with h5py.File(path) as file:
        assert list(file["data"]) == ["demo_0"]
        assert file["data"].attrs["total"] == 5
        assert json.loads(file["data"].attrs["env_args"])["type"] == 1
        assert file["data/demo_0/obs/agentview_image"].chunks == (1, 12, 16, 3)


def test_writer_goes_on_where_the_last_one_ended(tmp_path: Path) -> None:
    store(tmp_path, count=2)
    store(tmp_path, count=1)
    assert [info.number for info in Dataset(tmp_path).infos] == [0, 1, 2]


def test_stale_index_is_renewed_on_opening(tmp_path: Path) -> None:
    store(tmp_path)
    (tmp_path / "dataset.hdf5").write_bytes(b"not an index")
    Dataset(tmp_path)
    with h5py.File(tmp_path / "dataset.hdf5") as file:
        assert len(file["data"]) == 3


def test_dropped_episodes_are_gone_from_folder_and_index(tmp_path: Path) -> None:
    paths = store(tmp_path, count=4)
    paths[3].write_bytes(b"damaged")
    with pytest.raises(UsageError, match=r"no episode 7\. There: 0 to 3"):
        drop_episodes(tmp_path, [1, 7])
    assert len(Dataset(tmp_path)) == 3
    assert drop_episodes(tmp_path, [1, 3]) == [paths[1], paths[3]]
    with h5py.File(tmp_path / "dataset.hdf5") as file:
        assert sorted(file["data"]) == ["demo_0", "demo_2"]
    drop_episodes(tmp_path, [0, 2])
    assert {path.name for path in tmp_path.iterdir()} == {".lock"}
    good, damaged = store(tmp_path, count=2)
    damaged.write_bytes(b"damaged")
    assert drop_episodes(tmp_path, [0]) == [good]
    assert not (tmp_path / "dataset.hdf5").exists()
    assert drop_episodes(tmp_path, [1]) == [damaged]
    with pytest.raises(DataError, match="Cannot drop episodes of"):
        drop_episodes(tmp_path / "nowhere", [0])


@settings(max_examples=40)
@given(where=st.floats(0, 1, exclude_max=True), bit=st.integers(0, 7))
def test_a_flipped_bit_anywhere_is_found_and_the_rest_stays_readable(
    tmp_path_factory: pytest.TempPathFactory, where: float, bit: int
) -> None:
    folder = tmp_path_factory.mktemp("flip")
    damaged = store(folder)[1]
    content = bytearray(damaged.read_bytes())
    content[int(where * len(content))] ^= 1 << bit
    damaged.write_bytes(content)
    dataset = Dataset(folder)
    assert [path for path, _ in dataset.damaged] == [damaged]
    assert [len(dataset.read(i)) for i in range(len(dataset))] == [4, 6]
    with h5py.File(folder / "dataset.hdf5") as file:
        assert sorted(file["data"]) == ["demo_0", "demo_2"]


@pytest.mark.parametrize("kept", [0, 1, 512, -1])
def test_a_truncated_file_is_named_and_skipped(tmp_path: Path, kept: int) -> None:
    damaged = store(tmp_path)[0]
    damaged.write_bytes(damaged.read_bytes()[:kept])
    dataset = Dataset(tmp_path)
    assert [path for path, _ in dataset.damaged] == [damaged]
    assert "truncated" in dataset.damaged[0][1]
    assert len(dataset) == 2


def test_nothing_readable_is_an_error_that_names_the_damaged(tmp_path: Path) -> None:
    (path,) = store(tmp_path, count=1)
    path.write_bytes(b"")
    with pytest.raises(DataError, match=path.name):
        Dataset(tmp_path)


def test_a_file_that_vanishes_after_opening_is_named(tmp_path: Path) -> None:
    path = store(tmp_path)[0]
    dataset = Dataset(tmp_path)
    path.unlink()
    with pytest.raises(DataError, match=path.name):
        dataset.read(0)


def test_missing_and_empty_datasets_are_refused(tmp_path: Path) -> None:
    with pytest.raises(DataError, match="does not exist"):
        Dataset(tmp_path / "nowhere")
    with pytest.raises(DataError, match="is empty"):
        Dataset(tmp_path)
    (tmp_path / "file").touch()
    with pytest.raises(DataError, match="is a file"):
        Dataset(tmp_path / "file")
    with pytest.raises(DataError, match="Cannot write"):
        DatasetWriter(tmp_path / "file")


def test_another_format_version_is_refused(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("simreal_datasets.store.episode.FORMAT_VERSION", 99)
    monkeypatch.setattr("simreal_datasets.store.catalogue.FORMAT_VERSION", 99)
    store(tmp_path)
    monkeypatch.undo()
    with pytest.raises(DataError, match="format version 99; this simreal reads"):
        Dataset(tmp_path)
    with pytest.raises(DataError, match="format version 99"):
        DatasetWriter(tmp_path)


SMALL = make_episode()


@pytest.mark.parametrize(
    ("changed", "named"),
    [
        ({"task": "Stack"}, "task is 'Stack' instead of 'Lift'"),
        ({"action_kind": "delta"}, "action_kind is 'delta' instead of 'pose'"),
        ({"control_hz": 10}, "control_hz is 10 instead of 20"),
        ({"features": SMALL.meta["features"][:-1]}, "agentview_depth is not there"),
    ],
)
def test_writer_and_reader_refuse_another_kind(tmp_path: Path, changed: dict[str, Any], named: str) -> None:
    with DatasetWriter(tmp_path / "mixed") as writer:
        writer.add(make_episode())
        with pytest.raises(DataError, match=re.escape(named)):
            writer.add(make_episode(**changed))
    with DatasetWriter(tmp_path / "mixed") as writer, pytest.raises(DataError, match=re.escape(named)):
        writer.add(make_episode(**changed))
    assert len(Dataset(tmp_path / "mixed")) == 1
    with DatasetWriter(tmp_path / "other") as writer:
        other = writer.add(make_episode(**changed))
    copy = tmp_path / "mixed" / other.name.replace("000000", "000001")
    shutil.copy(other, copy)
    with pytest.raises(DataError, match=re.escape(named)):
        Dataset(tmp_path / "mixed").spec  # noqa: B018


def test_an_observation_that_is_not_there_is_named_with_those_that_are(tmp_path: Path) -> None:
    with DatasetWriter(tmp_path) as writer:
        writer.add(make_episode())
    dataset = Dataset(tmp_path)
    assert dataset.spec.features == SHOWN.features(1)
    with pytest.raises(DataError, match=r"'pointcloud' is not in the data\. There: .*agentview_image"):
        dataset.read(0, keys=["pointcloud"])


def test_incomplete_episodes_are_refused() -> None:
    episode = make_episode()
    episode.actions[2, 3] = np.nan
    with pytest.raises(UsageError, match="finite"):
        encode(episode)
    episode = make_episode()
    episode.observations["object"] = episode.observations["object"][:-1]
    with pytest.raises(UsageError, match="5 actions but 4 object"):
        encode(episode)
    with pytest.raises(UsageError, match="JSON"):
        encode(make_episode(camera=object()))
    with pytest.raises(UsageError, match="at least one step"):
        encode(make_episode(length=0))
    episode = make_episode()
    del episode.meta["task"]
    with pytest.raises(UsageError, match="its task is None"):
        encode(episode)
