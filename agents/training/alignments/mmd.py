"""Alignment of the marginals of the features, labels ignored, by a maximum mean discrepancy."""

from __future__ import annotations

import torch
from torch import Tensor

from simreal_agents.policies.alignments import MMD
from simreal_agents.training.alignments.base import Alignment, AlignmentLoss, squared_distances


class MMDLoss(AlignmentLoss):
    """The energy distance, or the squared MMD of Gaussian kernels."""

    def compare(self, z: Tensor, z_target: Tensor, x: Tensor, x_target: Tensor, update: int) -> Alignment:
        """The distance between the marginals."""
        settings = self.settings
        assert isinstance(settings, MMD)
        distance = energy_distance if settings.kernel == "energy" else rbf
        return Alignment(distance(z, z_target))


def energy_distance(z: Tensor, z_target: Tensor) -> Tensor:
    """2 E|z - z'| - E|z - z| - E|z' - z'| (Székely and Rizzo, 2013); an MMD with kernel -|a - b|."""

    def mean_distance(a: Tensor, b: Tensor) -> Tensor:
        return (squared_distances(a, b) + 1e-8).sqrt().mean()

    return 2 * mean_distance(z, z_target) - mean_distance(z, z) - mean_distance(z_target, z_target)


def rbf(z: Tensor, z_target: Tensor) -> Tensor:
    """Squared MMD with a sum of Gaussian kernels, bandwidths 1/4 to 4 times the batch's median distance^2."""
    both = torch.cat([z, z_target])
    squared = squared_distances(both, both)
    median = squared.detach().median().clamp_min(1e-6)
    kernel = torch.stack(
        [torch.exp(-squared / (scale * median)) for scale in (0.25, 0.5, 1.0, 2.0, 4.0)]
    ).sum(0)
    n = len(z)
    return kernel[:n, :n].mean() + kernel[n:, n:].mean() - 2 * kernel[:n, n:].mean()
