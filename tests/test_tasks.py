"""Tasks: where their objects start, and when they are solved."""

from __future__ import annotations

from typing import Any

import gymnasium as gym
import mujoco
import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from robosuite.models import objects

import simreal_envs  # noqa: F401
from simreal_agents.actors.experts import make_expert
from simreal_envs import spec
from simreal_envs.errors import UsageError
from simreal_envs.poses import reachable_action
from simreal_envs.sim.parts import bottom_m
from simreal_envs.sim.physics import Physics
from simreal_envs.sim.scene import TabletopScene
from simreal_envs.tasks.lift import Lift
from simreal_envs.tasks.progress import Progress, failed_at

# --- objects on the table ---------------------------------------------------------------------------


class Shapes(Lift):
    """One of each of robosuite's kinds of objects: primitives, a composite, meshes, several boxes."""

    objects = ("box", "ball", "capsule", "cylinder", "hammer", "nut", "can", "milk")

    def robosuite_objects(self) -> dict[str, Any]:
        primitives: dict[str, tuple[Any, list[float]]] = {
            "box": (objects.BoxObject, [0.02, 0.03, 0.01]),
            "ball": (objects.BallObject, [0.03]),
            "capsule": (objects.CapsuleObject, [0.02, 0.03]),
            "cylinder": (objects.CylinderObject, [0.04, 0.02]),
        }
        made = {name: kind(name=name, size=size) for name, (kind, size) in primitives.items()}
        others = {
            "hammer": objects.HammerObject,
            "nut": objects.SquareNutObject,
            "can": objects.CanObject,
            "milk": objects.MilkObject,
        }
        return made | {name: kind(name=name) for name, kind in others.items()}


def test_objects_of_every_shape_start_on_the_table() -> None:
    scene = TabletopScene(Shapes())
    scene.reset()
    physics = Physics(scene.sim.model._model, scene.sim.data._data, Shapes.objects)
    model, data = physics.model, physics.data
    spread = {
        name: (-0.2 + 0.13 * (i % 4), (-0.2, 0.2)[i // 4], 0.5 * i) for i, name in enumerate(Shapes.objects)
    }
    physics.reset(spec.START_JOINTS_RAD, spread)
    table = model.geom("table_collision").id
    for name in Shapes.objects:
        nearest_m = min(
            mujoco.mj_geomDistance(model, data, table, geom, 1.0, None) for geom in physics._geoms[name]
        )
        held_up_m = 0.001 if name == "cylinder" else 0.0  # by its margin
        assert nearest_m == pytest.approx(held_up_m, abs=1e-6), name
    before = {name: physics.object_position_in_base(name).copy() for name in Shapes.objects}
    for _ in range(round(0.1 / model.opt.timestep)):
        mujoco.mj_step(model, data)
    for name in Shapes.objects:  # what falls freely comes 50 mm far in this time
        assert abs(physics.object_position_in_base(name)[2] - before[name][2]) < 5e-4, name


GEOM = st.tuples(
    st.sampled_from(["sphere", "box", "ellipsoid", "capsule", "cylinder", "mesh"]),
    st.lists(st.floats(0.005, 0.1), min_size=3, max_size=3),
    st.lists(st.floats(-0.2, 0.2), min_size=3, max_size=3),
    st.lists(st.floats(-1, 1), min_size=4, max_size=4).filter(lambda q: np.linalg.norm(q) > 0.1),
)


@settings(max_examples=40)
@given(st.lists(GEOM, min_size=1, max_size=3), st.floats(-np.pi, np.pi))
def test_the_lowest_point_of_any_body_is_mujocos(geoms: list[Any], yaw: float) -> None:
    def numbers(values: Any) -> str:
        return " ".join(f"{value:.6f}" for value in values)

    def xml(kind: str, size: Any, position: Any, quaternion: Any) -> str:
        shape = 'mesh="m"' if kind == "mesh" else f'size="{numbers(size)}"'
        return f'<geom type="{kind}" {shape} pos="{numbers(position)}" quat="{numbers(quaternion)}"/>'

    first, *rest = [xml(*geom) for geom in geoms]
    model = mujoco.MjModel.from_xml_string(
        '<mujoco><asset><mesh name="m" vertex="0 0 0 .1 0 0 0 .2 0 0 0 .1 -.05 -.05 .05"/></asset><worldbody>'
        '<geom type="plane" size="1 1 1"/><body pos="0 0 0.5"><freejoint/>'
        f'{first}<body pos="0.1 0 -0.1" euler="20 40 0">{"".join(rest) or first}</body></body>'
        "</worldbody></mujoco>"
    )
    data = mujoco.MjData(model)
    data.qpos[2:7] = 0.0, np.cos(yaw / 2), 0.0, 0.0, np.sin(yaw / 2)
    mujoco.mj_forward(model, data)
    lowest_m = min(mujoco.mj_geomDistance(model, data, 0, geom, 9.0, None) for geom in range(1, model.ngeom))
    assert bottom_m(model, 1) == pytest.approx(lowest_m, abs=1e-6)


def test_an_object_that_nothing_can_touch_is_refused_by_name() -> None:
    model = mujoco.MjModel.from_xml_string(
        '<mujoco><worldbody><body name="ghost"><freejoint/><geom size="1" contype="0" conaffinity="0"/>'
        "</body></worldbody></mujoco>"
    )
    with pytest.raises(UsageError, match="'ghost'"):
        bottom_m(model, 1)


# --- success ----------------------------------------------------------------------------------------

STAGES = ("reach", "grasp", "lift", "place")
SIGNALS = st.lists(st.fixed_dictionaries(dict.fromkeys(STAGES, st.booleans())), max_size=5)


@given(SIGNALS)
def test_success_and_stage_cannot_disagree(episode: list[dict[str, bool]]) -> None:
    progress = Progress(STAGES)
    for now in [dict.fromkeys(STAGES, False), *episode]:
        before = progress.reached
        progress.update(now)
        assert progress.reached[: len(before)] == before
        assert progress.reached == STAGES[: len(progress.reached)]
        assert set(progress.reached) >= {stage for stage in STAGES if now[stage]}
    held = [stage for stage in STAGES if any(now[stage] for now in episode)]
    assert progress.furthest == (held[-1] if held else "start")
    assert progress.success == ("place" in held) == (progress.reached == STAGES)
    missed = failed_at(STAGES, len(progress.reached), progress.success)
    assert missed == next((stage for stage in STAGES if stage not in progress.reached), "")


def robosuites_scene(world: Any) -> TabletopScene:
    """robosuite's environment of the world's task, which judges the very state that the world steps."""
    scene = TabletopScene(world.task)
    scene.reset()
    world.physics = Physics(scene.sim.model._model, scene.sim.data._data, world.task.objects)
    return scene


def test_a_cube_that_flies_up_is_lifted_in_every_report() -> None:
    env = gym.make("simreal/Lift-v0", obs="state")
    world: Any = env.unwrapped
    scene = robosuites_scene(world)
    _, info = env.reset(seed=0)
    assert (info["success"], info["stage"], scene.reward()) == (False, "start", 0.0)
    state = info["sim_state"]
    height = 1 + world.physics.model.joint("cube_joint0").qposadr[0] + 2
    state[height] += 0.2
    world.set_sim_state(state)
    _, reward, terminated, _, info = env.step(reachable_action(world.end_effector_pose_in_base(), -1.0))
    assert not info["subtask_signals"]["grasp"]
    assert (info["success"], info["stage"], info["stages_reached"]) == (True, "lift", 3)
    assert terminated
    assert reward == scene.reward() == 1.0
    env.close()


@pytest.mark.parametrize(("task", "cube"), [("Lift", "cube"), ("Stack", "cubeA")])
def test_success_is_robosuites(task: str, cube: str) -> None:
    """By robosuite's own height, grasp and contact at every step; a stacked cube must also be at rest."""
    env = gym.make(f"simreal/{task}-v0", obs="state")
    world: Any = env.unwrapped
    scene, expert = robosuites_scene(world), make_expert(env)
    observation, info = env.reset(seed=0)
    state, terminated, truncated, moving = None, False, False, 0
    while not (terminated or truncated):
        action, state = expert.predict(observation, state)
        observation, _, terminated, truncated, info = env.step(action)
        body = scene.sim.model.body_name2id(scene.task_objects[cube].root_body)
        expected = scene.sim.data.body_xpos[body][2] > spec.BASE_IN_WORLD_M[2] + 0.04
        if task == "Stack":
            a, b = scene.task_objects["cubeA"], scene.task_objects["cubeB"]
            grasped = scene._check_grasp(gripper=scene.robots[0].gripper, object_geoms=a)
            stacked = expected and scene.check_contact(a, b)
            expected = stacked and not grasped and world.physics.object_speed_mps("cubeA") < 1e-3
            assert info["subtask_signals"]["place"] == stacked
            assert info["subtask_signals"]["grasp"] == grasped
            moving += stacked and not grasped and not expected
        assert info["success"] == terminated == expected
    assert terminated
    assert task == "Lift" or moving > 0
