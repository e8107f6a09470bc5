"""The encoder of a whole observation: a branch for each array, joined to the feature z."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field, replace
from typing import Annotated, Literal

import torch
from torch import Tensor, nn

from simreal_agents.policies.encoders.base import Encoder, KeypointEncoder
from simreal_agents.policies.encoders.inputs import CloudConfig, encoded_features
from simreal_agents.policies.encoders.registry import ENCODERS
from simreal_agents.policies.encoders.views import DomainView, ImageView, move
from simreal_agents.policies.overrides import Choice, Count, Limit
from simreal_envs.cameras import CAMERA_SPECS
from simreal_envs.errors import UsageError
from simreal_envs.features import Feature, WorldSpec


@dataclass
class EncoderConfig:
    """Which encoders there are, the length of their features, and what is done about the camera's view."""

    image: Encoder.Settings = field(default_factory=Choice("cnn", ENCODERS, Encoder.Settings))
    """The encoder of images and depths: cnn, resnet18, pretrained or a plug-in's, with its own settings."""
    points: Encoder.Settings = field(default_factory=Choice("pointnet", ENCODERS, Encoder.Settings))
    """The encoder of point clouds: pointnet or a plug-in's, with its own settings."""
    cloud: CloudConfig = field(default_factory=CloudConfig)
    """In which coordinates point clouds are given to their encoder."""
    view: Literal["none", "image", "domain", "calibrated"] = "domain"
    """How images of a fixed camera are brought into the source's view. calibrated: images are warped by the
    cameras' poses and intrinsics, which the episodes hold. domain, image: an affine map moves the keypoints,
    if the encoder has keypoints. With domain one map is learnt for all images of the target, as a domain has
    one camera; with image the map is computed from each image."""
    crop: Annotated[float, Limit(lambda x: 0.5 <= x <= 1, "be from 0.5 to 1")] = 1.0
    """Share of height and width that an encoder sees of an image or a depth: a random part in training, the
    same for all moments of a sample, and the centre when acting. 1: all of it."""
    features: Count = 16
    """Length of each encoder's output for one moment; all outputs together are the feature z."""
    goal_weight: float = 0.0
    """Weight of the error of predicting, linearly from z, where the hand is sent at the next two keyframes
    (changes of the gripper's command). Actions alone say little of an object until the hand is near."""


class Branch(nn.Module):
    """Encodes one array: an encoder, the map of the view if there is one, and a linear map to the feature.

    Only keypoints of a camera that stands still have a map of the view. The encoder sees the centre of an
    image; training moves images by up to ``margin_px``, so that any other part of it may lie there.

    Attributes:
        margin_px: rows and columns that are cut off at each side.
    """

    def __init__(self, feature: Feature, config: EncoderConfig) -> None:
        super().__init__()
        settings = config.points if feature.modality == "pointcloud" else config.image
        encoder = ENCODERS[settings.kind]
        if feature.modality not in encoder.modalities:
            raise UsageError(
                f"Encoder {settings.kind!r} takes {', '.join(encoder.modalities) or 'nothing'}, and "
                f"{feature.key} is of modality {feature.modality}."
            )
        self.margin_px = (0, 0)
        if feature.modality in ("image", "depth"):
            feature, self.margin_px = cropped(feature, config.crop)
        self.encoder = encoder(feature, settings)
        self.view: nn.Module | None = None
        stands_still = feature.camera in CAMERA_SPECS and CAMERA_SPECS[feature.camera].mount == "base"
        if stands_still and isinstance(self.encoder, KeypointEncoder) and config.view in ("domain", "image"):
            self.view = DomainView() if config.view == "domain" else ImageView(self.encoder.channels)
        self.feature = nn.Linear(self.encoder.size, config.features)

    def forward(self, x: Tensor, from_target: Tensor) -> Tensor:
        """(B, ...) of all there is, whether from the target (B,) -> (B, features) float32."""
        rows, columns = self.margin_px
        if rows or columns:
            x = x[..., rows : x.shape[-2] - rows, columns : x.shape[-1] - columns]
        if self.view is None:
            numbers = self.encoder(x)
        else:
            assert isinstance(self.encoder, KeypointEncoder)
            maps, numbers = self.encoder.locate(x)
        with torch.autocast(x.device.type, enabled=False):
            if self.view is not None:
                numbers = move(numbers, self.view(maps.float(), from_target))
            return self.feature(numbers.float())


def cropped(feature: Feature, share: float) -> tuple[Feature, tuple[int, int]]:
    """An image or depth without its margins, and how many pixels they have at the top and at the left.

    >>> image = Feature("agentview_image", "image", (120, 160, 3), "uint8", "rgb")
    >>> cropped(image, 0.9)[0].shape, cropped(image, 0.9)[1]
    ((108, 144, 3), (6, 8))
    """
    rows, columns = (round(size * (1 - share) / 2) for size in feature.shape[:2])
    height, width, *channels = feature.shape
    return replace(feature, shape=(height - 2 * rows, width - 2 * columns, *channels)), (rows, columns)


class JoinedEncoder(nn.ModuleDict):
    """Concatenates the outputs of one :class:`Branch` for each array and moment to the feature z.

    Attributes:
        size: length of the joined feature z.
        margins_px: see :class:`Branch`, by the names of the arrays.
    """

    def __init__(self, spec: WorldSpec, config: EncoderConfig) -> None:
        features = encoded_features(spec, config.cloud)
        branches = {key: Branch(f, config) for key, f in features.items()}
        super().__init__(branches)
        self.margins_px = {key: branch.margin_px for key, branch in branches.items()}
        self.history = spec.history
        self.size = config.features * spec.history * len(self)

    def begin(self) -> None:
        """Have every encoder take the weights that training begins with."""
        for module in self.modules():
            if isinstance(module, Encoder):
                module.begin()

    def forward(self, arrays: Mapping[str, Tensor], from_target: Tensor) -> Tensor:
        """Prepared arrays (B h, ...), whether from the target (B,) -> z (B, size) float32."""
        each = from_target.repeat_interleave(self.history)
        found = [branch(arrays[key], each).unflatten(0, (-1, self.history)) for key, branch in self.items()]
        if not found:
            return torch.zeros(len(from_target), 0, device=from_target.device)
        return torch.cat([features.flatten(1) for features in found], dim=1)
