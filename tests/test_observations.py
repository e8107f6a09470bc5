"""What a policy reads: any features of any cameras, moments before, and what earlier checkpoints read."""

from __future__ import annotations

import subprocess
import sys
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
import torch
from demonstrations import random_episode, settings_of, write_dataset
from test_plugins import install

from simreal_agents.policies.checkpoint import find_checkpoint
from simreal_agents.policies.config import load_config
from simreal_agents.policies.encoders import DEPTH_UNIT_M, CloudConfig, prepared
from simreal_agents.policies.policy import load_policy
from simreal_agents.policies.tensors import read_tensors
from simreal_agents.training.learner import Learner
from simreal_agents.training.train import load_domains, stored_config, train
from simreal_datasets.loading.frames import Frames
from simreal_envs.errors import DataError, UsageError
from simreal_envs.features import CAMERAS, ObservationSpec, WorldSpec
from simreal_envs.spec import TABLE_CENTRE_IN_BASE_M

ALL = ObservationSpec(("state", "image", "depth", "pointcloud", "pointcolour"), (24, 32), CAMERAS, 50)
OLD_RUN = Path(__file__).parent / "data" / "run_format_4"


@pytest.fixture(scope="module")
def everything(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Demonstrations of two domains in which everything is seen."""
    folder = tmp_path_factory.mktemp("everything")
    for seed, name in enumerate(("source", "target")):
        write_dataset(folder / name, 3, seed, shown=ALL)
    return folder


def observed(obs: str, cameras: str, history: int, *more: str) -> list[str]:
    return [
        f"observation.obs={obs}", f"observation.cameras={cameras}", f"observation.history={history}",
        "encoder.image.width=8", "optim.updates=2", "amp=bf16", *more,
    ]  # fmt: skip


@pytest.mark.parametrize(
    ("obs", "cameras", "history", "method", "keys", "parts"),
    [
        ("image", "wrist", 1, "uot", {"wrist_image"}, 1),
        (
            "image+depth",
            "agentview+wrist",
            2,
            "uot",
            {f"{c}_{m}" for c in CAMERAS for m in ("image", "depth")},
            8,
        ),
        ("pointcloud", "agentview+wrist", 1, "mmd", {"pointcloud"}, 1),
        (
            "pointcloud+pointcolour+state",
            "agentview+wrist",
            3,
            "ot",
            {"pointcloud", "pointcloud_rgb", "object"},
            3,
        ),
        ("state", "agentview", 2, "cotrain", {"object"}, 0),
    ],
)
def test_a_policy_reads_what_it_is_told_to(
    obs: str,
    cameras: str,
    history: int,
    method: str,
    keys: set[str],
    parts: int,
    everything: Path,
    tmp_path: Path,
) -> None:
    config = load_config("cpu-image", method, settings_of(everything, *observed(obs, cameras, history)))
    train(config, tmp_path)
    policy = load_policy(tmp_path)
    assert {f.key for f in policy.spec.features if f.modality != "proprioception"} == keys
    assert (policy.spec.history, policy.network.encoder.size) == (history, 16 * parts)
    shown = replace(ALL, history=history)
    assert not policy.spec.lacks(WorldSpec("Lift", "pose", shown.features(1), history))
    frames = Frames.load(everything / "source", shown=ALL)
    together = frames.observations(np.arange(4), history)
    alone = [{key: array[i] for key, array in together.items()} for i in range(4)]
    chunks = policy.predict_batch(alone)
    assert chunks.shape == (4, 4, 7)
    first, _ = policy.predict(alone[0])
    np.testing.assert_allclose(first[:3], chunks[0, 0, :3], atol=1e-5)
    actions, _ = policy.predict(together)
    np.testing.assert_allclose(actions[:, :3], chunks[:, 0, :3], atol=1e-5)


def test_every_array_that_is_read_decides_the_action(everything: Path, tmp_path: Path) -> None:
    settings = settings_of(everything, *observed("image+depth+pointcloud+pointcolour", "agentview+wrist", 2))
    train(load_config("cpu-image", "source", settings), tmp_path)
    policy = load_policy(tmp_path)
    seen = {
        key: array[0]
        for key, array in Frames.load(everything / "source", shown=ALL)
        .observations(np.arange(5, 6), 2)
        .items()
    }
    before = policy.predict_batch([seen])
    for feature in policy.spec.features:
        for moment in range(2):
            if feature.key == "robot0_eef_quat":  # which is the same for all in these demonstrations
                continue
            changed = {key: array.copy() for key, array in seen.items()}
            changed[feature.key][moment] = changed[feature.key][moment] // 2 + 1
            assert not np.array_equal(policy.predict_batch([changed]), before), (feature.key, moment)


def test_moments_before_an_episode_are_its_first(everything: Path) -> None:
    frames = Frames.load(everything / "source", shown=ALL)
    start = int(frames.starts[1])
    rows = frames.moments(np.array([start, start + 1, start + 5]), 3)
    assert rows.tolist() == [[start] * 3, [start, start, start + 1], [start + 3, start + 4, start + 5]]
    depth = frames.observations(np.array([start + 5]), 3)["wrist_depth"]
    np.testing.assert_array_equal(depth[0], frames.arrays["wrist_depth"][start + 3 : start + 6])


def test_depth_and_points_have_units_of_their_own() -> None:
    spec = WorldSpec("Lift", "pose", replace(ALL, groups=("depth", "pointcloud", "pointcolour")).features(1))
    depth, points = torch.zeros(1, 24, 32), torch.full((1, 50, 3), 0.2)
    depth[0, 3, 4] = 1.0
    colour = torch.full((1, 50, 3), 255, dtype=torch.uint8)
    ready = prepared(
        {"agentview_depth": depth, "wrist_depth": depth, "pointcloud": points, "pointcloud_rgb": colour},
        spec,
        CloudConfig(unit_m=0.1),
    )
    assert ready["agentview_depth"].shape == (1, 1, 24, 32)
    assert (ready["wrist_depth"][0, 0, 3, 4], ready["wrist_depth"].sum()) == (
        1 / DEPTH_UNIT_M,
        1 / DEPTH_UNIT_M,
    )
    expected = [*((0.2 - TABLE_CENTRE_IN_BASE_M) / 0.1), 0.5, 0.5, 0.5]
    assert ready["pointcloud"][0, 7].tolist() == pytest.approx(expected)


def test_data_without_what_is_asked_for_name_the_command_that_records_it(
    data: Path, everything: Path
) -> None:
    more = observed("image+depth", "agentview+wrist", 1)
    with pytest.raises(
        DataError, match=r"source lacks agentview_depth, wrist_image, wrist_depth; .* has agentview"
    ):
        load_domains(load_config("cpu-image", "uot", settings_of(data, *more)))
    with pytest.raises(
        DataError, match=r"`simreal generate` and --obs image\+depth --cameras agentview\+wrist\.$"
    ):
        load_domains(load_config("cpu-image", "uot", settings_of(data, *more)))
    cloud = observed("pointcloud", "agentview", 1, "observation.points=100")
    config = load_config("cpu-image", "uot", settings_of(everything, *cloud))
    with pytest.raises(DataError, match=r"clouds of 50 points, and observation\.points is 100"):
        Learner(config, *load_domains(config))
    config = load_config("cpu-image", "uot", settings_of(everything, *observed("pointcloud", "agentview", 1)))
    with pytest.raises(
        DataError, match=r"clouds of agentview\+wrist, .* train with --cameras agentview\+wrist"
    ):
        Learner(config, *load_domains(config))


@pytest.mark.parametrize(
    ("settings", "complaint"),
    [
        (["observation.obs=image+sound"], "'sound'"),
        (["observation.history=0"], "history 0"),
        (["observation.obs=pointcolour"], "add pointcloud"),
        (["observation.obs=state"], "no feature to align"),
        (["encoder.image.kind=resnet"], r"encoder\.image\.kind 'resnet'\. Valid: cnn, resnet18"),
        (["head.kind=rnn"], r"head\.kind 'rnn'\. Valid: mse, flow"),
    ],
)
def test_what_cannot_be_read_is_refused(settings: list[str], complaint: str) -> None:
    with pytest.raises(UsageError, match=complaint):
        load_config("cpu-image", "uot", settings)


def test_an_encoder_is_given_only_what_it_takes(everything: Path) -> None:
    config = load_config("cpu-image", "uot", settings_of(everything, "encoder.image.kind=pointnet"))
    with pytest.raises(
        UsageError, match="'pointnet' takes pointcloud, and agentview_image is of modality image"
    ):
        Learner(config, *load_domains(config))


def test_long_features_are_aligned_in_few_dimensions(everything: Path) -> None:
    more = observed("image+depth", "agentview+wrist", 2, "alignment.projection=8", "amp=none")
    config = load_config("cpu-image", "uot", settings_of(everything, *more))
    objective = Learner(config, *load_domains(config)).objective
    assert objective.alignment is not None
    directions = objective.alignment.projection
    assert directions is not None
    assert directions.shape == (128, 8)
    assert torch.allclose(directions.T @ directions, torch.eye(8), atol=1e-6)
    again = Learner(config, *load_domains(config)).objective.alignment
    assert again is not None
    assert again.projection is not None
    assert torch.equal(again.projection, directions)
    config.alignment.projection = 128
    unchanged = Learner(config, *load_domains(config)).objective.alignment
    assert unchanged is not None
    assert unchanged.projection is None


def test_a_checkpoint_of_one_image_is_read_and_acts_as_it_did(tmp_path: Path) -> None:
    """Written by the version before, with the action that it took then."""
    policy = load_policy(OLD_RUN, device="cpu")
    shown = ObservationSpec(("image",), (48, 64)).features(1)
    kept = [f for f in shown if f.key != "robot0_joint_pos"]
    assert policy.spec == WorldSpec("Lift", "pose", tuple(kept))
    observation = {
        "robot0_eef_pos": np.array([0.5, 0.1, 0.2], np.float32),
        "robot0_eef_quat": np.array([1, 0, 0, 0], np.float32),
        "robot0_gripper_qpos": np.array([0.04, -0.04], np.float32),
        "agentview_image": np.random.default_rng(0).integers(0, 256, (48, 64, 3), dtype=np.uint8),
    }
    then = [0.511184811592102, 0.11173756420612335, 0.21402528882026672]
    then += [3.1404688358306885, -0.000586935319006443, 0.004173180554062128, 1.0]
    np.testing.assert_allclose(policy.predict(observation)[0], then, rtol=1e-4, atol=1e-4)
    for name in ("source", "target"):
        write_dataset(tmp_path / name, 2, size=(48, 64))
    config = stored_config(OLD_RUN)
    config.data.source, config.data.target = str(tmp_path / "source"), str(tmp_path / "target")
    learner = Learner(config, *load_domains(config))
    learner.restore(find_checkpoint(OLD_RUN))
    assert learner.update == 10
    old = read_tensors(find_checkpoint(OLD_RUN) / "training.safetensors")
    new = learner.network.state_dict()["encoder.agentview_image.encoder.maps.0.weight"]
    assert torch.equal(new, old["network.encoder.maps.0.weight"])
    learner.step()


PLUG_IN = """
from dataclasses import dataclass
import torch
from simreal_agents.policies.encoders import Encoder
from simreal_agents.policies.heads import Head

class Mean(Encoder):
    @dataclass
    class Settings(Encoder.Settings):
        bands: int = 2
    modalities = ("image",)
    def __init__(self, feature, settings):
        super().__init__(feature, settings)
        self.bands, self.size = settings.bands, 3 * settings.bands
    def forward(self, x):
        return torch.cat([band.mean((2, 3)) for band in x.tensor_split(self.bands, dim=2)], dim=1)

class Linear(Head):
    @dataclass
    class Settings(Head.Settings):
        bias: bool = True
    def __init__(self, condition_size, shape, settings):
        super().__init__(condition_size, shape, settings)
        self.layer = torch.nn.Linear(condition_size, shape[0] * shape[1], bias=settings.bias)
    def loss(self, condition, chunk, generator):
        return (self.layer(condition) - chunk.flatten(1)).abs().mean()
    def sample(self, condition, noise):
        return self.layer(condition).unflatten(1, self.shape)

class Undecorated(Encoder):
    class Settings(Encoder.Settings):
        bands: int = 2
"""

USE_IT = """
import json, sys
from simreal_agents.policies.config import load_config
from simreal_agents.policies.policy import load_policy
from simreal_agents.training.train import train
for wrong in ("encoder.image.width=8", "head.steps=3", "encoder.image.kind=undecorated"):
    try:
        load_config("cpu-image", "uot", [*sys.argv[2:], wrong])
    except ValueError as error:
        print(error)
train(load_config("cpu-image", "uot", sys.argv[2:]), sys.argv[1])
policy = load_policy(sys.argv[1])
print(json.dumps(policy.config.to_dict()["encoder"]["image"]), policy.config.head.bias)
network = policy.network
print(type(network.encoder["agentview_image"].encoder).__name__, type(network.head).__name__)
print(network.encoder["agentview_image"].encoder.size, network.head.layer.bias)
"""


def test_encoders_and_heads_of_another_package_are_taken_by_name_with_their_own_settings(
    data: Path, tmp_path: Path
) -> None:
    entries = (
        "[simreal.encoders]\nmean = their_module:Mean\nundecorated = their_module:Undecorated\n"
        "[simreal.heads]\nlinear = their_module:Linear\n"
    )
    install(tmp_path / "theirs", "theirs", entries, their_module=PLUG_IN)
    own = ("encoder.image.bands=5", "head.bias=false", "encoder.image.kind=mean", "head.kind=linear")
    settings = settings_of(data, *own)
    path = ":".join([str(tmp_path / "theirs"), *(p for p in sys.path if p)])
    done = subprocess.run(
        [sys.executable, "-c", USE_IT, str(tmp_path / "run"), *settings],
        env={"PYTHONPATH": path, "HOME": str(tmp_path)}, capture_output=True, text=True, timeout=300,
    )  # fmt: skip
    assert done.stdout.splitlines() == [
        "Unknown config key 'encoder.image.width' where encoder.image.kind is mean. Valid: "
        "encoder.image.kind, encoder.image.bands.",
        "Unknown config key 'head.steps' where head.kind is linear. Valid: head.kind, head.predict, "
        "head.execute, head.action_frame, head.proprioception, head.bias.",
        "Settings of 'undecorated' must be a dataclass that inherits Encoder.Settings.",
        '{"kind": "mean", "bands": 5} False',
        "Mean Linear",
        "15 None",
    ], done.stderr


def test_one_dataset_shows_everything_that_a_world_of_the_same_spec_does(everything: Path) -> None:
    episode = random_episode(np.random.default_rng(0), shown=ALL)
    assert set(episode.observations) == {feature.key for feature in ALL.features(1)}
    assert Frames.load(everything / "source", shown=ALL).spec.features == ALL.features(1)
