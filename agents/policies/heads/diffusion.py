"""Diffusion: a chunk is what a learnt network leaves of noise, step by step."""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import Annotated, Literal

import torch
from torch import Tensor

from simreal_agents.policies.heads.base import Head
from simreal_agents.policies.heads.unet import UNet
from simreal_agents.policies.overrides import NOT_NEGATIVE, Count, Limit
from simreal_agents.policies.randomness import SAMPLES, Randomness
from simreal_envs.errors import UsageError

LARGEST_BETA = 0.999
"""Bounds the noise that the last step adds, after which nothing would be left of a chunk."""


class DiffusionHead(Head):
    """A denoising diffusion model of chunks (DDPM; Ho et al., 2020), sampled by DDIM (Song et al., 2021).

    Level t of the noise makes ``x_t = sqrt(a_t) chunk + sqrt(1 - a_t) noise``, with ``a`` of
    :func:`squared_cosine`. A :class:`UNet` is trained to predict the noise or the chunk from it.

    Predicted chunks are cut to the range that the normalised actions of the demonstrations have. Published
    code scales actions to [-1, 1] and cuts there, which are the same actions; here they have unit variance.
    """

    low: Tensor
    high: Tensor
    kept: Tensor

    @dataclass
    class Settings(Head.Settings):
        """The U-Net, the noise, and how a chunk is sampled; the defaults are for a CPU."""

        channels: tuple[Count, ...] = (64, 128)
        """Of each level of the U-Net; each but the first has half the length of the one before."""
        kernel: Annotated[int, Limit(lambda n: n >= 1 and n % 2 == 1, "be odd")] = 5
        """Length of the convolutions."""
        groups: Count = 8
        """Of GroupNorm; all channels divide by it."""
        embedding: Annotated[int, Limit(lambda n: n >= 4 and n % 2 == 0, "be even and at least 4")] = 64
        """Numbers that describe the level of the noise."""
        predicts: Literal["epsilon", "sample"] = "sample"
        """What the network predicts: the noise, or the chunk without it."""
        levels: Annotated[int, Limit(lambda n: n >= 2, "be at least 2")] = 100
        """Levels of the noise in training."""
        steps: Count = 8
        """Steps of a sample, at most as many as there are levels."""
        spacing: Literal["trailing", "leading"] = "trailing"
        """Which levels the steps have: trailing begins at the last, where all is noise (Lin et al., 2024);
        leading ends at the first, as published for DDIM, and needs some ten steps."""
        eta: Annotated[float, NOT_NEGATIVE, Limit(lambda x: x <= 1, "be at most 1")] = 0.0
        """Share of the noise that each step adds anew. 0 is DDIM; 1 with all levels is DDPM."""

        def check(self) -> None:
            """Refuse lengths, groups and steps that the network and the noise do not allow."""
            super().check()
            if not self.channels:
                raise UsageError("head.channels = [] must name the channels of one level at least.")
            multiple = 2 ** (len(self.channels) - 1)
            if self.predict % multiple:
                fitting = [n for n in range(multiple, self.predict + 2 * multiple, multiple)][-3:]
                raise UsageError(
                    f"head.predict = {self.predict} cannot be halved {len(self.channels) - 1} times, as the "
                    f"U-Net of head.channels = {list(self.channels)} does. Valid: multiples of {multiple}, "
                    f"for example {', '.join(map(str, fitting))}."
                )
            if wrong := [n for n in self.channels if n % self.groups]:
                raise UsageError(
                    f"head.channels = {list(self.channels)}: {wrong[0]} is no multiple of head.groups = "
                    f"{self.groups}."
                )
            if self.steps > self.levels:
                raise UsageError(f"head.steps = {self.steps} exceeds head.levels = {self.levels}.")

    WHEN_ACTING = ("execute", "steps", "spacing", "eta")

    def __init__(self, condition_size: int, shape: tuple[int, int], settings: Settings) -> None:
        super().__init__(condition_size, shape, settings)
        self.settings = settings
        self.network = UNet(
            shape[1], condition_size, settings.channels, settings.kernel, settings.groups, settings.embedding
        )
        self.register_buffer("kept", squared_cosine(settings.levels), persistent=False)
        self.register_buffer("low", torch.full((shape[1],), -math.inf))
        self.register_buffer("high", torch.full((shape[1],), math.inf))
        self.noise_shape = (1 + settings.steps if settings.eta else 1, *shape)

    def fit(self, chunks: Tensor) -> None:
        """Take the range of the demonstrated actions, each number by itself."""
        actions = chunks.flatten(0, -2)
        self.low.copy_(actions.amin(0))
        self.high.copy_(actions.amax(0))

    def loss(self, condition: Tensor, chunk: Tensor, random: Randomness) -> Tensor:
        """Mean squared error of the prediction at a random level of the noise."""
        noise = random.normal((SAMPLES, *self.shape))
        level = random.integers(len(self.kept), (SAMPLES,))
        kept = self.kept[level, None, None]
        predicted = self.network(kept.sqrt() * chunk + (1 - kept).sqrt() * noise, level, condition)
        return (predicted - (noise if self.settings.predicts == "epsilon" else chunk)).square().mean()

    def sample(self, condition: Tensor, noise: Tensor) -> Tensor:
        """Denoise noise[:, 0]; step i adds noise[:, i + 1] where eta is not 0."""
        chosen = self.settings
        x, levels = noise[:, 0], spaced(chosen.levels, chosen.steps, chosen.spacing)
        for i, level in enumerate(levels):
            kept = self.kept[level]
            kept_next = self.kept[levels[i + 1]] if i + 1 < len(levels) else torch.ones_like(kept)
            predicted = self.network(x, torch.full_like(x[:, 0, 0], level, dtype=torch.long), condition)
            if chosen.predicts == "epsilon":
                predicted = (x - (1 - kept).sqrt() * predicted) / kept.sqrt()
            chunk = predicted.clamp(self.low, self.high)
            anew = noise[:, i + 1] if chosen.eta else None
            x = denoised(x, chunk, kept, kept_next, chosen.eta, anew)
        return x


def squared_cosine(levels: int) -> Tensor:
    """Share of a chunk's variance that is kept at each level, (levels,) (Nichol and Dhariwal, 2021)."""
    times = torch.arange(levels + 1, dtype=torch.float64) / levels
    bound = torch.cos((times + 0.008) / 1.008 * math.pi / 2) ** 2
    betas = (1 - bound[1:] / bound[:-1]).clamp_max(LARGEST_BETA)
    return (1 - betas).cumprod(0).float()


def spaced(levels: int, steps: int, spacing: str) -> list[int]:
    """The levels of so many steps, from the noisiest on.

    >>> spaced(100, 4, "trailing"), spaced(100, 4, "leading")
    ([99, 74, 49, 24], [75, 50, 25, 0])
    """
    if spacing == "leading":
        return [i * (levels // steps) for i in reversed(range(steps))]
    return [round(levels * (steps - i) / steps) - 1 for i in range(steps)]


def denoised(
    x: Tensor, chunk: Tensor, kept: Tensor, kept_next: Tensor, eta: float, noise: Tensor | None
) -> Tensor:
    """One step of DDIM (equation 12 of Song et al., 2021): from a noisy chunk to a less noisy one.

    Args:
        x: the noisy chunk.
        chunk: what it is believed to be without the noise.
        kept, kept_next: share of its variance before and after the step.
        eta: share of the noise that is replaced by ``noise``.
    """
    direction = (x - kept.sqrt() * chunk) / (1 - kept).sqrt()
    anew = eta * ((1 - kept_next) / (1 - kept) * (1 - kept / kept_next)).sqrt()
    x = kept_next.sqrt() * chunk + (1 - kept_next - anew.square()).clamp_min(0).sqrt() * direction
    return x if noise is None else x + anew * noise
