"""The robot as an environment, over the real drivers: an episode recorded, and every fault survived."""

from __future__ import annotations

import os
import re
import signal
import time
from collections.abc import Iterator
from contextlib import ExitStack, contextmanager, suppress
from pathlib import Path
from typing import Any

import gymnasium as gym
import numpy as np
import pytest
from stable_baselines3.common.env_checker import check_env as sb3_check

import simreal_envs  # noqa: F401  registers the tasks
from simreal_agents.actors.experts import make_expert
from simreal_agents.policies.rectify import Rectifier
from simreal_datasets.loading.frames import Frames
from simreal_datasets.store.dataset import Dataset, DatasetWriter
from simreal_datasets.store.recorder import TIMING, EpisodeRecorder
from simreal_envs import kinematics
from simreal_envs.cameras import THIRD_PERSON
from simreal_envs.errors import RobotError
from simreal_envs.loop import run_episode
from simreal_envs.poses import reachable_action
from simreal_envs.rig.control import RigControl
from simreal_envs.rig.launch import Rig
from simreal_envs.robot.images import fit_colour, fit_depth
from simreal_envs.robot.pace import PERIOD_S, Pace
from simreal_envs.spec import TABLE_CENTRE_IN_BASE_M
from simreal_envs.world_config import WorldConfig

Env = gym.Env[Any, Any]
pytestmark = pytest.mark.alone


@pytest.fixture(scope="module")
def rig(rig_camera: None) -> Iterator[Rig]:
    with Rig("Lift", shift="viewpoint") as running:
        yield running


@pytest.fixture(scope="module")
def env(rig: Rig) -> Iterator[Env]:
    made = gym.make("simreal/Lift-v0", env="rig", host=rig.host, shift="viewpoint", obs="state+image")
    yield made
    made.close()


@pytest.fixture
def control(rig: Rig) -> Iterator[RigControl]:
    with RigControl(rig.host) as control:
        yield control
        control.inject("none")


@pytest.fixture(scope="module")
def recorded(env: Env, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A dataset with one Lift by the scripted expert through panda_py and librealsense."""
    folder = tmp_path_factory.mktemp("recorded") / "lift"
    recorder = EpisodeRecorder()
    outcome = run_episode(env, make_expert(env), seed=3, recorder=recorder)
    assert outcome.success, outcome
    with DatasetWriter(folder) as writer:
        writer.add(recorder.finish(env, outcome, "expert"))
    return folder


def test_joint_targets_turn_the_elbow_within_the_limits_and_under_the_watchdog(
    rig: Rig, tmp_path: Path
) -> None:
    """Before the other tests connect for good: an arm has one client at a time."""
    limits = tmp_path / "limits.yaml"
    limits.write_text("max_frame_age_s: 2.0\n")  # this is about the arm, whatever else the machine does
    where = {"host": rig.host, "shift": "viewpoint", "limits": str(limits)}
    env = WorldConfig("Lift", "rig", action_kind="joint", **where).make("all")
    try:
        sb3_check(env)
        start = env.reset(seed=1)[0]["robot0_joint_pos"]
        elbow = kinematics.inverse(kinematics.forward(start), start + [0, 0, 0.3, 0, 0, 0, 0])
        assert elbow is not None
        assert np.abs(elbow - start).max() > 0.1
        observation = env.step(np.r_[elbow, -1.0])[0]
        assert np.abs(observation["robot0_joint_pos"] - start).max() < 0.1  # 1 rad/s
        for _ in range(40):
            observation = env.step(np.r_[elbow, -1.0])[0]
        np.testing.assert_allclose(observation["robot0_joint_pos"], elbow, atol=0.02)
        time.sleep(1.5)
        _, _, _, truncated, info = env.step(np.r_[elbow, -1.0])
        assert truncated
        assert "no action came" in info["interrupted"]
    finally:
        env.close()


def test_a_cube_is_lifted_and_the_episode_loads_like_any_other(recorded: Path) -> None:
    dataset = Dataset(recorded)
    episode = dataset.read(0)
    assert episode.meta["env"] == "rig"
    assert set(episode.meta["versions"]) >= {"panda-python", "pyrealsense2"}
    assert episode.datagen is not None
    assert episode.datagen.object_poses["cube"][-1, 2, 3] > 0.025  # lies at 0.021
    assert set(episode.timing) == set(TIMING)
    assert (episode.timing["frame_age_s"] < episode.meta["limits"]["max_frame_age_s"]).all()
    frames = Frames.load(recorded)
    assert len(frames.actions) == len(episode)


def test_a_limit_that_acts_is_in_the_episode(env: Env) -> None:
    recorder = EpisodeRecorder()

    class TooFast:
        def predict(self, observation: Any, *_: Any) -> tuple[np.ndarray, Any]:
            world: Any = env.unwrapped
            far = world.end_effector_pose_in_base()
            far[1, 3] += 0.2
            return reachable_action(far, -1.0), None

    short = gym.wrappers.TimeLimit(env, 5)
    outcome = run_episode(short, TooFast(), seed=3, recorder=recorder)
    events = recorder.finish(short, outcome, "nobody").meta["events"]
    assert "target limited by translation speed" in [event["message"] for event in events]
    assert all(0 <= event["time_s"] < 2 for event in events)


def test_actions_lead_the_hand_as_in_simulation(recorded: Path) -> None:
    episode = Dataset(recorded).read(0)
    ahead_m = np.linalg.norm(episode.actions[:, :3] - episode.observations["robot0_eef_pos"], axis=1)
    assert 0.005 < np.median(ahead_m) < 0.06


def test_calibrated_policies_see_the_rig_as_the_source(env: Env) -> None:
    """Rectified by the rig's calibration, its image shows the cube where the source's camera would."""
    world: Any = env.unwrapped
    observation, _ = env.reset(seed=4)
    source = THIRD_PERSON.resized(world.observation_spec.image_size)
    image = Rectifier(world.camera_now(), source)(observation["agentview_image"][None])[0].astype(int)
    is_cube = image[..., 0] > 2 * image[..., 1:].max(axis=2)
    row, column = np.argwhere(is_cube).mean(axis=0)
    cube_in_base_m = world.scene.object_poses_in_base()["cube"][:3, 3]
    np.testing.assert_allclose([column, row], source.project(cube_in_base_m[None])[0], atol=1.5)


def test_the_first_image_shows_the_objects_where_they_were_placed(env: Env) -> None:
    seen = []
    for y_m in (-0.12, 0.12):
        placed = {"placement": {"cube": (0.0, y_m, 0.0)}}
        first, _ = env.reset(seed=1, options=placed)
        time.sleep(0.5)
        world: Any = env.unwrapped
        later = world.observe()["agentview_image"]
        assert np.abs(first["agentview_image"].astype(int) - later).mean() < 1.0
        seen.append(later.astype(int))
    assert np.abs(seen[0] - seen[1]).mean() > 1.0


@pytest.fixture
def playing(env: Env, control: RigControl) -> None:
    """In an episode that goes on: that of the test before, where it does."""
    try:
        interrupted = bool(act(env, steps=1)["interrupted"])
    except (RobotError, gym.error.ResetNeeded):
        interrupted = True
    if interrupted:
        env.reset(seed=1)
        assert act(env, steps=5)["interrupted"] == ""


FAULTS: dict[str, tuple[str, str | None]] = {
    "reflex": ("joint_reflex|cartesian_reflex", "cartesian_reflex"),
    "user_stop": ("user stop", None),
    "link_cut": ("link lost", None),
    "camera_stall": ("latest image is .* old", None),
    "camera_unplug": ("latest image is .* old", None),
}


@pytest.mark.usefixtures("playing")
@pytest.mark.parametrize("fault", FAULTS)
def test_a_fault_ends_the_episode_by_name_and_the_next_one_works(
    env: Env, control: RigControl, recorded: Path, fault: str
) -> None:
    cause, value = FAULTS[fault]
    control.inject(fault, value)
    info = act(env, steps=100)
    assert re.search(cause, info["interrupted"]), info["interrupted"]
    with pytest.raises(RobotError, match="interrupted"):
        env.step(hold(env))
    control.inject("none")
    time.sleep(0.5)
    _, info = env.reset(seed=2)
    assert info["interrupted"] == ""
    assert act(env, steps=5)["interrupted"] == ""
    assert not Dataset(recorded).damaged


@contextmanager
def hanging_driver(env: Env) -> Iterator[None]:
    """The arm's driver does nothing any more."""
    world: Any = env.unwrapped
    pid = world.arm._driver.pid
    os.kill(pid, signal.SIGSTOP)
    try:
        yield
    finally:
        with suppress(ProcessLookupError):  # the next reset has started another one
            os.kill(pid, signal.SIGCONT)


@pytest.mark.usefixtures("playing")
def test_an_arm_that_cannot_be_stopped_ends_the_episode_by_the_first_cause(
    env: Env, caplog: pytest.LogCaptureFixture
) -> None:
    with hanging_driver(env):
        assert "driver hangs" in act(env, steps=100)["interrupted"]
        assert "Cleaning up after the error failed, too: RobotError" in caplog.text
        _, info = env.reset(seed=2)  # with another driver
    assert info["interrupted"] == ""
    assert act(env, steps=5)["interrupted"] == ""


def test_what_fails_in_an_episode_is_what_is_raised_even_if_the_arm_cannot_be_stopped(
    env: Env, caplog: pytest.LogCaptureFixture
) -> None:
    class Broken:
        """Finds, in the middle of an episode, that its weights are no numbers; meanwhile the driver hangs."""

        steps = 0

        def predict(self, observation: Any, *_: Any) -> tuple[np.ndarray, Any]:
            self.steps += 1
            if self.steps > 5:
                stack.enter_context(hanging_driver(env))
                raise ValueError("weights")
            return hold(env), None

    with ExitStack() as stack:
        with pytest.raises(ValueError, match="weights"):
            run_episode(env, Broken(), seed=1)
        assert "RobotError" in caplog.text
        env.reset(seed=2)


@pytest.mark.usefixtures("playing")
def test_lost_packets_and_a_jumping_clock_are_told_of_and_the_episode_goes_on(
    env: Env, control: RigControl
) -> None:
    control.inject("packet_loss", 0.1)
    infos = [env.step(hold(env))[4] for _ in range(20)]
    control.inject("clock_jump", 5.0)
    infos += [env.step(hold(env))[4] for _ in range(10)]
    assert not any(info["interrupted"] for info in infos)
    assert "link" in [event.kind for info in infos for event in info["events"]]


def test_a_user_stop_before_the_first_step_interrupts_it(env: Env, control: RigControl) -> None:
    env.reset(seed=1)
    control.inject("user_stop")
    time.sleep(0.2)
    control.inject("none")  # released again, but whoever pressed it wants to be asked
    assert "user stop" in act(env, steps=1)["interrupted"]
    env.reset(seed=1)
    assert act(env, steps=5)["interrupted"] == ""


def test_a_pressed_user_stop_is_no_start(env: Env, control: RigControl) -> None:
    control.inject("user_stop")
    with pytest.raises(RobotError, match="cannot be recovered: user stop"):
        env.reset(seed=1)
    control.inject("none")
    env.reset(seed=1)
    assert act(env, steps=5)["interrupted"] == ""


@pytest.mark.usefixtures("playing")
def test_a_stuck_gripper_interrupts_and_is_recovered_from(env: Env, control: RigControl) -> None:
    control.inject("gripper_stuck")
    assert "gripper" in act(env, steps=300, gripper=1.0)["interrupted"]
    control.inject("none")
    env.reset(seed=2)
    assert act(env, steps=5)["interrupted"] == ""


def test_a_hand_that_was_switched_on_anew_is_homed(env: Env, control: RigControl) -> None:
    control.inject("gripper_unhomed")
    time.sleep(0.3)
    world: Any = env.unwrapped
    assert not world.arm.state().gripper_homed
    env.reset(seed=1)
    assert world.arm.state().gripper_homed
    assert world.arm.state().gripper_width_m > 0.075


def test_pressing_on_an_object_ends_the_episode_and_the_next_reset_lets_go(env: Env) -> None:
    env.reset(seed=3)
    world: Any = env.unwrapped
    pose = world.end_effector_pose_in_base()
    below = pose[:2, 3] - TABLE_CENTRE_IN_BASE_M[:2]
    env.reset(seed=3, options={"placement": {"cube": (*below, 0.0)}})
    interrupted = ""
    for _ in range(120):
        pose[2, 3] -= 0.01
        interrupted = env.step(reachable_action(pose, 1.0))[4]["interrupted"]
        if interrupted:
            break
    assert "contact" in interrupted or "reflex" in interrupted
    _, info = env.reset(seed=3)
    assert not info["interrupted"]
    assert info["end_effector_pose_in_base"][2, 3] > 0.2


@pytest.mark.usefixtures("playing")
def test_a_stopped_environment_leaves_the_arm_to_itself(env: Env) -> None:
    world: Any = env.unwrapped
    assert world.arm.state().mode in ("controlling", "holding")
    world.stop()
    assert world.arm.state().mode in ("idle", "stopped")


def hold(env: Env, gripper: float = -1.0) -> np.ndarray:
    world: Any = env.unwrapped
    return reachable_action(world.end_effector_pose_in_base(), gripper)


def act(env: Env, steps: int, gripper: float = -1.0) -> dict[str, Any]:
    """Hold the pose until the episode is interrupted, or for so many steps; returns the last info."""
    action = hold(env, gripper)
    for _ in range(steps):
        _, _, _, truncated, info = env.step(action)
        if truncated:
            break
    return info


def test_images_are_cropped_and_scaled_as_the_camera_says() -> None:
    """A point seen at a pixel of the large image is seen where the resized camera projects it."""
    point = np.array([[0.5, 0.1, 0.0]])
    u, v = THIRD_PERSON.project(point)[0]
    colour = np.zeros((480, 640, 3), np.uint8)
    colour[round(v) - 3 : round(v) + 4, round(u) - 3 : round(u) + 4] = 255
    for size in ((72, 96), (84, 84), (120, 240)):
        small = fit_colour(colour, size)[..., 0].astype(float)
        assert small.shape == size
        rows, columns = np.indices(size)
        seen = np.array([(small * columns).sum(), (small * rows).sum()]) / small.sum()
        np.testing.assert_allclose(seen, THIRD_PERSON.resized(size).project(point)[0], atol=0.3)
        assert fit_depth(np.ones((480, 640), np.float32), size).shape == size


def test_a_late_step_is_reported_and_does_not_shift_the_ones_after() -> None:
    pace = Pace()
    pace.start()
    began_s = time.monotonic()
    late_s = []
    for step in range(10):
        if step == 4:
            time.sleep(1.5 * PERIOD_S)
        late_s.append(pace.wait())
    assert late_s[4] == pytest.approx(0.5 * PERIOD_S, abs=0.02)
    assert max(late_s[:4] + late_s[6:]) < 0.02
    assert time.monotonic() - began_s == pytest.approx(10 * PERIOD_S, abs=0.02)


def test_a_rate_below_the_control_rate_is_not_kept_silent(caplog: pytest.LogCaptureFixture) -> None:
    pace = Pace()
    pace.start()
    for _ in range(25):
        time.sleep(1.2 * PERIOD_S)
        pace.wait()
    assert "Hz instead of 20" in caplog.text
