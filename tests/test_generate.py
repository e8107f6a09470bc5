"""Experts, generation from a demonstration, and filling a dataset with what succeeds."""

from __future__ import annotations

import os
import shutil
from collections.abc import Callable
from contextlib import ExitStack
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from scipy.spatial.transform import Rotation
from worker_memory import Measured

from simreal_agents.actors.experts import make_expert
from simreal_agents.study.collect import ActorRecorder
from simreal_datasets.making.fetch import fetch_demonstrations
from simreal_datasets.making.fill import LAST_SEED, Attempt, fill_dataset
from simreal_datasets.making.generate import SELECTIONS, Generator, SegmentActor, load_segments, select
from simreal_datasets.making.robosuite_import import import_demonstrations
from simreal_datasets.making.segments import (
    MAX_SPEED_MPS,
    MAX_TURN_RADPS,
    STEPS_AFTER_SWITCH,
    STEPS_BEFORE_SWITCH,
    Segment,
    bridge,
    cut,
    move,
    retime,
)
from simreal_datasets.store.dataset import Dataset, DatasetWriter
from simreal_datasets.store.editing import drop_episodes
from simreal_datasets.store.episode import DatagenInfo
from simreal_datasets.store.recorder import EpisodeRecorder
from simreal_envs.errors import DataError, UsageError
from simreal_envs.loop import run_episode
from simreal_envs.parallel import Work, run_in_processes
from simreal_envs.poses import pose, reachable_action
from simreal_envs.shifts import STAND_IN
from simreal_envs.spec import CONTROL_HZ
from simreal_envs.tasks import Subtask, get_task
from simreal_envs.world_config import WorldConfig
from simreal_envs.wrappers import ActionNoise

# --- experts ----------------------------------------------------------------------------------------


@pytest.mark.parametrize("task", ["Lift", "Stack"])
@pytest.mark.parametrize("noise_m", [0.0, 0.01])
def test_the_expert_solves_the_task_and_recovers_from_disturbances(task: str, noise_m: float) -> None:
    env = ActionNoise(WorldConfig(task, obs="state").make("all"), std_m=noise_m)
    expert = make_expert(env)
    assert all(run_episode(env, expert, seed=seed).success for seed in range(10))


def test_disturbances_are_executed_but_not_recorded() -> None:
    calm, disturbed = (
        ActionNoise(WorldConfig("Lift", obs="state").make("all"), std_m=s) for s in (0.0, 0.02)
    )
    for env in (calm, disturbed):
        env.reset(seed=0)
    action = np.array([0.46, 0.03, 0.27, np.pi, 0.0, 0.0, -1.0], np.float32)
    before = action.copy()
    for _ in range(5):
        calm.step(action)
        disturbed.step(action)
    np.testing.assert_array_equal(action, before)
    positions = [e.unwrapped.end_effector_pose_in_base()[:3, 3] for e in (calm, disturbed)]  # type: ignore[attr-defined]
    assert np.linalg.norm(positions[0] - positions[1]) > 1e-3


# --- segments ---------------------------------------------------------------------------------------


def random_pose(rng: np.random.Generator) -> np.ndarray:
    return pose(Rotation.random(random_state=int(rng.integers(2**31))).as_matrix(), rng.uniform(-0.3, 0.3, 3))


def random_path(rng: np.random.Generator, length: int) -> np.ndarray:
    turns = Rotation.from_rotvec(np.cumsum(rng.normal(0, 0.01, (length, 3)), axis=0))
    path = np.tile(np.eye(4), (length, 1, 1))
    path[:, :3, :3] = turns.as_matrix()
    path[:, :3, 3] = np.cumsum(rng.normal(0, 0.004, (length, 3)), axis=0)
    return path


@settings(max_examples=30)
@given(st.integers(0, 10**6), st.integers(2, 200))
def test_retiming_keeps_ends_switches_and_limits(seed: int, length: int) -> None:
    rng = np.random.default_rng(seed)
    path = random_path(rng, length)
    gripper = np.where(np.arange(length) < length // 2, -1.0, 1.0)
    fast, commands, origin = retime(path, gripper)
    np.testing.assert_allclose(fast[[0, -1]], path[[0, -1]], atol=1e-9)
    assert (commands[0], commands[-1]) == (gripper[0], gripper[-1])
    assert (np.diff(commands) >= 0).all()
    assert len(fast) == len(commands) == len(origin)
    np.testing.assert_array_equal(commands, gripper[origin])
    for step in np.flatnonzero(np.diff(commands)) + 1:
        assert gripper[origin[step] - 1] != gripper[origin[step]]
    if len(fast) > 3:
        # Sampling rounds the number of steps, so a step may exceed the limit by one part in its number.
        slack = 1 + 1 / (len(fast) - 2)
        steps_m = np.linalg.norm(np.diff(fast[:, :3, 3], axis=0), axis=1)
        assert steps_m.max() <= slack * MAX_SPEED_MPS / CONTROL_HZ + 1e-9
        turns = Rotation.from_matrix(fast[1:, :3, :3] @ fast[:-1, :3, :3].transpose(0, 2, 1)).magnitude()
        assert turns.max() <= slack * MAX_TURN_RADPS / CONTROL_HZ + 1e-6


def test_waiting_before_the_gripper_moves_is_cut_and_the_time_it_needs_is_kept() -> None:
    approach = random_path(np.random.default_rng(0), 40)
    waits = np.repeat(approach[-1:], 60, axis=0)
    fast, commands, _ = retime(np.concatenate([approach, waits]), np.where(np.arange(100) < 70, -1.0, 1.0))
    there = np.linalg.norm(fast[:, :3, 3] - approach[-1, :3, 3], axis=1) < 1e-6
    assert (there & (commands < 0)).sum() <= STEPS_BEFORE_SWITCH + 2
    assert (there & (commands > 0)).sum() >= STEPS_AFTER_SWITCH - 1


@settings(max_examples=30)
@given(st.integers(0, 10**6), st.sampled_from([1, 2, 4]))
def test_moved_segments_keep_their_pose_relative_to_the_object(seed: int, symmetry: int) -> None:
    rng = np.random.default_rng(seed)
    segment = Segment(Subtask("part", "cube"), random_path(rng, 20), -np.ones(20), random_pose(rng), None)
    now = random_pose(rng)
    moved = move(segment, now, symmetry, random_pose(rng), None).targets
    relative = np.linalg.inv(segment.reference) @ segment.targets
    found = np.linalg.inv(now) @ moved
    candidates = [
        pose(Rotation.from_euler("z", 2 * np.pi * k / symmetry).as_matrix(), np.zeros(3)) @ relative
        for k in range(symmetry)
    ]
    assert min(np.abs(found - c).max() for c in candidates) < 1e-9


def test_an_unmoved_scene_gives_the_demonstration_back() -> None:
    rng = np.random.default_rng(0)
    held = rng.normal(0, 0.01, 3)
    hand = random_pose(rng)
    segment = Segment(
        Subtask("p", "cubeB", held="cubeA"), random_path(rng, 9), np.ones(9), random_pose(rng), held
    )
    held_now = pose(np.eye(3), hand[:3, :3] @ held + hand[:3, 3])
    np.testing.assert_allclose(
        move(segment, segment.reference, 1, hand, held_now).targets, segment.targets, atol=1e-9
    )


def test_the_hand_makes_up_for_a_displaced_grasp() -> None:
    """The object, not the hand, goes where the demonstration took it."""
    rng = np.random.default_rng(1)
    then, slip = np.array([0.0, 0.0, 0.01]), np.array([0.004, -0.003, 0.0])
    hand = random_pose(rng)
    segment = Segment(
        Subtask("p", "cubeB", held="cubeA"), random_path(rng, 9), np.ones(9), random_pose(rng), then
    )
    held_now = pose(np.eye(3), hand[:3, :3] @ (then + slip) + hand[:3, 3])
    moved = move(segment, segment.reference, 1, hand, held_now).targets
    object_then = segment.targets[:, :3, :3] @ then + segment.targets[:, :3, 3]
    object_now = moved[:, :3, :3] @ (then + slip) + moved[:, :3, 3]
    np.testing.assert_allclose(object_now, object_then, atol=1e-9)


def test_a_bridge_leads_from_one_pose_to_the_other_within_the_limits() -> None:
    rng = np.random.default_rng(2)
    start, end = random_pose(rng), random_pose(rng)
    path = np.concatenate([start[None], bridge(start, end), end[None]])
    assert np.linalg.norm(np.diff(path[:, :3, 3], axis=0), axis=1).max() <= MAX_SPEED_MPS / CONTROL_HZ + 1e-9


def test_a_demonstration_that_never_completes_a_part_cannot_be_cut() -> None:
    path = random_path(np.random.default_rng(0), 30)
    signals = dict.fromkeys(get_task("Stack").stages, np.zeros(30))
    objects = {"cubeA": path, "cubeB": path}
    info = DatagenInfo(path, objects, signals, path, -np.ones((30, 1)))
    with pytest.raises(DataError, match="demo_3: its part 'lift' cannot be cut, since the stage 'lift'"):
        cut(info, get_task("Stack"), "demo_3")
    info.subtask_term_signals["lift"] = np.ones(30)
    assert len(cut(info, get_task("Stack"), "demo_3")) == 2


def test_selection_prefers_what_is_near() -> None:
    rng = np.random.default_rng(0)
    targets = np.tile(np.eye(4), (3, 1, 1))
    segments = [
        Segment(Subtask("p", "cube"), targets, np.ones(3), pose(np.eye(3), [0.01 * i, 0, 0]), None)
        for i in range(20)
    ]
    now = pose(np.eye(3), [0.10, 0, 0])
    chosen = {select("nearest_object", segments, now, np.eye(4), 1, rng) for _ in range(100)}
    assert chosen == {9, 10, 11}
    assert len({select("random", segments, now, np.eye(4), 1, rng) for _ in range(300)}) == 20


def demonstration(task: str, length: int, **signals: list[int]) -> DatagenInfo:
    """A hand that moves by 1 mm a step, objects at rest; ``signals`` are the steps at which a stage holds."""
    hand = np.tile(np.eye(4), (length, 1, 1))
    hand[:, 0, 3] = 0.5 + 0.001 * np.arange(length)
    stages = {stage: np.zeros(length, np.int64) for stage in get_task(task).stages}
    for stage, steps in signals.items():
        stages[stage][steps] = 1
    poses = {name: np.tile(np.eye(4), (length, 1, 1)) for name in get_task(task).objects}
    return DatagenInfo(hand, poses, stages, hand.copy(), -np.ones((length, 1)))


def test_a_part_begins_after_the_attempt_that_was_undone_and_ends_where_it_is_completed_for_good() -> None:
    held, again = [*range(20, 30)], [*range(60, 63), *range(66, 80)]  # touch is lost from 63 to 65
    info = demonstration("Stack", 100, lift=held + again)
    info.object_poses["cubeA"][25:40, 0, 3] = np.linspace(
        0.0, 0.05, 15
    )  # it slips, and comes to lie elsewhere
    info.object_poses["cubeA"][40:, 0, 3] = 0.05
    lift, place = cut(info, get_task("Stack"))
    assert lift.targets[0, 0, 3] == pytest.approx(0.530)
    assert lift.targets[-1, 0, 3] == pytest.approx(0.560)
    assert lift.reference[0, 3] == pytest.approx(0.05)
    assert place.targets[0, 0, 3] == pytest.approx(0.561)


def test_reference_poses_are_of_objects_at_rest() -> None:
    info = demonstration("Lift", 60)
    falls_m = np.array([0.010, 0.006, 0.001, 0.0015, 0.0005])
    info.object_poses["cube"][: len(falls_m), 2, 3] = falls_m
    info.object_poses["cube"][50:, 2, 3] = np.linspace(0, 0.1, 10)  # lifted
    info.gripper_action[45:] = 1
    assert cut(info, get_task("Lift"))[0].reference[2, 3] == 0.0
    never = demonstration("Lift", 60)
    never.object_poses["cube"][:, 0, 3] = 0.01 * np.arange(60)  # rolls; what counts is where it is reached
    never.gripper_action[45:] = 1
    assert cut(never, get_task("Lift"))[0].reference[0, 3] == pytest.approx(0.45)


def test_the_nearest_demonstration_is_found_by_any_of_an_objects_equivalent_yaws() -> None:
    def lying(x_m: float, yaw_deg: float) -> Segment:
        at = pose(Rotation.from_euler("z", yaw_deg, degrees=True).as_matrix(), [x_m, 0, 0.02])
        return Segment(Subtask("p", "cube"), at[None], np.ones(1), at, None)

    here = lying(0.0, 0.0).reference
    segments = [lying(0.0, 90.0), *(lying(0.09, 0.0) for _ in range(6))]
    rng = np.random.default_rng(0)
    for strategy in ("nearest_object", "nearest_robot"):
        for symmetry, chosen in ((4, True), (1, False)):
            drawn = {select(strategy, segments, here, here, symmetry, rng) for _ in range(60)}
            assert (0 in drawn) == (chosen or strategy == "nearest_robot")


class Person:
    """Comes down on the cube, ``off_m`` off its middle, waits, closes, waits, lifts."""

    def __init__(self, world: Any, off_m: float) -> None:
        hand, cube = world.end_effector_pose_in_base(), world.object_poses_in_base()["cube"][:3, 3]
        grasp = cube + off_m * hand[:3, 0] * [1, 1, 0] - [0, 0, 0.011]
        above, lifted = grasp + [0, 0, 0.08], grasp + [0, 0, 0.10]
        ways = [
            (hand[:3, 3], above, 40, -1), (above, grasp, 60, -1), (grasp, grasp, 20, -1),
            (grasp, grasp, 15, 1), (grasp, lifted, 60, 1),
        ]  # fmt: skip
        self._rotation = hand[:3, :3]
        self._plan = [(a + (b - a) * (i + 1) / n, g) for a, b, n, g in ways for i in range(n)]

    def predict(self, observation: Any, *_: Any) -> tuple[np.ndarray, Any]:
        position, gripper = self._plan.pop(0) if len(self._plan) > 1 else self._plan[0]
        return reachable_action(pose(self._rotation, position), gripper), None


@pytest.mark.parametrize("off_m", [0.0, 0.024])
def test_the_hand_closes_where_the_demonstration_closed(off_m: float) -> None:
    env = WorldConfig("Lift", obs="state").make("all")
    world: Any = env.unwrapped
    placement = {"placement": {"cube": (0.02, -0.08, 0.0)}}
    recorder, person = EpisodeRecorder(), Late(lambda: Person(world, off_m))
    outcome = run_episode(env, person, seed=7, options=placement, recorder=recorder)
    info = recorder.finish(env, outcome, "person").datagen
    assert outcome.success
    assert info is not None
    closes = int(np.flatnonzero(info.gripper_action[:, 0] > 0)[0])
    segments = cut(info, world.task)
    for x, y in ((0.02, -0.08), (-0.05, 0.1)):
        observation, _ = env.reset(seed=7, options={"placement": {"cube": (x, y, 0.0)}})
        actor = SegmentActor(world, [segments], "random", np.random.default_rng(0))
        while (action := actor.predict(observation)[0])[6] <= 0:
            observation = env.step(action)[0]
        there = np.linalg.inv(world.object_poses_in_base()["cube"]) @ world.end_effector_pose_in_base()
        demonstrated = np.linalg.inv(info.object_poses["cube"][closes]) @ info.eef_pose[closes]
        assert np.linalg.norm(there[:3, 3] - demonstrated[:3, 3]) < 0.002
    env.close()


class Late:
    """An actor that is made at the first step, when the world has been reset."""

    def __init__(self, make: Callable[[], Any]) -> None:
        self._make, self._actor = make, None

    def predict(self, observation: Any, *rest: Any) -> tuple[np.ndarray, Any]:
        self._actor = self._actor or self._make()
        return self._actor.predict(observation, *rest)


def test_every_target_of_every_part_is_gone_to(demonstrations: Path) -> None:
    """Also the last one of each: a step that is left out makes the next one twice as long."""
    task = load_segments(demonstrations).task
    env = WorldConfig(task, obs="state").make("all")
    observation, _ = env.reset(seed=1)
    actor = SegmentActor(
        env.unwrapped, load_segments(demonstrations).segments, "random", np.random.default_rng(0)
    )
    planned: list[np.ndarray] = []
    plan_subtask = actor._plan_subtask

    def watched(index: int) -> Any:
        plan = plan_subtask(index)
        planned.extend(step.action for step in plan)
        return plan

    actor._plan_subtask = watched  # type: ignore[method-assign]
    given = []
    for _ in range(200):
        action, _ = actor.predict(observation)
        given.append(action)
        observation = env.step(action)[0]
    left = iter(given)
    assert all(any(np.array_equal(target, action) for action in left) for target in planned)
    np.testing.assert_array_equal(given[-1], planned[-1])
    env.close()


# --- generation -------------------------------------------------------------------------------------


@pytest.fixture(scope="session", params=["Lift", "Stack"])
def demonstrations(request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Two state demonstrations by the expert."""
    path = tmp_path_factory.mktemp("demonstrations") / request.param
    list(fill_dataset(path, ActorRecorder(WorldConfig(request.param, obs="state"), "all"), 2, 0, 1))
    return path


def test_generation_succeeds_and_its_data_can_be_generated_from(demonstrations: Path, tmp_path: Path) -> None:
    task, segments, left_out = load_segments(demonstrations)
    assert (len(segments), left_out) == (2, [])
    recipe = Generator(demonstrations, WorldConfig(task, image_size=(24, 32)))
    attempts = list(fill_dataset(tmp_path / "generated", recipe, 4, 100, 1))
    assert len(attempts) <= 6
    dataset = Dataset(tmp_path / "generated")
    assert len(dataset) == 4
    episode = dataset.read(0)
    assert episode.observations["agentview_image"].shape == (len(episode), 24, 32, 3)
    assert episode.meta["actor"] == "generate"
    assert episode.datagen is not None
    np.testing.assert_allclose(
        episode.datagen.eef_pose[:, :3, 3], episode.observations["robot0_eef_pos"], atol=1e-3
    )
    assert len(load_segments(tmp_path / "generated").segments) == 4


@pytest.mark.slow
def test_a_demonstration_from_another_scene_is_moved_to_the_tasks_own(tmp_path: Path) -> None:
    """From robosuite's two tall pegs on a higher table to our short one."""
    with DatasetWriter(tmp_path / "human") as writer:
        for episode in import_demonstrations(fetch_demonstrations(["Square"])["Square"]):
            writer.add(episode)
    recipe = Generator(tmp_path / "human", WorldConfig("Square", obs="state"))
    with ExitStack() as stack:
        work = recipe.make_work(stack)
        solved = sum(work(seed, lambda: None).episode is not None for seed in range(10))
    assert solved >= 6


def test_failed_and_damaged_demonstrations_are_left_out_and_named(
    demonstrations: Path, tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    folder = tmp_path / "mixed"
    shutil.copytree(demonstrations, folder)
    Dataset(folder).infos[0].path.write_bytes(b"damaged")
    failed = Dataset(folder).read(0)
    failed.meta |= {"success": False, "stage": "reach"}
    with DatasetWriter(folder) as writer:
        writer.add(failed)
    recipe = Generator(folder, WorldConfig(demonstrations.name))
    recipe.check()
    assert len(load_segments(folder).segments) == 1
    assert ["damaged" in line or "failed after the stage 'reach'" in line for line in caplog.messages] == [
        True,
        True,
    ]
    drop_episodes(folder, [1])
    with pytest.raises(DataError, match=r"no demonstration to generate from.*damaged.*failed after"):
        recipe.check()


def test_generated_motion_follows_the_shifted_gains(demonstrations: Path) -> None:
    def path_m(shift: str) -> np.ndarray:
        task = load_segments(demonstrations).task
        recipe = Generator(demonstrations, WorldConfig(task, shift=shift, image_size=(24, 32)))
        with ExitStack() as stack:
            episode = recipe.make_work(stack)(3, lambda: None).episode
        assert episode is not None
        assert episode.meta["shift"] == shift
        return episode.observations["robot0_eef_pos"]

    firm, soft = path_m("none"), path_m("gains")
    np.testing.assert_array_equal(firm[0], soft[0])
    both = min(len(firm), len(soft))
    assert np.linalg.norm(firm[:both] - soft[:both], axis=1).max() > 0.005


def test_every_selection_works(demonstrations: Path) -> None:
    task = load_segments(demonstrations).task
    for selection in SELECTIONS:
        work = Generator(demonstrations, WorldConfig(task, obs="state"), selection=selection).make_work(
            ExitStack()
        )
        assert any(work(seed, lambda: None).episode is not None for seed in range(3))


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"selection": "best"}, "Unknown selection 'best'"),
        ({"region": "left"}, "Unknown region 'left'"),
        ({"noise_m": 1.0}, "Action noise 1.0 m"),
        ({"demonstrations": Path("nowhere")}, "nowhere does not exist"),
    ],
)
def test_a_bad_recipe_is_refused_at_once(demonstrations: Path, change: dict[str, Any], message: str) -> None:
    task = load_segments(demonstrations).task
    arguments: dict[str, Any] = {
        "demonstrations": demonstrations,
        "world": WorldConfig(task),
        "region": "all",
    } | change
    with pytest.raises((UsageError, DataError), match=message):
        Generator(**arguments).check()


# --- filling ----------------------------------------------------------------------------------------


def recipe() -> ActorRecorder:
    return ActorRecorder(WorldConfig("Lift", obs="state"), "in")


def stored(path: Path) -> list[tuple[int, float]]:
    dataset = Dataset(path)
    return [(info.meta["seed"], float(dataset.read(i).actions.sum())) for i, info in enumerate(dataset.infos)]


@pytest.mark.slow
def test_what_is_stored_does_not_depend_on_the_workers(tmp_path: Path) -> None:
    for workers in (1, 2):
        list(fill_dataset(tmp_path / str(workers), recipe(), 5, 10, workers))
    assert stored(tmp_path / "1") == stored(tmp_path / "2")
    assert [seed for seed, _ in stored(tmp_path / "1")] == [10, 11, 12, 13, 14]


def test_a_dataset_is_continued_after_its_last_seed(tmp_path: Path) -> None:
    list(fill_dataset(tmp_path / "parts", recipe(), 2, 0, 1))
    assert len(list(fill_dataset(tmp_path / "parts", recipe(), 4, 0, 1))) == 2
    for fewer in (4, 3):
        assert list(fill_dataset(tmp_path / "parts", recipe(), fewer, 0, 1)) == []
    list(fill_dataset(tmp_path / "whole", recipe(), 4, 0, 1))
    assert stored(tmp_path / "parts") == stored(tmp_path / "whole")


def test_two_processes_do_not_fill_one_dataset(tmp_path: Path) -> None:
    first, late = (fill_dataset(tmp_path, recipe(), 2, 0, 1) for _ in range(2))
    next(first)
    with pytest.raises(DataError, match="Another process is filling"):
        next(fill_dataset(tmp_path, recipe(), 2, 0, 1))
    list(first)
    with pytest.raises(DataError, match=r"has added to .* meanwhile"):
        next(late)
    assert [seed for seed, _ in stored(tmp_path)] == [0, 1]


class Hopeless(ActorRecorder):
    """Never succeeds."""

    def make_work(self, stack: ExitStack) -> Work[int, Attempt]:
        return lambda seed, heartbeat: Attempt(seed, "in", "reach", None)


def test_a_hopeless_recipe_is_given_up_however_many_episodes_are_wanted(tmp_path: Path) -> None:
    with pytest.raises(DataError, match="Only 0 of 100 attempts succeeded"):
        list(fill_dataset(tmp_path / "d", Hopeless(WorldConfig("Lift"), "in"), 5000, 0, 1))


def test_evaluation_seeds_are_never_tried(tmp_path: Path) -> None:
    hopeless = fill_dataset(tmp_path / "d", Hopeless(WorldConfig("Lift"), "in"), 3, LAST_SEED - 9, 1)
    with pytest.raises(DataError, match="No seed below 1000000 is left"):
        assert [attempt.seed for attempt in hopeless] == list(range(LAST_SEED - 9, LAST_SEED))


@pytest.mark.parametrize(("episodes", "seed"), [(0, 0), (1, -1), (1, LAST_SEED), (3, LAST_SEED - 1)])
def test_numbers_out_of_range_are_refused(tmp_path: Path, episodes: int, seed: int) -> None:
    with pytest.raises(UsageError):
        list(fill_dataset(tmp_path / "d", recipe(), episodes, seed, 1))


def test_a_dataset_of_another_kind_is_refused_before_anything_is_played(
    demonstrations: Path, tmp_path: Path
) -> None:
    seen = Hopeless(WorldConfig(demonstrations.name, obs="image"), "all")
    with pytest.raises(DataError, match="object is not there"):
        next(fill_dataset(demonstrations, seen, 5, 0, 1))


def test_continuing_in_a_world_that_looks_different_warns(
    demonstrations: Path, caplog: pytest.LogCaptureFixture
) -> None:
    recipe = Hopeless(WorldConfig(demonstrations.name, obs="state", shift="light"), "in")
    next(fill_dataset(demonstrations, recipe, 5, 0, 1))
    assert [record.args[1:] for record in caplog.records] == [
        ("shift", "none", "light"),
        ("region", "all", "in"),
    ]


@pytest.mark.slow
def test_eight_workers_fit_into_a_laptop(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """With all that is dear: images, every shift, noise; and no compiler of torch, where there is one."""
    human = tmp_path / "human"
    list(fill_dataset(human, ActorRecorder(WorldConfig("Lift", obs="state"), "all"), 1, 0, 1))
    compiler = tmp_path / "site" / "triton"
    compiler.mkdir(parents=True)
    (compiler / "__init__.py").touch()
    monkeypatch.setenv("PYTHONPATH", f"{compiler.parent}:{os.environ.get('PYTHONPATH', '')}")
    recipe = Generator(human, WorldConfig("Lift", shift=STAND_IN), noise_m=0.01)
    done = list(run_in_processes(Measured(recipe), [0, 1], 2))
    for attempt, peak_MB, imported in done:
        assert attempt.episode is None or "agentview_image" in attempt.episode.observations
        assert 100 < peak_MB < 600
        assert not imported
    assert any(attempt.episode is not None for attempt, *_ in done)
