"""What each update looks at: frames for cloning by fixed shares, and paired frames for the alignment."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from simreal_agents.policies.config import TrainConfig
from simreal_agents.training.phases import Phase, phase_at, phases
from simreal_datasets.loading.frames import Frames
from simreal_datasets.loading.pairing import Pairing
from simreal_envs.errors import UsageError

Indices = NDArray[np.int64]


@dataclass(frozen=True)
class Draw:
    """Frames of one update; the i-th frames of the two aligned arrays were drawn as a pair."""

    clone_source: Indices
    clone_target: Indices
    align_source: Indices
    align_target: Indices

    @property
    def parts(self) -> tuple[Indices, ...]:
        """Source, target, source, target: those that are cloned, then those that are aligned."""
        return self.clone_source, self.clone_target, self.align_source, self.align_target

    def share(self, index: int, count: int) -> tuple[Draw, Indices]:
        """What one of ``count`` processes takes of it, and which samples of the whole draw these are.

        Each takes equally many of those that are cloned, of the aligned source and of the aligned target.
        """
        starts = np.cumsum([0, *(len(part) for part in self.parts)])
        blocks = np.split(np.arange(starts[-1]), starts[2:4])
        own = np.concatenate([np.split(block, count)[index] for block in blocks])
        among = np.searchsorted(own, starts)
        parts = [part[own[among[i] : among[i + 1]] - starts[i]] for i, part in enumerate(self.parts)]
        return Draw(*parts), own


class Sampler:
    """Draws frames of both domains with one generator, whose state a checkpoint can keep.

    Args:
        source, target: the demonstrations within their budgets, and nothing else; None where the method has
            no such domain.
        pairing: of exactly these; None draws pairs at random.
    """

    def __init__(
        self,
        config: TrainConfig,
        source: Frames | None,
        target: Frames | None,
        pairing: Pairing | None,
        rng: np.random.Generator,
    ) -> None:
        self.config, self.source, self.target, self.pairing, self.rng = config, source, target, pairing, rng
        self.counts = {phase: clone_counts(config, phase) for phase in phases(config)}
        if pairing is not None:
            options = config.pairing
            self.weights = pairing.weights(options.weights, options.sharpness, options.cutoff)

    def draw(self, update: int) -> Draw:
        """The frames of the update of this number, from 0."""
        paired, unpaired, from_target = self.counts[phase_at(self.config, update)]
        aligned = self.config.batch.alignment_size if self.config.alignment.kind != "none" else 0
        align_source, align_target = self._pairs(aligned)
        clone_source = np.concatenate([self._pairs(paired)[0], self._uniform(self.source, unpaired)])
        return Draw(clone_source, self._uniform(self.target, from_target), align_source, align_target)

    def _uniform(self, frames: Frames | None, count: int) -> Indices:
        return (
            np.empty(0, np.int64)
            if frames is None or count == 0
            else self.rng.integers(len(frames), size=count)
        )

    def _pairs(self, count: int) -> tuple[Indices, Indices]:
        """Two demonstrations by their weight, a frame of the target, a source frame near its match."""
        if count == 0:
            return np.empty(0, np.int64), np.empty(0, np.int64)
        if self.pairing is None:
            return self._uniform(self.source, count), self._uniform(self.target, count)
        assert self.source is not None
        assert self.target is not None
        cumulative = np.cumsum(self.weights)
        chosen = np.searchsorted(cumulative, self.rng.random(count) * cumulative[-1], side="right")
        s, t = np.unravel_index(np.minimum(chosen, self.weights.size - 1), self.weights.shape)
        target = self.rng.integers(self.target.starts[t], self.target.starts[t + 1])
        window = self.config.pairing.window
        near = self.pairing.matches[s, target] + self.rng.integers(-window, window + 1, size=count)
        lengths = np.diff(self.source.starts)[s]
        return self.source.starts[s] + np.clip(near, 0, lengths - 1), target


def clone_counts(config: TrainConfig, phase: Phase) -> tuple[int, int, int]:
    """Samples of (source paired, source unpaired, target); a phase without a domain gives the other all.

    Raises:
        UsageError: the batch is too small for the shares.
    """
    batch = config.batch
    if not phase.uses_source:
        return 0, 0, batch.size
    if not phase.uses_target:
        return 0, batch.size, 0
    paired = round(batch.size * batch.source_paired)
    target = min(round(batch.size * batch.target), batch.size - paired)
    counts = paired, batch.size - paired - target, target
    for name, count in zip(("source_paired", "source_unpaired", "target"), counts, strict=True):
        share: float = getattr(batch, name)
        if share > 0 and count == 0:
            raise UsageError(
                f"batch.size {batch.size} is too small for batch.{name} = {share:g}: it gets no sample."
            )
    return counts
