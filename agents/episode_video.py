"""A recorded episode as a video: its images, enlarged, those of all cameras side by side."""

from __future__ import annotations

from pathlib import Path

import numpy as np

from simreal_agents.mp4 import mp4_file
from simreal_datasets.store.episode import Episode
from simreal_envs.errors import UsageError

HEIGHT_PX = 480
"""Images that are lower are enlarged by a whole number, to about this height."""


def film_episode(episode: Episode, path: Path) -> int:
    """Write an episode's recorded images as an MP4; every pixel becomes a square.

    Returns:
        The number of frames, one for each recorded observation.

    Raises:
        UsageError: the episode holds no images.
    """
    images = [array for key, array in episode.observations.items() if key.endswith("_image")]
    if not images:
        raise UsageError(
            f"This episode holds no images to film, only {', '.join(episode.observations)}. Record it with "
            "--obs image."
        )
    frames = np.concatenate(images, axis=2)
    height, width = frames.shape[1:3]
    factor = max(1, round(HEIGHT_PX / height))
    factor += factor * height % 2 or factor * width % 2  # H.264 takes even sizes
    path.parent.mkdir(parents=True, exist_ok=True)
    with mp4_file(path) as film:
        for frame in frames:
            film(np.repeat(np.repeat(frame, factor, axis=0), factor, axis=1))
    return len(frames)
