"""ResNet-18 (He et al., 2016) whose numbers are keypoints, trained from scratch as Diffusion Policy does."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import ClassVar

import torch
from torch import Tensor, nn

from simreal_agents.policies.encoders.base import Encoder, KeypointEncoder, SpatialSoftArgmax
from simreal_agents.policies.overrides import Count
from simreal_envs.errors import UsageError
from simreal_envs.features import Feature

SHRINKS = 32
"""The maps have so many times fewer rows and columns than the image."""

Norm = Callable[[int], nn.Module]
"""Makes the normalisation of so many channels."""


class Trunk(nn.Sequential):
    """The network without its classifier: (B, C, H, W) -> (B, 512, H / 32, W / 32), rounded up.

    Its tensors have the names that torchvision and timm give them.
    """

    SIZE = 512

    def __init__(self, channels: int, norm: Norm) -> None:
        super().__init__()
        self.conv1 = nn.Conv2d(channels, 64, 7, stride=2, padding=3, bias=False)
        self.bn1 = norm(64)
        self.relu = nn.ReLU(inplace=True)
        self.maxpool = nn.MaxPool2d(3, stride=2, padding=1)
        before = 64
        for layer, size in enumerate((64, 128, 256, 512), 1):
            stride = 1 if layer == 1 else 2
            blocks = nn.Sequential(Block(before, size, stride, norm), Block(size, size, 1, norm))
            self.add_module(f"layer{layer}", blocks)
            before = size
        for module in self.modules():
            if isinstance(module, nn.Conv2d):
                nn.init.kaiming_normal_(module.weight, mode="fan_out", nonlinearity="relu")


class Block(nn.Module):
    """Two convolutions beside a shortcut, which is a convolution where the size changes."""

    def __init__(self, before: int, after: int, stride: int, norm: Norm) -> None:
        super().__init__()
        self.conv1 = nn.Conv2d(before, after, 3, stride, padding=1, bias=False)
        self.bn1 = norm(after)
        self.relu = nn.ReLU(inplace=True)
        self.conv2 = nn.Conv2d(after, after, 3, padding=1, bias=False)
        self.bn2 = norm(after)
        self.downsample: nn.Module | None = None
        if stride != 1 or before != after:
            self.downsample = nn.Sequential(nn.Conv2d(before, after, 1, stride, bias=False), norm(after))

    def forward(self, x: Tensor) -> Tensor:
        """(B, before, h, w) -> (B, after, h / stride, w / stride)."""
        shortcut = x if self.downsample is None else self.downsample(x)
        return self.relu(self.bn2(self.conv2(self.relu(self.bn1(self.conv1(x))))) + shortcut)


def group_norm(channels: int) -> nn.Module:
    """GroupNorm of 16 channels a group."""
    return nn.GroupNorm(channels // 16, channels)


class ResNet18(KeypointEncoder):
    """The trunk with GroupNorm in place of BatchNorm, and keypoints by spatial soft-argmax.

    A policy's weights are an average over updates, to which BatchNorm's statistics of batches do not belong.
    """

    @dataclass
    class Settings(Encoder.Settings):
        """Sizes of the network."""

        keypoints: Count = 32
        """Maps of the spatial soft-argmax."""

    modalities: ClassVar[tuple[str, ...]] = ("image", "depth")

    def __init__(self, feature: Feature, settings: Settings, norm: Norm = group_norm) -> None:
        super().__init__(feature, settings)
        height, width = feature.shape[:2]
        if min(height, width) <= SHRINKS:
            raise UsageError(
                f"Encoder {settings.kind!r} divides height and width by {SHRINKS}, so it needs more than "
                f"{SHRINKS} pixels of each; the image, after encoder.crop, has {height} x {width}."
            )
        self.trunk = Trunk(3 if feature.modality == "image" else 1, norm)
        self.detectors = nn.Conv2d(Trunk.SIZE, settings.keypoints, 1)
        self.keypoints = SpatialSoftArgmax()
        self.channels, self.size = Trunk.SIZE, 2 * settings.keypoints

    def locate(self, x: Tensor) -> tuple[Tensor, Tensor]:
        """Maps (B, 512, h, w) and keypoints (B, 2 K) float32."""
        maps = self.trunk(x)
        scores = self.detectors(maps)
        with torch.autocast(x.device.type, enabled=False):
            return maps, self.keypoints(scores.float())
