"""Losses that align the features of two domains, one file each; :mod:`.base` is what they have in common.

``L = L_BC + weight * L_alignment``, over a batch of n source and m target samples, each with features z and,
for those that match labels, labels x.
"""

from simreal_agents.policies.alignments import (
    CORAL,
    DANN,
    MMD,
    Contrastive,
    FeatureAlignment,
    Transport,
)  # fmt: skip
from simreal_agents.training.alignments.base import AlignmentLoss
from simreal_agents.training.alignments.contrastive import ContrastiveLoss
from simreal_agents.training.alignments.coral import CORALLoss
from simreal_agents.training.alignments.dann import DANNLoss
from simreal_agents.training.alignments.mmd import MMDLoss
from simreal_agents.training.alignments.transport import TransportLoss

LOSSES: dict[type[FeatureAlignment], type[AlignmentLoss]] = {
    MMD: MMDLoss,
    CORAL: CORALLoss,
    DANN: DANNLoss,
    Contrastive: ContrastiveLoss,
    Transport: TransportLoss,
}
"""For the settings of each kind, and of those that inherit them, the loss."""


def alignment_loss(settings: FeatureAlignment, size: int, updates: int, seed: int) -> AlignmentLoss:
    """The loss that these settings are of.

    Args:
        size: length of the features.
        updates: length of the training, for what follows a schedule.
        seed: of random directions and of the weights that a loss has.
    """
    loss = next(loss for kind, loss in LOSSES.items() if isinstance(settings, kind))
    return loss(settings, size, updates, seed)
