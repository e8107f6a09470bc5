"""The whole path, small: demonstrations, two methods, curves, a final test, pictures; then once more."""

from __future__ import annotations

import json
import os
import re
import signal
import subprocess
import sys
import time
from contextlib import ExitStack, suppress
from dataclasses import replace
from io import StringIO
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from demonstrations import random_episode, settings_of, write_dataset
from PIL import Image
from rich.console import Console

from simreal_agents.evaluation.episode_log import LOG_NAME
from simreal_agents.policies.checkpoint import list_checkpoints
from simreal_agents.policies.config import load_config
from simreal_agents.study.collect import ActorRecorder
from simreal_agents.study.experiment import Experiment, _fill, checkpoints, claim_folder, run_experiment
from simreal_agents.study.experiment_rollouts import final_test
from simreal_agents.study.pictures import SuccessCount
from simreal_agents.study.selection import best_checkpoints, candidates, equal_pairs
from simreal_agents.training.train_all import train_all
from simreal_datasets.making.fill import Attempt, fill_dataset
from simreal_envs.errors import DataError, UsageError
from simreal_envs.parallel import Heartbeat, Work
from simreal_envs.seeds import describe
from simreal_envs.world_config import WorldConfig

TINY = Experiment(
    "Lift",
    shift="viewpoint:0.5+texture",
    source_demos=4,
    target_demos=2,
    updates=6,
    checkpoint_every=3,
    validation_episodes=1,
    test_episodes=2,
    max_steps=8,
    overrides=("batch.size=8", "batch.alignment_size=4"),
)


@pytest.fixture(scope="module")
def finished(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A finished experiment whose source demonstrations come from the expert instead of a human."""
    folder = tmp_path_factory.mktemp("experiment")
    list(fill_dataset(folder / "human", ActorRecorder(WorldConfig("Lift", obs="state"), "all"), 2, 0, 1))
    with pytest.MonkeyPatch.context() as patch:
        for module in ("experiment", "experiment_rollouts"):  # as many processes as cores
            patch.setattr(f"simreal_agents.study.{module}.available_cores", lambda: 1)
        patch.setattr("simreal_agents.training.train_all.available_cores", lambda: 1)
        run_experiment(TINY, folder, Console(quiet=True))
    return folder


@pytest.mark.slow
def test_a_setting_is_for_the_methods_that_have_it(tmp_path: Path) -> None:
    settings = ("alignment.tau=0.7", "alignment.weight=0.01", "encoder.features=8")
    configs = replace(TINY, methods=("uot", "mmd", "cotrain"), overrides=settings).configs(tmp_path)
    uot, mmd, cotrain = (config.to_dict() for config in configs.values())
    assert (uot["alignment"]["tau"], uot["alignment"]["weight"], mmd["alignment"]["weight"]) == (
        0.7,
        0.01,
        0.01,
    )
    assert {config["encoder"]["features"] for config in (uot, mmd, cotrain)} == {8}
    assert "tau" not in mmd["alignment"]
    assert cotrain["alignment"] == {"kind": "none"}
    with pytest.raises(UsageError, match=r"'alignment\.tau' where alignment\.kind is"):
        replace(TINY, methods=("mmd", "cotrain"), overrides=settings)


def test_every_method_is_judged_on_the_same_episodes(finished: Path) -> None:
    summary = json.loads((finished / "summary.json").read_text())
    cells = {(cell["name"], cell["region"]): cell["trials"] for cell in summary["cells"]}
    tested = {name.partition("@")[0]: set() for name, _ in cells}
    for name, region in cells:
        method, _, checkpoint = name.partition("@")
        tested[method].add((checkpoint, region))
        assert cells[name, region] == 2
    assert set(tested) == {"uot", "cotrain"}
    for of_method in tested.values():
        chosen = {(f"{updates} (chosen)", region) for updates in (3,) for region in ("in", "ood")}
        last = {("6 (last)", region) for region in ("in", "ood")}
        both = {("6 (chosen and last)", region) for region in ("in", "ood")}
        assert of_method in (chosen | last, both)
    lines = [json.loads(line) for line in (finished / "test" / LOG_NAME).read_text().splitlines()]
    seeds = {(line["name"].split("-")[0], line["region"]): set() for line in lines}
    for line in lines:
        seeds[line["name"].split("-")[0], line["region"]].add(line["seed"])
    assert len({frozenset(s) for s in seeds.values()}) == 1


def test_validation_and_test_have_no_episode_in_common(finished: Path) -> None:
    seeds = [
        {json.loads(line)["seed"] for line in (finished / name / LOG_NAME).read_text().splitlines()}
        for name in ("validation", "test")
    ]
    assert seeds[0].isdisjoint(seeds[1])


def test_the_report_says_how_its_checkpoints_were_chosen(finished: Path) -> None:
    said = (finished / "report.md").read_text()
    assert f"reset seeds {describe(TINY.test_seeds)}" in said
    assert f"training in env sim, reset seeds {describe(TINY.selection_seeds)}" in said
    assert "regions in and ood together" in said
    assert "oracle" in said


def test_a_checkpoint_that_is_given_is_tested_beside_the_last_and_called_so(
    finished: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("simreal_agents.study.experiment_rollouts.available_cores", lambda: 1)
    given = final_test(replace(TINY, test_checkpoint=3), finished, {})
    assert [(c.first, c.second) for c in given.comparisons if c.region == "in"] == [
        ("uot@3 (given)", "cotrain@3 (given)"), ("uot@6 (last)", "cotrain@6 (last)"),
    ]  # fmt: skip
    assert "oracle" not in given.to_markdown()


def test_pictures_can_be_opened(finished: Path) -> None:
    names = {"domains", "success_over_updates", "features", "transport_plan"}
    assert {path.stem for path in (finished / "pictures").glob("*.png")} == names
    for path in (finished / "pictures").glob("*.png"):
        with Image.open(path) as image:
            assert min(image.size) > 200


@pytest.mark.slow
def test_a_finished_experiment_is_not_done_again_from_wherever_it_is_started(
    finished: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    files = [path for path in finished.rglob("*") if path.suffix in (".hdf5", ".safetensors", ".jsonl")]
    before = {path: path.stat().st_mtime_ns for path in files if path.name != "dataset.hdf5"}
    monkeypatch.chdir(finished.parent)
    run_experiment(TINY, Path(finished.name), Console(quiet=True))
    assert {path: path.stat().st_mtime_ns for path in before} == before


def test_a_folder_keeps_its_data_but_takes_more_methods(finished: Path, tmp_path: Path) -> None:
    description = finished / "experiment.json"
    with pytest.raises(
        UsageError, match=r"other data \(shift: viewpoint:0\.5\+texture -> texture\); use another"
    ):
        run_experiment(replace(TINY, shift="texture"), finished, Console(quiet=True))
    claim_folder(replace(TINY, methods=("uot", "mmd"), seeds=(0, 1), test_episodes=9), finished)
    older = tmp_path / "without"
    claim_folder(TINY, older)
    assert (older / "experiment.json").read_text() == description.read_text()
    for content in ("{", "[]", "null"):
        (older / "experiment.json").write_text(content)
        with pytest.raises(DataError, match="is damaged"):
            claim_folder(TINY, older)
    known = json.loads(description.read_text())
    assert known.pop("obs") == "image"  # descriptions without it are of image policies
    for key in known:
        (older / "experiment.json").write_text(json.dumps({k: v for k, v in known.items() if k != key}))
        with pytest.raises(DataError, match=rf"experiment\.json lacks {key},"):
            claim_folder(TINY, older)


def test_a_training_that_fails_stops_the_others(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    data = write_dataset(tmp_path / "data", 2)
    long = [f"data.source={data}", "batch.size=4", "threads=1", "optim.updates=1000000"]
    configs = {
        tmp_path / "long": load_config("cpu-image", "source", long),
        tmp_path / "fails": load_config("cpu-image", "source", [f"data.source={tmp_path / 'nothing'}"]),
    }
    monkeypatch.setattr("simreal_agents.training.train_all.available_cores", lambda: 2)
    with pytest.raises(DataError, match="nothing does not exist"):
        train_all(configs, Console(quiet=True))


TRAIN_ALL = """
import sys
from pathlib import Path
from rich.console import Console
from simreal_agents.policies.config import load_config
from simreal_agents.study.experiment_rollouts import final_test
from simreal_agents.study.pictures import SuccessCount
from simreal_agents.study.selection import best_checkpoints, candidates, equal_pairs
from simreal_agents.training.train_all import train_all
if __name__ == "__main__":
    configs = {Path(method): load_config("cpu-image", method, sys.argv[1:]) for method in ("cotrain", "uot")}
    try:
        train_all(configs, Console(quiet=True))
    except KeyboardInterrupt:
        sys.exit(130)
"""


@pytest.mark.slow
def test_trainings_side_by_side_save_where_they_are_at_ctrl_c(data: Path, tmp_path: Path) -> None:
    (tmp_path / "all.py").write_text(TRAIN_ALL)
    long = settings_of(data, "optim.updates=100000", "checkpoint_every=100000")
    runs = [tmp_path / "cotrain", tmp_path / "uot"]
    program = subprocess.Popen([sys.executable, "all.py", *long], cwd=tmp_path, start_new_session=True)
    deadline = time.monotonic() + 120
    try:
        while not all((run / "log.jsonl").exists() and (run / "log.jsonl").stat().st_size for run in runs):
            assert program.poll() is None
            assert time.monotonic() < deadline
            time.sleep(0.05)
        os.killpg(program.pid, signal.SIGINT)  # as a terminal does: parent and trainings
        assert program.wait(30) == 130
    finally:
        with suppress(ProcessLookupError):
            os.killpg(program.pid, signal.SIGKILL)
    for run in runs:
        (saved,) = list_checkpoints(run)
        assert 0 < saved < 100_000


def test_checkpoints_end_with_the_last_update() -> None:
    assert checkpoints(TINY) == [3, 6]
    assert checkpoints(Experiment("Lift", updates=2500, checkpoint_every=1000)) == [1000, 2000, 2500]


def curve(method: str, **successes: int) -> list[SuccessCount]:
    """Counts of both regions, given as ``in_<updates>`` and ``ood_<updates>``."""
    counts = [(*key.split("_"), count) for key, count in successes.items()]
    return [SuccessCount(method, region, int(updates), count, 25) for region, updates, count in counts]


def test_the_checkpoint_with_most_successes_of_all_regions_is_chosen_and_the_earlier_of_equals() -> None:
    uot = curve("uot", in_2=25, ood_2=10, in_4=20, ood_4=16, in_6=21, ood_6=15)
    cotrain = curve("cotrain", in_2=9, ood_2=0, in_4=0, ood_4=8, in_6=9, ood_6=1)
    assert best_checkpoints([*uot, *cotrain]) == {"uot": 4, "cotrain": 6}


def test_chosen_is_compared_with_chosen_and_last_with_last_and_what_is_both_is_tested_once() -> None:
    methods = ("uot", "cotrain", "mmd")
    chosen, last = {"uot": 6, "cotrain": 8, "mmd": 8}, dict.fromkeys(methods, 8)
    tested = candidates(methods, {"chosen": chosen, "last": last})
    assert list(map(str, tested)) == [
        "uot@6 (chosen)", "uot@8 (last)", "cotrain@8 (chosen and last)", "mmd@8 (chosen and last)",
    ]  # fmt: skip
    assert equal_pairs(tested) == [
        (uot, other)
        for uot in ("uot@6 (chosen)", "uot@8 (last)")
        for other in ("cotrain@8 (chosen and last)", "mmd@8 (chosen and last)")
    ]
    same = candidates(methods, {"chosen": last, "last": last})
    assert equal_pairs(same) == [
        ("uot@8 (chosen and last)", f"{method}@8 (chosen and last)") for method in methods[1:]
    ]


class Seldom(ActorRecorder):
    """Succeeds at every third attempt."""

    def make_work(self, stack: ExitStack) -> Work[int, Attempt]:
        return self._attempt

    def _attempt(self, seed: int, heartbeat: Heartbeat) -> Attempt:
        if seed % 3 != 2:
            return Attempt(seed, "in", "reach", None)
        episode = random_episode(np.random.default_rng(seed), steps=3)
        episode.meta["seed"] = seed
        return Attempt(seed, "in", "lift", episode)


def test_the_bar_counts_stored_episodes_and_not_attempts(tmp_path: Path) -> None:
    recipe: Any = Seldom(WorldConfig("Lift", image_size=(32, 32)), "in")
    for stored, episodes in ((0, 2), (2, 5)):  # the second one goes on
        screen = Console(file=StringIO(), force_terminal=True, width=120, legacy_windows=False)
        _fill(tmp_path / "source", recipe, episodes, 0, 1, screen)
        shown = screen.file.getvalue()  # type: ignore[attr-defined]
        counts = {int(done) for done in re.findall(rf"(\d+)/{episodes}\b(?! succeed)", shown)}
        assert min(counts) >= stored
        assert max(counts) == episodes
        solved = episodes - stored
        assert f"{solved}/{3 * solved} succeed" in shown
