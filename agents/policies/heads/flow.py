"""Flow matching."""

from __future__ import annotations

import math
from dataclasses import dataclass

import torch
from torch import Tensor

from simreal_agents.policies.heads.base import Head
from simreal_agents.policies.heads.mse import MSEHead, perceptron
from simreal_agents.policies.overrides import Count
from simreal_agents.policies.randomness import SAMPLES, Randomness


class FlowHead(Head):
    """Flow matching (Lipman et al., 2023) on straight lines: a chunk is noise carried by a learnt velocity.

    ``x_t = (1 - t) noise + t chunk``, ``velocity(x_t, t, condition) ~ chunk - noise``; sampled by Euler.
    """

    @dataclass
    class Settings(MSEHead.Settings):
        """Sizes of the network, and how many integration steps a sample takes."""

        hidden: Count = 1024
        """Units of each of the two hidden layers. They carry a whole noisy chunk beside the condition, so
        they have to be many: with 256 the policy hardly finds an object."""
        steps: Count = 5
        """Euler steps of the flow."""

    WHEN_ACTING = ("execute", "steps")
    FREQUENCIES = 8

    def __init__(self, condition_size: int, shape: tuple[int, int], settings: Settings) -> None:
        super().__init__(condition_size, shape, settings)
        numbers = math.prod(shape)
        self.steps = settings.steps
        self.network = perceptron(condition_size + numbers + 2 * self.FREQUENCIES, settings.hidden, numbers)

    def velocity(self, x: Tensor, t: Tensor, condition: Tensor) -> Tensor:
        """(B, H A), (B, 1), (B, D) -> (B, H A)."""
        angles = t * math.pi * 2.0 ** torch.arange(self.FREQUENCIES, device=t.device) / 2
        return self.network(torch.cat([condition, x, angles.sin(), angles.cos()], dim=1))

    def loss(self, condition: Tensor, chunk: Tensor, random: Randomness) -> Tensor:
        """Mean squared error of the velocity at a random time."""
        target = chunk.flatten(1)
        noise = random.normal((SAMPLES, target.shape[1]))
        t = random.uniform((SAMPLES, 1))
        predicted = self.velocity((1 - t) * noise + t * target, t, condition)
        return (predicted - (target - noise)).square().mean()

    def sample(self, condition: Tensor, noise: Tensor) -> Tensor:
        """Integrate from the noise."""
        x = noise.flatten(1)
        for step in range(self.steps):
            t = condition.new_full((len(condition), 1), step / self.steps)
            x = x + self.velocity(x, t, condition) / self.steps
        return x.unflatten(1, self.shape)
