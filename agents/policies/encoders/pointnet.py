"""A network of single points and their maximum."""

from __future__ import annotations

from dataclasses import dataclass
from itertools import pairwise

import torch
from torch import Tensor, nn

from simreal_agents.policies.encoders.base import Encoder
from simreal_agents.policies.overrides import Count
from simreal_envs.features import Feature


class PointNet(Encoder):
    """Encodes a cloud: three layers for each point, then the maximum over points (DP3; Ze et al., 2024).

    It has no convolutions, so nothing of it runs in bf16.
    """

    @dataclass
    class Settings(Encoder.Settings):
        """Sizes of the network."""

        width: Count = 32
        """Numbers of each point after the first layer; the next two have twice and four times as many."""

    modalities = ("pointcloud",)

    def __init__(self, feature: Feature, settings: Settings) -> None:
        super().__init__(feature, settings)
        width = settings.width
        sizes = (feature.shape[1], width, 2 * width, 4 * width)
        layers: list[nn.Module] = []
        for before, after in pairwise(sizes):
            layers += [nn.Linear(before, after), nn.LayerNorm(after), nn.ReLU()]
        self.points, self.size = nn.Sequential(*layers), sizes[-1]

    def forward(self, x: Tensor) -> Tensor:
        """(B, N, 3 or 6) -> (B, size)."""
        with torch.autocast(x.device.type, enabled=False):
            return self.points(x.float()).amax(dim=1)
