"""Domain-adversarial alignment (Ganin et al., "Domain-Adversarial Training of Neural Networks", 2016).

A discriminator learns to tell the domain from the features. Its gradient reaches the encoder reversed, so the
encoder learns features from which the domain cannot be told.
"""

from __future__ import annotations

import math
from typing import Any

import torch
from torch import Tensor, nn
from torch.nn.functional import softplus

from simreal_agents.policies.alignments import DANN, FeatureAlignment
from simreal_agents.training.alignments.base import Alignment, AlignmentLoss


class DANNLoss(AlignmentLoss):
    """The discriminator's cross-entropy, whose gradient into the features is reversed."""

    def __init__(self, settings: FeatureAlignment, size: int, updates: int, seed: int) -> None:
        super().__init__(settings, size, updates, seed)
        assert isinstance(settings, DANN)
        hidden = settings.hidden
        with torch.random.fork_rng(devices=[]):
            torch.manual_seed(seed)
            self.discriminator = nn.Sequential(
                nn.Linear(self.length, hidden), nn.ReLU(), nn.Linear(hidden, hidden), nn.ReLU(),
                nn.Linear(hidden, 1),
            )  # fmt: skip

    def strength(self, update: int) -> float:
        """Factor of the reversed gradient, ``2 / (1 + exp(-gamma p)) - 1`` after a share p of the updates."""
        settings = self.settings
        assert isinstance(settings, DANN)
        return 2 / (1 + math.exp(-settings.gamma * update / self.updates)) - 1

    def compare(self, z: Tensor, z_target: Tensor, x: Tensor, x_target: Tensor, update: int) -> Alignment:
        """The mean of both domains' cross-entropies, log 2 at chance; logs how often the domain is told."""
        strength = self.strength(update)
        told, told_target = (self.discriminator(reverse(each, strength)) for each in (z, z_target))
        loss = (softplus(told).mean() + softplus(-told_target).mean()) / 2
        right = ((told < 0).float().mean() + (told_target > 0).float().mean()) / 2
        return Alignment(loss, {"discriminator_accuracy": right, "reversal_strength": strength})


class _Reverse(torch.autograd.Function):
    @staticmethod
    def forward(context: Any, x: Tensor, strength: float) -> Tensor:
        context.strength = strength
        return x.view_as(x)

    @staticmethod
    def backward(context: Any, *gradients: Tensor) -> tuple[Tensor, None]:
        return -context.strength * gradients[0], None


def reverse(x: Tensor, strength: float) -> Tensor:
    """``x`` itself; its gradient is multiplied by minus ``strength``."""
    reversed_: Tensor = _Reverse.apply(x, strength)
    return reversed_
