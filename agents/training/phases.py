"""The phases of a training: one, or training on the source and then fine-tuning on the target."""

from __future__ import annotations

import math
from typing import NamedTuple

from simreal_agents.policies.config import TrainConfig
from simreal_agents.policies.methods import METHODS


class Phase(NamedTuple):
    """Some updates of a training that clone the same domains.

    Attributes:
        first, end: its updates are those from ``first`` up to before ``end``.
        uses_source, uses_target: the domains that it clones.
        learning_rate: the highest of the phase.
    """

    first: int
    end: int
    uses_source: bool
    uses_target: bool
    learning_rate: float


def phases(config: TrainConfig) -> list[Phase]:
    """All phases, which together have all updates."""
    method, updates, highest = METHODS[config.method], config.optim.updates, config.optim.learning_rate
    if not method.finetunes:
        return [Phase(0, updates, method.uses_source, method.uses_target, highest)]
    options = config.finetune
    begins = updates - min(max(round(options.share * updates), 1), updates - 1)
    return [
        Phase(0, begins, True, False, highest),
        Phase(begins, updates, False, True, options.learning_rate_factor * highest),
    ]


def phase_at(config: TrainConfig, update: int) -> Phase:
    """The phase of an update."""
    return next(phase for phase in phases(config) if update < phase.end)


def learning_rate(config: TrainConfig, update: int) -> float:
    """Within each phase a linear warm-up, then a cosine to zero."""
    first, end, _, _, highest = phase_at(config, update)
    done, warmup = update - first, config.optim.warmup_updates
    if done < warmup:
        return highest * (done + 1) / (warmup + 1)
    progress = (done - warmup) / max(1, end - first - warmup)
    return highest * 0.5 * (1 + math.cos(math.pi * progress))
