"""Random changes of training images, one draw a sample."""

from __future__ import annotations

import math

import torch
from torch import Tensor

from simreal_agents.policies.config import AugmentConfig
from simreal_agents.policies.randomness import SAMPLES, Randomness


def augment(
    images: Tensor,
    config: AugmentConfig,
    random: Randomness,
    history: int = 1,
    margin_px: tuple[int, int] = (0, 0),
) -> Tensor:
    """Shift and recolour (B h, 3, H, W) images in [-0.5, 0.5], the h moments of a sample alike.

    ``margin_px`` is that of :func:`random_shift`.
    """
    shifted = random_shift(images, config.shift_px, random, history, margin_px)
    return random_colour(shifted, config, random, history)


def random_shift(
    images: Tensor,
    most_px: int,
    random: Randomness,
    history: int = 1,
    margin_px: tuple[int, int] = (0, 0),
) -> Tensor:
    """Move images by up to ``most_px`` pixels in x and y, and further by the margins, repeating the edge.

    The encoder cuts ``margin_px`` rows and columns off each side, which makes a random crop of the image.
    """
    most = [most_px + margin for margin in margin_px]
    if not any(most):
        return images
    height, width = images.shape[2:]
    moved = [(random.integers(2 * n + 1, (SAMPLES, 1)) - n).repeat_interleave(history, dim=0) for n in most]
    rows = (torch.arange(height, device=images.device) + moved[0]).clamp_(0, height - 1)
    columns = (torch.arange(width, device=images.device) + moved[1]).clamp_(0, width - 1)
    index = rows[:, None, :, None] * width + columns[:, None, None, :]
    flat = index.flatten(1)[:, None].expand(-1, images.shape[1], -1)
    return images.flatten(2).gather(2, flat).view_as(images)


def random_colour(images: Tensor, config: AugmentConfig, random: Randomness, history: int = 1) -> Tensor:
    """One affine map of the colour space a sample: hue, then saturation, then contrast, then brightness."""
    strengths = (config.brightness, config.contrast, config.saturation, config.hue_rad)
    if not any(strengths):
        return images
    draw = random.uniform((4, SAMPLES, 1, 1)) * 2 - 1
    draw = draw.repeat_interleave(history, dim=1)
    brightness, contrast, saturation = (1 + draw[i] * strengths[i] for i in range(3))
    linear = contrast * brightness * saturate(saturation) @ rotate_hue(draw[3] * config.hue_rad)
    offset = 0.5 * (brightness - 1)  # brightness scales about black, which is at -0.5
    return torch.baddbmm(offset, linear, images.flatten(2)).view_as(images)


def saturate(factor: Tensor) -> Tensor:
    """(B, 1, 1) -> (B, 3, 3): move colours from (factor 0) or away from (above 1) their grey."""
    identity = torch.eye(3, device=factor.device)
    return factor * identity + (1 - factor) / 3


def rotate_hue(angle_rad: Tensor) -> Tensor:
    """(B, 1, 1) -> (B, 3, 3): rotation of RGB about the grey axis (Rodrigues' formula)."""
    cross = torch.tensor([[0.0, -1, 1], [1, 0, -1], [-1, 1, 0]], device=angle_rad.device) / math.sqrt(3)
    identity = torch.eye(3, device=angle_rad.device)
    return identity + torch.sin(angle_rad) * cross + (1 - torch.cos(angle_rad)) * (cross @ cross)
