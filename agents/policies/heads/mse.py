"""Regression."""

from __future__ import annotations

import math
from dataclasses import dataclass

from torch import Tensor, nn

from simreal_agents.policies.heads.base import Head
from simreal_agents.policies.overrides import Count
from simreal_agents.policies.randomness import Randomness


class MSEHead(Head):
    """Regression, by a perceptron: the mean of what was demonstrated."""

    @dataclass
    class Settings(Head.Settings):
        """Size of the network."""

        hidden: Count = 256
        """Units of each of the two hidden layers."""

    def __init__(self, condition_size: int, shape: tuple[int, int], settings: Settings) -> None:
        super().__init__(condition_size, shape, settings)
        self.network = perceptron(condition_size, settings.hidden, math.prod(shape))

    def loss(self, condition: Tensor, chunk: Tensor, random: Randomness) -> Tensor:
        """Mean squared error."""
        return (self.network(condition) - chunk.flatten(1)).square().mean()

    def sample(self, condition: Tensor, noise: Tensor) -> Tensor:
        """The prediction; there is nothing random in it."""
        return self.network(condition).unflatten(1, self.shape)


def perceptron(inputs: int, hidden: int, outputs: int) -> nn.Sequential:
    """Two hidden layers."""
    return nn.Sequential(
        nn.Linear(inputs, hidden), nn.ReLU(), nn.Linear(hidden, hidden), nn.ReLU(), nn.Linear(hidden, outputs)
    )
