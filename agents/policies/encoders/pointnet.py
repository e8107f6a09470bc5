"""A network of single points and their maximum."""

from __future__ import annotations

from dataclasses import dataclass
from itertools import pairwise

import torch
from torch import Tensor, nn

from simreal_agents.policies.encoders.base import Encoder
from simreal_agents.policies.overrides import Count
from simreal_envs.features import Feature

TOGETHER = 4
"""Clouds that go through the network at once while maxima are searched; these few fit a core's cache."""


class PointNet(Encoder):
    """Encodes a cloud: three layers for each point, their maximum over points, a projection (DP3; Ze et al.,
    2024).

    It has no convolutions, so nothing of it runs in bf16.
    """

    @dataclass
    class Settings(Encoder.Settings):
        """Sizes of the network; the defaults are the published ones."""

        width: Count = 64
        """Numbers of each point after the first layer; the next two have twice and four times as many."""
        project: int = 64
        """Length of the linear projection, with LayerNorm, of the maxima; 0: the maxima themselves."""

    modalities = ("pointcloud",)

    def __init__(self, feature: Feature, settings: Settings) -> None:
        super().__init__(feature, settings)
        width = settings.width
        sizes = (feature.shape[1], width, 2 * width, 4 * width)
        layers: list[nn.Module] = []
        for before, after in pairwise(sizes):
            layers += [nn.Linear(before, after), nn.LayerNorm(after), nn.ReLU()]
        self.points, self.size = nn.Sequential(*layers), settings.project or sizes[-1]
        self.projection: nn.Module = nn.Identity()
        if settings.project:
            self.projection = nn.Sequential(nn.Linear(sizes[-1], self.size), nn.LayerNorm(self.size))

    def forward(self, x: Tensor) -> Tensor:
        """(B, N, 3 or 6) -> (B, size)."""
        with torch.autocast(x.device.type, enabled=False):
            x = x.float()
            maxima = self._maxima(x) if torch.is_grad_enabled() else self.points(x).amax(dim=1)
            return self.projection(maxima)

    def _maxima(self, x: Tensor) -> Tensor:
        """The same maxima with their gradient, in a quarter of the time that gradients of all points take.

        Only points that are the maximum of some number have a gradient, and they are few: they are found
        without gradients, and go through the network once more.
        """
        with torch.no_grad():
            chosen = torch.cat([self.points(clouds).argmax(dim=1) for clouds in x.split(TOGETHER)])
        first = torch.arange(len(x), device=x.device)[:, None] * x.shape[1]
        rows, at = (chosen + first).unique(return_inverse=True)
        return self.points(x.flatten(0, 1)[rows]).gather(0, at)
