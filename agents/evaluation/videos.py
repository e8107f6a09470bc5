"""Videos of the episodes that failed: played once more, since the same seed gives the same episode."""

from __future__ import annotations

import hashlib
from collections.abc import Mapping, Sequence
from itertools import islice
from pathlib import Path
from typing import Any

import numpy as np
from PIL import Image

from simreal_agents.actors.factories import ActorFactory
from simreal_agents.evaluation.episode_log import EpisodeResult
from simreal_agents.evaluation.play import one_torch_thread
from simreal_envs.errors import DataError
from simreal_envs.loop import Step, run_episode
from simreal_envs.spec import CONTROL_HZ
from simreal_envs.world_config import WorldConfig

FRAME_EVERY = 4
"""Steps between frames: 5 frames a second."""
SIZE = (320, 240)
"""Width and height in pixels."""
COLOURS = 64
"""Of a frame; keeps a video of 25 s under a megabyte."""


def record_failures(
    results: Sequence[EpisodeResult],
    actors: Mapping[str, ActorFactory],
    world: WorldConfig,
    folder: Path,
    count: int,
) -> list[Path]:
    """Write a GIF of the first ``count`` failures of each actor and region.

    Returns:
        The files, named ``<actor>_<region>_<seed>_failed_at_<stage>_<digest>.gif``, with the digest of
            checkpoint and world. Files that exist are kept.

    Raises:
        DataError: an episode that failed in the log succeeds now, as the log is of another version.
    """
    folder.mkdir(parents=True, exist_ok=True)
    paths = []
    for name, region in dict.fromkeys((result.name, result.region) for result in results):
        failed = (r for r in results if (r.name, r.region) == (name, region) and not r.success)
        for result in islice(failed, count):
            exact = hashlib.sha256(repr(result.key).encode()).hexdigest()[:8]
            what = f"{name.replace('/', '-')}_{region}_{result.seed}_failed_at_{result.failed_at}"
            path = folder / f"{what}_{exact}.gif"
            if not path.exists():
                _record(result, actors[name], world, path)
            paths.append(path)
    return paths


def _record(result: EpisodeResult, factory: ActorFactory, world: WorldConfig, path: Path) -> None:
    env = world.make(result.region, render_mode="rgb_array")
    frames: list[Image.Image] = []
    steps = 0

    def film(step: Step) -> None:
        nonlocal steps
        if steps % FRAME_EVERY == 0:
            image = Image.fromarray(np.asarray(env.render())).resize(SIZE)
            frames.append(image.quantize(COLOURS, method=Image.Quantize.FASTOCTREE))
        steps += 1

    try:
        with one_torch_thread():
            outcome = run_episode(env, factory.make(env), seed=result.seed, recorder=film)
    finally:
        env.close()
    if outcome.success or outcome.steps != result.steps:
        raise DataError(
            f"Seed {result.seed} of {result.name!r} ended otherwise than in the log, which another version "
            "must have written: evaluate into a new folder."
        )
    options: dict[str, Any] = {"duration": 1000 * FRAME_EVERY // CONTROL_HZ, "loop": 0}
    aside = path.with_suffix(".part")
    frames[0].save(aside, format="GIF", save_all=True, append_images=frames[1:], **options)
    aside.replace(path)
