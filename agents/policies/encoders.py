"""Encoders turn one array of one moment into numbers; the joined encoder puts those of all together.

Another package adds an encoder by an entry point of the group ``simreal.encoders`` that names a subclass of
:class:`Encoder`; ``--set encoder.image.kind=its-name`` takes it, and its ``Settings`` are keys there.
"""

from __future__ import annotations

from abc import abstractmethod
from collections.abc import Mapping
from dataclasses import dataclass, field
from itertools import pairwise
from typing import Annotated, ClassVar, Literal

import torch
from torch import Tensor, nn

from simreal_agents.policies.overrides import Choice, Count, Limit, Tagged
from simreal_envs.cameras import CAMERA_SPECS
from simreal_envs.errors import UsageError
from simreal_envs.features import POINT_COLOUR_KEY, POINTS_KEY, Feature, WorldSpec
from simreal_envs.plugins import Registry
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


class Encoder(nn.Module):
    """Turns one moment of one array of an observation into numbers: (B, ...) -> (B, size) float32.

    An image comes as (B, 3, H, W) in [-0.5, 0.5], a depth as (B, 1, H, W) and a cloud as (B, N, 3), or
    (B, N, 6) with colours. Autocast may be on: only convolutions may run in bf16, whose 8 bits would round a
    place in the image to half a pixel.

    Attributes:
        modalities: which features it takes.
        size: how many numbers it gives.
    """

    @dataclass
    class Settings(Tagged):
        """Base of a subclass's own ``Settings``, whose fields become keys of the configuration."""

    modalities: ClassVar[tuple[str, ...]] = ()
    size: int

    def __init__(self, feature: Feature, settings: Settings) -> None:
        super().__init__()

    @abstractmethod
    def forward(self, x: Tensor) -> Tensor:
        """(B, ...) -> (B, size)."""


class KeypointEncoder(Encoder):
    """An encoder whose numbers are places in the image, x..., y..., in [-1, 1]; a map of the view moves them.

    Attributes:
        channels: of the maps.
    """

    channels: int

    @abstractmethod
    def locate(self, x: Tensor) -> tuple[Tensor, Tensor]:
        """Maps (B, channels, h, w) and places (B, size)."""

    def forward(self, x: Tensor) -> Tensor:
        """The places."""
        return self.locate(x)[1]


class SpatialSoftArgmax(nn.Module):
    """Expected image coordinates of each map, in [-1, 1] (Finn et al., 2016): (B, K, h, w) -> (B, 2 K)."""

    def forward(self, maps: Tensor) -> Tensor:
        height, width = maps.shape[-2:]
        attention = maps.flatten(2).softmax(-1).unflatten(2, (height, width))
        x = attention.sum(2) @ torch.linspace(-1, 1, width, device=maps.device)
        y = attention.sum(3) @ torch.linspace(-1, 1, height, device=maps.device)
        return torch.cat([x, y], dim=1)


class CNN(KeypointEncoder):
    """Three convolutions with GroupNorm, and keypoints by spatial soft-argmax.

    A stem of stride 4 and a second stride of 2 spend the time where the maps are small: on two CPU cores a
    forward and backward pass of 128 images of 84x84 takes a quarter of what a stem of stride 2 takes.
    """

    @dataclass
    class Settings(Encoder.Settings):
        """Sizes of the network."""

        width: Annotated[int, Limit(lambda n: n >= 8 and n % 8 == 0, "be a multiple of 8")] = 16
        """Channels of the first layer; the next two have twice and four times as many."""
        stem_stride: Count = 4
        """Stride of the first convolution. 2 keeps finer keypoints at about three times the cost."""
        keypoints: Count = 16
        """Maps of the spatial soft-argmax."""

    modalities = ("image", "depth")

    def __init__(self, feature: Feature, settings: Settings) -> None:
        super().__init__(feature, settings)
        width, stride = settings.width, settings.stem_stride
        check_stride(stride, (feature.shape[0], feature.shape[1]))
        self.maps = nn.Sequential(
            *_block(3 if feature.modality == "image" else 1, width, kernel=stride + 2, stride=stride),
            *_block(width, 2 * width, kernel=3, stride=2),
            *_block(2 * width, 4 * width, kernel=3, stride=1),
        )
        self.detectors = nn.Conv2d(4 * width, settings.keypoints, 1)
        self.keypoints = SpatialSoftArgmax()
        self.channels, self.size = 4 * width, 2 * settings.keypoints

    def locate(self, x: Tensor) -> tuple[Tensor, Tensor]:
        """Maps (B, channels, h, w) and keypoints (B, 2 K) float32."""
        maps = self.maps(x)
        scores = self.detectors(maps)
        with torch.autocast(x.device.type, enabled=False):
            return maps, self.keypoints(scores.float())


class PointNet(Encoder):
    """Encodes a cloud: three layers for each point, then the maximum over points (DP3; Ze et al., 2024).

    It has no convolutions, so nothing of it runs in bf16.
    """

    @dataclass
    class Settings(Encoder.Settings):
        """Sizes of the network."""

        width: Count = 32
        """Numbers of each point after the first layer; the next two have twice and four times as many."""

    modalities = ("pointcloud",)

    def __init__(self, feature: Feature, settings: Settings) -> None:
        super().__init__(feature, settings)
        width = settings.width
        sizes = (feature.shape[1], width, 2 * width, 4 * width)
        layers: list[nn.Module] = []
        for before, after in pairwise(sizes):
            layers += [nn.Linear(before, after), nn.LayerNorm(after), nn.ReLU()]
        self.points, self.size = nn.Sequential(*layers), sizes[-1]

    def forward(self, x: Tensor) -> Tensor:
        """(B, N, 3 or 6) -> (B, size)."""
        with torch.autocast(x.device.type, enabled=False):
            return self.points(x.float()).amax(dim=1)


ENCODERS: Registry[type[Encoder]] = Registry(
    "encoder", "simreal.encoders", {"cnn": CNN, "pointnet": PointNet}, Encoder
)


@dataclass
class EncoderConfig:
    """Which encoders there are, the length of their features, and what is done about the camera's view."""

    image: Encoder.Settings = field(default_factory=Choice("cnn", ENCODERS, Encoder.Settings))
    """The encoder of images and depths: cnn or a plug-in's, with its own settings."""
    points: Encoder.Settings = field(default_factory=Choice("pointnet", ENCODERS, Encoder.Settings))
    """The encoder of point clouds: pointnet or a plug-in's, with its own settings."""
    view: Literal["none", "image", "domain", "calibrated"] = "domain"
    """How images of a fixed camera are brought into the source's view. calibrated: images are warped by the
    cameras' poses and intrinsics, which the episodes hold. domain, image: an affine map moves the keypoints,
    if the encoder has keypoints. With domain one map is learnt for all images of the target, as a domain has
    one camera; with image the map is computed from each image."""
    features: Count = 16
    """Length of each encoder's output for one moment; all outputs together are the feature z."""
    goal_weight: float = 0.0
    """Weight of the error of predicting, linearly from z, where the hand is sent at the next two keyframes
    (changes of the gripper's command). Actions alone say little of an object until the hand is near."""


class DomainView(nn.Module):
    """Learns one affine map of the view for all images of the target; those of the source stay as they are.

    A domain has one camera, so the map must not depend on the image. If it did, nothing would determine it
    at places that the target never showed.
    """

    SPEED = 10.0
    """Adam moves a weight by about the learning rate an update; an entry of the map may have to go to 1."""

    def __init__(self) -> None:
        super().__init__()
        self.change = nn.Parameter(torch.zeros(6))

    def forward(self, maps: Tensor, from_target: Tensor) -> Tensor:
        """Maps (B, C, h, w), whether from the target (B,) -> changes (B, 6)."""
        return self.SPEED * from_target[:, None] * self.change


class ImageView(nn.Module):
    """Computes an affine map of the view from each image, of whichever domain the image is."""

    def __init__(self, channels: int) -> None:
        super().__init__()
        self.affine = nn.Linear(channels, 6)
        nn.init.zeros_(self.affine.weight)
        nn.init.zeros_(self.affine.bias)

    def forward(self, maps: Tensor, from_target: Tensor) -> Tensor:
        """Maps (B, C, h, w), whether from the target (B,) -> changes (B, 6)."""
        return self.affine(maps.mean(dim=(2, 3)))


def move(points: Tensor, change: Tensor) -> Tensor:
    """Move the keypoints (B, 2 K), x..., y..., of an image by one affine map: identity plus change (B, 6).

    Seen by another camera, points of a table move by a homography, which one affine map approximates.
    """
    x, y = points.float().chunk(2, dim=1)
    xx, xy, x0, yx, yy, y0 = change[..., None].unbind(1)
    return torch.cat([x + xx * x + xy * y + x0, y + yx * x + yy * y + y0], dim=1)


class Branch(nn.Module):
    """Encodes one array: an encoder, the map of the view if there is one, and a linear map to the feature.

    Only keypoints of a camera that stands still have a map of the view.
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
        self.encoder = encoder(feature, settings)
        self.view: nn.Module | None = None
        stands_still = feature.camera in CAMERA_SPECS and CAMERA_SPECS[feature.camera].mount == "base"
        if stands_still and isinstance(self.encoder, KeypointEncoder) and config.view in ("domain", "image"):
            self.view = DomainView() if config.view == "domain" else ImageView(self.encoder.channels)
        self.feature = nn.Linear(self.encoder.size, config.features)

    def forward(self, x: Tensor, from_target: Tensor) -> Tensor:
        """(B, ...) as the encoder takes it, whether from the target (B,) -> (B, features) float32."""
        if self.view is None:
            numbers = self.encoder(x)
        else:
            assert isinstance(self.encoder, KeypointEncoder)
            maps, numbers = self.encoder.locate(x)
        with torch.autocast(x.device.type, enabled=False):
            if self.view is not None:
                numbers = move(numbers, self.view(maps.float(), from_target))
            return self.feature(numbers.float())


class JoinedEncoder(nn.ModuleDict):
    """Concatenates the outputs of one :class:`Branch` for each array and moment to the feature z.

    Attributes:
        size: length of the joined feature z.
    """

    def __init__(self, spec: WorldSpec, config: EncoderConfig) -> None:
        super().__init__({key: Branch(f, config) for key, f in encoded_features(spec).items()})
        self.history = spec.history
        self.size = config.features * spec.history * len(self)

    def forward(self, arrays: Mapping[str, Tensor], from_target: Tensor) -> Tensor:
        """Prepared arrays (B h, ...), whether from the target (B,) -> z (B, size) float32."""
        each = from_target.repeat_interleave(self.history)
        found = [branch(arrays[key], each).unflatten(0, (-1, self.history)) for key, branch in self.items()]
        if not found:
            return torch.zeros(len(from_target), 0, device=from_target.device)
        return torch.cat([features.flatten(1) for features in found], dim=1)


def check_stride(stem_stride: int, image_size: tuple[int, int]) -> None:
    """Refuse a stem that leaves maps of less than 2 x 2, on which a keypoint has no place.

    Raises:
        UsageError: names the strides that this image size [height, width] allows.
    """
    height, width = image_size
    largest = min(height, width) // 3
    if stem_stride > largest:
        raise UsageError(
            f"encoder.image.stem_stride = {stem_stride} is too large for images of {height} x {width}. "
            f"Valid: 1 to {largest}."
        )


def _block(channels: int, out: int, kernel: int, stride: int) -> tuple[nn.Module, ...]:
    return nn.Conv2d(channels, out, kernel, stride, padding=1), nn.GroupNorm(8, out), nn.ReLU()
