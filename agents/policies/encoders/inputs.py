"""The arrays of an observation as encoders take them."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, replace
from typing import Literal

import torch
from torch import Tensor

from simreal_agents.policies.overrides import Count, Positive
from simreal_datasets.loading.frames import END_EFFECTOR_POSITION
from simreal_envs.features import POINT_COLOUR_KEY, POINTS_KEY, Feature, WorldSpec
from simreal_envs.spec import TABLE_CENTRE_IN_BASE_M

ENCODED = ("image", "depth", "pointcloud")
"""The modalities that encoders take; numbers of the others reach the head as they are."""
DEPTH_UNIT_M = 0.5
"""A depth of so many metres is 1 to an encoder; a hole stays 0."""


@dataclass
class CloudConfig:
    """In which coordinates points reach their encoder."""

    frame: Literal["table", "end_effector"] = "table"
    """Origin of the points: the table's centre, or where the end effector is at that moment (axes of the base
    in both cases). Actions are relative to the end effector (``head.action_frame``), and so is where an
    object is in a cloud with that origin."""
    unit_m: Positive = 0.2
    """Points are given in units of so many metres. A smaller unit shows a network smaller differences."""
    every: Count = 1
    """Only each such point of the world's cloud is used, the first one included. Points of a cloud are in an
    order in which any of these subsets is spread over the whole cloud."""


def to_network(images: Tensor) -> Tensor:
    """(B, H, W, 3) uint8 -> (B, 3, H, W) float32 in [-0.5, 0.5]."""
    return images.permute(0, 3, 1, 2).float().div_(255).sub_(0.5)


def encoded_features(spec: WorldSpec, cloud: CloudConfig) -> dict[str, Feature]:
    """What encoders take of a policy's world, one moment each; a cloud includes its colours."""
    found = {f.key: f for f in spec.features if f.modality in ENCODED}
    channels = 6 if found.pop(POINT_COLOUR_KEY, None) else 3
    if points := found.get(POINTS_KEY):
        used = len(range(0, points.shape[0], cloud.every))
        found[POINTS_KEY] = replace(points, shape=(used, channels))
    return found


def needed_arrays(spec: WorldSpec, cloud: CloudConfig) -> list[str]:
    """The arrays of an observation that :func:`prepared` takes."""
    keys = [f.key for f in spec.features if f.modality in ENCODED]
    return [*keys, END_EFFECTOR_POSITION] if POINTS_KEY in keys and cloud.frame == "end_effector" else keys


def prepared(arrays: Mapping[str, Tensor], spec: WorldSpec, cloud: CloudConfig) -> dict[str, Tensor]:
    """Arrays of an observation (B, ...), or (B, h, ...) with a history, as encoders take them: (B h, ...)."""
    flat = {key: a if spec.history == 1 else a.flatten(0, 1) for key, a in arrays.items()}
    ready: dict[str, Tensor] = {}
    for key, feature in encoded_features(spec, cloud).items():
        if feature.modality == "image":
            ready[key] = to_network(flat[key])
        elif feature.modality == "depth":
            ready[key] = flat[key][:, None] / DEPTH_UNIT_M
        else:
            parts = [(flat[key][:, :: cloud.every] - _origin_m(flat, cloud)) / cloud.unit_m]
            if feature.shape[1] == 6:
                parts.append(flat[POINT_COLOUR_KEY][:, :: cloud.every].float().div_(255).sub_(0.5))
            ready[key] = torch.cat(parts, dim=2)
    return ready


def _origin_m(arrays: Mapping[str, Tensor], cloud: CloudConfig) -> Tensor:
    """Where the points' coordinates begin, in the base frame, (3,) or (B h, 1, 3)."""
    if cloud.frame == "end_effector":
        return arrays[END_EFFECTOR_POSITION][:, None]
    return torch.tensor(TABLE_CENTRE_IN_BASE_M, dtype=torch.float32, device=arrays[POINTS_KEY].device)
