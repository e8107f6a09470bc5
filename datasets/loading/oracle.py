"""Where the objects truly were in each demonstration: what an oracle would pair demonstrations by.

The simulation and the virtual rig record the poses of all objects with each episode. A laboratory does not
have them, so a pairing by them is an upper bound of what pairing can do.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from simreal_datasets.loading.pairing import Pairing
from simreal_datasets.store.dataset import Dataset
from simreal_envs.errors import DataError

Places = NDArray[np.float64]
"""Positions (T, O, 3) of the O objects of an episode at its T steps, in metres, base frame."""


def object_places_m(path: str | Path, files: Sequence[str]) -> list[Places]:
    """Where every object is in some episodes of a dataset folder; objects are in the order of their names.

    Args:
        files: names of the episodes' files.

    Raises:
        DataError: no dataset there, or an episode that holds no object poses, or those of other objects.
    """
    dataset = Dataset(path)
    position = {info.path.name: i for i, info in enumerate(dataset.infos)}
    places: list[Places] = []
    names: list[str] = []
    for file in files:
        datagen = dataset.read(position[file], keys=[]).datagen if file in position else None
        if datagen is None or not datagen.object_poses:
            raise DataError(
                f"{Path(path) / file} holds no object poses, which only episodes of a simulation or of the "
                "virtual rig with pose actions do."
            )
        names = names or sorted(datagen.object_poses)
        if sorted(datagen.object_poses) != names:
            raise DataError(
                f"{Path(path) / file} holds the poses of {', '.join(sorted(datagen.object_poses))}; other "
                f"episodes hold those of {', '.join(names)}."
            )
        places.append(np.stack([datagen.object_poses[name][:, :3, 3] for name in names], axis=1))
    return places


def by_true_starts(pairing: Pairing, source: Sequence[Places], target: Sequence[Places]) -> Pairing:
    """The same matches of frames, with demonstrations as far apart as their objects were at the start.

    The distance of two demonstrations is the mean, over the objects, of the distance in metres between the
    places where the object starts.
    """
    starts, starts_target = (np.stack([places[0] for places in each]) for each in (source, target))
    between = np.linalg.norm(starts[:, None] - starts_target, axis=-1)
    return replace(pairing, distances_m=between.mean(axis=-1))
