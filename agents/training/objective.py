"""What a training minimises: one forward pass from a batch to its losses.

It is a module of its own, so that what wraps modules (data-parallel training, compilation) can wrap it.
"""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path

import torch
from torch import Tensor, nn
from torch.nn.functional import mse_loss

from simreal_agents.policies.alignments import FeatureAlignment, Transport
from simreal_agents.policies.config import TrainConfig
from simreal_agents.policies.policy import PolicyNetwork
from simreal_agents.policies.randomness import Randomness
from simreal_agents.training.alignments import alignment_loss
from simreal_agents.training.alignments.base import Alignment, AlignmentLoss
from simreal_agents.training.processes import Processes
from simreal_agents.training.timing import Stopwatch


@dataclass(frozen=True)
class Batch:
    """Samples of one update, on the device: C that are cloned, then n of the source and m of the target.

    Of several processes each has its share of the samples, and the labels of all k n and k m aligned ones.

    Attributes:
        arrays: what the encoders take, ((C + n + m) h, ...).
        from_target: whether each sample is the target's, (C + n + m,).
        inputs: (C, P), or (C, h, P) with a history.
        chunks: (C, H, A), as they are demonstrated.
        goals_m: (C, 6).
        labels, labels_target: what is aligned besides features, (k n, d) and (k m, d).
        update: which one of the training it is, from 0.
        random: of the head's noise, for the C samples.
    """

    arrays: dict[str, Tensor]
    from_target: Tensor
    inputs: Tensor
    chunks: Tensor
    goals_m: Tensor
    labels: Tensor
    labels_target: Tensor
    update: int
    random: Randomness


class Objective(nn.Module):
    """The loss ``clone + goal_weight goal + weight alignment`` of a policy's network.

    What the alignment itself learns is trained along, and is no part of the policy.
    """

    def __init__(self, network: PolicyNetwork, config: TrainConfig, processes: Processes) -> None:
        super().__init__()
        self.network, self.config, self.processes = network, config, processes
        self.precision = precision_of(config.amp, processes.device)
        self.stopwatch = Stopwatch(processes.device)
        self.alignment: AlignmentLoss | None = None
        if isinstance(config.alignment, FeatureAlignment):
            size, updates = network.encoder.size, config.optim.updates
            self.alignment = alignment_loss(config.alignment, size, updates, config.seed)

    def forward(self, batch: Batch) -> dict[str, Tensor | float]:
        """The ``loss`` to be minimised, its parts, and what else there is to log."""
        config, network, processes = self.config, self.network, self.processes
        reduced = self.precision != torch.float32
        with torch.autocast(processes.device.type, self.precision, enabled=reduced):
            features = network.encoder(batch.arrays, batch.from_target)
        self.stopwatch.lap("encode")
        sizes = [len(labels) // processes.count for labels in (batch.labels, batch.labels_target)]
        cloned, z, z_target = features.split([len(batch.inputs), *sizes])
        condition = network.condition(cloned, batch.inputs, batch.from_target[: len(cloned)])
        loss = clone = network.head.loss(condition, network.actions(batch.chunks), batch.random)
        logged: dict[str, Tensor | float] = {"clone": clone.detach()}
        if config.encoder.goal_weight > 0:
            goal = mse_loss(network.goal(cloned), network.goals(batch.goals_m))
            loss = loss + config.encoder.goal_weight * goal
            logged["goal"] = goal.detach()
        self.stopwatch.lap("rest")
        if self.alignment is not None:
            z, z_target = processes.gather(z), processes.gather(z_target)
            aligned = self.align(z, z_target, batch.labels, batch.labels_target, batch.update)
            loss = loss + self.alignment.weight(batch.update) * aligned.loss
            logged |= {"alignment": aligned.loss.detach(), **aligned.logged}
            self.stopwatch.lap("align")
        return {**logged, "loss": loss}

    def align(self, z: Tensor, z_target: Tensor, x: Tensor, x_target: Tensor, update: int) -> Alignment:
        """Alignment of features (n, F) and (m, F) with labels (n, d) and (m, d)."""
        chosen = self.config.alignment
        assert self.alignment is not None
        if isinstance(chosen, Transport) and chosen.label == "action":
            x, x_target = self.network.actions(x), self.network.actions(x_target)
        return self.alignment(z, z_target, x, x_target, update)


def precision_of(amp: str, device: torch.device) -> torch.dtype:
    """The type of number that the encoder multiplies in; ``amp`` is that of the configuration."""
    if amp == "auto":
        return torch.bfloat16 if computes_in_bf16(device) else torch.float32
    return {"none": torch.float32, "bf16": torch.bfloat16, "fp16": torch.float16}[amp]


def computes_in_bf16(device: torch.device) -> bool:
    """Whether the processor multiplies in bf16; elsewhere it is emulated, and slower than float32."""
    if device.type == "cuda":
        return torch.cuda.is_bf16_supported(including_emulation=False)
    cpuinfo = Path("/proc/cpuinfo")
    return cpuinfo.exists() and any(flag in cpuinfo.read_text() for flag in ("avx512_bf16", "amx_bf16"))
