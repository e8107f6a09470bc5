"""Which source frames are shown to the alignment with which target frames, as the configuration says."""

from __future__ import annotations

from pathlib import Path

from simreal_agents.policies.config import TrainConfig
from simreal_datasets.loading.frames import Frames
from simreal_datasets.loading.oracle import by_true_starts, object_places_m
from simreal_datasets.loading.pairing import Pairing, pair
from simreal_envs.errors import DataError


def pairing_for(config: TrainConfig, source: Frames | None, target: Frames | None) -> Pairing | None:
    """The pairing that frames are drawn by; None where there is nothing to pair, or pairs are random.

    Raises:
        DataError: the oracle's pairing of demonstrations without object poses.
    """
    needs_pairs = config.alignment.kind != "none" or config.batch.source_paired > 0
    if source is None or target is None or not needs_pairs or config.pairing.kind == "none":
        return None
    pairing = by_paths(config, source, target)
    if config.pairing.kind == "temporal":
        return pairing
    data = config.data
    try:
        places = [
            object_places_m(path, frames.files)
            for path, frames in ((data.source, source), (data.target, target))
        ]
    except DataError as error:
        raise DataError(f"pairing.kind = 'oracle' cannot be used: {error} Use temporal or none.") from error
    return by_true_starts(pairing, *places)


def by_paths(config: TrainConfig, source: Frames, target: Frames) -> Pairing:
    """All demonstrations paired by dynamic time warping of their paths, kept in the target's folder."""
    commanded = config.pairing.path == "commanded"
    cache = Path(config.data.target) / ".pairing" if config.data.target else None
    return pair(source.paths_m(commanded), target.paths_m(commanded), cache)
