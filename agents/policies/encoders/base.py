"""What an encoder is."""

from __future__ import annotations

from abc import abstractmethod
from dataclasses import dataclass
from typing import ClassVar

import torch
from torch import Tensor, nn

from simreal_agents.policies.overrides import Tagged
from simreal_envs.features import Feature


class Encoder(nn.Module):
    """Turns one moment of one array of an observation into numbers: (B, ...) -> (B, size) float32.

    An image comes as (B, 3, H, W) in [-0.5, 0.5], a depth as (B, 1, H, W) and a cloud as (B, N, 3), or
    (B, N, 6) with colours. Autocast may be on: only convolutions may run in bf16, whose 8 bits would round a
    place in the image to half a pixel.

    Attributes:
        modalities: which features it takes.
        size: how many numbers it gives.
    """

    @dataclass
    class Settings(Tagged):
        """Base of a subclass's own ``Settings``, whose fields become keys of the configuration."""

        def complete(self) -> None:
            """Fill in what a run has to record of its encoder; a training does so before anything else.

            Raises:
                UsageError: a value is missing or does not fit.
                DataError: a file that a value names cannot be read.
            """

    modalities: ClassVar[tuple[str, ...]] = ()
    size: int

    def __init__(self, feature: Feature, settings: Settings) -> None:
        super().__init__()

    def begin(self) -> None:
        """Take the weights that training begins with, where they are not random; not for a checkpoint."""

    @abstractmethod
    def forward(self, x: Tensor) -> Tensor:
        """(B, ...) -> (B, size)."""


class KeypointEncoder(Encoder):
    """An encoder whose numbers are places in the image, x..., y..., in [-1, 1]; a map of the view moves them.

    Attributes:
        channels: of the maps.
    """

    channels: int

    @abstractmethod
    def locate(self, x: Tensor) -> tuple[Tensor, Tensor]:
        """Maps (B, channels, h, w) and places (B, size)."""

    def forward(self, x: Tensor) -> Tensor:
        """The places."""
        return self.locate(x)[1]


class SpatialSoftArgmax(nn.Module):
    """Expected image coordinates of each map, in [-1, 1] (Finn et al., 2016): (B, K, h, w) -> (B, 2 K)."""

    def forward(self, maps: Tensor) -> Tensor:
        height, width = maps.shape[-2:]
        attention = maps.flatten(2).softmax(-1).unflatten(2, (height, width))
        x = attention.sum(2) @ torch.linspace(-1, 1, width, device=maps.device)
        y = attention.sum(3) @ torch.linspace(-1, 1, height, device=maps.device)
        return torch.cat([x, y], dim=1)
