"""What a training minimises: one forward pass from a batch to its losses.

It is a module of its own, so that what wraps modules (data-parallel training, compilation) can wrap it.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
import torch
from torch import Tensor, nn
from torch.nn.functional import mse_loss

from simreal_agents.policies.alignments import FeatureAlignment, Transport
from simreal_agents.policies.config import TrainConfig
from simreal_agents.policies.policy import PolicyNetwork
from simreal_agents.training.alignment import Alignment, align


@dataclass(frozen=True)
class Batch:
    """Samples of one update, on the device: C that are cloned, then n of the source and m of the target.

    Attributes:
        arrays: what the encoders take, ((C + n + m) h, ...).
        from_target: whether each sample is the target's, (C + n + m,).
        inputs: (C, P), or (C, h, P) with a history.
        chunks: (C, H, A), as they are demonstrated.
        goals_m: (C, 6).
        labels, labels_target: what is aligned besides features, (n, d) and (m, d).
        alignment_weight: of the alignment in the loss.
        generator: of the head's noise.
    """

    arrays: dict[str, Tensor]
    from_target: Tensor
    inputs: Tensor
    chunks: Tensor
    goals_m: Tensor
    labels: Tensor
    labels_target: Tensor
    alignment_weight: float
    generator: torch.Generator


class Objective(nn.Module):
    """The loss ``clone + goal_weight goal + weight alignment`` of a policy's network.

    Alignment compares features in few dimensions. A longer feature is projected on random orthonormal
    directions, which keep distances in expectation (Johnson and Lindenstrauss, 1984). They are not learnt,
    because learnt directions would turn to what both domains have in common already.
    """

    projection: Tensor | None

    def __init__(self, network: PolicyNetwork, config: TrainConfig, bf16: bool) -> None:
        super().__init__()
        self.network, self.config, self.bf16 = network, config, bf16
        size, chosen = network.encoder.size, config.alignment
        directions: Tensor | None = None
        if isinstance(chosen, FeatureAlignment) and 0 < (length := chosen.projection) < size:
            drawn = np.random.default_rng(config.seed).normal(size=(size, length))
            directions = torch.from_numpy(np.linalg.qr(drawn)[0]).float()
        self.register_buffer("projection", directions, persistent=False)

    def forward(self, batch: Batch) -> dict[str, Tensor | float]:
        """The ``loss`` to be minimised, its parts, and what else there is to log."""
        config, network = self.config, self.network
        with torch.autocast(batch.from_target.device.type, torch.bfloat16, enabled=self.bf16):
            features = network.encoder(batch.arrays, batch.from_target)
        cloned, z, z_target = features.split([len(batch.inputs), len(batch.labels), len(batch.labels_target)])
        condition = network.condition(cloned, batch.inputs)
        loss = clone = network.head.loss(condition, network.actions(batch.chunks), batch.generator)
        losses: dict[str, Tensor | float] = {"clone": clone.detach()}
        if config.encoder.goal_weight > 0:
            goal = mse_loss(network.goal(cloned), network.goals(batch.goals_m))
            loss = loss + config.encoder.goal_weight * goal
            losses["goal"] = goal.detach()
        if len(batch.labels):
            alignment = self.align(z, z_target, batch.labels, batch.labels_target)
            loss = loss + batch.alignment_weight * alignment.loss
            losses |= alignment.summary()
        return {**losses, "loss": loss}

    def align(self, z: Tensor, z_target: Tensor, x: Tensor, x_target: Tensor) -> Alignment:
        """Alignment of features (n, F) and (m, F) with labels (n, d) and (m, d)."""
        chosen = self.config.alignment
        assert isinstance(chosen, FeatureAlignment)
        if isinstance(chosen, Transport) and chosen.label == "action":
            x, x_target = self.network.actions(x), self.network.actions(x_target)
        if self.projection is not None:
            z, z_target = z @ self.projection, z_target @ self.projection
        return align(chosen, z, z_target, x, x_target)
