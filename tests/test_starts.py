"""Where things start: on the table, on top of one another, at a joint's value, or always in one place."""

from __future__ import annotations

import hashlib
import re
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import gymnasium as gym
import mujoco
import numpy as np
import pytest
from robosuite.models.objects import BoxObject, CylinderObject, MujocoXMLObject
from scipy.spatial.transform import Rotation

import simreal_envs  # noqa: F401
from simreal_envs.errors import UsageError
from simreal_envs.registration import make_env
from simreal_envs.rig.world import RigWorld
from simreal_envs.spec import TABLE_CENTRE_IN_BASE_M
from simreal_envs.tasks import TASKS, JointStart, OnTable, OnTop, Task, get_task
from simreal_envs.tasks.placement import asked_placement, placement_of

CABINET = """
<mujoco model="cabinet"><worldbody><body><body name="object">
  <geom type="box" size="0.06 0.06 0.01" pos="0 0 -0.02" group="0"/>
  <body name="tray"><joint name="slide" type="slide" axis="1 0 0" range="0 0.1" limited="true" damping="5"/>
    <geom type="box" size="0.05 0.05 0.008" group="0" mass="0.2"/></body>
  <body name="lid" pos="-0.08 0 0.05"><joint name="hinge" type="hinge" axis="0 0 1" damping="1"/>
    <geom type="box" size="0.01 0.03 0.02" group="0" mass="0.1"/></body></body>
  <site name="bottom_site" pos="0 0 -0.03" rgba="0 0 0 0" size="0.005"/>
  <site name="top_site" pos="0 0 0.03" rgba="0 0 0 0" size="0.005"/>
  <site name="horizontal_radius_site" pos="0.06 0.06 0" rgba="0 0 0 0" size="0.005"/>
</body></worldbody></mujoco>"""


class Chest(Task):
    """A cabinet stands fixed on the table; cube and can lie on one another on a box, a coin in the tray."""

    name = "Chest"
    objects = ("cabinet", "cabinet_tray", "box", "can", "cube", "coin")
    stages = ("open",)
    subtasks = ()
    fixed = {"cabinet": (0.05, 0.2, 0.5)}
    starts = {
        region: {
            "can": OnTop("cube", yaw=(-1.0, 1.0)),  # named before what it lies on
            "cabinet_slide": JointStart(*slide),
            "cabinet_hinge": JointStart(-0.5, 0.5),
            "cube": OnTop("box", x=(0.01, 0.02), y=(-0.02, 0.02), yaw=(-0.5, 0.5)),
            "box": OnTable(x=(-0.1, 0.1), y=(-0.2, -0.1), yaw=(-1.0, 1.0)),
            "coin": OnTop("cabinet_tray", x=(-0.02, 0.02)),
        }
        for region, slide in {"in": (0.0, 0.04), "ood": (0.06, 0.1), "all": (0.0, 0.1)}.items()
    }
    file: Path

    def robosuite_objects(self) -> dict[str, Any]:
        return {
            "cabinet": MujocoXMLObject(str(self.file), name="cabinet", joints=None),
            "box": BoxObject(name="box", size=[0.05, 0.04, 0.02]),
            "can": CylinderObject(name="can", size=[0.015, 0.02]),
            "cube": BoxObject(name="cube", size=[0.02] * 3),
            "coin": BoxObject(name="coin", size=[0.01, 0.01, 0.004]),
        }

    def stages_reached(self, physics: Any) -> dict[str, bool]:
        return {"open": False}


@pytest.fixture(autouse=True)
def chest(tmp_path_factory: pytest.TempPathFactory, monkeypatch: pytest.MonkeyPatch) -> None:
    Chest.file = tmp_path_factory.mktemp("cabinet") / "cabinet.xml"
    Chest.file.write_text(CABINET)
    monkeypatch.setitem(TASKS.built_in, "Chest", Chest)  # type: ignore[arg-type]


@pytest.fixture
def env() -> Iterator[gym.Env[Any, Any]]:
    env = make_env("Chest", obs="state")
    yield env
    env.close()


def relative(poses: dict[str, np.ndarray], name: str, of: str) -> tuple[float, float, float, float]:
    """(x, y, z, yaw) of one object in another's frame."""
    pose = np.linalg.inv(poses[of]) @ poses[name]
    return (*pose[:3, 3], float(Rotation.from_matrix(pose[:3, :3]).as_euler("xyz")[2]))


def test_everything_starts_where_it_was_drawn_and_stays(env: Any) -> None:
    for seed in range(3):
        _, info = env.reset(seed=seed)
        drawn = Chest().sample_placement("all", after_the_joints(seed))
        poses = info["object_poses_in_base"]
        assert [*poses] == [*Chest.objects]
        x, y, yaw = Chest.fixed["cabinet"]
        table = np.eye(4)
        table[:3, 3] = TABLE_CENTRE_IN_BASE_M
        poses = poses | {"table": table}
        assert relative(poses, "cabinet", "table") == pytest.approx((x, y, 0.03, yaw), abs=1e-6)
        slid = drawn["cabinet_slide"]
        assert relative(poses, "cabinet_tray", "cabinet") == pytest.approx((slid, 0, 0, 0), abs=1e-6)
        assert env.physics.data.joint("cabinet_hinge").qpos[0] == drawn["cabinet_hinge"]
        for name, of, apart_m in [
            ("box", "table", 0.02), ("cube", "box", 0.04), ("can", "cube", 0.041),
            ("coin", "cabinet_tray", 0.012),
        ]:  # fmt: skip
            x, y, yaw, *on = drawn[name]  # type: ignore[misc]
            assert on == ([] if of == "table" else [of])
            assert relative(poses, name, of) == pytest.approx((x, y, apart_m, yaw), abs=1e-6), name
        physics = env.physics
        for _ in range(50):
            mujoco.mj_step(physics.model, physics.data)
        for name in Chest.objects:  # what falls freely for 0.1 s comes 50 mm far
            moved = physics.object_position_in_base(name) - poses[name][:3, 3]
            assert np.linalg.norm(moved) < 5e-4, name
            assert physics.object_speed_mps(name) < 5e-3, name


def after_the_joints(seed: int) -> np.random.Generator:
    """An episode's chance, once the arm's start is drawn."""
    rng: np.random.Generator = gym.utils.seeding.np_random(seed)[0]
    rng.normal(size=7)
    return rng


def test_a_part_counts_as_moving_and_touching(env: Any) -> None:
    env.reset(seed=0)
    physics = env.physics
    for _ in range(20):  # until weights rest on what is below them
        mujoco.mj_step(physics.model, physics.data)
    physics.data.joint("cabinet_slide").qvel[0] = 0.2
    mujoco.mj_forward(physics.model, physics.data)
    assert physics.object_speed_mps("cabinet_tray") == pytest.approx(0.2)
    assert physics.object_speed_mps("cabinet") == 0
    assert physics.in_contact("coin", "cabinet_tray")
    assert physics.in_contact("coin", "cabinet")
    assert not physics.in_contact("cube", "cabinet")


def test_the_region_follows_from_every_kind_of_start(env: Any) -> None:
    task = Chest()
    for region in ("in", "ood"):
        drawn = task.sample_placement(region, np.random.default_rng(0))
        assert task.region_of(drawn) == region
    inside = task.sample_placement("in", np.random.default_rng(0))
    for change in ({"cabinet_slide": 0.05}, {"cube": (0.0, 0.0, 0.0, "box")}, {"box": (0.0, 0.1, 0.0)}):
        assert task.region_of(inside | change) == "ood"  # type: ignore[operator]
        assert env.reset(seed=0, options={"placement": inside | change})[1]["placement_region"] == "ood"
    assert env.reset(seed=0, options={"placement": inside})[1]["placement_region"] == "in"


def test_an_option_that_is_misspelt_is_refused(env: Any) -> None:
    with pytest.raises(UsageError, match="placment"):
        env.reset(seed=0, options={"placment": {}})


@pytest.mark.parametrize("place", [(0.41, 0.0, 0.0), (0.0, -3.0, 0.0)])
def test_a_placement_beside_the_table_is_refused(place: tuple[float, float, float]) -> None:
    with pytest.raises(UsageError, match=re.escape(str(place))):
        asked_placement(get_task("Lift"), {"cube": place})


def test_an_asked_placement_is_carried_out_and_read_back(env: Any) -> None:
    asked = {"cabinet_slide": np.float32(0.05), "cube": [0.015, -0.01, 0.2, "box"], "box": (0.1, -0.1, 0.4)}
    _, info = env.reset(seed=0, options={"placement": asked})
    poses = info["object_poses_in_base"]
    assert relative(poses, "cabinet_tray", "cabinet")[0] == pytest.approx(0.05)
    found = placement_of(Chest(), poses)
    assert found["cube"][:3] == pytest.approx((0.015, -0.01, 0.2))  # type: ignore[index]
    assert found["box"] == pytest.approx((0.1, -0.1, 0.4))
    assert found["can"][3] == "cube"  # type: ignore[index]
    again = env.reset(seed=0, options={"placement": found | {"cabinet_slide": 0.05}})[1]
    for name, pose in poses.items():
        assert again["object_poses_in_base"][name] == pytest.approx(pose, abs=1e-9)


@pytest.mark.parametrize(
    ("asked", "message"),
    [
        ({"cabinet": (0, 0, 0)}, "Unknown object 'cabinet'. Valid: can, cabinet_slide"),
        ({"cabinet_slide": (0, 0, 0)}, "Placement of 'cabinet_slide' is (0, 0, 0); it must be a number."),
        ({"cabinet_slide": 0.2}, "Placement of 'cabinet_slide' is 0.2; the joint goes from 0 to 0.1."),
        ({"cube": (0, 0, 0)}, "it must be (x m, y m, yaw rad, 'box')."),
        ({"cube": (0, 0, 0, "can")}, "it must be (x m, y m, yaw rad, 'box')."),
        ({"box": (0, 0, 0, "can")}, "it must be (x m, y m, yaw rad)."),
        ({"box": (0, np.nan, 0)}, "it must be (x m, y m, yaw rad)."),
        ({"box": (0, 0)}, "it must be (x m, y m, yaw rad)."),
        ({"box": "left"}, "it must be (x m, y m, yaw rad)."),
        ("left", "A placement is where things start, by name, not 'left'."),
    ],
)
def test_a_placement_that_cannot_be_is_refused_by_name(env: Any, asked: Any, message: str) -> None:
    with pytest.raises(UsageError) as error:
        env.reset(seed=0, options={"placement": asked})
    assert message in str(error.value)


def test_the_rig_places_every_kind() -> None:
    world = RigWorld("Chest")
    world.place({"cabinet_slide": 0.03, "box": [0.1, -0.1, 0.4], "cube": [0.015, -0.01, 0.2, "box"]})
    poses = world.object_poses_in_base()
    assert relative(poses, "cabinet_tray", "cabinet")[0] == pytest.approx(0.03)
    assert relative(poses, "cube", "box")[:2] == pytest.approx((0.015, -0.01))
    for beyond in ({"box": [0.5, 0, 0]}, {"cube": [0, 0, 7, "box"]}):
        with pytest.raises(UsageError, match="from the middle"):
            world.place(beyond)


def test_placements_of_our_tasks_are_what_they_were() -> None:
    """Recorded numbers: one seed means one episode, in every version."""
    lift = asked_placement(TASKS["Lift"](), {"cube": (0.025019093320933383, 0.12710841631026418, 0.0)})
    assert TASKS["Lift"]().sample_placement("all", np.random.default_rng(7)) == lift
    stack = TASKS["Stack"]().sample_placement("ood", np.random.default_rng(7))
    assert stack == {
        "cubeA": (0.0625095466604667, -0.06027861990304245, 0.17321842783482627),
        "cubeB": (-0.05495856200188163, 0.08001662849112254, 0.23471055195601043),
    }


@pytest.mark.parametrize(("task", "digest"), [("Lift", "43aa337bac8ac7bd"), ("Stack", "c59ca0dae44e06e0")])
def test_states_at_reset_are_what_they_were(task: str, digest: str) -> None:
    env = make_env(task, obs="state")
    state = env.reset(seed=7)[1]["sim_state"].round(9) + 0.0  # no negative zeros
    assert hashlib.sha256(state.tobytes()).hexdigest()[:16] == digest
    env.close()
