"""``dataset.hdf5``: one robomimic dataset made of links to the episode files beside it."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING

import h5py
import numpy as np

from simreal_datasets.episode import DEMO, env_args

if TYPE_CHECKING:
    from simreal_datasets.store import EpisodeInfo

INDEX_NAME = "dataset.hdf5"


def encode_index(infos: Sequence[EpisodeInfo]) -> bytes:
    """The index as an HDF5 file.

    ``data/demo_<number>`` links to each episode by its bare file name, so the folder can be moved.
    ``mask/success``, ``mask/in`` and ``mask/ood`` are robomimic's filter keys, left out where empty.
    """
    with h5py.File("index", "w", driver="core", backing_store=False) as file:
        data = file.create_group("data")
        data.attrs.update(total=sum(info.length for info in infos), env_args=env_args(infos[0].meta))
        for info in infos:
            data[f"demo_{info.number}"] = h5py.ExternalLink(info.path.name, DEMO)
        masks = {
            "success": [info for info in infos if info.meta.get("success")],
            "in": [info for info in infos if info.meta.get("placement_region") == "in"],
            "ood": [info for info in infos if info.meta.get("placement_region") == "ood"],
        }
        for name, chosen in masks.items():
            if chosen:
                file[f"mask/{name}"] = np.array([f"demo_{info.number}" for info in chosen], dtype="S")
        file.flush()
        return file.id.get_file_image()


def indexed_files(folder: Path) -> set[str] | None:
    """Names of the episode files that the index links to; None if there is no readable index."""
    try:
        with h5py.File(folder / INDEX_NAME, "r", locking=False) as file:
            data = file["data"]
            return {data.get(name, getlink=True).filename for name in data}
    except (OSError, KeyError, AttributeError):
        return None
