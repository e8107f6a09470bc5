"""Image encoders."""

from __future__ import annotations

import torch
from torch import Tensor, nn

from simreal_agents.policies.config import EncoderConfig
from simreal_envs.errors import UsageError


def to_network(images: Tensor) -> Tensor:
    """(B, H, W, 3) uint8 -> (B, 3, H, W) float32 in [-0.5, 0.5]."""
    return images.permute(0, 3, 1, 2).float().div_(255).sub_(0.5)


class SpatialSoftArgmax(nn.Module):
    """Expected image coordinates of each map, in [-1, 1] (Finn et al., 2016): (B, K, h, w) -> (B, 2 K)."""

    def forward(self, maps: Tensor) -> Tensor:
        height, width = maps.shape[-2:]
        attention = maps.flatten(2).softmax(-1).unflatten(2, (height, width))
        x = attention.sum(2) @ torch.linspace(-1, 1, width, device=maps.device)
        y = attention.sum(3) @ torch.linspace(-1, 1, height, device=maps.device)
        return torch.cat([x, y], dim=1)


class DomainView(nn.Module):
    """How the target's camera sees the plane of the image: one change of the affine map for all its images.

    A domain has one camera, so nothing of an image may decide the map, or what the map does to places that
    the target never showed would be open. The source's images are left as they are.
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
    """The image as a whole decides the change of the affine map; whose it is, does not matter."""

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


class CNN(nn.Module):
    """Three convolutions with GroupNorm, keypoints by spatial soft-argmax, a linear map.

    A stem of stride 4 and a second stride of 2 spend the time where the maps are small: on two CPU cores a
    forward and backward pass of 128 images of 84x84 takes a quarter of what a stem of stride 2 takes.
    """

    def __init__(self, config: EncoderConfig) -> None:
        super().__init__()
        width, stride = config.width, config.stem_stride
        self.maps = nn.Sequential(
            *_block(3, width, kernel=stride + 2, stride=stride),
            *_block(width, 2 * width, kernel=3, stride=2),
            *_block(2 * width, 4 * width, kernel=3, stride=1),
        )
        self.detectors = nn.Conv2d(4 * width, config.keypoints, 1)
        self.keypoints = SpatialSoftArgmax()
        self.view: nn.Module | None = None
        if config.view in ("domain", "image"):
            self.view = DomainView() if config.view == "domain" else ImageView(4 * width)
        self.feature = nn.Linear(2 * config.keypoints, config.features)

    def forward(self, images: Tensor, from_target: Tensor) -> Tensor:
        """(B, 3, H, W) in [-0.5, 0.5], whether from the target (B,) -> features (B, F) float32."""
        maps = self.maps(images)
        scores = self.detectors(maps)
        # Only convolutions may run in bf16, whose 8 bits would round a place in the image to half a pixel.
        with torch.autocast(images.device.type, enabled=False):
            points = self.keypoints(scores.float())
            if self.view is not None:
                points = move(points, self.view(maps.float(), from_target))
            return self.feature(points)


def check_stride(stem_stride: int, image_size: tuple[int, int]) -> None:
    """Refuse a stem that leaves maps of less than 2 x 2, on which a keypoint has no place.

    Raises:
        UsageError: names the strides that this image size [height, width] allows.
    """
    height, width = image_size
    largest = min(height, width) // 3
    if stem_stride > largest:
        raise UsageError(
            f"encoder.stem_stride = {stem_stride} is too large for images of {height} x {width}. "
            f"Valid: 1 to {largest}."
        )


def _block(channels: int, out: int, kernel: int, stride: int) -> tuple[nn.Module, ...]:
    return nn.Conv2d(channels, out, kernel, stride, padding=1), nn.GroupNorm(8, out), nn.ReLU()
