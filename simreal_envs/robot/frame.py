"""An image of the camera, and how old it really is."""

from __future__ import annotations

import time
from dataclasses import dataclass

import numpy as np


@dataclass(frozen=True)
class Stamp:
    """Identifies one image of a stream, and says when it arrived.

    Attributes:
        stream: ``colour`` or ``depth``.
        number: the device's number of the image; each stream has its own count.
        time_s: ``time.monotonic()`` when it first arrived from the device.
    """

    stream: str
    number: int
    time_s: float

    @property
    def age_s(self) -> float:
        """Seconds since it arrived."""
        return time.monotonic() - self.time_s


@dataclass(frozen=True)
class Frame:
    """One image, and the depth aligned to it; as old as the older of the two.

    While one stream is silent, librealsense hands out its last image again with each new one of the other.

    Attributes:
        colour: (480, 640, 3) uint8 RGB.
        depth_m: (480, 640) float32 metres along the colour camera's optical axis, 0 where there is no
            reading; None if the camera was opened without depth.
        stamps: the stamp of each stream, colour first.
    """

    colour: np.ndarray
    depth_m: np.ndarray | None
    stamps: tuple[Stamp, ...]

    @property
    def oldest(self) -> Stamp:
        """The stamp of the stream that has been silent for longer."""
        return min(self.stamps, key=lambda stamp: stamp.time_s)

    @property
    def time_s(self) -> float:
        """``time.monotonic()`` when the older one arrived from the device."""
        return self.oldest.time_s

    @property
    def number(self) -> int:
        """The device's number of the older one, in its own stream."""
        return self.oldest.number

    @property
    def age_s(self) -> float:
        """Seconds since the older one arrived."""
        return self.oldest.age_s

    def why_old(self, max_age_s: float) -> str:
        """The reason why an image is older than allowed: one stream is silent, or both are late."""
        fresh = [stamp.stream for stamp in self.stamps if stamp.age_s <= max_age_s]
        if not fresh:
            return "frames are late: is the machine overloaded, or the USB port slower than 3.0?"
        oldest = self.oldest
        return f"its {oldest.stream} stream is silent since image {oldest.number}, {fresh[0]} goes on."
