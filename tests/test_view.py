"""The viewer: geometry is MuJoCo's and the tasks', mistakes are one line, and a browser shows the pages."""

from __future__ import annotations

import os
import re
import signal
import socket
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from contextlib import closing
from pathlib import Path

import mujoco
import numpy as np
import pytest
import trimesh
from chromium import PROGRAM, Chromium
from episodes import make_episode
from PIL import Image
from scipy.spatial.transform import Rotation
from typer.testing import CliRunner

from simreal_agents.actors.experts import make_expert
from simreal_agents.viewing.bodies import poses_in_base
from simreal_agents.viewing.browser import Player, serving
from simreal_agents.viewing.dataset_view import DatasetView
from simreal_agents.viewing.episode_scene import EpisodeScene
from simreal_agents.viewing.meshes import body_files, geom_in_body, surface_of, visual_geoms
from simreal_agents.viewing.recorded import read_episode
from simreal_agents.viewing.regions import other_starts, start_regions
from simreal_agents.viewing.world_view import WorldView
from simreal_cli.main import app
from simreal_datasets.store.dataset import Dataset, DatasetWriter
from simreal_datasets.store.episode import Episode
from simreal_datasets.store.recorder import EpisodeRecorder
from simreal_envs.errors import DataError, UsageError
from simreal_envs.loop import run_episode
from simreal_envs.sim.physics import Physics, object_body
from simreal_envs.sim.scene import compiled_scene
from simreal_envs.spec import BASE_IN_WORLD_M, TABLE_CENTRE_IN_BASE_M
from simreal_envs.tasks import TASKS, JointStart, OnTable, OnTop, get_task
from simreal_envs.world_config import WorldConfig

SIMREAL = str(Path(sys.executable).with_name("simreal"))
PATIENCE_S = 90.0
"""For a browser that draws on a busy CPU."""
needs_browser = pytest.mark.skipif(
    PROGRAM is None, reason="needs a Chromium: chromium, chromium-browser or google-chrome"
)


def invoke(*arguments: object):
    return CliRunner().invoke(app, [str(a) for a in arguments], env={"COLUMNS": "200", "TERM": "dumb"})


def wait_for(what: Callable[[], bool]) -> None:
    deadline = time.monotonic() + PATIENCE_S
    while not what():
        assert time.monotonic() < deadline, f"not so within {PATIENCE_S:g} s"
        time.sleep(0.2)


def shows_a_scene(page: Chromium) -> bool:
    """Whether the middle of the page, where the table is, has many colours and is not faded out."""
    picture = page.picture()
    height, width = picture.shape[:2]
    middle = picture[height // 3 : 5 * height // 6, width // 8 : width // 2].reshape(-1, 3)
    return middle.min() < 60 and len(np.unique(middle, axis=0)) > 300


@pytest.fixture(scope="module")
def drawer(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A dataset of one solved episode, with an articulated object."""
    folder = tmp_path_factory.mktemp("data") / "drawer"
    config = WorldConfig("Drawer", obs="image+pointcloud", image_size=(24, 32), points=64)
    recorder = EpisodeRecorder()
    with closing(config.make("all")) as env, DatasetWriter(folder) as writer:
        outcome = run_episode(env, make_expert(env), seed=3, recorder=recorder)
        writer.add(recorder.finish(env, outcome, actor="expert"))
    return folder


@pytest.fixture
def episode(drawer: Path) -> Episode:
    return Dataset(drawer).read(0)


# --- geometry ---------------------------------------------------------------------------------------


@pytest.fixture(scope="module", params=["Drawer", "Square"])
def state(request) -> tuple[mujoco.MjModel, mujoco.MjData]:
    """A scene with everything moved and turned."""
    model = compiled_scene(request.param).model
    data = mujoco.MjData(model)
    rng = np.random.default_rng(0)
    data.qpos[:] += rng.normal(0, 0.2, model.nq)
    mujoco.mj_normalizeQuat(model, data.qpos)
    mujoco.mj_kinematics(model, data)
    return model, data


def test_every_visual_geom_is_where_mujoco_has_it(state):
    model, data = state
    poses, geoms = poses_in_base(data), visual_geoms(model)
    assert len(geoms) > 60
    for geom in geoms:
        body, in_body = model.geom_bodyid[geom], geom_in_body(model, geom)
        turn = Rotation.from_quat(poses.wxyz[body], scalar_first=True).as_matrix()
        np.testing.assert_allclose(
            poses.positions_m[body] + turn @ in_body[:3, 3],
            data.geom_xpos[geom] - BASE_IN_WORLD_M, rtol=0, atol=1e-6,
        )  # fmt: skip
        np.testing.assert_allclose(
            turn @ in_body[:3, :3], data.geom_xmat[geom].reshape(3, 3), rtol=0, atol=1e-6
        )


def test_surfaces_have_mujocos_extent_and_face_outwards(state):
    model, _ = state
    for geom in visual_geoms(model):
        surface, aabb = surface_of(model, geom), model.geom_aabb[geom]
        for bound, sign in ((surface.vertices.min(axis=0), -1), (surface.vertices.max(axis=0), 1)):
            np.testing.assert_allclose(bound, aabb[:3] + sign * aabb[3:], rtol=0, atol=1e-5)
        np.testing.assert_allclose(np.linalg.norm(surface.normals, axis=1), 1, rtol=0, atol=1e-5)
        a, b, c = surface.vertices[surface.faces].transpose(1, 0, 2)
        faced = np.einsum("ij,ij->i", np.cross(b - a, c - a), surface.normals[surface.faces].mean(axis=1))
        is_mesh = model.geom_type[geom] == mujoco.mjtGeom.mjGEOM_MESH  # files of which have a few odd normals
        assert (faced >= -1e-9).mean() >= (0.9 if is_mesh else 1.0), model.geom(geom).name


@pytest.mark.parametrize(
    ("kind", "size"),
    [("sphere", "0.1"), ("capsule", "0.1 0.2"), ("ellipsoid", "0.1 0.2 0.3"), ("cylinder", "0.1 0.2")],
)
def test_round_shapes_enclose_their_volume(kind, size):
    geom = f'<geom type="{kind}" size="{size}" density="1"/>'
    model = mujoco.MjModel.from_xml_string(
        f"<mujoco><worldbody><body><freejoint/>{geom}</body></worldbody></mujoco>"
    )
    surface = surface_of(model, 0)
    volume_m3 = trimesh.Trimesh(surface.vertices, surface.faces).volume
    assert volume_m3 == pytest.approx(model.body_mass[1], rel=0.02)


def test_files_of_bodies_hold_all_triangles_and_the_materials_colours(state):
    model, _ = state
    loaded = {
        body: trimesh.load(trimesh.util.wrap_as_stream(file), file_type="glb", process=False)
        for body, file in body_files(model).items()
    }
    triangles = sum(len(mesh.faces) for scene in loaded.values() for mesh in scene.geometry.values())
    assert triangles == sum(len(surface_of(model, geom).faces) for geom in visual_geoms(model))
    link = loaded[model.body("robot0_link5").id]
    shades = sorted(mesh.visual.material.baseColorFactor[0] for mesh in link.geometry.values())
    assert shades[0] == pytest.approx(255 * 0.0508, abs=2)  # a material of 0.25, linear in light
    assert shades[-1] == 255


@pytest.mark.parametrize("name", [*TASKS.built_in])
def test_regions_are_the_tasks_starts(name):
    task = get_task(name)
    regions, words = start_regions(task), " ".join(other_starts(task))
    for which in ("in", "ood"):
        for entity, start in task.starts[which].items():
            if not isinstance(start, OnTable):
                assert isinstance(start, JointStart | OnTop)
                assert entity in words
                continue
            (region,) = [r for r in regions if r.entity == entity and which in r.region.split(" and ")]
            on_table = region.corners_in_base_m - TABLE_CENTRE_IN_BASE_M
            np.testing.assert_allclose([on_table[0, 0], on_table[2, 0]], start.x, rtol=0, atol=1e-9)
            np.testing.assert_allclose([on_table[0, 1], on_table[2, 1]], start.y, rtol=0, atol=1e-9)
            assert (region.corners_in_base_m[:, 2] == 0).all()


def test_a_recorded_scene_is_the_simulations(episode):
    scene = EpisodeScene(episode)
    physics = Physics(scene.model, scene.data, get_task("Drawer").objects)
    for step in (0, len(episode) // 2, len(episode) - 1):
        poses = scene.poses(step)
        assert episode.datagen is not None
        for name, recorded in episode.datagen.object_poses.items():
            body = object_body(scene.model, name)
            np.testing.assert_allclose(poses.positions_m[body], recorded[step][:3, 3], rtol=0, atol=1e-6)
        hand_m = episode.observations["robot0_eef_pos"][step]
        np.testing.assert_allclose(physics.end_effector_pose_in_base()[:3, 3], hand_m, rtol=0, atol=1e-6)
    assert not scene.note


def test_without_states_the_arm_is_drawn_from_its_joints_and_objects_from_their_poses(episode):
    before, known = EpisodeScene(episode), read_without_states(episode)
    for step in (0, len(episode) - 1):
        np.testing.assert_allclose(
            known.poses(step).positions_m, before.poses(step).positions_m, rtol=0, atol=1e-5
        )
        products = np.sum(known.poses(step).wxyz * before.poses(step).wxyz, axis=1)
        np.testing.assert_allclose(np.abs(products), 1, rtol=0, atol=1e-5)
    assert not known.hidden


def test_objects_that_nobody_knows_are_not_shown(episode):
    episode.datagen = None
    scene = read_without_states(episode)
    hidden = {scene.model.body(body).name for body in scene.hidden}
    assert hidden == {"pod_main", "cabinet_main", "cabinet_tray"} | {
        n for n in hidden if n.startswith(("pod_", "cabinet_"))
    }
    assert "not shown" in scene.note


def test_an_arm_that_stood_elsewhere_is_drawn_there(episode):
    before = EpisodeScene(episode).poses(0).positions_m
    episode.observations["robot0_eef_pos"] = episode.observations["robot0_eef_pos"] + np.float32([0, 0, 0.11])
    scene = read_without_states(episode)
    link = scene.model.body("robot0_link5").id
    np.testing.assert_allclose(
        scene.poses(0).positions_m[link] - before[link], [0, 0, 0.11], rtol=0, atol=1e-5
    )


def test_without_states_every_geom_is_where_it_was(episode):
    before, drawn = EpisodeScene(episode), read_without_states(episode)
    for step in (0, len(episode) - 1):
        before.poses(step)
        drawn.poses(step)
        np.testing.assert_allclose(drawn.data.geom_xpos, before.data.geom_xpos, atol=1e-4)
        np.testing.assert_allclose(drawn.data.geom_xmat, before.data.geom_xmat, atol=1e-3)


def read_without_states(episode: Episode) -> EpisodeScene:
    episode.states = episode.model_xml = None
    episode.meta["env"] = "real"
    return EpisodeScene(episode)


def test_files_of_another_machine_are_looked_for_here(episode):
    import robosuite

    assert episode.model_xml is not None
    here = str(Path(robosuite.__file__).parent)
    episode.model_xml = episode.model_xml.replace(here, "/home/somebody/venv/robosuite")
    assert not EpisodeScene(episode).note


def test_a_scene_that_does_not_compile_is_named(episode):
    episode.model_xml = "<mujoco><asset><mesh file='/no/such.obj'/></asset></mujoco>"
    assert "does not compile here" in EpisodeScene(episode).note


# --- views ------------------------------------------------------------------------------------------


@pytest.fixture
def server() -> Iterator:
    with serving() as server:
        yield server


def test_a_view_listens_at_loopback(server):
    assert server.get_host() == "127.0.0.1"


def test_world_view_moves_things_and_runs_the_expert_to_the_end(server):
    player = Player()
    config = WorldConfig("Drawer", obs="image", image_size=(24, 32))
    with closing(WorldView(server, player, config, "in", 3, runs_expert=True)) as view:
        physics = view._world.physics
        view._asked["pod"] = (0.02, 0.12, 0.5)
        view._asked["cabinet_slide"] = 0.06
        view._turned["robot0_joint1"] = 0.4
        view.reset()
        np.testing.assert_allclose(
            physics.object_position_in_base("pod")[:2], [0.58, 0.12], rtol=0, atol=1e-9
        )
        assert physics.joint_positions_rad[0] == pytest.approx(0.4)
        assert view._sliders["pod yaw"].value == pytest.approx(0.5, abs=1e-3)
        assert view._sliders["cabinet_slide"].value == pytest.approx(0.06, abs=1e-3)
        steps = sum(1 for _ in view.moments())
        assert 50 < steps < 300
        assert view._info["success"]


def test_dataset_view_shows_every_step_of_every_episode(drawer, server):
    view = DatasetView(server, Player(), Dataset(drawer), 0)
    assert sum(1 for _ in view.moments()) == len(view._now.episode)
    assert "solved" in view._text.content or "close" in view._text.content
    assert sum(1 for _ in view.moments()) == len(view._now.episode)  # and once more from the first


def test_player_keeps_the_pace_does_the_latest_and_survives_mistakes(monkeypatch):
    player, done, problems = Player(), [], []
    player.report = problems.append

    def moments() -> Iterator[None]:
        for _ in range(10):
            yield
        raise UsageError("wrong")

    def stop() -> None:
        raise KeyboardInterrupt

    player.ask("move", lambda: done.append(1))
    player.ask("move", lambda: done.append(2))
    player.play(moments())
    began_s = time.monotonic()
    player.report = lambda problem: (problems.append(problem), player.ask("stop", stop))
    with pytest.raises(KeyboardInterrupt):
        player.run()
    assert done == [2]
    assert problems == ["wrong"]
    assert time.monotonic() - began_s >= 10 / 20 - 0.01


def test_an_episode_of_an_unknown_action_kind_is_refused_by_name(tmp_path):
    with DatasetWriter(tmp_path) as writer:
        writer.add(make_episode(action_kind="torque"))
    with pytest.raises(DataError, match=r"kind 'torque'\. Those that can be shown: pose, delta, joint"):
        read_episode(Dataset(tmp_path), 0)


# --- the command ------------------------------------------------------------------------------------

TASK_LIST = ", ".join(TASKS.built_in)


@pytest.mark.parametrize(
    ("arguments", "code", "message"),
    [
        (("Lyft",), 2, f"Unknown task or dataset folder 'Lyft'. Valid: {TASK_LIST}."),
        (("empty",), 1, f"Folder empty holds no episode_*.hdf5, so it is no dataset. Tasks are {TASK_LIST}."),
        (("Lift", "--shift", "fog"), 2, "Unknown shift 'fog'. Valid: none, viewpoint"),
        (("Lift", "--region", "here"), 2, "Unknown region 'here'. Valid: in, ood, all."),
        (("Lift", "--cameras", "eye"), 2, "Unknown camera 'eye'. Valid: agentview, wrist."),
        (("Lift", "--points", "0"), 2, "points 0 must be a whole number"),
        (("Lift", "--episode", "0"), 2, "--episode goes with a dataset; Lift is a task."),
        (("empty", "--shift", "light"), 2, "--shift goes with a task; empty is a dataset."),
        (("empty", "--image-size", "24", "32"), 2, "--image-size goes with a task; empty is a dataset."),
        (("Lift", "--expert", "--save", "lift.png"), 2, "--expert plays in an .html file; lift.png"),
        (("Lift", "--save", "none/lift.png"), 2, "--save is none/lift.png, but there is no folder none."),
        (("Lift", "--save", "lift.mp4"), 2, "--save is lift.mp4; the file must end in .html or .png."),
        (("Lift", "--port", "70000"), 2, "--port is 70000; it must be from 1 to 65535."),
        (("Lift", "--bind", "192.0.2.7"), 2, "--bind is 192.0.2.7: "),
        (("Lift", "--bind", "192.0.2.7", "--port", "8080"), 2, "Port 8080 at 192.0.2.7 cannot be used"),
    ],
)  # fmt: skip
def test_a_mistake_is_one_line(arguments, code, message, tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    Path("empty").mkdir()
    result = invoke("view", *arguments)
    assert message in result.stderr
    assert result.exit_code == code
    assert len(result.stderr.strip().splitlines()) == 1


def test_an_episode_that_is_not_there_is_named(drawer):
    result = invoke("view", drawer, "--episode", 7)
    assert "has no episode 7. Valid: 0." in result.stderr
    assert result.exit_code == 2


def test_a_port_that_is_not_free_is_named():
    with socket.create_server(("127.0.0.1", 0)) as other:
        port = other.getsockname()[1]
        result = invoke("view", "Lift", "--port", port)
    assert f"Port {port} at 127.0.0.1 cannot be used: Address already in use" in result.stderr
    assert result.exit_code == 2


def test_without_viser_the_error_says_what_to_install(monkeypatch):
    for name in [name for name in sys.modules if name.startswith("simreal_agents.viewing")]:
        monkeypatch.delitem(sys.modules, name)
    monkeypatch.setitem(sys.modules, "viser", None)
    result = invoke("view", "Lift")
    assert "pip install 'simreal[view]'" in result.stderr
    assert result.exit_code == 1


def test_a_picture_shows_the_scene(drawer, tmp_path):
    result = invoke("view", drawer, "--save", tmp_path / "drawer.png")
    assert result.exit_code == 0, result.output
    picture = np.asarray(Image.open(tmp_path / "drawer.png"))
    assert picture.shape == (720, 1080, 3)
    assert picture.std() > 15
    assert np.percentile(picture, 95) > 200  # the white table in the light
    assert [*tmp_path.iterdir()] == [tmp_path / "drawer.png"]


# --- the browser ------------------------------------------------------------------------------------


@pytest.mark.slow
@needs_browser
def test_a_saved_episode_plays_from_the_disk_without_a_network(drawer, tmp_path):
    file = tmp_path / "drawer.html"
    assert invoke("view", drawer, "--save", file).exit_code == 0
    with Chromium(tmp_path / "browser", (480, 320)) as page:
        page.open(file.as_uri())
        wait_for(lambda: shows_a_scene(page))
        time_field = "document.querySelector('input').value"
        earlier = page.evaluate(time_field)
        wait_for(lambda: page.evaluate(time_field) != earlier)
        assert "Drawer, episode 0" in page.evaluate("document.body.innerText")
    assert {url.partition(":")[0] for url in page.requests} <= {"file", "data", "blob"}
    assert page.complaints == []


@pytest.mark.slow
@needs_browser
def test_the_page_shows_the_scene_and_the_expert_solves_it(tmp_path):
    program = subprocess.Popen(
        [SIMREAL, "view", "Lift", "--no-open", "--image-size", "48", "64", "--points", "64"],
        stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True, env=os.environ | {"PYTHONUNBUFFERED": "1"},
    )  # fmt: skip
    try:
        assert program.stdout is not None
        url = re.search(r"http://127\.0\.0\.1:\d+", program.stdout.readline())
        assert url is not None
        with Chromium(tmp_path / "browser", (640, 360)) as page:
            page.open(url[0])
            wait_for(lambda: shows_a_scene(page))
            page.click("Run the expert")
            wait_for(lambda: "solved" in page.evaluate("document.body.innerText"))
        assert {url.partition(":")[0] for url in page.requests} <= {"http", "ws", "data", "blob"}
        assert page.complaints == []
    finally:
        program.send_signal(signal.SIGINT)
        output, errors = program.communicate(timeout=30)
    assert program.returncode == 0
    assert (output, errors) == ("ended\n", "")
