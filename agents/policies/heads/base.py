"""What a head is."""

from __future__ import annotations

from abc import abstractmethod
from dataclasses import dataclass
from typing import ClassVar, Literal

from torch import Tensor, nn

from simreal_agents.policies.overrides import Count, Tagged
from simreal_agents.policies.randomness import Randomness
from simreal_envs.errors import UsageError
from simreal_envs.spec import PROPRIOCEPTION, check_choice


class Head(nn.Module):
    """Turns a condition into a chunk of actions, the first of which is for the present moment.

    Attributes:
        shape: (horizon, action size) of a chunk.
        noise_shape: of the noise that one sample takes.
    """

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

        def check(self) -> None:
            """Refuse values that do not fit each other."""
            if self.execute > self.predict:
                raise UsageError(f"head.execute = {self.execute} exceeds head.predict = {self.predict}.")
            if not self.proprioception:
                raise UsageError(
                    f"head.proprioception = [] must name one at least of {', '.join(PROPRIOCEPTION)}."
                )
            for name in self.proprioception:
                check_choice("head.proprioception", name, PROPRIOCEPTION)

    WHEN_ACTING: ClassVar[tuple[str, ...]] = ("execute",)
    """Settings that change how a trained head acts, and nothing of its weights."""
    noise_shape: tuple[int, ...]

    def __init__(self, condition_size: int, shape: tuple[int, int], settings: Settings) -> None:
        super().__init__()
        self.shape = self.noise_shape = shape

    def fit(self, chunks: Tensor) -> None:
        """See all normalised chunks of the demonstrations (N, H, A), once before training."""

    @abstractmethod
    def loss(self, condition: Tensor, chunk: Tensor, random: Randomness) -> Tensor:
        """Mean loss of conditions (B, D) with demonstrated chunks (B, H, A).

        Whatever is random has to come from ``random``: then several processes agree with one.
        """

    @abstractmethod
    def sample(self, condition: Tensor, noise: Tensor) -> Tensor:
        """Chunks (B, H, A) for conditions (B, D) and standard normal noise (B, *noise_shape)."""
