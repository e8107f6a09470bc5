"""A recorded episode, read and prepared for showing, and what there is to say about it."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

import numpy as np

from simreal_agents.operators.replay import pose_actions
from simreal_agents.viewing.episode_scene import EpisodeScene
from simreal_agents.viewing.panel import table
from simreal_datasets.store.choice import position_of
from simreal_datasets.store.dataset import Dataset
from simreal_datasets.store.episode import Episode
from simreal_datasets.store.metadata import how_it_ended
from simreal_envs.cameras import CameraSpec
from simreal_envs.errors import DataError
from simreal_envs.features import WorldSpec
from simreal_envs.poses import pose_from_action
from simreal_envs.spec import ACTION_KINDS, FloatArray
from simreal_envs.tasks import Task, get_task


@dataclass(frozen=True)
class Recorded:
    """An episode, and what was computed of it.

    Attributes:
        targets: (T, 4, 4) poses in the base frame that the actions asked for.
        cameras: where the recorded cameras were mounted, by name.
    """

    number: int
    episode: Episode
    spec: WorldSpec
    task: Task
    scene: EpisodeScene
    targets: FloatArray
    cameras: dict[str, CameraSpec]

    def facts(self) -> str:
        """Markdown of what is known about the whole episode."""
        meta = self.episode.meta
        names = (
            "task",
            "env",
            "seed",
            "actor",
            "region",
            "placement_region",
            "shift",
            "action_kind",
            "noise_m",
        )
        rows: dict[str, Any] = {name: meta[name] for name in names if meta.get(name) not in (None, "")}
        rows["ended as"] = how_it_ended(meta)
        for name in ("stage", "interrupted", "events"):
            if meta.get(name):
                rows[name] = meta[name]
        rows |= {f"origin: {name}": value for name, value in (meta.get("origin") or {}).items()}
        text = table(rows)
        return f"{text}\n\n*{self.scene.note}*" if self.scene.note else text

    def at_step(self, step: int) -> str:
        """Markdown of what was the case at a step."""
        episode, hz = self.episode, self.spec.control_hz
        fingers_m = episode.observations["robot0_gripper_qpos"][step]
        command = float(episode.actions[step][-1])
        wanted = "close" if command > 0 else "open" if command < 0 else "stay"
        rows = {
            "time": f"{step / hz:.2f} of {len(episode) / hz:.2f} s, step {step} of {len(episode)}",
            "gripper": f"{1000 * (fingers_m[0] - fingers_m[1]):.0f} mm, told to {wanted}",
        }
        if episode.datagen is not None:
            signals = episode.datagen.subtask_term_signals
            rows["hold now"] = ", ".join(name for name, values in signals.items() if values[step]) or "none"
        return table(rows)


def read_episode(dataset: Dataset, number: int) -> Recorded:
    """Read and prepare an episode.

    Raises:
        UsageError: there is none of this number; its task is unknown here.
        DataError: it cannot be read, or its actions are of a kind that is unknown here.
    """
    episode = dataset.read(position_of(dataset, number))
    spec = WorldSpec.from_json(episode.meta)
    if spec.action_kind not in ACTION_KINDS:
        raise DataError(
            f"Episode {number} of {dataset.path} has actions of kind {spec.action_kind!r}. "
            f"Those that can be shown: {', '.join(ACTION_KINDS)}."
        )
    task = get_task(spec.task)
    try:
        targets = np.stack([pose_from_action(action) for action in pose_actions(episode)])
        cameras = {
            name: CameraSpec.from_json(name, values)
            for name, values in (episode.meta.get("cameras") or {}).items()
        }
        scene = EpisodeScene(episode)
    except (KeyError, ValueError, IndexError) as error:
        raise DataError(f"Episode {number} of {dataset.path} cannot be shown: {error}") from error
    return Recorded(number, episode, spec, task, scene, targets, cameras)


def caption(number: int, meta: Mapping[str, Any]) -> str:
    """``3: success, seed 7``."""
    seed = "" if meta.get("seed") is None else f", seed {meta['seed']}"
    return f"{number}: {how_it_ended(dict(meta))}{seed}"
