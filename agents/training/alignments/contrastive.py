"""Alignment of sampled pairs against the other samples of the batch (InfoNCE; van den Oord et al., 2018).

X-Sim (Dan et al., 2025) aligns real and simulated images of the same states so. There, pairs are real
trajectories replayed in simulation; here they are the sampled pairs of frames.
"""

from __future__ import annotations

import torch
from torch import Tensor
from torch.nn.functional import cross_entropy, normalize

from simreal_agents.policies.alignments import Contrastive
from simreal_agents.training.alignments.base import Alignment, AlignmentLoss


class ContrastiveLoss(AlignmentLoss):
    """Each target sample has to be told apart from the others by its source partner. Needs n = m."""

    def compare(self, z: Tensor, z_target: Tensor, x: Tensor, x_target: Tensor, update: int) -> Alignment:
        """The cross-entropy of finding each target's partner; logs how often it is the most similar."""
        settings = self.settings
        assert isinstance(settings, Contrastive)
        similarity = normalize(z_target, dim=1) @ normalize(z, dim=1).T / settings.temperature
        partners = torch.arange(len(z), device=z.device)
        found = (similarity.detach().argmax(dim=1) == partners).float().mean()
        return Alignment(cross_entropy(similarity, partners), {"partners_found": found})
