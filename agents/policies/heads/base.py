"""What a head is."""

from __future__ import annotations

from abc import abstractmethod
from dataclasses import dataclass
from typing import Literal

import torch
from torch import Tensor, nn

from simreal_agents.policies.overrides import Count, Tagged


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
