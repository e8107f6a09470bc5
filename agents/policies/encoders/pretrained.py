"""A ResNet-18 that begins with weights from a file, such as those that were trained on ImageNet."""

from __future__ import annotations

import hashlib
from dataclasses import dataclass
from pathlib import Path
from typing import ClassVar

import torch
from torch import Tensor, nn
from torch.nn.functional import batch_norm

from simreal_agents.policies.encoders.resnet18 import ResNet18
from simreal_agents.policies.tensors import misfits, read_tensors
from simreal_envs.errors import DataError, UsageError
from simreal_envs.features import Feature

IMAGENET_MEAN, IMAGENET_STD = (0.485, 0.456, 0.406), (0.229, 0.224, 0.225)
"""Of red, green and blue in [0, 1], by which torchvision and timm normalise images."""


class FrozenBatchNorm(nn.Module):
    """BatchNorm with the statistics of the file, which stay as they are; weight and bias may be trained."""

    running_mean: Tensor
    running_var: Tensor

    def __init__(self, channels: int) -> None:
        super().__init__()
        self.weight = nn.Parameter(torch.ones(channels))
        self.bias = nn.Parameter(torch.zeros(channels))
        self.register_buffer("running_mean", torch.zeros(channels))
        self.register_buffer("running_var", torch.ones(channels))

    def forward(self, x: Tensor) -> Tensor:
        """(B, channels, h, w) -> the same."""
        return batch_norm(x, self.running_mean, self.running_var, self.weight, self.bias)


class Pretrained(ResNet18):
    """ResNet-18 with BatchNorm and weights from a safetensors file with torchvision's or timm's names.

    Only a training that begins reads the file (:meth:`begin`). A checkpoint holds all weights.
    """

    @dataclass
    class Settings(ResNet18.Settings):
        """Where the weights come from, and whether they are trained."""

        weights: str = ""
        """The safetensors file; a classifier (`fc`) in it is ignored."""
        sha256: str = ""
        """Of the file; it is filled in, and where it is given the file must have it."""
        frozen: bool = False
        """Whether the trunk stays as it is in the file, so that only keypoints are learnt."""

        def complete(self) -> None:
            """Say which file it is wherever it is used from, and what is in it."""
            if not self.weights:
                raise UsageError(
                    "encoder.image.weights must name a safetensors file of a ResNet-18 with torchvision's or "
                    "timm's names."
                )
            file = Path(self.weights).expanduser().resolve()
            self.weights, self.sha256 = str(file), self.sha256 or digest(file)

    modalities: ClassVar[tuple[str, ...]] = ("image",)
    mean: Tensor
    std: Tensor

    def __init__(self, feature: Feature, settings: Settings) -> None:
        super().__init__(feature, settings, FrozenBatchNorm)
        self.settings = settings
        self.trunk.requires_grad_(not settings.frozen)
        self.register_buffer("mean", torch.tensor(IMAGENET_MEAN)[:, None, None], persistent=False)
        self.register_buffer("std", torch.tensor(IMAGENET_STD)[:, None, None], persistent=False)

    def begin(self) -> None:
        """Take the weights from the file."""
        self.settings.complete()
        file = Path(self.settings.weights)
        if (found := digest(file)) != self.settings.sha256:
            raise DataError(
                f"Weights {file} have SHA-256 {found}, not {self.settings.sha256} (encoder.image.sha256)."
            )
        self.trunk.load_state_dict(trunk_weights(file, self.trunk.state_dict()))

    def locate(self, x: Tensor) -> tuple[Tensor, Tensor]:
        """Maps (B, 512, h, w) and keypoints (B, 2 K) float32, of images in [-0.5, 0.5]."""
        return super().locate((x + 0.5 - self.mean) / self.std)


def digest(file: Path) -> str:
    """The SHA-256 of a file.

    Raises:
        DataError: it cannot be read.
    """
    try:
        return hashlib.sha256(file.read_bytes()).hexdigest()
    except OSError as error:
        raise DataError(f"Weights {file} cannot be read: {error.strerror}.") from error


def trunk_weights(file: Path, wanted: dict[str, Tensor]) -> dict[str, Tensor]:
    """The tensors of a file that have the names and shapes of the wanted ones.

    Raises:
        DataError: it is not safetensors, or its tensors are others, which are named.
    """
    try:
        found = read_tensors(file)
    except DataError as error:
        raise DataError(
            f"{error}. The weights must be a safetensors file; a .pth file is a pickle, which can run code "
            'when it is read. Convert it without running any: python -c "import torch, safetensors.torch as s'
            f"; s.save_file(torch.load('{file.name}', weights_only=True), '{file.stem}.safetensors')\""
        ) from error
    kept = {
        name: tensor
        for name, tensor in found.items()
        if not name.startswith("fc.") and not name.endswith(".num_batches_tracked")
    }
    if problems := misfits(kept, wanted):
        raise DataError(f"Weights {file} do not fit a ResNet-18: {problems}.")
    return kept
