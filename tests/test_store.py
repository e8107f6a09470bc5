"""Episodes on disk: nothing finished is ever lost, nothing damaged is ever believed."""

from __future__ import annotations

import json
import shutil
import signal
import subprocess
import sys
import time
from pathlib import Path

import h5py
import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from simreal_datasets.episode import GRIP_SITE_IN_END_EFFECTOR, DatagenInfo, Episode, encode
from simreal_datasets.store import Dataset, DatasetWriter, drop_episodes
from simreal_envs.errors import DataError, UsageError
from simreal_envs.poses import actions_from_poses, pose_from_action
from simreal_envs.spec import BASE_IN_WORLD_M

META = {
    "task": "Lift",
    "env": "sim",
    "shift": "none",
    "region": "all",
    "action_kind": "pose",
    "obs": ["state", "image", "depth"],
    "image_size": [12, 16],
    "control_hz": 20,
    "seed": 7,
    "actor": "expert",
    "success": True,
    "placement_region": "in",
}


def poses_of(actions: np.ndarray) -> np.ndarray:
    return np.array([pose_from_action(action) for action in actions]).reshape(-1, 4, 4)


def make_episode(length: int = 5, seed: int = 0, **meta: object) -> Episode:
    rng = np.random.default_rng(seed)
    actions = rng.uniform(-1, 1, (length, 7))
    poses = poses_of(rng.uniform(-1, 1, (length, 7)))
    return Episode(
        observations={
            "robot0_eef_pos": rng.normal(size=(length, 3)).astype(np.float32),
            "object": rng.normal(size=(length, 7)).astype(np.float32),
            "agentview_image": rng.integers(0, 256, (length, 12, 16, 3), dtype=np.uint8),
            "agentview_depth": rng.uniform(0, 2, (length, 12, 16)).astype(np.float32),
        },
        actions=actions,
        rewards=rng.uniform(size=length),
        dones=np.arange(length) == length - 1,
        meta=META | meta,
        states=rng.normal(size=(length, 20)),
        model_xml="<mujoco/>",
        datagen=DatagenInfo(
            eef_pose=poses,
            object_poses={"cube": poses[::-1].copy()},
            subtask_term_signals={"grasp": np.arange(length) > 2},
            target_pose=poses_of(actions),
            gripper_action=actions[:, 6:],
        ),
    )


def store(path: Path, count: int = 3) -> list[Path]:
    with DatasetWriter(path) as writer:
        return [writer.add(make_episode(length=4 + i, seed=i)) for i in range(count)]


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
    monkeypatch.setattr("simreal_datasets.episode.FORMAT_VERSION", 99)
    monkeypatch.setattr("simreal_datasets.store.FORMAT_VERSION", 99)
    store(tmp_path)
    monkeypatch.undo()
    with pytest.raises(DataError, match="format version 99; this simreal reads 1"):
        Dataset(tmp_path)
    with pytest.raises(DataError, match="format version 99"):
        DatasetWriter(tmp_path)


@pytest.mark.parametrize(
    ("key", "value"),
    [("task", "Stack"), ("action_kind", "delta"), ("obs", ["state"]), ("image_size", [24, 32])],
)
def test_writer_and_reader_refuse_another_kind(tmp_path: Path, key: str, value: object) -> None:
    with DatasetWriter(tmp_path) as writer:
        writer.add(make_episode())
        with pytest.raises(DataError, match=key):
            writer.add(make_episode(**{key: value}))  # type: ignore[arg-type]
    with DatasetWriter(tmp_path) as writer, pytest.raises(DataError, match=key):
        writer.add(make_episode(**{key: value}))  # type: ignore[arg-type]
    dataset = Dataset(tmp_path)
    assert len(dataset) == 1
    dataset.require(task="Lift", action_kind="pose", image_size=(12, 16), obs=["state", "image"])
    if key != "obs":
        wanted = tuple(value) if isinstance(value, list) else value
        with pytest.raises(DataError, match=key):
            dataset.require(**{key: wanted})  # type: ignore[arg-type]


def test_require_refuses_missing_observations(tmp_path: Path) -> None:
    with DatasetWriter(tmp_path) as writer:
        writer.add(make_episode(obs=["state"]))
    dataset = Dataset(tmp_path)
    with pytest.raises(DataError, match=r"lacks the observations image\. There: state"):
        dataset.require(obs=["image"])
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
    with pytest.raises(UsageError, match="lacks task"):
        encode(episode)


# --- other processes -------------------------------------------------------------------------------

RECORD = """
import sys, numpy as np
from pathlib import Path
from simreal_datasets.episode import Episode
from simreal_datasets.store import DatasetWriter

meta = dict(task="Lift", action_kind="pose", obs=["state"], image_size=None, writer=sys.argv[2])
with DatasetWriter(Path(sys.argv[1])) as writer:
    for i in range(int(sys.argv[3])):
        values = np.full((int(sys.argv[4]), 7), float(i))
        done = np.zeros(len(values), dtype=bool)
        episode = Episode({"object": values.astype(np.float32)}, values, values[:, 0], done, meta)
        print(writer.add(episode).name, flush=True)
"""


LARGE = 20_000
"""Steps of an episode (2 MB) whose writing takes long enough to be hit by some of the kills."""


def start_recording(
    folder: Path, writer: int, count: int = 10**6, length: int = 200
) -> subprocess.Popen[str]:
    command = [sys.executable, "-c", RECORD, str(folder), str(writer), str(count), str(length)]
    return subprocess.Popen(command, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True, cwd="/")


def test_processes_that_write_at_once_lose_nothing(tmp_path: Path) -> None:
    writers = [start_recording(tmp_path, i, count=25) for i in range(4)]
    printed = [writer.communicate(timeout=60)[0].split() for writer in writers]
    assert [writer.returncode for writer in writers] == [0] * 4
    dataset = Dataset(tmp_path)
    assert {name for names in printed for name in names} == {info.path.name for info in dataset.infos}
    assert [info.number for info in dataset.infos] == list(range(100))
    with h5py.File(tmp_path / "dataset.hdf5") as file:
        assert len(file["data"]) == 100


@pytest.mark.slow
def test_no_finished_episode_is_lost_in_fifty_kills(tmp_path: Path) -> None:
    """Two recorders at a time into one folder, one killed at a random moment; a fresh folder every ten."""
    rng = np.random.default_rng(0)
    for batch in range(5):
        folder = tmp_path / str(batch)
        recorders = [start_recording(folder, 0, length=LARGE)]
        finished: set[str] = set()
        for kill in range(1, 11):
            recorders.append(start_recording(folder, kill, length=LARGE))
            recorder = recorders.pop(0)
            assert recorder.stdout is not None
            finished.add(recorder.stdout.readline().strip())  # it is recording now
            time.sleep(rng.uniform(0, 0.05))
            recorder.send_signal(signal.SIGKILL)
            out, err = recorder.communicate()
            assert recorder.returncode == -signal.SIGKILL, err
            lines = out.split("\n")
            finished |= {line for line in lines[:-1] if line}

            dataset = Dataset(folder)
            assert not dataset.damaged
            assert finished <= {info.path.name for info in dataset.infos}
            with h5py.File(folder / "dataset.hdf5") as index:
                for info in dataset.infos:
                    assert index[f"data/demo_{info.number}/actions"].shape == (info.length, 7)
        for recorder in recorders:
            recorder.kill()
            recorder.communicate()
        DatasetWriter(folder).close()
        assert not (folder / ".aside").exists()


FILL = """
import sys
exec(sys.argv[1])
sys.argv = sys.argv[1:]
import numpy as np
from simreal_datasets.episode import Episode
from simreal_datasets.store import DatasetWriter
from simreal_envs.errors import DataError

meta = dict(task="Lift", action_kind="pose", obs=["state"], image_size=None)
writer = DatasetWriter(sys.argv[1])
length = 100
try:
    while True:
        values = np.random.default_rng(length).normal(size=(length, 7))
        writer.add(Episode({"object": values}, values, values[:, 0], values[:, 0] > 0, meta))
        length = int(length * 1.5)
except DataError as error:
    print(error)
writer.close()
"""


def check_full_disk(printed: str, folder: Path, reason: str) -> None:
    assert reason in printed
    assert "Episodes stored before are intact" in printed
    assert not (folder / ".aside").exists()
    dataset = Dataset(folder)
    assert len(dataset) >= 3
    assert not dataset.damaged
    assert {path.name for path in folder.iterdir()} <= {
        *(info.path.name for info in dataset.infos), "dataset.hdf5", ".lock"
    }  # fmt: skip


def test_a_file_size_limit_keeps_what_was_finished(tmp_path: Path) -> None:
    limit = "import resource; resource.setrlimit(resource.RLIMIT_FSIZE, (300_000, 300_000))"
    done = subprocess.run(
        [sys.executable, "-c", FILL, limit, str(tmp_path)], capture_output=True, text=True, check=True
    )
    check_full_disk(done.stdout, tmp_path, "File too large")


def run_with_mount(mount: str, command: list[str]) -> subprocess.CompletedProcess[str]:
    """Run a command with a real file system mounted, in a mount namespace of its own."""
    namespace = ["unshare", "--user", "--map-root-user", "--mount", "sh", "-c"]
    if subprocess.run([*namespace, mount], capture_output=True, check=False).returncode != 0:
        pytest.skip("this machine lets its users mount nothing")
    return subprocess.run(
        [*namespace, f'{mount} && "$0" "$@"', *command], capture_output=True, text=True, check=True
    )


def test_a_full_disk_keeps_what_was_finished(tmp_path: Path) -> None:
    disk, kept = tmp_path / "disk", tmp_path / "kept"
    disk.mkdir()
    command = ["sh", "-c", f'"$0" "$@" && cp -a {disk} {kept}', sys.executable, "-c", FILL, "pass", str(disk)]
    done = run_with_mount(f"mount -t tmpfs -o size=1m tmpfs {disk}", command)
    check_full_disk(done.stdout, kept, "No space left on device")


def test_a_read_only_folder_stays_readable(tmp_path: Path) -> None:
    store(tmp_path)
    (tmp_path / "dataset.hdf5").unlink()
    script = (
        "import sys; from simreal_datasets.store import Dataset; print(len(Dataset(sys.argv[1]).read(1)))"
    )
    mount = f"mount --bind {tmp_path} {tmp_path} && mount -o remount,bind,ro {tmp_path}"
    done = run_with_mount(mount, [sys.executable, "-c", script, str(tmp_path)])
    assert done.stdout.strip() == "5"
    assert "is not up to date: Read-only file system" in done.stderr
