"""Shift and scale by the training data, saved with the policy's weights."""

from __future__ import annotations

import torch
from torch import Tensor, nn


class Normalizer(nn.Module):
    """``(x - mean) / std`` over the last axis; both are buffers, so a checkpoint holds them."""

    mean: Tensor
    std: Tensor

    def __init__(self, size: int) -> None:
        super().__init__()
        self.register_buffer("mean", torch.zeros(size))
        self.register_buffer("std", torch.ones(size))

    def fit(self, data: Tensor, smallest_std: float) -> None:
        """Take mean and deviation of (..., size); a deviation below ``smallest_std`` is not scaled to 1."""
        rows = data.reshape(-1, data.shape[-1]).double()
        self.mean.copy_(rows.mean(0))
        self.std.copy_(rows.std(0, correction=0).clamp_min(smallest_std))

    def forward(self, x: Tensor) -> Tensor:
        """To zero mean and unit variance."""
        return (x - self.mean) / self.std

    def inverse(self, x: Tensor) -> Tensor:
        """Back to the data's units."""
        return x * self.std + self.mean
