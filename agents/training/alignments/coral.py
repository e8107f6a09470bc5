"""Alignment of the covariances of the features (Sun and Saenko, "Deep CORAL", 2016)."""

from __future__ import annotations

import torch
from torch import Tensor

from simreal_agents.training.alignments.base import Alignment, AlignmentLoss


class CORALLoss(AlignmentLoss):
    """The squared distance of the two covariances; means and labels are ignored."""

    def compare(self, z: Tensor, z_target: Tensor, x: Tensor, x_target: Tensor, update: int) -> Alignment:
        """The distance between the covariances of the batch."""
        return Alignment(covariance_distance(torch.cov(z.T), torch.cov(z_target.T)))


def covariance_distance(covariance: Tensor, covariance_target: Tensor) -> Tensor:
    """``|A - B|_F^2 / (4 d^2)`` of two covariances (d, d)."""
    covariance, covariance_target = torch.atleast_2d(covariance), torch.atleast_2d(covariance_target)
    return (covariance - covariance_target).square().sum() / (4 * len(covariance) ** 2)
