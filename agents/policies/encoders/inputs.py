"""The arrays of an observation as encoders take them."""

from __future__ import annotations

from collections.abc import Mapping

import torch
from torch import Tensor

from simreal_envs.features import POINT_COLOUR_KEY, POINTS_KEY, Feature, WorldSpec
from simreal_envs.spec import TABLE_CENTRE_IN_BASE_M

ENCODED = ("image", "depth", "pointcloud")
"""The modalities that encoders take; numbers of the others reach the head as they are."""
DEPTH_UNIT_M = 0.5
"""A depth of so many metres is 1 to an encoder; a hole stays 0."""
CLOUD_UNIT_M = 0.2
"""Points reach an encoder in units of this, from the table's centre."""


def to_network(images: Tensor) -> Tensor:
    """(B, H, W, 3) uint8 -> (B, 3, H, W) float32 in [-0.5, 0.5]."""
    return images.permute(0, 3, 1, 2).float().div_(255).sub_(0.5)


def encoded_features(spec: WorldSpec) -> dict[str, Feature]:
    """The arrays of a policy's world that have an encoder, one moment each; a cloud includes its colours."""
    found = {f.key: f for f in spec.features if f.modality in ENCODED}
    colour = found.pop(POINT_COLOUR_KEY, None)
    if colour:
        points = spec.feature(POINTS_KEY)
        found[POINTS_KEY] = Feature(POINTS_KEY, "pointcloud", (points.shape[0], 6), points.dtype, points.unit)
    return found


def prepared(arrays: Mapping[str, Tensor], spec: WorldSpec) -> dict[str, Tensor]:
    """Arrays of an observation (B, ...), or (B, h, ...) with a history, as encoders take them: (B h, ...)."""
    flat = {key: a if spec.history == 1 else a.flatten(0, 1) for key, a in arrays.items()}
    ready: dict[str, Tensor] = {}
    for key, feature in encoded_features(spec).items():
        if feature.modality == "image":
            ready[key] = to_network(flat[key])
        elif feature.modality == "depth":
            ready[key] = flat[key][:, None] / DEPTH_UNIT_M
        else:
            centre = torch.tensor(TABLE_CENTRE_IN_BASE_M, dtype=torch.float32, device=flat[key].device)
            parts = [(flat[key] - centre) / CLOUD_UNIT_M]
            if feature.shape[1] == 6:
                parts.append(flat[POINT_COLOUR_KEY].float().div_(255).sub_(0.5))
            ready[key] = torch.cat(parts, dim=2)
    return ready
