"""Maps of the camera's view, which move the keypoints of an image."""

from __future__ import annotations

import torch
from torch import Tensor, nn


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
