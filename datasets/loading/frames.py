"""Demonstrations in memory, ready for training: all frames of the chosen episodes, one array a quantity.

A budget is applied here, once. Whatever samples from a :class:`Frames` (cloning, pairing, alignment,
statistics) can only ever see the demonstrations within it.
"""

from __future__ import annotations

import json
import logging
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from simreal_datasets.store.choice import SUCCESS, choose
from simreal_datasets.store.dataset import Dataset
from simreal_datasets.store.episode import Episode, binary_gripper
from simreal_envs.cameras import Camera
from simreal_envs.errors import DataError, UsageError
from simreal_envs.features import image_key
from simreal_envs.kinematics import forward
from simreal_envs.shifts import canonical, seen
from simreal_envs.spec import DELTA_POSITION_M, PROPRIOCEPTION

IMAGE_KEY = image_key("agentview")

logger = logging.getLogger(__name__)

END_EFFECTOR_POSITION = "robot0_eef_pos"

KEYFRAMES = 2
"""How many of the keyframes to come describe what a frame is about: where to grasp, and where to let go."""


@dataclass(frozen=True)
class Frames:
    """All frames of some episodes, one after the other.

    Attributes:
        images: (N, H, W, 3) uint8.
        proprioception: for each name of :data:`simreal_envs.spec.PROPRIOCEPTION`, (N, d) float32.
        actions: (N, A) float32, of ``world["action_kind"]``; the gripper -1 or 1, see
            :func:`simreal_datasets.store.episode.binary_gripper`.
        starts: (E + 1,) first frame of each episode; the last entry is N.
        files: names of the episodes' files, in order.
        world: what the episodes have in common: ``task``, ``action_kind``, ``image_size`` [height, width].
        looks: the different looks of the worlds they were recorded in, see :func:`look`.
        cameras: the different cameras they were recorded with.
    """

    images: NDArray[np.uint8]
    proprioception: dict[str, NDArray[np.float32]]
    actions: NDArray[np.float32]
    starts: NDArray[np.int64]
    files: tuple[str, ...]
    world: dict[str, Any]
    looks: tuple[str, ...]
    cameras: tuple[Camera, ...]

    @classmethod
    def load(
        cls,
        path: str | Path,
        max_episodes: int | None = None,
        seed: int = 0,
        files: Sequence[str] | None = None,
        which: str = SUCCESS,
    ) -> Frames:
        """Read a dataset folder into memory.

        Args:
            path: folder of a dataset with image observations.
            max_episodes: the budget; that many episodes are drawn with ``seed``, and for one seed a
                smaller budget is a subset of a larger one. None takes all.
            files: names of the episodes' files to read instead of those that ``which``, budget and seed would
                give.
            which: episodes that the budget is drawn from, see :func:`simreal_datasets.store.choice.choose`.

        Raises:
            UsageError: no such choice, or a budget below 1 or larger than what it leaves.
            DataError: no dataset there, no readable episodes, no images in them, or a missing or damaged one
                among ``files``.
        """
        dataset = Dataset(path)
        dataset.spec.feature(IMAGE_KEY)
        while True:
            if files is None:
                chosen = _draw(dataset, choose(dataset, which), max_episodes, seed)
            else:
                chosen = _find(dataset, files)
            if not dataset.verify(chosen):
                break
        for file, reason in dataset.damaged:
            logger.warning("Skipped the damaged episode %s: %s", file, reason)
        episodes = [dataset.read(i, keys=[IMAGE_KEY, *PROPRIOCEPTION]) for i in chosen]
        _require_one_shape(dataset, chosen, episodes)
        lengths = [len(episode.actions) for episode in episodes]
        images = np.concatenate([episode.observations[IMAGE_KEY] for episode in episodes])
        return cls(
            images=images,
            proprioception={
                key: np.concatenate([episode.observations[key] for episode in episodes]).astype(np.float32)
                for key in PROPRIOCEPTION
            },
            actions=np.concatenate([_said_each_step(episode.actions) for episode in episodes]),
            starts=np.r_[0, np.cumsum(lengths)].astype(np.int64),
            files=tuple(dataset.infos[i].path.name for i in chosen),
            world={
                "task": episodes[0].meta["task"],
                "action_kind": episodes[0].meta["action_kind"],
                "image_size": list(images.shape[1:3]),
            },
            looks=tuple(sorted(_looks(dataset, chosen))),
            cameras=_different_cameras(episodes),
        )

    def __len__(self) -> int:
        return len(self.actions)

    @property
    def end_effector_positions_m(self) -> NDArray[np.float32]:
        """(N, 3), base frame."""
        return self.proprioception[END_EFFECTOR_POSITION]

    @property
    def commanded_positions_m(self) -> NDArray[np.float32]:
        """(N, 3), base frame: where each action sends the end effector, however its arm follows."""
        kind, actions = self.world["action_kind"], self.actions
        if kind == "delta":
            return self.end_effector_positions_m + np.float32(DELTA_POSITION_M) * actions[:, :3]
        if kind == "joint":
            return np.array([forward(joints)[:3, 3] for joints in actions[:, :7]], np.float32)
        return actions[:, :3]

    def paths_m(self, commanded: bool) -> list[NDArray[np.float32]]:
        """Positions (T, 3) of each episode that the end effector was sent to, or that it was at."""
        positions = self.commanded_positions_m if commanded else self.end_effector_positions_m
        return np.split(positions, self.starts[1:-1])

    def chunk_indices(self, frames: NDArray[np.int64], horizon: int) -> NDArray[np.int64]:
        """Frames (B, horizon) that hold the actions from each frame on; an episode's last one is repeated."""
        last = self.starts[np.searchsorted(self.starts, frames, side="right")] - 1
        return np.minimum(frames[:, None] + np.arange(horizon), last[:, None])

    def keyframes(self, count: int = KEYFRAMES) -> NDArray[np.int64]:
        """Frames (N, count) of the next changes of the gripper's command; after the last, the episode's end.

        There the hand is sent to where an object is (James and Davison, "Q-attention", 2022).
        """
        found = np.empty((len(self), count), np.int64)
        for start, end in zip(self.starts[:-1], self.starts[1:], strict=True):
            closed = self.actions[start:end, -1] > 0
            changes = np.r_[start + np.flatnonzero(np.diff(closed)), np.full(count, end - 1)]
            following = np.searchsorted(changes[:-count], np.arange(start, end))
            found[start:end] = changes[following[:, None] + np.arange(count)]
        return found

    def require_same_world(self, other: Frames, what: str) -> None:
        """Raise a DataError listing what differs, if the other frames are of another task, action or size."""
        differing = [
            f"{key} {other.world[key]!r} instead of {value!r}"
            for key, value in self.world.items()
            if other.world[key] != value
        ]
        if differing:
            raise DataError(f"{what} does not fit the other data: {', '.join(differing)}.")


def _said_each_step(actions: NDArray[np.float64]) -> NDArray[np.float32]:
    """Actions (T, A) of an episode; a gripper that is to stay as it is says what it is to stay."""
    said = actions.astype(np.float32)
    said[:, -1] = binary_gripper(actions[:, -1])
    return said


def look(described: Mapping[str, Any]) -> str:
    """What decides how images look, of an environment's or an episode's description: its kind and shift."""
    return f"{described['env']} {canonical(seen(described['shift']))}"


def _looks(dataset: Dataset, chosen: Sequence[int]) -> set[str]:
    """The looks of episodes; a DataError names one that does not say how its world looked."""
    for info in (dataset.infos[i] for i in chosen):
        if missing := [key for key in ("env", "shift") if key not in info.meta]:
            raise DataError(f"Episode {info.path} does not say its {' and '.join(missing)}.")
    return {look(dataset.infos[i].meta) for i in chosen}


def _different_cameras(episodes: Sequence[Episode]) -> tuple[Camera, ...]:
    """Each camera once, of the episodes that say theirs."""
    told = [
        Camera.from_json(episode.meta["cameras"]["agentview"])
        for episode in episodes
        if "agentview" in (episode.meta.get("cameras") or {})
    ]
    cameras = {json.dumps(camera.to_json()): camera for camera in told}
    return tuple(cameras[text] for text in sorted(cameras))


def _require_one_shape(dataset: Dataset, chosen: Sequence[int], episodes: Sequence[Episode]) -> None:
    """Raise a DataError that names an episode whose images or actions have another size than the first's."""
    first = episodes[0]
    for i, episode in zip(chosen, episodes, strict=True):
        for what, size, wanted in (
            ("images", episode.observations[IMAGE_KEY].shape[1:], first.observations[IMAGE_KEY].shape[1:]),
            ("actions", episode.actions.shape[1:], first.actions.shape[1:]),
        ):
            if size != wanted:
                raise DataError(f"{dataset.infos[i].path} has {what} {size}; those before have {wanted}.")


def _draw(dataset: Dataset, among: Sequence[int], budget: int | None, seed: int) -> list[int]:
    """Which of the chosen episodes a budget takes."""
    total = len(among)
    if budget is not None and not 1 <= budget <= total:
        raise UsageError(
            f"Budget of {budget} demonstrations, but {dataset.path} holds {total} to choose from. "
            f"Valid: 1 to {total}."
        )
    return [among[i] for i in sorted(np.random.default_rng(seed).permutation(total)[:budget].tolist())]


def _find(dataset: Dataset, files: Sequence[str]) -> list[int]:
    """Where the episodes of these files are."""
    position = {info.path.name: i for i, info in enumerate(dataset.infos)}
    lost = [file for file in files if file not in position]
    if lost:
        raise DataError(f"Dataset {dataset.path} lacks {', '.join(lost)} (deleted or damaged): put it back.")
    return [position[file] for file in files]
