"""Action heads: from a condition (feature and proprioception) to a chunk of normalised actions.

Another package adds a head by an entry point of the group ``simreal.heads`` that names a subclass of
:class:`Head`; ``--set head.kind=its-name`` takes it, and its ``Settings`` are keys there.
"""

from __future__ import annotations

import math
from abc import abstractmethod
from dataclasses import dataclass
from typing import Literal

import torch
from torch import Tensor, nn

from simreal_agents.policies.overrides import Count, Tagged
from simreal_envs.plugins import Registry


class Head(nn.Module):
    """Turns a condition into a chunk of actions. ``shape`` is (horizon, action size) of a chunk."""

    @dataclass
    class Settings(Tagged):
        """Settings that all heads have; a subclass's own ``Settings`` inherit these and add more."""

        predict: Count = 8
        """Actions predicted at once."""
        execute: Count = 4
        """Actions executed before the next prediction."""
        action_frame: Literal["base", "end_effector"] = "end_effector"
        """Origin of predicted positions: the robot base, or where the end effector is now (axes of the
        base)."""
        proprioception: tuple[str, ...] = ("robot0_eef_pos", "robot0_eef_quat", "robot0_gripper_qpos")
        """Which proprioception the policy sees; orientation as two columns of the matrix."""

    def __init__(self, condition_size: int, shape: tuple[int, int], settings: Settings) -> None:
        super().__init__()
        self.shape = shape

    @abstractmethod
    def loss(self, condition: Tensor, chunk: Tensor, generator: torch.Generator) -> Tensor:
        """Mean loss of conditions (B, D) with demonstrated chunks (B, H, A)."""

    @abstractmethod
    def sample(self, condition: Tensor, noise: Tensor) -> Tensor:
        """Chunks (B, H, A) for conditions (B, D) and standard normal noise (B, H, A)."""


class MSEHead(Head):
    """Regression, by a perceptron: the mean of what was demonstrated."""

    @dataclass
    class Settings(Head.Settings):
        """Size of the network."""

        hidden: Count = 256
        """Units of each of the two hidden layers."""

    def __init__(self, condition_size: int, shape: tuple[int, int], settings: Settings) -> None:
        super().__init__(condition_size, shape, settings)
        self.network = _mlp(condition_size, settings.hidden, math.prod(shape))

    def loss(self, condition: Tensor, chunk: Tensor, generator: torch.Generator) -> Tensor:
        """Mean squared error."""
        return (self.network(condition) - chunk.flatten(1)).square().mean()

    def sample(self, condition: Tensor, noise: Tensor) -> Tensor:
        """The prediction; there is nothing random in it."""
        return self.network(condition).unflatten(1, self.shape)


class FlowHead(Head):
    """Flow matching (Lipman et al., 2023) on straight lines: a chunk is noise carried by a learnt velocity.

    ``x_t = (1 - t) noise + t chunk``, ``velocity(x_t, t, condition) ~ chunk - noise``; sampled by Euler.
    """

    @dataclass
    class Settings(MSEHead.Settings):
        """Sizes of the network, and how many integration steps a sample takes."""

        steps: Count = 5
        """Euler steps of the flow."""

    FREQUENCIES = 8

    def __init__(self, condition_size: int, shape: tuple[int, int], settings: Settings) -> None:
        super().__init__(condition_size, shape, settings)
        numbers = math.prod(shape)
        self.steps = settings.steps
        self.network = _mlp(condition_size + numbers + 2 * self.FREQUENCIES, settings.hidden, numbers)

    def velocity(self, x: Tensor, t: Tensor, condition: Tensor) -> Tensor:
        """(B, H A), (B, 1), (B, D) -> (B, H A)."""
        angles = t * math.pi * 2.0 ** torch.arange(self.FREQUENCIES, device=t.device) / 2
        return self.network(torch.cat([condition, x, angles.sin(), angles.cos()], dim=1))

    def loss(self, condition: Tensor, chunk: Tensor, generator: torch.Generator) -> Tensor:
        """Mean squared error of the velocity at a random time."""
        target = chunk.flatten(1)
        noise = torch.randn(target.shape, generator=generator, device=target.device)
        t = torch.rand((len(target), 1), generator=generator, device=target.device)
        predicted = self.velocity((1 - t) * noise + t * target, t, condition)
        return (predicted - (target - noise)).square().mean()

    def sample(self, condition: Tensor, noise: Tensor) -> Tensor:
        """Integrate from the noise."""
        x = noise.flatten(1)
        for step in range(self.steps):
            t = condition.new_full((len(condition), 1), step / self.steps)
            x = x + self.velocity(x, t, condition) / self.steps
        return x.unflatten(1, self.shape)


HEADS: Registry[type[Head]] = Registry("head", "simreal.heads", {"mse": MSEHead, "flow": FlowHead}, Head)


def _mlp(inputs: int, hidden: int, outputs: int) -> nn.Sequential:
    return nn.Sequential(
        nn.Linear(inputs, hidden), nn.ReLU(), nn.Linear(hidden, hidden), nn.ReLU(), nn.Linear(hidden, outputs)
    )
