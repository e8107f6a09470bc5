"""The tasks as robosuite's environments: robosuite's interface, our scenes and our rule of success."""

from __future__ import annotations

import subprocess
import sys
from collections.abc import Iterator
from contextlib import closing
from typing import Any

import gymnasium as gym
import numpy as np
import pytest
import robosuite
from robosuite.wrappers import GymWrapper

import simreal_envs.suite  # noqa: F401  registers the tasks
from simreal_agents.actors.experts import make_expert
from simreal_envs.errors import UsageError
from simreal_envs.spec import BASE_IN_WORLD_M, TABLE_CENTRE_IN_BASE_M
from simreal_envs.tasks import TASKS
from simreal_envs.tasks.starts import JointStart, OnTable

BLIND = {"has_offscreen_renderer": False, "use_camera_obs": False}


@pytest.fixture(scope="module", params=TASKS.built_in)
def env(request: pytest.FixtureRequest) -> Iterator[Any]:
    made = robosuite.make(f"Simreal{request.param}", robots="Panda", hard_reset=False, seed=0, **BLIND)
    yield made
    made.close()


def test_robosuite_knows_the_tasks_beside_its_own() -> None:
    ours = {name for name in robosuite.ALL_ENVIRONMENTS if name.startswith("Simreal")}
    assert ours >= {f"Simreal{task}" for task in TASKS.built_in}
    assert {"SuiteEnv", "TabletopScene"}.isdisjoint(robosuite.ALL_ENVIRONMENTS)
    assert robosuite.make("Lift", robots="Panda", **BLIND).__class__.__module__.startswith("robosuite.")


def test_objects_start_in_the_region_and_each_time_elsewhere(env: Any) -> None:
    starts = env.task.starts["ood"]
    env.region, seen = "ood", []
    for _ in range(4):
        observation = env.reset()
        seen.append(observation["object-state"])
        for name, start in starts.items():
            if isinstance(start, JointStart):
                assert start.low <= env.sim.data.get_joint_qpos(name) <= start.high
            else:
                assert isinstance(start, OnTable)
                on_table = observation[f"{name}_pos"] - BASE_IN_WORLD_M - TABLE_CENTRE_IN_BASE_M
                assert start.contains((on_table[0], on_table[1], 0.0))
    assert len({state.tobytes() for state in seen}) == 4
    env.region = "all"


def test_observations_have_robosuites_names_and_random_actions_go_on(env: Any) -> None:
    observation = env.reset()
    names = {f"{name}_{what}" for name in env.task.objects for what in ("pos", "quat")}
    names |= {f"gripper_to_{name}_pos" for name in env.task.objects}
    assert {*names, "robot0_eef_pos", "robot0_eef_quat", "robot0_joint_pos", "robot0_gripper_qpos"} <= set(
        observation
    )
    assert observation["object-state"].shape == (10 * len(env.task.objects),)
    rng, (low, high) = np.random.default_rng(0), env.action_spec
    for _ in range(5):
        observation, reward, done, _ = env.step(rng.uniform(low, high))
        assert (reward, done) == (0.0, False)
        assert all(np.isfinite(value).all() for value in observation.values())


@pytest.mark.slow
def test_success_is_that_of_the_gymnasium_environment(env: Any) -> None:
    """On every state of an expert's episode, whose model is the same."""
    env.reset()
    env.reward_shaping = True
    with closing(gym.make(f"simreal/{env.task.name}-v0", obs="state", reward="staged")) as ours:
        expert, state, over = make_expert(ours), None, False
        observation, info = ours.reset(seed=0)
        while not over:
            env.sim.set_state_from_flattened(info["sim_state"])
            env.sim.forward()
            assert env._check_success() == info["success"]
            last = env.task.stages[-1]
            action, state = expert.predict(observation, state)
            observation, _, over, _, info = ours.step(action)
        env.sim.set_state_from_flattened(info["sim_state"])
        env.sim.forward()
        assert info["success"]
        assert env._check_success() == info["subtask_signals"][last] is True
        assert env.reward() == info["progress"] == 1.0
    env.reward_shaping = False
    assert env.reward() == 1.0


@pytest.mark.slow
def test_the_seed_decides_whether_the_model_is_built_anew_or_not() -> None:
    def episodes(seed: int, hard_reset: bool) -> list[np.ndarray]:
        env = robosuite.make("SimrealStack", robots="Panda", hard_reset=hard_reset, seed=seed, **BLIND)
        with closing(env):
            seen = []
            for _ in range(1 if hard_reset else 2):
                env.reset()
                state = env.step(np.full(env.action_dim, 0.1))[0]
                seen.append(np.concatenate([state["object-state"], state["robot0_proprio-state"]]))
        return seen

    soft = episodes(1, False)
    np.testing.assert_array_equal(soft, episodes(1, False))
    assert not np.array_equal(soft[0], soft[1])
    hard = episodes(1, True)
    np.testing.assert_array_equal(hard, episodes(1, True))
    assert not np.array_equal(hard[0], episodes(2, True)[0])


@pytest.mark.slow
@pytest.mark.filterwarnings("ignore::UserWarning")
def test_cameras_controllers_and_the_gym_wrapper_are_robosuites() -> None:
    from robosuite.controllers import load_composite_controller_config

    controller = load_composite_controller_config(controller="BASIC", robot="Panda")
    controller["body_parts"]["right"]["type"] = "JOINT_POSITION"
    controller["body_parts"]["right"] |= {"input_max": 1, "input_min": -1, "output_max": 0.05}
    controller["body_parts"]["right"] |= {"output_min": -0.05, "kp": 50}
    cameras = {"camera_names": ["agentview", "robot0_eye_in_hand"], "camera_heights": 48, "camera_widths": 64}
    env = robosuite.make(
        "SimrealMugLift", robots="Panda", controller_configs=controller, hard_reset=False, **cameras
    )
    with closing(env):
        observation = env.reset()
        assert env.action_dim == 8
        for camera in cameras["camera_names"]:  # type: ignore[attr-defined]
            assert observation[f"{camera}_image"].shape == (48, 64, 3)
            assert observation[f"{camera}_image"].std() > 10
        wrapped = GymWrapper(env, keys=["object-state", "robot0_proprio-state"])
        flat, _ = wrapped.reset()
        assert wrapped.observation_space.contains(flat.astype(np.float32))
        assert np.isfinite(wrapped.step(wrapped.action_space.sample())[1])


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        ({"robots": "Sawyer"}, "Unknown robots .*Sawyer"),
        ({"robots": ["Panda", "Panda"]}, "Valid: Panda"),
        ({"gripper_types": "RethinkGripper"}, "Unknown gripper 'RethinkGripper'"),
        ({"region": "left"}, "Valid: in, ood, all"),
        ({"placement_initializer": None}, "choose a region"),
    ],
)
def test_what_a_task_cannot_judge_is_refused(arguments: dict[str, Any], message: str) -> None:
    with pytest.raises(UsageError, match=message):
        robosuite.make("SimrealLift", **({"robots": "Panda"} | arguments), **BLIND)


def test_nobody_imports_robosuite_unasked() -> None:
    code = "import simreal_envs, sys; print('robosuite' in sys.modules, 'simreal_envs.suite' in sys.modules)"
    printed = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True).stdout
    assert printed.split() == ["False", "False"]
