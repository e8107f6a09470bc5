"""Evaluations: the same episodes for everyone, none played twice, nothing lost, and a report that adds up."""

import csv
import json
import shutil
from dataclasses import dataclass, replace

import numpy as np
import pytest
from films import read_mp4
from hypothesis import given
from hypothesis import strategies as st

from simreal_agents.actors.experts import make_expert
from simreal_agents.actors.factories import Expert, TrainedPolicy
from simreal_agents.evaluation.episode_log import LOG_NAME, EpisodeLog, EpisodeResult
from simreal_agents.evaluation.play import _plan, evaluate
from simreal_agents.evaluation.report import pool, report
from simreal_agents.evaluation.videos import record_episodes
from simreal_agents.policies.config import load_config
from simreal_agents.study.collect import ActorRecorder
from simreal_agents.training.train import train
from simreal_cli.eval import _actors
from simreal_datasets.making.fill import fill_dataset
from simreal_envs.errors import DataError, UsageError
from simreal_envs.robot.safety import load_limits
from simreal_envs.seeds import SEEDS as RANGES
from simreal_envs.seeds import SELECTION, TEST
from simreal_envs.spec import CONTROL_HZ
from simreal_envs.world_config import WorldConfig

LIFT = WorldConfig("Lift", obs="state", max_steps=120)
FIRST_SEED = RANGES[TEST].start
SEEDS = range(FIRST_SEED, FIRST_SEED + 3)
STAGES = ("reach", "grasp", "lift")


@dataclass(frozen=True)
class Half:
    """Lifts cubes that lie in the nearer half of the table and leaves the others alone."""

    def identity(self) -> str:
        return "half"

    def make(self, env):
        expert = make_expert(env)
        world = env.unwrapped

        class Actor:
            def predict(self, observation, state=None, episode_start=None, deterministic=True):
                action, state = expert.predict(observation, state, episode_start, deterministic)
                if world.object_poses_in_base()["cube"][0, 3] > 0.56:
                    action[:3] = observation["robot0_eef_pos"]
                    action[6] = -1.0
                return action, state

        return Actor()


ACTORS = {"expert": Expert(), "half": Half()}


@pytest.fixture(scope="module")
def played(tmp_path_factory):
    """One evaluation, in this process."""
    folder = tmp_path_factory.mktemp("played")
    return folder, evaluate(ACTORS, LIFT, ["in", "ood"], SEEDS, folder)


def test_every_actor_plays_the_same_episodes(played):
    _, results = played
    by_name = {name: [(r.region, r.seed) for r in results if r.name == name] for name in ACTORS}
    assert by_name["expert"] == by_name["half"] == [(region, s) for region in ("in", "ood") for s in SEEDS]
    assert all(r.success and r.failed_at == "" for r in results if r.name == "expert")
    outcomes = {r.success for r in results if r.name == "half"}
    assert outcomes == {True, False}, "choose seeds with cubes in both halves"
    assert all(r.failed_at for r in results if not r.success)


@pytest.mark.slow
def test_processes_give_the_same_results_as_one(played, tmp_path):
    assert evaluate(ACTORS, LIFT, ["in", "ood"], SEEDS, tmp_path, workers=2) == played[1]


def test_an_evaluation_goes_on_where_it_stopped(played, tmp_path):
    folder, results = played
    lines = (folder / LOG_NAME).read_bytes().splitlines(keepends=True)
    torn = b"".join(lines[:5]) + lines[5][:40]
    (tmp_path / LOG_NAME).write_bytes(torn)
    seen = []
    assert evaluate(ACTORS, LIFT, ["in", "ood"], SEEDS, tmp_path, on_result=seen.append) == results
    assert sorted(r.key for r in seen) == sorted(r.key for r in results)
    assert (tmp_path / LOG_NAME).read_bytes().startswith(b"".join(lines[:5]))
    assert len((tmp_path / LOG_NAME).read_bytes().splitlines()) == len(lines)


def test_a_finished_evaluation_plays_nothing(played):
    folder, results = played
    before = (folder / LOG_NAME).stat().st_mtime_ns
    renamed = {"renamed": Expert(), "half": Half()}
    again = evaluate(renamed, LIFT, ["in"], SEEDS, folder)
    assert [r.name for r in again[:3]] == ["renamed"] * 3
    assert [r.success for r in again] == [r.success for r in results if r.region == "in"]
    assert (folder / LOG_NAME).stat().st_mtime_ns == before


def test_what_was_done_is_kept_when_the_caller_breaks_off(tmp_path):
    seen = []

    def stop_after_two(result):
        seen.append(result)
        if len(seen) == 2:
            raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        evaluate({"expert": Expert()}, LIFT, ["in"], SEEDS, tmp_path, workers=2, on_result=stop_after_two)
    assert len((tmp_path / LOG_NAME).read_text().splitlines()) == 2
    with (tmp_path / "episodes.csv").open() as file:
        assert [int(row["seed"]) for row in csv.DictReader(file)] == [r.seed for r in seen]


@pytest.mark.parametrize(
    ("regions", "seeds", "message"),
    [
        (["in", "inside"], SEEDS, "Unknown region 'inside'. Valid: in, ood, all"),
        (["in"], [], "at least one"),
        (["in"], [FIRST_SEED, FIRST_SEED], "twice"),
        (["in", "in"], SEEDS, "twice"),
    ],
)
def test_bad_arguments_are_refused_before_anything_is_played(tmp_path, regions, seeds, message):
    with pytest.raises(UsageError, match=message):
        evaluate({"expert": Expert()}, LIFT, regions, seeds, tmp_path / "new")
    assert not (tmp_path / "new").exists()


@pytest.fixture(scope="module")
def run_folder(tmp_path_factory):
    """A policy trained for two updates, on one demonstration a domain."""
    folder = tmp_path_factory.mktemp("run")
    world = WorldConfig("Lift", obs="image", image_size=(72, 96))
    for domain, seed in (("source", 0), ("target", 1)):
        recipe = ActorRecorder(world, "in")
        list(fill_dataset(folder / domain, recipe, 1, seed, workers=1))
    overrides = [f"data.source={folder / 'source'}", f"data.target={folder / 'target'}", "optim.updates=2"]
    train(load_config("cpu-image", "cotrain", [*overrides, "checkpoint_every=1"]), folder / "run")
    return folder / "run"


@pytest.mark.slow
def test_a_trained_policy_is_evaluated_by_its_weights(run_folder, tmp_path):
    first, last = TrainedPolicy.at(run_folder, "1"), TrainedPolicy.at(run_folder)
    assert last == TrainedPolicy.at(run_folder, "2")
    assert first.identity() != last.identity()
    moved = tmp_path / "moved"
    shutil.copytree(run_folder, moved)
    assert TrainedPolicy.at(moved).identity() == last.identity()
    state = moved / "checkpoints" / "0000002" / "state.json"
    state.write_text(state.read_text().replace('"execute": 4', '"execute": 8'))
    assert TrainedPolicy.at(moved).identity() != last.identity()

    world = WorldConfig.showing(first.world(), shift="texture", max_steps=20)
    actors = {"after 1": first, "after 2": last}
    results = evaluate(actors, world, ["ood"], SEEDS[:1], tmp_path / "two", workers=2)
    assert [r.actor for r in results] == [first.identity(), last.identity()]
    assert evaluate({"after 2": last}, world, ["ood"], SEEDS[:1], tmp_path / "one", workers=1) == results[1:]


def test_a_run_given_by_where_one_is_has_its_folders_name(run_folder, monkeypatch):
    monkeypatch.chdir(run_folder / "checkpoints")
    assert list(_actors([".."], "last")) == ["run"]


def test_other_limits_are_another_robot(tmp_path):
    limits = {"none": None, "same": tmp_path / "same.yaml", "other": tmp_path / "other.yaml"}
    limits["same"].write_text(f"watchdog_hold_s: {load_limits().watchdog_hold_s}")
    limits["other"].write_text("watchdog_hold_s: 0.5\nwatchdog_stop_s: 3.0")
    worlds = {name: WorldConfig("Lift", "rig", limits=file and str(file)) for name, file in limits.items()}
    keys = {name: _plan({"e": Expert()}, world, ["in"], [0])[0].key(world) for name, world in worlds.items()}
    assert keys["none"] == keys["same"] != keys["other"]


def test_a_policy_refuses_a_world_it_was_not_made_for_before_anything_is_played(run_folder, tmp_path):
    actors = {"expert": Expert(), "policy": TrainedPolicy.at(run_folder)}
    for world, message in [
        (WorldConfig("Stack", image_size=(72, 96)), "task is 'Stack'"),
        (WorldConfig("Lift", image_size=(84, 84)), "image_size"),
        (WorldConfig("Lift", obs="state"), "agentview_image"),
    ]:
        with pytest.raises(DataError, match=message):
            evaluate(actors, world, ["in"], SEEDS, tmp_path)
    assert (tmp_path / LOG_NAME).read_bytes() == b""


def _result(name="uot", region="in", seed=FIRST_SEED, failed_at="", **changes) -> EpisodeResult:
    success = failed_at == ""
    reached = len(STAGES) if success else STAGES.index(failed_at)
    values = {"name": name, "actor": name, "task": "Lift", "env": "sim", "shift": "none", "region": region}
    return EpisodeResult(
        **values | {"seed": seed, "success": success, "steps": 50, "stages_reached": reached}
        | {"failed_at": failed_at, "max_steps": 500} | changes
    )  # fmt: skip


@given(st.data())
def test_a_log_cut_anywhere_keeps_every_complete_line(tmp_path_factory, data):
    folder = tmp_path_factory.mktemp("log")
    results = [_result(seed=FIRST_SEED + i) for i in range(3)]
    with EpisodeLog(folder) as log:
        for result in results:
            log.append(result)
    path = folder / LOG_NAME
    content = path.read_bytes()
    cut = data.draw(st.integers(0, len(content)))
    path.write_bytes(content[:cut])
    with EpisodeLog(folder) as log:
        kept = [result for result in results if log.find(result.key, result.name)]
        assert len(kept) == content[:cut].count(b"\n")
        for result in results[len(kept) :]:
            log.append(result)
    assert path.read_bytes() == content


@pytest.mark.parametrize("line", ["{broken", '{"name": "uot"}', "[1]", "null"])
def test_a_damaged_line_is_named(tmp_path, line):
    with EpisodeLog(tmp_path) as log:
        log.append(_result())
    path = tmp_path / LOG_NAME
    path.write_text(path.read_text() + line + "\n")
    with pytest.raises(DataError, match=r"episodes\.jsonl, line 2"):
        EpisodeLog(tmp_path)
    path.write_text(path.read_text().splitlines()[0] + "\n")
    EpisodeLog(tmp_path).__exit__(None, None, None)


def _rows(folder) -> list[dict[str, str]]:
    with (folder / "episodes.csv").open() as file:
        return list(csv.DictReader(file))


def test_the_table_grows_with_the_log_and_is_mended_when_the_log_is_opened(tmp_path):
    with EpisodeLog(tmp_path) as log:
        for i in range(3):
            log.append(_result(seed=FIRST_SEED + i))
            assert [int(row["seed"]) for row in _rows(tmp_path)] == [FIRST_SEED + k for k in range(i + 1)]
        log.append(_result(seed=FIRST_SEED + 1, failed_at="grasp"))
        assert [row["success"] for row in _rows(tmp_path)] == ["True", "False", "True"]
    whole = _rows(tmp_path)
    table = tmp_path / "episodes.csv"
    table.write_bytes(table.read_bytes()[:-30])  # as a kill may leave it
    with EpisodeLog(tmp_path):
        assert _rows(tmp_path) == whole


def test_only_on_demand_interrupted_episodes_are_played_again(tmp_path):
    (first, second) = evaluate({"half": Half()}, LIFT, ["in"], SEEDS[:2], tmp_path)
    broken = replace(first, success=False, failed_at="reach", interrupted="link lost")
    failed = replace(second, success=False, failed_at="reach", steps=1)
    with EpisodeLog(tmp_path) as log:
        log.append(broken)
        log.append(failed)
    assert evaluate({"half": Half()}, LIFT, ["in"], SEEDS[:2], tmp_path) == [broken, failed]
    again = evaluate({"half": Half()}, LIFT, ["in"], SEEDS[:2], tmp_path, redo_interrupted=True)
    assert again == [first, failed]
    assert evaluate({"half": Half()}, LIFT, ["in"], SEEDS[:2], tmp_path) == [first, failed]


def test_a_log_has_one_writer(tmp_path):
    with EpisodeLog(tmp_path), pytest.raises(DataError, match="Another evaluation"):
        EpisodeLog(tmp_path)


def _many(name: str, region: str, successes: int, trials: int, **changes) -> list[EpisodeResult]:
    """Successes come first, then failures at grasp."""
    return [
        _result(name, region, FIRST_SEED + i, "" if i < successes else "grasp", **changes)
        for i in range(trials)
    ]


def test_report_counts_intervals_tests_and_stages(tmp_path):
    results = [*_many("uot", "ood", 30, 40), *_many("cotrain", "ood", 18, 40), *_many("mmd", "ood", 29, 40)]
    summary = report(results, STAGES)
    cell = summary.cell("uot", "ood")
    assert (cell.successes, cell.trials, cell.rate) == (30, 40, 0.75)
    assert (cell.low, cell.high) == pytest.approx((0.598, 0.858), abs=1e-3)
    assert cell.failed_at == {"reach": 0, "grasp": 10, "lift": 0}
    cotrain, mmd = summary.comparisons
    assert (cotrain.first, cotrain.second, cotrain.test.discordant) == ("uot", "cotrain", 12)
    assert cotrain.test.p_value == pytest.approx(2 / 2**12)
    assert cotrain.p_adjusted == pytest.approx(4 / 2**12)
    assert mmd.test.p_value == mmd.p_adjusted == 1.0

    summary.write(tmp_path)
    markdown = (tmp_path / "report.md").read_text()
    assert "30/40 = 75 % [60, 86]" in markdown
    assert "| uot | cotrain | ood | +30 | 12 : 0 | 4.9e-04 | 9.8e-04 |" in markdown
    assert json.loads((tmp_path / "summary.json").read_text())["cells"][0]["successes"] == 30
    with (tmp_path / "summary.csv").open() as file:
        rows = list(csv.DictReader(file))
    assert [(row["name"], row["successes"], row["trials"]) for row in rows] == [
        ("uot", "30", "40"), ("cotrain", "18", "40"), ("mmd", "29", "40"),
    ]  # fmt: skip


COMPLETE = [
    _result(name, region, FIRST_SEED + i, "" if i else "grasp", replicate=k, actor=f"{name}-{k}")
    for name in ("uot", "cotrain", "mmd")
    for region in ("in", "ood")
    for k in (0, 1)
    for i in range(3)
]
"""Two trainings of three methods, three episodes in each of two regions."""


@given(st.sets(st.sampled_from(range(len(COMPLETE)))))
def test_any_part_of_an_evaluation_is_a_report_or_an_error_that_says_who_lacks_what(chosen):
    part = [COMPLETE[i] for i in sorted(chosen)]
    episodes = {
        region: {
            name: {(r.replicate, r.seed) for r in part if (r.name, r.region) == (name, region)}
            for name in {r.name for r in part}
        }
        for region in {r.region for r in part}
    }
    lack = {
        (name, region)
        for region, of in episodes.items()
        for name, played_ in of.items()
        if played_ != set.union(*of.values())
    }
    try:
        summary = report(part, STAGES)
    except UsageError as error:
        assert lack or not part
        for name, region in lack:
            count = len(episodes[region][name])
            said = f"{name} has {count} of " if count else f"{name} lacks region {region!r}"
            assert said in str(error)  # noqa: PT017
    else:
        assert part
        assert not lack
        for region, of in episodes.items():
            for name, played_ in of.items():
                assert summary.cell(name, region).trials == len(played_)
        summary.to_markdown()


def test_what_a_policy_lacks_is_said_by_region_training_and_seed():
    def without(**what):
        return [r for r in COMPLETE if any(getattr(r, key) != value for key, value in what.items())]

    with pytest.raises(UsageError, match=r"same episodes; mmd lacks region 'ood' \(6 episodes\)\.$"):
        report(without(name="mmd", region="ood"), STAGES)
    with pytest.raises(UsageError, match=r"mmd has 3 of 6 in region 'in': it lacks training seed 1\.$"):
        report(without(name="mmd", region="in", replicate=1), STAGES)
    lost = FIRST_SEED + 2
    with pytest.raises(
        UsageError, match=rf"uot has 5 of 6 .* reset seeds {lost} \(test\) of training seed 1"
    ):
        report(without(name="uot", region="in", replicate=1, seed=lost), STAGES)
    with pytest.raises(UsageError, match=r"cotrain has 3 of 6 in region 'ood'.*; mmd lacks region"):
        report([r for r in without(name="mmd", region="ood") if r.name != "cotrain" or r.replicate], STAGES)


def test_a_cell_that_is_not_in_the_report_is_named_with_those_that_are():
    summary = report(_many("uot", "in", 3, 5), STAGES)
    for name, region in (("uot", "ood"), ("magic", "in")):
        with pytest.raises(UsageError, match=rf"{name} in '{region}'.* Valid: uot in 'in'"):
            summary.cell(name, region)


@pytest.mark.parametrize(
    ("changes", "named"),
    [
        ({"shift": "texture"}, r"shift 'none' \(uot\); 'texture' \(cotrain\)"),
        ({"max_steps": 200}, r"max_steps 500 \(uot\); 200 \(cotrain\)"),
        ({"env": "rig", "robot": "0123456789ab"}, r"env 'sim' .*, in robot '' \(uot\); '0123456789ab'"),
        ({"task": "Stack"}, "task 'Lift'"),
    ],
)
def test_results_of_several_worlds_are_no_report(changes, named):
    with pytest.raises(UsageError, match=f"one world; these results differ in {named}"):
        report([*_many("uot", "in", 3, 5), *_many("cotrain", "in", 3, 5, **changes)], STAGES)


def test_a_name_that_stands_for_two_policies_and_an_episode_that_is_there_twice_are_refused():
    with pytest.raises(UsageError, match=r"uot stands for 2 policies: uot, 0000002-abcdef"):
        report([*_many("uot", "in", 3, 5), *_many("uot", "ood", 3, 5, actor="0000002-abcdef")], STAGES)
    with pytest.raises(UsageError, match=f"Reset seed {FIRST_SEED} of uot in region 'in' is there twice"):
        report([_result(), _result(failed_at="reach")], STAGES)


def test_a_report_says_which_seeds_checkpoints_and_steps_its_numbers_are_of(tmp_path):
    results = [
        *_many("uot", "in", 3, 5, actor="0006000-0123456789ab"),
        *_many("expert", "in", 5, 5, actor="expert"),
    ]
    summary = report(results, STAGES)
    title, table = summary.to_markdown().split("\n\n")[:2]
    assert f"reset seeds {FIRST_SEED} to {FIRST_SEED + 4} (test)" in title
    assert "at most 500 steps" in title
    assert "| uot | 6000 | 3/5" in table
    assert "| expert | expert | 5/5" in table
    summary.write(tmp_path)
    stored = json.loads((tmp_path / "summary.json").read_text())
    assert stored["cells"][0]["actors"] == ["0006000-0123456789ab"]
    with (tmp_path / "summary.csv").open() as file:
        rows = list(csv.DictReader(file))
    assert [row["checkpoint"] for row in rows] == ["6000", "expert"]
    assert {row["seeds"] for row in rows} == {stored["seeds"]} == {summary.seeds}
    assert not summary.notes

    unlike = [*results[:5], *_many("uot", "ood", 3, 7, actor="0006000-0123456789ab")]
    assert f"in: {FIRST_SEED} to {FIRST_SEED + 4} (test); ood: " in report(unlike, STAGES).seeds
    first = RANGES[SELECTION].start
    chosen_on = report([replace(r, seed=first + i) for i, r in enumerate(results[:5])], STAGES)
    assert f"{first} to {first + 4} (selection)" in chosen_on.to_markdown()
    assert "flatter" in chosen_on.to_markdown()


def test_pairs_that_are_asked_for_are_compared_and_no_others():
    results = [r for name in "abcd" for region in ("in", "ood") for r in _many(name, region, 3, 5)]
    summary = report(results, STAGES, [("a", "c"), ("b", "d")])
    compared = [(c.first, c.second, c.region) for c in summary.comparisons]
    assert compared == [(*pair, region) for region in ("in", "ood") for pair in (("a", "c"), ("b", "d"))]
    with pytest.raises(UsageError, match=r"'e'\. Valid: a, b, c, d"):
        report(results, STAGES, [("a", "e")])


def test_trainings_of_one_method_are_pooled_and_paired_by_training_and_seed():
    runs = {f"{m}{k}": (m, k) for m in ("uot", "cotrain") for k in range(3)}
    solved = {"uot": (9, 8, 7), "cotrain": (5, 5, 5)}
    results = [r for run, (m, k) in runs.items() for r in _many(run, "in", solved[m][k], 10)]
    summary = report(pool(results, runs), STAGES)
    assert (summary.cell("uot", "in").successes, summary.cell("uot", "in").trials) == (24, 30)
    assert summary.comparisons[0].test.only_first == 9
    assert summary.comparisons[0].test.only_second == 0

    assert summary.cell("uot", "in").trainings == {0: (9, 10), 1: (8, 10), 2: (7, 10)}
    trainings = summary.comparisons[0].trainings
    assert (trainings.difference, trainings.p_value) == pytest.approx((0.3, 0.0351), abs=1e-4)
    markdown = summary.to_markdown()
    assert "| uot | in | 9/10 | 8/10 | 7/10 |" in markdown
    assert "| uot | cotrain | in | +30 [+5, +55] | 0.035 | 0.035 |" in markdown


def test_one_training_a_method_is_not_tested_over_trainings():
    runs = {"uot-0": ("uot", 0), "cotrain-0": ("cotrain", 0)}
    results = [*_many("uot-0", "in", 8, 10), *_many("cotrain-0", "in", 5, 10)]
    summary = report(pool(results, runs), STAGES)
    assert summary.comparisons[0].trainings is None
    assert "raining" not in summary.to_markdown()


@pytest.mark.slow
@pytest.mark.parametrize("which", ["failures", "successes"])
def test_videos_show_the_episodes_of_the_log_again(played, tmp_path, which):
    results = [r for r in played[1] if (r.region, r.name) == ("in", "half")]
    (path,) = record_episodes(results, ACTORS, LIFT, tmp_path, count=1, which=which)
    result = next(result for result in results if result.success == (which == "successes"))
    how = "solved" if result.success else f"failed_at_{result.failed_at}"
    assert path.name.startswith(f"half_in_{result.seed}_{how}_")
    assert [path] == list(tmp_path.iterdir())
    shown, fps = read_mp4(path)
    assert (shown.shape, fps) == ((result.steps, 480, 640, 3), CONTROL_HZ)

    env = LIFT.make("in", render_mode="rgb_array")  # the same episode, played by hand
    observation, _ = env.reset(seed=result.seed)
    actor, state = ACTORS["half"].make(env), None
    errors, of_next = [], []
    for t, frame in enumerate(shown):
        action, state = actor.predict(observation, state)
        observation, *_ = env.step(action)
        image = env.render().astype(int)
        errors.append(np.abs(image - frame).mean())
        of_next.append(np.abs(image - shown[min(t + 1, len(shown) - 1)]).mean())
    env.close()
    assert max(errors) < 3  # of 255
    assert not result.success or np.mean(errors) < 0.9 * np.mean(of_next)  # whose arm moves


@pytest.mark.slow
def test_videos_of_all_are_of_failures_and_successes(played, tmp_path):
    results = sorted((r for r in played[1] if r.name == "half"), key=lambda r: r.success)
    for result in results[:: len(results) - 1]:  # one that failed and one that succeeded
        name = record_episodes([result], ACTORS, LIFT, tmp_path, 1, "all")[0].name
        assert name.split("_")[3] == ("solved" if result.success else "failed")


def test_a_video_of_an_episode_that_ends_otherwise_is_refused(played, tmp_path):
    failed = replace(played[1][0], success=False, failed_at="lift", steps=played[1][0].steps)
    with pytest.raises(DataError, match="ended otherwise"):
        record_episodes([failed], ACTORS, LIFT, tmp_path, count=1)
    assert list(tmp_path.iterdir()) == []
