"""What every alignment does: shorten the features, normalise them, compare them, say what there is to log."""

from __future__ import annotations

from abc import abstractmethod
from collections.abc import Mapping
from dataclasses import dataclass, field

import numpy as np
import torch
from torch import Tensor, nn

from simreal_agents.policies.alignments import FeatureAlignment

RIDGE = 0.01
"""Directions with less than this share of the mean variance count as noise in whitening."""


@dataclass
class Alignment:
    """Loss of one batch, and what to log about it.

    Attributes:
        loss: to be multiplied by the weight.
        logged: values by their names in the log, besides the loss.
        plan: (n, m) transport plan, where there is one.
    """

    loss: Tensor
    logged: Mapping[str, Tensor | float] = field(default_factory=dict)
    plan: Tensor | None = None


class AlignmentLoss(nn.Module):
    """Base of the losses between the features of two domains.

    Features are compared in few dimensions. Longer ones are projected on random orthonormal directions, which
    keep distances in expectation (Johnson and Lindenstrauss, 1984). The directions are not learnt, because
    learnt ones would turn to what both domains have in common already. What a loss does learn, for example
    a discriminator, are its parameters; they are trained with the policy's and are no part of the policy.

    Attributes:
        length: of the features that are compared.
    """

    projection: Tensor | None

    def __init__(self, settings: FeatureAlignment, size: int, updates: int, seed: int) -> None:
        super().__init__()
        self.settings, self.updates, self.length = settings, updates, size
        directions: Tensor | None = None
        if 0 < settings.projection < size:
            drawn = np.random.default_rng(seed).normal(size=(size, settings.projection))
            directions = torch.from_numpy(np.linalg.qr(drawn)[0]).float()
            self.length = settings.projection
        self.register_buffer("projection", directions, persistent=False)

    def weight(self, update: int) -> float:
        """Weight of the loss at an update, which rises linearly during the warm-up."""
        return self.settings.weight * min(1.0, (update + 1) / (self.settings.warmup_updates + 1))

    def forward(self, z: Tensor, z_target: Tensor, x: Tensor, x_target: Tensor, update: int) -> Alignment:
        """Compare source features ``z`` (n, F) with labels ``x`` (n, d) and the target's m of each.

        Args:
            update: which one of the training it is, from 0.
        """
        if self.projection is not None:
            z, z_target = z @ self.projection, z_target @ self.projection
        z, z_target = normalize(self.settings.normalize_features, z, z_target)
        return self.compare(z, z_target, x, x_target, update)

    @abstractmethod
    def compare(self, z: Tensor, z_target: Tensor, x: Tensor, x_target: Tensor, update: int) -> Alignment:
        """The same for features (n, length) and (m, length) that are normalised already."""


def normalize(kind: str, z: Tensor, z_target: Tensor) -> tuple[Tensor, Tensor]:
    """Features before the cost: as they are, of length 1, in units of the batch's deviation, or white."""
    if kind == "l2":
        return torch.nn.functional.normalize(z, dim=1), torch.nn.functional.normalize(z_target, dim=1)
    if kind == "std":  # with its gradient: else features would shrink for ever
        scale = torch.cat([z, z_target]).std(dim=0).mean().clamp_min(1e-6)
        return z / scale, z_target / scale
    if kind == "whiten":
        both = torch.cat([z, z_target])
        covariance = torch.cov(both.T)
        ridge = (RIDGE * covariance.diagonal().mean() + 1e-8) * torch.eye(z.shape[1], device=z.device)
        root = torch.linalg.cholesky(covariance + ridge)
        white = torch.linalg.solve_triangular(root, (both - both.mean(0)).T, upper=False).T
        return white[: len(z)], white[len(z) :]
    return z, z_target


def squared_distances(a: Tensor, b: Tensor) -> Tensor:
    """(n, d), (m, d) -> (n, m)."""
    return (a.square().sum(1)[:, None] + b.square().sum(1) - 2 * a @ b.T).clamp_min(0)
