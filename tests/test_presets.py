"""Presets: the published settings to the letter, files of one's own, and each from training to evaluation."""

from __future__ import annotations

import json
import os
import signal
from pathlib import Path
from typing import Any

import pytest
from demonstrations import write_dataset
from typer.testing import CliRunner

from simreal_agents.policies.checkpoint import list_checkpoints
from simreal_agents.policies.config import config_values, load_config
from simreal_agents.policies.presets import presets
from simreal_agents.training.learner import Learner
from simreal_cli.main import app
from simreal_envs.errors import UsageError
from simreal_envs.features import ObservationSpec

PUBLISHED = {
    "ResNet-18 with GroupNorm": ("encoder.image.kind", "resnet18"),
    "120 x 160 images cropped to 108 x 144": ("encoder.crop", 108 / 120),
    "spatial softmax of 32 keypoints": ("encoder.image.keypoints", 32),
    "feature of 64": ("encoder.features", 64),
    "observation horizon 2": ("observation.history", 2),
    "action horizon 8": ("head.execute", 8),
    "prediction horizon 16": ("head.predict", 16),
    "U-Net [256, 512, 1024]": ("head.channels", [256, 512, 1024]),
    "kernel 5": ("head.kernel", 5),
    "8 groups": ("head.groups", 8),
    "step embedding 256": ("head.embedding", 256),
    "DDPM of 100 steps": ("head.levels", 100),
    "sampled in all of them": ("head.steps", 100),
    "with noise": ("head.eta", 1.0),
    "epsilon": ("head.predicts", "epsilon"),
    "EMA power 0.75": ("optim.ema_power", 0.75),
    "of at most 0.9999": ("optim.ema_decay", 0.9999),
    "AdamW 1e-4": ("optim.learning_rate", 1e-4),
    "weight decay 1e-6": ("optim.weight_decay", 1e-6),
    "500 warm-up steps": ("optim.warmup_updates", 500),
    "150k updates": ("optim.updates", 150_000),
    "BC batch 128": ("batch.size", 128),
    "0.45 source paired": ("batch.source_paired", 0.45),
    "0.45 source unpaired": ("batch.source_unpaired", 0.45),
    "0.10 target": ("batch.target", 0.10),
    "alignment batch 64 + 64": ("batch.alignment_size", 64),
    "a1 = 0.01": ("alignment.feature_cost", 0.01),
    "a2 = 0.05": ("alignment.label_cost", 0.05),
    "eps = 0.1": ("alignment.epsilon", 0.1),
    "tau = 0.05": ("alignment.tau", 0.05),
    "lambda = 0.1": ("alignment.weight", 0.1),
    "label: the end effector's position": ("alignment.label", "eef_pos"),
    "features as they are": ("alignment.normalize_features", "none"),
    "of all their numbers": ("alignment.projection", 0),
    "window 10": ("pairing.window", 10),
    "k = 10": ("pairing.sharpness", 10.0),
    "c = 0.01": ("pairing.cutoff", 0.01),
    "paths as executed": ("pairing.path", "executed"),
    "distances in metres": ("pairing.weights", "metres"),
    "action: absolute": ("head.action_frame", "base"),
    "no map of the view": ("encoder.view", "none"),
}
"""The official settings of the method, and the keys that hold them; squared cosine is the only schedule."""
PUBLISHED_OF_CLOUDS = PUBLISHED | {
    "sampled in all of them": ("head.steps", 10),
    "with noise": ("head.eta", 0.0),
    "epsilon": ("head.predicts", "sample"),
    "DDIM's levels": ("head.spacing", "leading"),
    "point clouds": ("observation.obs", "pointcloud"),
    "1024 points": ("observation.points", 1024),
    "PointNet": ("encoder.points.kind", "pointnet"),
    "of 64, 128 and 256": ("encoder.points.width", 64),
}


@pytest.mark.parametrize(
    ("preset", "said"), [("paper-image", PUBLISHED), ("paper-pointcloud", PUBLISHED_OF_CLOUDS)]
)
def test_the_paper_presets_have_the_published_settings(preset: str, said: dict[str, tuple[str, Any]]) -> None:
    values = config_values(load_config(preset, "uot"))
    assert {name: values[key] for name, (key, _) in said.items()} == {
        name: v for name, (_, v) in said.items()
    }
    assert values["head.kind"] == "diffusion"
    assert [values[f"augment.{each}"] for each in ("shift_px", "brightness", "contrast")] == [0, 0, 0]
    assert config_values(load_config(preset, "mmd"))["alignment.weight"] == 1.0  # 13 times the cloning loss


SHOWN = ObservationSpec(("image", "pointcloud"), (40, 48), ("agentview",), 50)
TINY = (
    "batch.size=12", "batch.alignment_size=4", "optim.updates=4", "checkpoint_every=4", "log_every=1",
    "threads=1",
)  # fmt: skip
TINY_OF_PRESET = {
    "paper-image": ("head.channels=[8, 16, 16]", "head.steps=2", "head.groups=4"),
    "paper-pointcloud": (
        "observation.points=50",
        "head.channels=[8, 16, 16]",
        "head.steps=2",
        "head.groups=4",
    ),
}


@pytest.fixture(scope="module")
def seen(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Demonstrations of two domains with images and clouds."""
    folder = tmp_path_factory.mktemp("seen")
    for seed, name in enumerate(("source", "target")):
        write_dataset(folder / name, 3, seed, shown=SHOWN)
    return folder


def simreal(*arguments: object) -> Any:
    return CliRunner().invoke(app, [str(a) for a in arguments], env={"COLUMNS": "200", "TERM": "dumb"})


@pytest.mark.parametrize("preset", presets())
def test_a_preset_is_trained_interrupted_resumed_and_evaluated(
    preset: str, seen: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    run, step = tmp_path / "run", Learner.step

    def interrupted(self: Learner) -> Any:
        if self.update == 1:
            os.kill(os.getpid(), signal.SIGINT)
        return step(self)

    settings = [word for each in (*TINY, *TINY_OF_PRESET.get(preset, ())) for word in ("--set", each)]
    data = ("--source", seen / "source", "--target", seen / "target")
    monkeypatch.setattr(Learner, "step", interrupted)
    stopped = simreal("train", run, *data, "--preset", preset, *settings)
    assert stopped.exit_code == 130, stopped.output
    assert "stopped at update 2" in stopped.output
    monkeypatch.undo()
    resumed = simreal("train", run, "--resume")
    assert resumed.exit_code == 0, resumed.output
    assert list_checkpoints(run)[-1] == 4
    played = simreal(
        "eval", run, "--region", "in", "--episodes", 1, "--max-steps", 10, "--workers", 1,
        "--seed", "selection", "--output", tmp_path / "eval",
    )  # fmt: skip
    assert played.exit_code == 0, played.output
    (episode,) = [
        json.loads(line) for line in (tmp_path / "eval" / "episodes.jsonl").read_text().splitlines()
    ]
    assert episode["steps"] == 10


def test_a_file_of_ones_own_begins_with_another_preset(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    (tmp_path / "mine").mkdir()
    (tmp_path / "mine" / "base.yaml").write_text("base: cpu-diffusion\noptim: {updates: 77}\nseed: 5\n")
    (tmp_path / "mine" / "own.yml").write_text(
        "base: base.yaml\nseed: 6\nmethods: {mmd: {alignment: {weight: 0.5}}}\n"
    )
    monkeypatch.chdir(tmp_path)
    config = load_config("mine/own.yml", "mmd")
    assert (config.seed, config.optim.updates, config.head.kind) == (6, 77, "diffusion")
    assert config_values(config)["alignment.weight"] == 0.5
    shown = simreal("train", "run", "--preset", "mine/own.yml", "--show-config", "-m", "uot")
    assert shown.exit_code == 0, shown.output
    lines = shown.output.splitlines()
    assert lines[0] == "# preset: mine/own.yml"
    assert "optim.updates=77" in lines
    assert not (tmp_path / "run").exists()


@pytest.mark.parametrize(
    ("text", "named"),
    [
        ("optim: {update: 3}", ("own.yaml", "'optim.update'", "Valid: optim.updates, ")),
        ("base: gpu", ("Unknown preset 'gpu'", "Valid: cpu-diffusion, cpu-image")),
        ("base: nothing.yaml", ("no preset file", "nothing.yaml")),
        ("base: own.yaml", ("begins with itself", "own.yaml")),
        ("base: [cpu-image]", ("own.yaml", "base must be the name")),
        ("optim: {updates: many}", ("own.yaml", "'many' is not of type int")),
        ("methods: {uot: {alignment: {tua: 1}}}", ("own.yaml, methods.uot", "'alignment.tua'")),
        ("methods: [uot]", ("own.yaml", "methods must hold")),
        ("just text", ("own.yaml", "must hold sections")),
        ("optim: {updates: 3", ("own.yaml cannot be read",)),
        ("head: {kind: diffusion, predict: 9}", ("head.predict = 9", "multiples of 2")),
    ],
)
def test_a_preset_that_cannot_be_used_is_one_error_that_names_it(
    text: str, named: tuple[str, ...], tmp_path: Path
) -> None:
    (tmp_path / "own.yaml").write_text(text)
    with pytest.raises(UsageError) as error:
        load_config(str(tmp_path / "own.yaml"), "uot")
    assert all(part in str(error.value) for part in named), error.value


@pytest.mark.parametrize(
    ("arguments", "preset", "obs"),
    [
        ((), "cpu-image", "image"),
        (("--obs", "pointcloud+pointcolour"), "cpu-pointcloud", "pointcloud+pointcolour"),
        (("--set", "observation.obs=pointcloud"), "cpu-pointcloud", "pointcloud"),
        (("--obs", "image+pointcloud"), "cpu-image", "image+pointcloud"),
        (("--obs", "pointcloud", "--preset", "cpu-diffusion"), "cpu-diffusion", "pointcloud"),
        (("--preset", "paper-pointcloud"), "paper-pointcloud", "pointcloud"),
    ],
)
def test_the_default_preset_is_that_of_what_is_seen(
    arguments: tuple[str, ...], preset: str, obs: str
) -> None:
    lines = simreal("train", "run", "--show-config", *arguments).output.splitlines()
    assert lines[0] == f"# preset: {preset}"
    assert f"observation.obs={obs}" in lines


def test_policy_chooses_the_head_and_names_the_valid_ones() -> None:
    lines = simreal("train", "run", "--policy", "diffusion", "--show-config", "--set", "head.steps=4").output
    assert {"head.kind=diffusion", "head.steps=4"} <= set(lines.splitlines())
    wrong = simreal("train", "run", "--policy", "transformer", "--show-config")
    assert wrong.exit_code == 2
    assert "'transformer'. Valid: mse, flow, diffusion" in wrong.output
    twice = simreal("train", "run", "--policy", "flow", "--set", "head.kind=mse")
    assert "head.kind is given by an option, as flow, and by --set" in twice.output
