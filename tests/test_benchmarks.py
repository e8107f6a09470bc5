"""The benchmark scripts run, on a small scale: a script that nobody runs breaks unseen."""

import importlib
import json
import runpy
import sys
from dataclasses import replace
from pathlib import Path

import pytest
from demonstrations import write_dataset
from typer.testing import CliRunner

from simreal_agents.evaluation.episode_log import EpisodeLog, EpisodeResult
from simreal_agents.policies.config import load_config
from simreal_agents.training.train import train
from simreal_cli.main import app
from simreal_envs.seeds import SEEDS, TEST
from simreal_envs.tasks import TASKS

SCRIPTS = Path(__file__).parents[1] / "benchmarks"
DOCS = SCRIPTS.parent / "docs"


def _result(name: str, i: int, failed_at: str, **changes) -> EpisodeResult:
    result = EpisodeResult(
        name=name, actor=name, task="Lift", env="sim", shift="none", region="ood", seed=SEEDS[TEST].start + i,
        success=not failed_at, steps=50, stages_reached=0 if failed_at else 3, failed_at=failed_at,
        max_steps=200,
    )  # fmt: skip
    return replace(result, **changes)


@pytest.fixture
def run_script(monkeypatch, capsys):
    """Run a script with arguments in this process; returns what it printed."""

    def run(name: str, *arguments: object) -> str:
        monkeypatch.setattr(sys, "argv", [name, *map(str, arguments)])
        monkeypatch.setenv("COLUMNS", "160")
        runpy.run_path(str(SCRIPTS / name), run_name="__main__")
        return capsys.readouterr().out

    return run


def test_train_step_times_each_method_and_its_solver(run_script, monkeypatch):
    from simreal_agents.training.alignments import transport

    monkeypatch.setattr(transport, "transport_plan", transport.transport_plan)  # the script wraps it
    arguments = ["--sizes", "32x40", "--methods", "cotrain", "uot", "--amp", "none", "--updates", "2"]
    printed = run_script("train_step.py", *arguments, "--threads", "1")
    cotrain, uot = (row.split("|") for row in printed.splitlines()[2:])
    assert cotrain[3].strip() == "cotrain"
    assert float(cotrain[6].split()[0]) == 0
    assert uot[3].strip() == "uot"
    assert float(uot[6].split()[0]) > 0


def test_networks_counts_and_times_a_preset(run_script, monkeypatch, tmp_path):
    monkeypatch.syspath_prepend(SCRIPTS)
    small = [
        "--share",
        0.2,
        "--updates",
        1,
        "--loads",
        1,
        "--predictions",
        2,
        "--output",
        tmp_path / "n.json",
    ]
    printed = run_script("networks.py", "--presets", "cpu-diffusion", "--threads", 1, *small)
    row = json.loads((tmp_path / "n.json").read_text())["cpu-diffusion"]
    assert row["head"] > 1e6 > row["encoder"]
    assert row["batch_share"] == 13 / 64
    assert row["on_1"]["update_cpu_ms"] > row["on_1"]["predict_cpu_ms"] > 0
    assert "| `cpu-diffusion` | 0.03 M | 1.08 M |" in printed


def test_the_table_of_networks_is_that_of_its_figures(run_script, monkeypatch):
    monkeypatch.syspath_prepend(SCRIPTS)
    printed = run_script("networks.py", "--presets")
    assert printed in (DOCS / "training.md").read_text()


def test_the_table_of_policies_is_that_of_its_figures(run_script, monkeypatch):
    monkeypatch.syspath_prepend(SCRIPTS)
    assert run_script("policies_table.py") in (DOCS / "benchmarks.md").read_text()


def test_dtw_times_every_pair_of_sizes(run_script):
    printed = run_script("dtw.py", "--sources", 2, 3, "--targets", 1, 2)
    assert "2 x 1 demonstrations" in printed
    assert "3 x 2 demonstrations" in printed


def test_experts_solve_both_tasks(run_script):
    printed = run_script("experts.py", "--episodes", 2, "--noise", 0, "--tasks", "Lift", "Stack")
    assert "Lift, plain, shift none, noise 0.0 m: 2/2" in printed
    assert "Stack, plain, shift none, noise 0.0 m: 2/2" in printed


def test_the_page_of_tasks_is_that_of_its_figures():
    page = runpy.run_path(str(SCRIPTS / "tasks_page.py"))
    assert (DOCS / "tasks.md").read_text() == page["page"]()
    assert set(page["ORDER"]) == set(TASKS)
    assert all((DOCS / "pictures" / "tasks" / f"{name}.jpg").stat().st_size > 10_000 for name in TASKS)


@pytest.mark.slow
def test_a_task_is_measured_from_its_expert_to_a_policy(monkeypatch, tmp_path):
    monkeypatch.syspath_prepend(SCRIPTS)  # processes that are spawned import it too
    script = importlib.import_module("tasks")
    monkeypatch.setattr(script, "FIGURES", tmp_path / "figures")
    monkeypatch.setattr(script, "EXPERT_SEEDS", 2)
    monkeypatch.setattr(script, "GENERATED", {"in": (3, 1000), "ood": (2, 5000)})
    monkeypatch.setattr(script, "WITH_IMAGES", (1, 9000))
    monkeypatch.setattr(script, "TEST_EPISODES", 2)
    monkeypatch.setattr(script, "SETTINGS", ["--obs", "state", "--updates", "5"])
    sections = ["expert", "generation", "world", "learning"]
    arguments = ["tasks.py", "Lift", "--folder", str(tmp_path / "out"), "--only", *sections]
    monkeypatch.setattr(sys, "argv", arguments)
    script.main()
    figures = json.loads((tmp_path / "figures" / "Lift.json").read_text())
    assert figures["expert"]["varied"]["ood"]["solved"] == 2
    assert figures["generation"]["in"]["replayed_open_loop"] == figures["generation"]["in"]["succeeded"] == 3
    assert figures["generation"]["in"]["nearest_path_mm"] > 1.0
    assert figures["world"]["image"]["deterministic"]
    learnt = figures["learning"]
    assert learnt["solved"] + sum(learnt["failed_at"].values()) == 2
    script.main()  # what is there is not measured again
    assert json.loads((tmp_path / "figures" / "Lift.json").read_text()) == figures


@pytest.mark.slow
def test_who_knows_nothing_of_a_task_does_not_solve_it(run_script, tmp_path):
    """What `benchmarks/idle.py` measures, shorter; `test_task_scenes.py` has a test of holding still."""
    output = tmp_path / "figures" / "idle.json"
    arguments = ["--episodes", 3, "--steps", 60, "--actors", "uniform", "walk", "--workers", 1]
    run_script("idle.py", *arguments, "--output", output)
    measured = json.loads(output.read_text())["tasks"]
    assert set(measured) == set(TASKS.built_in)
    for task, actors in measured.items():
        for actor, cell in actors.items():
            assert (cell["solved"], cell["episodes"], cell["steps"]) == (0, 3, 180), (task, actor)


def test_a_rule_that_is_too_easy_shows_and_an_interrupted_measurement_goes_on(
    run_script, tmp_path, monkeypatch
):
    output = tmp_path / "idle.json"
    arguments = ["--steps", 3, "--tasks", "Lift", "--actors", "still", "--workers", 1, "--output", output]
    printed = run_script("idle.py", "--episodes", 1, *arguments)
    assert "solved:" not in printed
    monkeypatch.setattr("simreal_envs.tasks.lift.LIFTED_M", 0.0)
    printed = run_script("idle.py", "--episodes", 3, *arguments)
    assert printed.count("solved:") == 2
    cell = json.loads(output.read_text())["tasks"]["Lift"]["still"]
    assert (cell["episodes"], cell["solved"], cell["solved_seeds"]) == (3, 2, [1, 2])  # 0 was played before


def test_matches_of_demonstrations_with_themselves_show_objects_in_the_same_place(run_script, tmp_path):
    demos = tmp_path / "demos"
    command = ["collect", demos, "--task", "Lift", "--episodes", 4, "--image-size", 24, 32, "--workers", 1]
    collected = CliRunner().invoke(app, list(map(str, command)))
    assert collected.exit_code == 0, collected.output
    printed = run_script("matches.py", demos, demos, "--set", "encoder.image.stem_stride=2")
    apart_mm, *off_mm = (float(line.split(" mm")[0].split()[-1]) for line in printed.splitlines())
    assert apart_mm < 10
    assert len(off_mm) == 2
    assert max(off_mm) < 10


@pytest.fixture
def tested(tmp_path):
    """Folders of two experiments with test episodes of training seeds 0 and 1, and 2."""
    for folder, seeds in (("a", (0, 1)), ("b", (2,))):
        with EpisodeLog(tmp_path / folder / "test") as log:
            for method, updates, solved in (("uot", 6000, 4), ("cotrain", 32000, 2)):
                for seed in seeds:
                    for i in range(5):
                        log.append(_result(f"{method}-{seed}@{updates}", i, "" if i < solved else "reach"))
            log.append(_result("by hand", 0, ""))  # a policy that is not of the experiment
    return tmp_path


def test_compare_pools_the_trainings_of_different_checkpoints(run_script, tested):
    printed = run_script("compare.py", tested / "a", "uot@6000", "cotrain@32000")
    assert "8/10 = 80 %" in printed
    assert "4/10 = 40 %" in printed
    printed = run_script("compare.py", tested / "a", "uot@6000", "cotrain@32000", "--seeds", 1)
    assert "4/5 = 80 %" in printed
    printed = run_script("compare.py", tested / "a", "uot@6000", "--also", tested / "b")
    assert "12/15 = 80 %" in printed


def test_compare_says_what_is_not_there_or_there_twice(run_script, tested):
    with pytest.raises(SystemExit, match=r"No test episodes of uot@1\. There are: cotrain@32000, uot@6000"):
        run_script("compare.py", tested / "a", "uot@1")
    with pytest.raises(SystemExit, match="which another folder holds too"):
        run_script("compare.py", tested / "a", "uot@6000", "--also", tested / "a")


def test_compare_says_which_seeds_and_checkpoints_it_is_about(run_script, tested):
    printed = " ".join(run_script("compare.py", tested / "a", "uot@6000", "cotrain@32000").split())
    first = SEEDS[TEST].start
    assert f"reset seeds {first} to {first + 4} (test)" in printed
    assert "at most 200 steps" in printed


@pytest.mark.parametrize(
    ("added", "message"),
    [
        (_result("mmd-0@6000", 0, ""), r"mmd@6000 has 1 of 10 in region 'ood': it lacks"),
        (_result("mmd-0@6000", 0, "", region="in"), "uot@6000 lacks region 'in'"),
        (_result("mmd-0@6000", 0, "", max_steps=300), r"max_steps 200 \(uot@6000\); 300 \(mmd@6000\)"),
        (_result("mmd-0@6000", 0, "", shift="texture"), r"shift 'none' \(uot@6000\); 'texture'"),
        (_result("uot-0@6000", 0, "", actor="again"), "more than once, with actor 'uot-0@6000' and 'again'"),
        (_result("uot-0@6000", 0, "", max_steps=300), "more than once, with max_steps 200 and 300"),
    ],
)
def test_compare_of_an_interrupted_or_mixed_experiment_says_what_is_wrong(run_script, tested, added, message):
    with EpisodeLog(tested / "a" / "test") as log:
        log.append(added)
    with pytest.raises(SystemExit, match=message):
        run_script("compare.py", tested / "a", "uot@6000", "mmd@6000")


@pytest.mark.parametrize(
    ("script", "arguments", "message"),
    [
        ("compare.py", ["nowhere", "uot@1"], "holds no test"),
        ("view.py", ["nowhere"], "nowhere"),
        ("matches.py", ["nowhere", "nowhere"], "nowhere"),
        ("cotraining.py", ["out", "--methods", "magic"], "magic"),
        ("cotraining.py", ["out", "--shift", "magic"], "magic"),
        ("cotraining.py", ["out", "--set", "optim.magic=1"], "magic"),
        ("cotraining.py", ["out", "--set", "seed=5"], "the experiment sets"),
        ("cotraining.py", ["out", "--test-episodes", "0"], "test_episodes = 0"),
        ("cotraining.py", ["out", "--target-demos", "0"], "target_demos = 0"),
        ("cotraining.py", ["out", "--seeds", "1", "1"], "seeds = 1, 1"),
        ("cotraining.py", ["out", "--test-checkpoint", "3000"], "Valid: 2000, 4000, 6000, 8000"),
    ],
)
def test_a_wrong_argument_is_one_line(run_script, monkeypatch, tmp_path, capsys, script, arguments, message):
    monkeypatch.chdir(tmp_path)
    with pytest.raises(SystemExit) as ended:
        run_script(script, *arguments)
    said = f"{ended.value.code} {capsys.readouterr().err}"
    assert ended.value.code != 0
    assert message in said
    assert not list(tmp_path.iterdir())


@pytest.mark.slow
def test_acting_is_measured_here_and_served_and_where_chunks_meet(run_script, tmp_path):
    data = write_dataset(tmp_path / "demos", 2)
    small = [f"data.source={data}", "head.predict=8", "head.execute=4", "optim.updates=1", "threads=1"]
    train(load_config("cpu-image", "source", small), tmp_path / "run")
    told = ["--episodes", 1, "--max-steps", 12, "--chunks", 3, "--workers", 1]
    run_script(
        "acting.py", tmp_path / "run", "--parts", "latency,joins", *told, "--output", tmp_path / "acting.json"
    )
    table = json.loads((tmp_path / "acting.json").read_text())["run"]
    assert [row["where"] for row in table["latency"]["rows"]] == ["here", "served"]
    assert all(0 < row["median_ms"] <= row["p99_ms"] for row in table["latency"]["rows"])
    ways = [(row["execute"], row["ahead"], row["join"]) for row in table["joins"]["rows"]]
    switched, joined = [(4, ahead, "switch") for ahead in (0, 2, 4)], [(4, 0, "ensemble"), (4, 2, "ensemble")]
    assert ways == [*switched, *joined, (1, 0, "ensemble")]
    assert all(row["episodes"] == 1 and row["bent_rms_mm"] > 0 for row in table["joins"]["rows"])
