"""robosuite's demonstrations, old and new, read through the geometry that they were recorded in."""

from __future__ import annotations

import json
import shutil
import tempfile
from collections.abc import Callable
from contextlib import suppress
from pathlib import Path
from typing import Any

import h5py
import numpy as np
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from scipy.spatial.transform import Rotation
from typer.testing import CliRunner

from simreal_cli.data import app
from simreal_datasets.making.fetch import fetch_demonstrations
from simreal_datasets.making.robosuite_import import import_demonstrations, read_demonstrations
from simreal_datasets.making.segments import cut
from simreal_datasets.store.dataset import Dataset, DatasetWriter
from simreal_datasets.store.episode import encode
from simreal_envs.errors import DataError, UsageError
from simreal_envs.poses import pose_from_action
from simreal_envs.spec import BASE_IN_WORLD_M
from simreal_envs.tasks import get_task
from simreal_envs.tasks.square import HANDLE_M


@pytest.fixture(scope="module")
def human() -> dict[str, Path]:
    return fetch_demonstrations(["Lift", "Square", "Stack"])


@pytest.fixture
def stack_copy(human: dict[str, Path], tmp_path: Path) -> Path:
    """The human Stack demonstration and its model, to be changed."""
    shutil.copytree(human["Stack"].parent, tmp_path / "demo")
    return tmp_path / "demo" / "demo.hdf5"


@pytest.fixture
def square_copy(human: dict[str, Path], tmp_path: Path) -> Path:
    """The human demonstration of both nuts and its model, to be changed."""
    shutil.copytree(human["Square"].parent, tmp_path / "demo")
    return tmp_path / "demo" / "demo.hdf5"


def test_the_human_stack_demonstration(human: dict[str, Path]) -> None:
    (episode,) = import_demonstrations(human["Stack"], "Stack")
    info = episode.datagen
    assert info is not None
    assert len(episode) == 532
    assert episode.meta["success"] is True
    assert episode.meta["stage"] == "release"
    # What its authors' simulator stored, in the base frame: cube A moves from the table onto cube B.
    np.testing.assert_allclose(info.object_poses["cubeA"][0, :3, 3], [0.575, -0.060, 0.020], atol=1e-3)
    np.testing.assert_allclose(info.object_poses["cubeA"][-1, :3, 3], [0.518, 0.082, 0.069], atol=1e-3)
    # The gripper is told to close at step 169 and to open at 515, when it holds cube A and is over cube B.
    np.testing.assert_array_equal(np.flatnonzero(np.diff(info.gripper_action[:, 0])), [169, 515])
    hand = info.eef_pose[:, :3, 3]
    assert np.linalg.norm(hand[169] - info.object_poses["cubeA"][169, :3, 3]) < 0.012
    assert np.linalg.norm((hand[515] - info.object_poses["cubeB"][515, :3, 3])[:2]) < 0.02
    firsts = [int(np.argmax(signal)) for signal in info.subtask_term_signals.values()]
    assert list(info.subtask_term_signals) == ["reach", "grasp", "lift", "place", "release"]
    assert firsts == sorted(firsts)
    assert 169 < firsts[1] < 200


def test_a_cube_that_rises_untouched_is_lifted_as_in_the_environment(
    human: dict[str, Path], tmp_path: Path
) -> None:
    shutil.copytree(human["Lift"].parent, tmp_path / "demo")
    file = tmp_path / "demo" / human["Lift"].name
    with h5py.File(file, "r+") as stored:
        (name,) = stored["data"]
        states = stored[f"data/{name}/states"]
        joints = 9  # of arm and fingers; time comes before them, the cube's position after
        states[:, 1 + joints + 1] += 0.15
    (episode,) = import_demonstrations(file)
    assert not episode.datagen.subtask_term_signals["grasp"].any()
    assert {"success": True, "stage": "lift", "stages_reached": 3}.items() <= episode.meta.items()


def test_the_human_lift_demonstration(human: dict[str, Path]) -> None:
    (episode,) = import_demonstrations(human["Lift"])
    info = episode.datagen
    assert info is not None
    assert len(episode) == 412
    assert episode.meta["task"] == "Lift"
    assert episode.meta["success"] is True
    assert info.object_poses["cube"][-1, 2, 3] > 0.04
    # The hand points down, and its axes are those of Franka's hand: fingers along y.
    assert (info.eef_pose[:, 2, 2] < -0.9).all()
    assert episode.observations["object"].shape == (412, 7)


# --- from another scene than the task's own --------------------------------------------------------

NUT_ASSEMBLY_BASE_M = BASE_IN_WORLD_M + [0, 0, 0.02]
"""The table of robosuite's NutAssembly is 2 cm higher."""


def test_the_human_square_demonstration_is_the_square_nuts_part_of_nut_assembly(
    human: dict[str, Path],
) -> None:
    (episode,) = import_demonstrations(human["Square"], "Square")
    info = episode.datagen
    assert info is not None
    assert len(episode) == 550
    assert {"task": "Square", "success": True, "stage": "release"}.items() <= episode.meta.items()
    assert episode.meta["origin"].items() >= {"scene": "NutAssembly", "steps": [486, 1036]}.items()
    nut, peg, hand = info.object_poses["nut"], info.object_poses["peg"], info.eef_pose
    # What its authors' simulator stored: the square nut's position comes after time and nine joints.
    assert episode.states is not None
    np.testing.assert_allclose(nut[:, :3, 3], episode.states[:, 10:13] - NUT_ASSEMBLY_BASE_M, atol=1e-9)
    # The top of our peg is 9 cm over its frame's origin; that of the human's is 13 cm over the table.
    np.testing.assert_allclose(peg[:, :3, 3] + [0, 0, 0.09], np.tile([0.79, 0.1, 0.13], (550, 1)), atol=1e-9)
    # The gripper closes for good around the handle, and opens when the nut is down over the peg's top.
    closes, opens = np.flatnonzero(np.diff(info.gripper_action[:, 0]))[-2:]
    held_at = (np.linalg.inv(nut[closes]) @ hand[closes])[:3, 3]
    np.testing.assert_allclose(held_at, HANDLE_M, atol=0.01)
    lets_go = (np.linalg.inv(peg[opens]) @ nut[opens])[:3, 3]
    assert np.abs(lets_go[:2]).max() < 0.01
    assert 0.03 < lets_go[2] < 0.08
    np.testing.assert_allclose(nut[-1, :3, 3], [*peg[-1, :2, 3], 0.01], atol=0.01)
    firsts = [int(np.argmax(signal)) for signal in info.subtask_term_signals.values()]
    assert firsts == sorted(firsts)
    for stage in ("place", "release"):  # for good, since the nut stays there
        signal = info.subtask_term_signals[stage]
        assert signal.sum() == 550 - int(np.argmax(signal)) > 10
    assert episode.rewards[-1] == 1
    lift, place = cut(info, get_task("Square"))
    assert (lift.subtask.reference, place.subtask.reference) == ("nut", "peg")


def test_what_is_done_with_other_things_afterwards_is_cut_off(
    human: dict[str, Path], square_copy: Path
) -> None:
    with h5py.File(square_copy, "a") as file:
        for name in ("states", "actions"):
            _replace(f"data/demo_1/{name}", lambda a: np.concatenate([a[486:], a[:447]]))(file)
    (part,), (whole,) = import_demonstrations(square_copy), import_demonstrations(human["Square"])
    assert len(part) < 550
    assert part.rewards[-1] == part.meta["success"] == 1
    np.testing.assert_array_equal(part.states, whole.states[: len(part)])


def test_a_demonstration_that_ends_before_its_task_begins_is_refused(square_copy: Path) -> None:
    with h5py.File(square_copy, "a") as file:
        for name in ("states", "actions"):
            _replace(f"data/demo_1/{name}", lambda a: a[:300])(file)
    with pytest.raises(DataError, match="it ends before Square is begun"):
        import_demonstrations(square_copy)


def test_a_scene_without_a_body_that_stands_for_an_object_is_refused(square_copy: Path) -> None:
    model = square_copy.parent / "models" / "model_1.xml"
    model.write_text(model.read_text().replace('"peg1"', '"bolt"'))
    with pytest.raises(DataError, match="no body peg1, which would stand for the object 'peg'"):
        import_demonstrations(square_copy)


@pytest.mark.parametrize("name", ["NutAssemblySquare", "Square_D0"])
def test_todays_scene_and_mimicgens_name_of_it_are_read_too(tmp_path: Path, name: str) -> None:
    import robosuite

    env = robosuite.make(
        "NutAssemblySquare",
        robots="Panda",
        has_renderer=False,
        has_offscreen_renderer=False,
        use_camera_obs=False,
        seed=3,
    )
    env.reset()
    env.sim.forward()
    nut = env.sim.data.get_body_xpos("SquareNut_main") - NUT_ASSEMBLY_BASE_M
    with h5py.File(tmp_path / "demo.hdf5", "w") as file:
        file.create_group("data").attrs["env"] = name
        demo = file["data"].create_group("demo_0")
        demo.attrs["model_file"] = env.sim.model.get_xml()
        demo["states"] = np.tile(env.sim.get_state().flatten(), (3, 1))
        demo["actions"] = np.zeros((3, 7))
    env.close()
    (episode,) = import_demonstrations(tmp_path / "demo.hdf5", "Square")
    assert episode.datagen is not None
    np.testing.assert_allclose(episode.datagen.object_poses["nut"][0, :3, 3], nut, atol=1e-6)
    np.testing.assert_allclose(episode.datagen.object_poses["peg"][0, :3, 3], [0.79, 0.1, 0.04], atol=1e-9)


# --- actions, rewards, observations ----------------------------------------------------------------


def test_actions_ask_for_the_next_pose_reached(human: dict[str, Path]) -> None:
    (episode,) = import_demonstrations(human["Stack"])
    assert episode.datagen is not None
    asked = np.stack([pose_from_action(action) for action in episode.actions])
    np.testing.assert_allclose(asked[:-1], episode.datagen.eef_pose[1:], atol=1e-9)
    np.testing.assert_allclose(asked, episode.datagen.target_pose, atol=1e-9)
    assert set(np.unique(episode.actions[:, 6])) <= {-1.0, 1.0}


def test_rewards_are_of_the_state_after_the_action(human: dict[str, Path]) -> None:
    """As in recorded episodes: the step that solves the task is the one that is rewarded."""
    for task, stage in (("Lift", "lift"), ("Stack", "release")):
        episode = import_demonstrations(human[task])[0]
        assert episode.datagen is not None
        holds = episode.datagen.subtask_term_signals[stage]
        assert np.flatnonzero(episode.rewards)[0] == np.flatnonzero(holds)[0] - 1
        np.testing.assert_array_equal(episode.rewards[:-1], holds[1:])


def test_observations_agree_with_the_poses(human: dict[str, Path]) -> None:
    (episode,) = import_demonstrations(human["Stack"])
    assert episode.datagen is not None
    seen = episode.observations
    rotation = Rotation.from_quat(seen["robot0_eef_quat"]).as_matrix()
    np.testing.assert_allclose(rotation, episode.datagen.eef_pose[:, :3, :3], atol=1e-6)
    assert (seen["robot0_eef_quat"][:, 3] >= 0).all()
    np.testing.assert_allclose(
        seen["object"][:, 7:10], episode.datagen.object_poses["cubeB"][:, :3, 3], atol=1e-6
    )
    assert all(values.dtype == np.float32 for values in seen.values())


# --- newer forms -----------------------------------------------------------------------------------


@pytest.fixture(scope="module")
def today() -> dict[str, Any]:
    """A few random steps of today's robosuite, with what it says about its own poses."""
    import robosuite

    env = robosuite.make(
        "Stack",
        robots="Panda",
        has_renderer=False,
        has_offscreen_renderer=False,
        use_camera_obs=False,
        seed=3,
    )
    env.reset()
    sim, rng = env.sim, np.random.default_rng(0)
    xml, states, actions, hands, cubes = sim.model.get_xml(), [], [], [], []
    for _ in range(12):
        action = rng.uniform(-1, 1, env.action_dim)
        sim.forward()  # a step leaves the poses of its last substep but one
        states.append(sim.get_state().flatten())
        actions.append(action)
        hands.append(sim.data.get_site_xpos("gripper0_right_grip_site") - BASE_IN_WORLD_M)
        cubes.append(sim.data.get_body_xpos("cubeB_main") - BASE_IN_WORLD_M)
        env.step(action)
    env.close()
    return {
        "xml": xml.replace("/robosuite/models/assets/", "/not/on/this/machine/"),
        "states": np.array(states),
        "actions": np.array(actions),
        "hand": np.array(hands),
        "cubeB": np.array(cubes),
    }


def write_today(path: Path, today: dict[str, Any], change_xml: Callable[[str], str] = str) -> None:
    """As robosuite 1.4 and 1.5 write it: JSON attributes, the model as a string, several demonstrations."""
    with h5py.File(path, "w") as file:
        data = file.create_group("data")
        data.attrs["env"] = "Stack"
        data.attrs["repository_version"] = "1.5.2"
        data.attrs["env_info"] = json.dumps({"env_name": "Stack", "robots": ["Panda"], "control_freq": 20})
        for name, steps in (("demo_10", 8), ("demo_2", 12)):
            demo = data.create_group(name)
            demo.attrs["model_file"] = change_xml(today["xml"])
            demo["states"], demo["actions"] = today["states"][:steps], today["actions"][:steps]


@pytest.mark.slow
@pytest.mark.parametrize(
    "change_xml",
    [
        str,
        lambda xml: xml.replace("gripper0_right_", "gripper0_"),  # 1.2 to 1.4
        lambda xml: xml.replace("_pad_collision", "_tip_collision").replace("_joint0", "_jnt0"),
    ],
    ids=["1.5", "gripper0", "old joints"],
)
def test_newer_files_give_the_poses_that_robosuite_saw(
    tmp_path: Path, today: dict[str, Any], change_xml: Callable[[str], str]
) -> None:
    write_today(tmp_path / "demo.hdf5", today, change_xml)
    episodes = import_demonstrations(tmp_path / "demo.hdf5", "Stack")
    assert [episode.meta["origin"]["demo"] for episode in episodes] == ["demo_2", "demo_10"]
    assert [len(episode) for episode in episodes] == [12, 8]
    info = episodes[0].datagen
    assert info is not None
    np.testing.assert_allclose(info.eef_pose[:, :3, 3], today["hand"], atol=1e-6)
    np.testing.assert_allclose(info.object_poses["cubeB"][:, :3, 3], today["cubeB"], atol=1e-6)
    assert episodes[0].meta["versions"]["robosuite"] == "1.5.2"


def test_robomimics_env_args_name_the_task_too(tmp_path: Path, today: dict[str, Any]) -> None:
    write_today(tmp_path / "demo.hdf5", today)
    with h5py.File(tmp_path / "demo.hdf5", "a") as file:
        attributes = file["data"].attrs
        for name in ("env", "env_info", "repository_version"):
            del attributes[name]
        kwargs = {"robots": ["Panda"], "control_freq": 20}
        attributes["env_args"] = json.dumps(
            {"env_name": "Stack_D0", "env_version": "1.4.1", "type": 1, "env_kwargs": kwargs}
        )
    episodes = import_demonstrations(tmp_path / "demo.hdf5")
    assert episodes[0].meta["task"] == "Stack"
    assert episodes[0].meta["versions"]["robosuite"] == "1.4.1"


def test_without_its_model_todays_is_used_and_said(
    human: dict[str, Path], tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    shutil.copy(human["Stack"], tmp_path)
    (episode,) = import_demonstrations(tmp_path / "demo.hdf5")
    assert "its model 'model_1.xml' is not there" in caplog.text
    (exact,) = import_demonstrations(human["Stack"])
    assert episode.datagen is not None
    assert exact.datagen is not None
    # robosuite moved the arm's mount by one millimetre since
    np.testing.assert_allclose(episode.datagen.eef_pose, exact.datagen.eef_pose, atol=2e-3)


# --- what cannot be read ---------------------------------------------------------------------------


def test_refusals_say_what_is_missing(stack_copy: Path) -> None:
    with pytest.raises(DataError, match="does not exist"):
        import_demonstrations(stack_copy.with_name("no.hdf5"))
    with pytest.raises(DataError, match="holds Stack demonstrations, not Lift"):
        import_demonstrations(stack_copy, "Lift")
    with pytest.raises(UsageError, match=r"'Lyft'\. Valid: .*Lift, .*Stack"):
        import_demonstrations(stack_copy, "Lyft")
    with pytest.raises(DataError, match="cannot be read as HDF5"):
        import_demonstrations(stack_copy.with_name("models") / "model_1.xml")


def _delete(name: str) -> Callable[[h5py.File], None]:
    def change(file: h5py.File) -> None:
        del file[name]

    return change


def _replace(name: str, change_values: Callable[[np.ndarray], np.ndarray]) -> Callable[[h5py.File], None]:
    def change(file: h5py.File) -> None:
        values = change_values(file[name][()])
        del file[name]
        file[name] = values

    return change


def _attribute(name: str, value: Any, group: str = "data") -> Callable[[h5py.File], None]:
    def change(file: h5py.File) -> None:
        file[group].attrs[name] = value

    return change


@pytest.mark.parametrize(
    ("change", "message"),
    [
        (_delete("data"), "no group 'data'"),
        (_delete("data/demo_1"), "no demonstrations"),
        (_delete("data/demo_1/states"), "demo_1: dataset 'states' is missing; it has actions, joint_torques"),
        (_replace("data/demo_1/states", lambda s: s[:-1]), "531 states and 532 actions"),
        (_replace("data/demo_1/states", lambda s: s[:, :-3]), "a state has 42 numbers; its model's has 45"),
        (_attribute("env", "Wipe"), "Unknown task 'Wipe'"),
        (_attribute("env_info", "{"), "env_info of 'data' is not JSON"),
        (_attribute("env_info", '{"robots": "Sawyer"}'), "recorded with Sawyer"),
        (_attribute("env_info", '{"control_freq": 50}'), "recorded at 50 Hz"),
        (_attribute("model_file", "<mujoco><body", "data/demo_1"), "its model does not compile"),
        (_attribute("model_file", "<mujoco/>", "data/demo_1"), "demo_1: .*table_top"),
    ],
)
def test_what_cannot_be_read_is_named(
    stack_copy: Path, change: Callable[[h5py.File], None], message: str
) -> None:
    with h5py.File(stack_copy, "a") as file:
        change(file)
    with pytest.raises((DataError, UsageError), match=message):
        import_demonstrations(stack_copy)


def test_an_arm_mounted_elsewhere_is_refused(stack_copy: Path) -> None:
    model = stack_copy.parent / "models" / "model_1.xml"
    model.write_text(model.read_text().replace('pos="-0.56 0.0 0.913"', 'pos="-0.46 0.0 0.913"'))
    with pytest.raises(DataError, match="only robosuite's default can be read"):
        import_demonstrations(stack_copy)


def _copies(source: Path, path: Path, count: int) -> Path:
    """A file with so many copies of a demonstration, demo_1 and on; the model beside it."""
    shutil.copytree(source.parent, path, dirs_exist_ok=True)
    with h5py.File(source) as given, h5py.File(path / "demo.hdf5", "w") as file:
        file.create_group("data").attrs.update(given["data"].attrs)
        for i in range(1, count + 1):
            given.copy("data/demo_1", file["data"], name=f"demo_{i}")
    return path / "demo.hdf5"


def _nan(file: h5py.File) -> None:
    file["data/demo_2/states"][100:] = np.nan


def _elsewhere(file: h5py.File) -> None:
    del file["data/demo_2"]
    file["data/demo_2"] = h5py.ExternalLink("nowhere.hdf5", "data/demo_1")


def _no_group(file: h5py.File) -> None:
    del file["data/demo_2"]
    file["data/demo_2"] = np.zeros(3)


@pytest.mark.parametrize(
    ("damage", "reason"),
    [
        (
            _replace("data/demo_2/states", lambda s: np.concatenate([s, s[-50:]])),
            "462 states and 412 actions",
        ),
        (_replace("data/demo_2/states", lambda s: s[:0]), "'states' is float64 "),
        (_replace("data/demo_2/states", lambda s: s.astype("S8")), "'states' is |S8"),
        (_replace("data/demo_2/actions", lambda a: a[:, 0]), "'actions' is float64 (412,)"),
        (_delete("data/demo_2/actions"), "'actions' is missing"),
        (_nan, "'states' are not finite from step 100 on"),
        (_elsewhere, "a link that leads nowhere"),
        (_no_group, "it is no group"),
        (_attribute("model_file", "<mujoco/>", "data/demo_2"), "its model does not fit the task"),
        (_attribute("model_file", [1, 2], "data/demo_2"), "attribute 'model_file' cannot be read"),
        (_attribute("model_file", "x" * 5000, "data/demo_2"), "cannot be read: "),
    ],
)
def test_a_demonstration_that_does_not_fit_is_left_out_and_named(
    human: dict[str, Path],
    tmp_path: Path,
    caplog: pytest.LogCaptureFixture,
    damage: Callable[[h5py.File], None],
    reason: str,
) -> None:
    path = _copies(human["Lift"], tmp_path / "demo", 3)
    with h5py.File(path, "a") as file:
        damage(file)
    episodes = import_demonstrations(path)
    assert [episode.meta["origin"]["demo"] for episode in episodes] == ["demo_1", "demo_3"]
    assert "demo_2" in caplog.text
    assert reason in caplog.text


def test_a_last_state_after_the_last_action_is_cut(human: dict[str, Path], tmp_path: Path) -> None:
    path = _copies(human["Lift"], tmp_path / "demo", 2)
    with h5py.File(path, "a") as file:
        _replace("data/demo_2/states", lambda s: np.concatenate([s, s[-1:]]))(file)
    plain, longer = import_demonstrations(path)
    np.testing.assert_array_equal(longer.states, plain.states)
    np.testing.assert_array_equal(longer.actions, plain.actions)


def test_attributes_are_read_whichever_way_they_were_written(human: dict[str, Path], tmp_path: Path) -> None:
    path = _copies(human["Lift"], tmp_path / "demo", 2)
    (plain, _) = import_demonstrations(path)
    xml = (tmp_path / "demo" / "models" / "model_1.xml").read_text()
    with h5py.File(path, "a") as file:
        file["data/demo_1"].attrs["model_file"] = np.bytes_(xml.encode())
        file["data/demo_2"].attrs["model_file"] = np.array(["model_1.xml"], dtype="S")
        file["data"].attrs["env"] = np.bytes_(b"Lift")
        file["data"].attrs["env_info"] = h5py.Empty("S1")
        file["data"].attrs["env_args"] = json.dumps({"env_name": "Lift", "env_kwargs": None})
    for episode in import_demonstrations(path):
        np.testing.assert_array_equal(episode.actions, plain.actions)


ATTRIBUTES: list[Any] = [
    b"\xff\xfe", "", "{", "null", "[1]", '{"env_kwargs": 3}', '{"env_kwargs": {"robots": {}}}', 7, 1.5, True,
    [1, 2], ["a", "b"], h5py.Empty("f"), np.zeros((2, 2)), "x" * 300, "../" * 9 + "etc/passwd", ".",
]  # fmt: skip
ARRAYS: list[Callable[[np.ndarray], Any]] = [
    lambda a: a[:, 0], lambda a: a[:1], lambda a: a[:0], lambda a: a[0, 0], lambda a: a[:, :0],
    lambda a: a[None], lambda a: a.astype("S4"), lambda a: a.astype(complex), lambda a: a.astype(np.int8),
    lambda a: a > 0, lambda a: np.full_like(a, np.nan), lambda a: a + np.inf, lambda a: a + 1e300,
    lambda a: a[:, :-1], lambda a: np.concatenate([a, a]), lambda a: h5py.Empty("f"), lambda a: a[:3],
    lambda a: a * 0,
]  # fmt: skip


def _is_table(values: Any) -> bool:
    return isinstance(values, np.ndarray) and values.ndim == 2 and values.dtype.kind in "fi"


@settings(max_examples=40, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(draw=st.data())
def test_no_damage_of_a_file_is_more_than_a_data_error(draw: st.DataObject, human: dict[str, Path]) -> None:
    """Attributes, datasets and groups of a real file are changed in up to three places."""
    with tempfile.TemporaryDirectory() as folder:
        path = _copies(human["Lift"], Path(folder), 2)
        with h5py.File(path, "a") as file:
            for demo in file["data"].values():  # keep it fast
                for name in ("states", "actions"):
                    _replace(f"{demo.name}/{name}", lambda values: values[:20])(file)
            for _ in range(draw.draw(st.integers(1, 3))):
                name = draw.draw(st.sampled_from(["data", "data/demo_1", "data/demo_2"]))
                if not isinstance(file.get(name), h5py.Group):
                    continue
                how = draw.draw(st.sampled_from(["attribute", "array", "delete", "link", "group", "dataset"]))
                inside = draw.draw(st.sampled_from(["", "/states", "/actions"])) if name != "data" else ""
                if how == "attribute":
                    keys = ["env", "env_info", "env_args", "repository_version", "model_file"]
                    key = draw.draw(st.sampled_from(keys))
                    file[name].attrs[key] = draw.draw(st.sampled_from(ATTRIBUTES))
                    continue
                change = draw.draw(st.sampled_from(ARRAYS))
                there = file.get(name + inside)
                old = there[()] if isinstance(there, h5py.Dataset) else np.zeros((20, 7))
                with suppress(KeyError):
                    del file[name + inside]
                if how in ("array", "dataset"):
                    file[name + inside] = change(old) if _is_table(old) else 3
                elif how == "link":
                    links = [h5py.SoftLink("/data"), h5py.SoftLink("/x"), h5py.ExternalLink("x.hdf5", "/")]
                    file[name + inside] = draw.draw(st.sampled_from(links))
                elif how == "group":
                    file.create_group(name + inside)
                if name == "data":
                    break  # there may be nothing left
        try:
            found = read_demonstrations(path)
        except (DataError, UsageError):
            return
        for episode in found.episodes:
            assert encode(episode)


# --- the command line ------------------------------------------------------------------------------


def test_import_and_info_on_the_command_line(human: dict[str, Path], tmp_path: Path) -> None:
    run = CliRunner()
    done = run.invoke(app, ["import", "Stack", str(tmp_path), "--task", "Stack"])
    assert done.exit_code == 0, done.output
    assert "demo_1: 532 steps, solved" in done.output
    again = run.invoke(app, ["import", str(human["Stack"]), str(tmp_path)])
    assert again.output == "demo_1: already there\n"
    dataset = Dataset(tmp_path)
    assert dataset.infos[0].meta["actor"] == "human"
    shown = run.invoke(app, ["info", str(tmp_path)])
    assert "Stack" in shown.output
    assert "532" in shown.output
    summary = json.loads(run.invoke(app, ["info", str(tmp_path), "--json"]).output)
    assert summary["episodes"] == summary["success"] == 1
    assert summary["steps"] == 532
    assert summary["damaged"] == {}


def test_an_import_counts_aloud_what_it_leaves_out(human: dict[str, Path], tmp_path: Path) -> None:
    path = _copies(human["Lift"], tmp_path / "demo", 3)
    with h5py.File(path, "a") as file:
        _nan(file)
    done = CliRunner().invoke(app, ["import", str(path), str(tmp_path / "d")])
    assert done.exit_code == 0, done.output
    assert "demo_2: 'states' are not finite" in done.stderr
    assert "1 of 3 demonstrations are left out." in done.stderr
    assert len(Dataset(tmp_path / "d")) == 2


def test_info_names_damaged_episodes(human: dict[str, Path], tmp_path: Path) -> None:
    (episode,) = import_demonstrations(human["Lift"])
    with DatasetWriter(tmp_path) as writer:
        damaged = writer.add(episode)
        writer.add(episode)
    damaged.write_bytes(damaged.read_bytes()[:-10])
    shown = CliRunner().invoke(app, ["info", str(tmp_path)])
    assert f"damaged {damaged.name}" in " ".join(shown.output.split())
