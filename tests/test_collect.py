"""Collecting without anybody present: experts and trained policies."""

from __future__ import annotations

from contextlib import ExitStack
from pathlib import Path

import pytest
from typer.testing import CliRunner

from simreal_agents.actors.factories import Expert, TrainedPolicy, named_actor
from simreal_agents.policies.config import load_config
from simreal_agents.study.collect import ActorRecorder
from simreal_agents.training.train import train
from simreal_cli.main import app
from simreal_datasets.making.fill import fill_dataset
from simreal_datasets.store.dataset import Dataset
from simreal_envs.errors import DataError, UsageError
from simreal_envs.world_config import WorldConfig


@pytest.fixture(scope="module")
def run_folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A policy that was trained for one update on one demonstration a domain."""
    folder = tmp_path_factory.mktemp("run")
    for domain, seed in (("source", 0), ("target", 1)):
        recipe = ActorRecorder(WorldConfig("Lift", image_size=(32, 48)), "in")
        list(fill_dataset(folder / domain, recipe, 1, seed, workers=1))
    data = [f"data.source={folder / 'source'}", f"data.target={folder / 'target'}"]
    train(load_config("cpu-image", "cotrain", [*data, "optim.updates=1"]), folder / "run")
    return folder / "run"


def test_what_was_collected_says_who_acted_and_how_disturbed(tmp_path: Path) -> None:
    recipe = ActorRecorder(WorldConfig("Lift", obs="state"), "in", noise_m=0.01)
    list(fill_dataset(tmp_path, recipe, 1, 0, workers=1))
    meta = Dataset(tmp_path).infos[0].meta
    assert (meta["actor"], meta["noise_m"]) == ("expert", 0.01)


def test_a_policy_acts_from_its_run_folder(run_folder: Path) -> None:
    source = named_actor(str(run_folder))
    assert source == TrainedPolicy.at(run_folder)
    world = WorldConfig("Lift", image_size=(32, 48), max_steps=5)
    attempt = ActorRecorder(world, "in", 0.0, source, str(run_folder)).make_work(ExitStack())(3, lambda: None)
    assert (attempt.seed, attempt.placement_region) == (3, "in")
    assert attempt.episode is None  # nobody lifts a cube in five steps


def test_a_policy_is_refused_where_it_does_not_fit(run_folder: Path, tmp_path: Path) -> None:
    command = ["collect", str(tmp_path / "data"), "--by", str(run_folder), "--workers", "1"]
    for options, message in [
        (["--task", "Stack", "--image-size", "32", "48"], "task is 'Stack'"),
        (
            ["--task", "Lift"],
            "agentview_image uint8 (72, 96, 3) instead of agentview_image uint8 (32, 48, 3)",
        ),
        (["--task", "Lift", "--obs", "state"], "agentview_image is not there"),
    ]:
        result = CliRunner().invoke(app, [*command, *options])
        assert result.exit_code == 1, result.output
        assert message in result.stderr


def test_names_of_actors(tmp_path: Path) -> None:
    assert named_actor("expert") == Expert()
    with pytest.raises(UsageError, match=r"Unknown actor 'magic'. Valid: expert, keyboard, a run folder."):
        named_actor("magic", ["keyboard"])
    with pytest.raises(DataError, match="has no checkpoints"):
        named_actor(str(tmp_path))
