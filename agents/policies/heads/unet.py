"""The conditional 1-D U-Net of Diffusion Policy (Chi et al., 2023), which denoises a chunk of actions.

Along the chunk it halves the length between levels and doubles it again. The condition enters every block as
a scale and an offset of each channel (FiLM; Perez et al., 2018).
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from itertools import pairwise

import torch
from torch import Tensor, nn


class UNet(nn.Module):
    """Noisy chunks, their noise level and conditions in; what is to be predicted of each chunk out.

    Args:
        actions: numbers of an action, A.
        condition: numbers of a condition, D.
        channels: of each level; the length is halved between two levels.
        kernel: of the convolutions, odd.
        groups: of each GroupNorm; all channels divide by it.
        embedding: numbers that describe the noise level.
    """

    def __init__(
        self, actions: int, condition: int, channels: Sequence[int], kernel: int, groups: int, embedding: int
    ) -> None:
        super().__init__()
        self.level = nn.Sequential(
            Sinusoids(embedding),
            nn.Linear(embedding, 4 * embedding),
            nn.Mish(),
            nn.Linear(4 * embedding, embedding),
        )

        def two(before: int, after: int) -> nn.ModuleList:
            known = embedding + condition
            return nn.ModuleList(
                [
                    Block(before, after, known, kernel, groups),
                    Block(after, after, known, kernel, groups),
                ]
            )

        self.down = nn.ModuleList(two(before, after) for before, after in pairwise([actions, *channels]))
        self.shorten = nn.ModuleList(nn.Conv1d(n, n, 3, stride=2, padding=1) for n in channels[:-1])
        self.middle = two(channels[-1], channels[-1])
        upwards = list(pairwise(reversed(channels)))
        self.up = nn.ModuleList(two(2 * before, after) for before, after in upwards)
        self.lengthen = nn.ModuleList(nn.ConvTranspose1d(n, n, 4, stride=2, padding=1) for _, n in upwards)
        self.out = nn.Sequential(
            convolved(channels[0], channels[0], kernel, groups), nn.Conv1d(channels[0], actions, 1)
        )

    def forward(self, chunk: Tensor, level: Tensor, condition: Tensor) -> Tensor:
        """(B, H, A), (B,) whole numbers, (B, D) -> (B, H, A); H must be a multiple of 2^(levels - 1)."""
        known = torch.cat([self.level(level), condition], dim=1)
        x = chunk.transpose(1, 2)
        passed: list[Tensor] = []
        for i, blocks in enumerate(self.down):
            for block in blocks:  # type: ignore[attr-defined]
                x = block(x, known)
            passed.append(x)
            if i < len(self.shorten):
                x = self.shorten[i](x)
        for block in self.middle:
            x = block(x, known)
        for blocks, lengthen in zip(self.up, self.lengthen, strict=True):
            x = torch.cat([x, passed.pop()], dim=1)
            for block in blocks:  # type: ignore[attr-defined]
                x = block(x, known)
            x = lengthen(x)
        return self.out(x).transpose(1, 2)


class Block(nn.Module):
    """Two convolutions beside a shortcut; after the first, the condition scales and moves each channel."""

    def __init__(self, before: int, after: int, condition: int, kernel: int, groups: int) -> None:
        super().__init__()
        self.first = convolved(before, after, kernel, groups)
        self.second = convolved(after, after, kernel, groups)
        self.film = nn.Sequential(nn.Mish(), nn.Linear(condition, 2 * after))
        self.shortcut = nn.Conv1d(before, after, 1) if before != after else nn.Identity()

    def forward(self, x: Tensor, condition: Tensor) -> Tensor:
        """(B, before, H), (B, D) -> (B, after, H)."""
        scale, offset = self.film(condition)[:, :, None].chunk(2, dim=1)
        return self.second(scale * self.first(x) + offset) + self.shortcut(x)


class Sinusoids(nn.Module):
    """Whole numbers (B,) as sines and cosines (B, size) of wavelengths from 2 pi to 20,000 pi."""

    def __init__(self, size: int) -> None:
        super().__init__()
        self.size = size

    def forward(self, numbers: Tensor) -> Tensor:
        """(B,) -> (B, size)."""
        half = self.size // 2
        powers = torch.arange(half, device=numbers.device) / (half - 1)
        angles = numbers[:, None] * torch.exp(-math.log(10_000) * powers)
        return torch.cat([angles.sin(), angles.cos()], dim=1)


def convolved(before: int, after: int, kernel: int, groups: int) -> nn.Sequential:
    """A convolution that keeps the length, GroupNorm and Mish."""
    return nn.Sequential(
        nn.Conv1d(before, after, kernel, padding=kernel // 2), nn.GroupNorm(groups, after), nn.Mish()
    )
