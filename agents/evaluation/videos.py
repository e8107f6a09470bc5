"""Videos of episodes that were evaluated: played once more, since the same seed gives the same episode."""

from __future__ import annotations

import hashlib
from collections.abc import Mapping, Sequence
from itertools import islice
from pathlib import Path

import numpy as np

from simreal_agents.actors.factories import ActorFactory
from simreal_agents.evaluation.episode_log import EpisodeResult
from simreal_agents.evaluation.play import one_torch_thread
from simreal_agents.mp4 import mp4_file
from simreal_envs.errors import DataError
from simreal_envs.loop import run_episode
from simreal_envs.spec import check_choice
from simreal_envs.world_config import WorldConfig

SHOWN = {"failures": (False,), "successes": (True,), "all": (False, True)}
"""Which episodes can be asked for, by whether they were solved."""


def record_episodes(
    results: Sequence[EpisodeResult],
    actors: Mapping[str, ActorFactory],
    world: WorldConfig,
    folder: Path,
    count: int,
    which: str = "failures",
) -> list[Path]:
    """Film the first ``count`` failures, successes or episodes (``all``) of each actor and region.

    A frame shows what came of a control step, as ``env.render()`` does: 480 x 640, 20 frames a second.

    Returns:
        The files, named ``<actor>_<region>_<seed>_failed_at_<stage>_<digest>.mp4`` or
            ``<actor>_<region>_<seed>_solved_<digest>.mp4``, with the digest of checkpoint and world. Files
            that exist are kept.

    Raises:
        DataError: an episode ends otherwise than in the log, as the log is of another version.
    """
    solved = SHOWN[check_choice("video", which, SHOWN)]
    folder.mkdir(parents=True, exist_ok=True)
    paths = []
    for name, region in dict.fromkeys((result.name, result.region) for result in results):
        wanted = (r for r in results if (r.name, r.region) == (name, region) and r.success in solved)
        for result in islice(wanted, count):
            exact = hashlib.sha256(repr(result.key).encode()).hexdigest()[:8]
            how = "solved" if result.success else f"failed_at_{result.failed_at}"
            path = folder / f"{name.replace('/', '-')}_{region}_{result.seed}_{how}_{exact}.mp4"
            if not path.exists():
                _film(result, actors[name], world, path)
            paths.append(path)
    return paths


def _film(result: EpisodeResult, factory: ActorFactory, world: WorldConfig, path: Path) -> None:
    env = world.make(result.region, render_mode="rgb_array")
    try:
        with mp4_file(path) as film, one_torch_thread():
            outcome = run_episode(
                env,
                factory.make(env),
                seed=result.seed,
                recorder=lambda step: film(np.asarray(env.render())),
            )
            if (outcome.success, outcome.steps) != (result.success, result.steps):
                raise DataError(
                    f"Seed {result.seed} of {result.name!r} ended otherwise than in the log, which another "
                    "version must have written: evaluate into a new folder."
                )
    finally:
        env.close()
