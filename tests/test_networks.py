"""Every encoder with every head: learns a batch by heart, is saved and loaded, and acts as before."""

from __future__ import annotations

import hashlib
import json
import os
import re
import shlex
import shutil
import subprocess
import sys
from itertools import product
from pathlib import Path

import numpy as np
import pytest
import torch
from demonstrations import settings_of, write_dataset
from safetensors.torch import load_file, save_file
from torch import Tensor, nn

from simreal_agents.actors.factories import TrainedPolicy
from simreal_agents.policies.checkpoint import WEIGHTS, find_checkpoint
from simreal_agents.policies.config import TrainConfig, load_config
from simreal_agents.policies.encoders import ENCODERS, EncoderConfig, JoinedEncoder
from simreal_agents.policies.encoders.pretrained import (
    IMAGENET_MEAN,
    IMAGENET_STD,
    FrozenBatchNorm,
    Pretrained,
)
from simreal_agents.policies.encoders.resnet18 import Trunk, group_norm
from simreal_agents.policies.heads import HEADS
from simreal_agents.policies.policy import Policy, load_policy
from simreal_agents.policies.randomness import Randomness
from simreal_agents.training.augment import random_shift
from simreal_agents.training.batches import Draw
from simreal_agents.training.learner import Learner
from simreal_agents.training.train import load_domains, stored_config, train
from simreal_datasets.loading.frames import Frames
from simreal_envs.errors import DataError, UsageError
from simreal_envs.features import ObservationSpec, WorldSpec

SHOWN = ObservationSpec(("image", "pointcloud"), (36, 48), ("agentview",), 50)
NONE = np.empty(0, np.int64)
SMALL = {
    "cnn": ["encoder.image.width=8"],
    "resnet18": ["encoder.image.keypoints=8"],
    "pretrained": ["encoder.image.keypoints=8"],
    "pointnet": ["encoder.points.width=8", "observation.obs=pointcloud"],
    "mse": ["head.hidden=64"],
    "flow": ["head.hidden=64", "head.steps=10"],
    "diffusion": ["head.channels=[16, 32]", "head.levels=20", "head.steps=20"],
}
"""Settings of small networks."""
PACE = {"resnet18": (3e-3, 30), "pretrained": (3e-4, 150)}
"""Learning rate and updates in which a deep network learns a batch by heart. Frozen BatchNorm does not follow
the weights, so its network bears a lower rate only."""


@pytest.fixture(scope="module")
def seen(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Demonstrations of two domains with images and clouds."""
    folder = tmp_path_factory.mktemp("seen")
    for seed, name in enumerate(("source", "target")):
        write_dataset(folder / name, 3, seed, shown=SHOWN)
    return folder


@pytest.fixture(scope="module")
def resnet(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Weights of a ResNet-18 as torchvision names them, with the classifier, of random numbers."""
    torch.manual_seed(0)
    trunk = Trunk(3, nn.BatchNorm2d).train()
    with torch.no_grad():
        for name, parameter in trunk.named_parameters():
            if parameter.ndim == 1:
                parameter.normal_(0, 0.1) if name.endswith("bias") else parameter.uniform_(0.5, 1.5)
        for _ in range(30):  # BatchNorm has the statistics of what it saw, as in a file of a trained network
            trunk(torch.randn(8, 3, 36, 48))
    tensors = trunk.state_dict()
    tensors |= {"fc.weight": torch.zeros(1000, 512), "fc.bias": torch.zeros(1000)}
    file = tmp_path_factory.mktemp("weights") / "resnet18.safetensors"
    save_file(tensors, file)
    return file


def config_of(data: Path, encoder: str, head: str, weights: Path, *more: str) -> TrainConfig:
    part = "points" if encoder == "pointnet" else "image"
    own = [f"encoder.{part}.kind={encoder}", f"head.kind={head}", *SMALL[encoder], *SMALL[head]]
    own += [f"encoder.image.weights={weights}"] if encoder == "pretrained" else []
    own += ["head.predict=4", "amp=none", "optim.warmup_updates=5", "optim.ema_decay=0", "encoder.view=none"]
    own += [f"augment.{each}=0" for each in ("shift_px", "brightness", "contrast", "saturation")]
    return load_config("cpu-image", "source", settings_of(data, *own, *more))


@pytest.mark.parametrize(
    ("encoder", "head"),
    [
        pytest.param(*pair, marks=[pytest.mark.slow] if pair[0] == "pretrained" else [])
        for pair in product(ENCODERS.built_in, HEADS.built_in)
    ],
)
def test_a_batch_is_learnt_by_heart_and_a_saved_policy_acts_as_before(
    encoder: str, head: str, seen: Path, resnet: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The batch has its noise too. Of the robot the policy is told what is always the same."""
    told = ["head.proprioception=[robot0_eef_quat]", "head.action_frame=base", "optim.updates=1000"]
    rate, updates = PACE.get(encoder, (5e-3, 60))
    config = config_of(seen, encoder, head, resnet, *told, f"optim.learning_rate={rate}")
    learner = Learner(config, *load_domains(config))
    rows = np.array([3, 9, 17, 22])
    monkeypatch.setattr(learner.sampler, "draw", lambda update: Draw(rows, NONE, NONE, NONE))
    losses = []
    for _ in range(updates):
        learner.generators["head"].manual_seed(0)
        losses.append(float(learner.step()["clone"]))
    assert losses[-1] < 0.4 * losses[0]

    learner.save(tmp_path)
    observations = learner.domains["source"].frames.observations(rows, 1)
    loaded = load_policy(tmp_path, device="cpu")
    trained = Policy(learner.average, config, learner.update, learner.looks, {}, torch.device("cpu"))
    chunks = loaded.chunks(observations)
    assert np.array_equal(chunks, trained.chunks(observations))
    assert np.ptp(chunks, axis=0)[:, :3].min() > 1e-4  # which what is seen decides


# --- ResNet-18 -------------------------------------------------------------------------------------


def test_resnet18_has_the_published_number_of_parameters() -> None:
    """11,689,512 with the classifier's 512 * 1000 + 1000, whatever the normalisation."""
    for norm in (nn.BatchNorm2d, FrozenBatchNorm, group_norm):
        assert sum(p.numel() for p in Trunk(3, norm).parameters()) == 11_689_512 - 513_000
    groups = [module for module in Trunk(3, group_norm).modules() if isinstance(module, nn.GroupNorm)]
    assert {(g.num_channels, g.num_groups) for g in groups} == {(64, 4), (128, 8), (256, 16), (512, 32)}
    assert len(groups) == 20
    assert Trunk(3, group_norm)(torch.zeros(1, 3, 108, 144)).shape == (1, 512, 4, 5)


def images_of(size: tuple[int, int], config: EncoderConfig) -> JoinedEncoder:
    shown = ObservationSpec(("image",), size).features(1)
    return JoinedEncoder(WorldSpec("Lift", "pose", shown), config)


def test_an_image_that_is_too_small_for_it_is_refused() -> None:
    config = load_config(overrides=["encoder.image.kind=resnet18", "encoder.crop=0.9"]).encoder
    images_of((40, 48), config)
    with pytest.raises(UsageError, match=r"'resnet18' .* more than 32 pixels .* has 32 x 38"):
        images_of((36, 42), config)


def test_pretrained_computes_what_a_batch_norm_network_does_on_imagenets_colours(
    seen: Path, resnet: Path
) -> None:
    config = config_of(seen, "pretrained", "mse", resnet)
    learner = Learner(config, *load_domains(config))
    encoder = learner.network.encoder["agentview_image"].encoder
    assert isinstance(encoder, Pretrained)
    reference = Trunk(3, nn.BatchNorm2d).eval()
    reference.load_state_dict({k: v for k, v in load_file(resnet).items() if not k.startswith("fc.")})
    images = torch.rand(2, 3, 36, 48)
    normal = (images - torch.tensor(IMAGENET_MEAN).view(3, 1, 1)) / torch.tensor(IMAGENET_STD).view(3, 1, 1)
    maps, _ = encoder.train().locate(images - 0.5)
    torch.testing.assert_close(maps, reference(normal), rtol=1e-4, atol=1e-4)


@pytest.mark.parametrize("frozen", [True, False])
def test_a_pretrained_run_records_its_file_and_needs_it_only_to_begin(
    frozen: bool, seen: Path, resnet: Path, tmp_path: Path
) -> None:
    file = tmp_path / "weights.safetensors"
    file.write_bytes(resnet.read_bytes())
    config = config_of(seen, "pretrained", "mse", file, f"encoder.image.frozen={frozen}", "optim.updates=2")
    with pytest.raises(KeyboardInterrupt):
        train(config, tmp_path / "run", should_stop=lambda: True)
    stored = json.loads((tmp_path / "run" / "config.json").read_text())["encoder"]["image"]
    assert stored["weights"] == str(file)
    assert stored["sha256"] == hashlib.sha256(resnet.read_bytes()).hexdigest()
    file.unlink()
    policy = load_policy(tmp_path / "run", device="cpu")
    trunk = policy.network.encoder["agentview_image"].encoder.trunk.state_dict()
    before = load_file(resnet)
    same = [name for name, tensor in trunk.items() if torch.equal(tensor, before[name])]
    assert len(same) == len(trunk) if frozen else set(same) == {n for n in trunk if ".running_" in f".{n}"}
    train(stored_config(tmp_path / "run"), tmp_path / "run", resume=True)
    shutil.rmtree(tmp_path / "run" / "checkpoints")
    with pytest.raises(DataError, match=r"weights\.safetensors cannot be read"):  # training must begin anew
        train(stored_config(tmp_path / "run"), tmp_path / "run", resume=True)


def test_weights_that_do_not_fit_are_refused_by_name(seen: Path, resnet: Path, tmp_path: Path) -> None:
    def refused(tensors: dict[str, Tensor], *named: str) -> None:
        file = tmp_path / "other.safetensors"
        save_file(tensors, file)
        config = config_of(seen, "pretrained", "mse", file)
        with pytest.raises(DataError) as error:
            Learner(config, *load_domains(config))
        assert all(name in str(error.value) for name in (str(file), *named)), error.value
        assert "\n" not in str(error.value)

    right = load_file(resnet)
    refused({k: v for k, v in right.items() if k != "layer3.1.bn2.weight"}, "there is no layer3.1.bn2.weight")
    refused(right | {"layer5.0.conv1.weight": torch.zeros(1)}, "layer5.0.conv1.weight has no place")
    refused(
        right | {"conv1.weight": torch.zeros(64, 3, 3, 3)},
        "conv1.weight has shape [64, 3, 3, 3] in place of [64, 3, 7, 7]",
    )
    refused({"w": torch.zeros(1)}, "there is no conv1.weight", "and 96 more")


def test_weights_that_are_no_safetensors_are_refused_with_the_command_that_converts_them(
    seen: Path, resnet: Path, tmp_path: Path
) -> None:
    pickle = tmp_path / "resnet18-f37072fd.pth"
    torch.save(load_file(resnet), pickle)
    with pytest.raises(DataError) as error:
        train(config_of(seen, "pretrained", "mse", pickle), tmp_path / "run")
    assert not (tmp_path / "run" / "checkpoints").exists()
    command = str(error.value).partition("without running any: ")[2]
    program, *arguments = shlex.split(command)
    assert program == "python"
    converted = subprocess.run(
        [sys.executable, *arguments],
        cwd=tmp_path,
        capture_output=True,
        text=True,
        check=False,
        env=os.environ,
    )
    assert converted.returncode == 0, converted.stderr
    config = config_of(seen, "pretrained", "mse", tmp_path / "resnet18-f37072fd.safetensors")
    Learner(config, *load_domains(config))
    with pytest.raises(DataError, match=r"nothing\.safetensors cannot be read: No such file"):
        train(config_of(seen, "pretrained", "mse", tmp_path / "nothing.safetensors"), tmp_path / "run")
    with pytest.raises(UsageError, match=r"encoder\.image\.weights must name"):
        train(load_config(overrides=["encoder.image.kind=pretrained"]), tmp_path / "run")
    wrong = config_of(seen, "pretrained", "mse", resnet, "encoder.image.sha256=abc")
    with pytest.raises(DataError, match="not abc"):
        train(wrong, tmp_path / "run")


# --- crop, average, checkpoints ---------------------------------------------------------------------


def test_a_crop_is_random_in_training_alike_for_all_moments_and_the_centre_when_acting() -> None:
    images = torch.arange(120 * 160).float().view(1, 1, 120, 160).expand(600, 3, 120, 160)
    margin_px = images_of((120, 160), load_config("paper-image").encoder).margins_px["agentview_image"]
    assert margin_px == (6, 8)
    rows, columns = margin_px
    random = Randomness(torch.Generator().manual_seed(0), 300)
    moved = random_shift(images, 0, random, 2, margin_px)
    cropped = moved[:, 0, rows:-rows, columns:-columns]
    assert cropped.shape[1:] == (108, 144)
    assert torch.equal(cropped[::2], cropped[1::2])
    corners = cropped[::2, 0, 0].long()
    tops, lefts = corners // 160, corners % 160
    assert set(tops.tolist()) == set(range(13))
    assert set(lefts.tolist()) == set(range(17))
    for crop, top, left in zip(cropped[:40:2], tops, lefts, strict=False):  # no edge is repeated
        assert torch.equal(crop, images[0, 0, top : top + 108, left : left + 144])


@pytest.mark.parametrize("kind", ["cnn", "resnet18"])
def test_what_the_encoder_sees_is_the_crop(kind: str) -> None:
    """Where the image moves by the margin, the features are those of that part of the image."""
    config = load_config(overrides=[f"encoder.image.kind={kind}", "encoder.crop=0.8"]).encoder
    network = images_of((50, 60), config).eval()
    branch = network["agentview_image"]
    assert branch.margin_px == (5, 6)
    image = torch.rand(1, 3, 50, 60) - 0.5
    target = torch.zeros(1, dtype=torch.bool)
    margin = image.clone()
    margin[..., 5:45, 6:54] = 0
    assert torch.equal(branch(image, target), branch(image - margin, target))
    direct = branch.feature(branch.encoder(image[..., 5:45, 6:54]))
    torch.testing.assert_close(branch(image, target), direct)


@pytest.mark.parametrize(
    ("settings", "decays"),
    [
        (["optim.ema_decay=0.9999", "optim.ema_power=0.75"], [1 - n**-0.75 for n in (1, 2, 3)]),
        (["optim.ema_decay=0.3", "optim.ema_power=0.75"], [0, 0.3, 0.3]),
        (["optim.ema_decay=0.2"], [1 / 11, 2 / 12, 0.2]),
        (["optim.ema_decay=0"], [0, 0, 0]),
    ],
)
def test_weights_are_averaged_by_the_schedule_and_buffers_are_taken_over(
    settings: list[str], decays: list[float], seen: Path, resnet: Path
) -> None:
    config = config_of(seen, "cnn", "diffusion", resnet, *settings)
    learner = Learner(config, *load_domains(config))
    expected = learner.network.head.network.out[1].weight.clone()
    for i, decay in enumerate(decays):
        learner.network.inputs.mean += 1.0
        learner.network.head.high.fill_(i)
        learner.step()
        expected = decay * expected + (1 - decay) * learner.network.head.network.out[1].weight
        torch.testing.assert_close(learner.average.head.network.out[1].weight, expected)
        for name, buffer in learner.network.named_buffers():
            assert torch.equal(buffer, learner.average.get_buffer(name)), name


def test_a_checkpoint_with_other_tensors_names_them_in_one_line(
    seen: Path, resnet: Path, tmp_path: Path
) -> None:
    train(config_of(seen, "cnn", "mse", resnet, "optim.updates=1"), tmp_path)
    file = find_checkpoint(tmp_path) / WEIGHTS
    right = load_file(file)

    def refused(tensors: dict[str, Tensor]) -> str:
        save_file(tensors, file)
        with pytest.raises(DataError) as error:
            load_policy(tmp_path)
        assert "\n" not in str(error.value)
        return str(error.value)

    assert "there is no actions.mean" in refused({k: v for k, v in right.items() if k != "actions.mean"})
    assert "head.extra has no place" in refused(right | {"head.extra": torch.zeros(1)})
    shape = "actions.mean has shape [3] in place of [10]"
    assert shape in refused(right | {"actions.mean": torch.zeros(3)})


def test_a_trained_policy_acts_with_other_settings_of_its_head_and_says_so(
    seen: Path, resnet: Path, tmp_path: Path
) -> None:
    train(config_of(seen, "cnn", "diffusion", resnet, "optim.updates=1"), tmp_path)
    observations = Frames.load(seen / "source", shown=SHOWN).observations(np.arange(2), 1)
    stored = load_policy(tmp_path)
    chunks = {n: load_policy(tmp_path, overrides=[f"head.steps={n}"]).chunks(observations) for n in (1, 20)}
    assert np.array_equal(chunks[20], stored.chunks(observations))
    assert not np.array_equal(chunks[1], chunks[20])
    names = [TrainedPolicy.at(tmp_path, overrides=more).identity() for more in ((), ("head.steps=1",))]
    assert names[1] == f"{names[0]} head.steps=1"
    for wrong, said in (
        ("head.steps=21", "exceeds head.levels = 20"),
        ("head.channels=[8]", "Valid: head.execute, head.steps, head.spacing, head.eta"),
        ("optim.updates=3", "Valid: head.execute, "),
    ):
        with pytest.raises(UsageError, match=re.escape(said)):
            TrainedPolicy.at(tmp_path, overrides=(wrong,))
