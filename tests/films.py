"""Reads the MP4 files that tests have written."""

from __future__ import annotations

from pathlib import Path

import av
import numpy as np


def read_mp4(path: Path) -> tuple[np.ndarray, float]:
    """Frames (T, H, W, 3) and how many of them a second."""
    with av.open(path) as container:
        stream = container.streams.video[0]
        assert stream.average_rate is not None
        frames = np.stack([frame.to_ndarray(format="rgb24") for frame in container.decode(video=0)])
        assert stream.frames == len(frames)
        return frames, float(stream.average_rate)
