"""Demonstrations, ready for training: all frames of the chosen episodes, one array a quantity.

A budget is applied here, once. Whatever samples from a :class:`Frames` (cloning, pairing, alignment,
statistics) can only ever see the demonstrations within it.
"""

from __future__ import annotations

import json
import logging
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from simreal_datasets.loading.decoded import Array, decoded
from simreal_datasets.store.choice import SUCCESS, choose, positions
from simreal_datasets.store.dataset import Dataset
from simreal_datasets.store.episode import Episode, binary_gripper
from simreal_envs.cameras import CameraSpec
from simreal_envs.errors import DataError, UsageError
from simreal_envs.features import PROPRIOCEPTIVE, Feature, ObservationSpec, WorldSpec
from simreal_envs.kinematics import forward
from simreal_envs.shifts import canonical, seen
from simreal_envs.spec import DELTA_POSITION_M

logger = logging.getLogger(__name__)

END_EFFECTOR_POSITION = "robot0_eef_pos"
IMAGE = ObservationSpec(("image",))

REST = "rest"
"""Of the episodes that a budget is drawn from, those that it leaves over."""

KEYFRAMES = 2
"""How many of the keyframes to come describe what a frame is about: where to grasp, and where to let go."""


@dataclass(frozen=True)
class Frames:
    """All frames of some episodes, one after the other.

    Attributes:
        arrays: of each feature of ``spec``, (N, ...). Images, depths and clouds lie on the disk, see
            :mod:`simreal_datasets.loading.decoded`.
        actions: (N, A) float32, of ``spec.action_kind``; the gripper -1 or 1, see
            :func:`simreal_datasets.store.episode.binary_gripper`.
        starts: (E + 1,) first frame of each episode; the last entry is N.
        files: names of the episodes' files, in order.
        spec: what the episodes have in common, with only proprioception and the arrays that were asked for.
        looks: the different looks of the worlds they were recorded in, see :func:`look`.
        cameras: by their names, the different cameras that they were recorded with.
    """

    arrays: dict[str, Array]
    actions: NDArray[np.float32]
    starts: NDArray[np.int64]
    files: tuple[str, ...]
    spec: WorldSpec
    looks: tuple[str, ...]
    cameras: dict[str, tuple[CameraSpec, ...]]

    @classmethod
    def load(
        cls,
        path: str | Path,
        max_episodes: int | None = None,
        seed: int = 0,
        files: Sequence[str] | None = None,
        which: str = SUCCESS,
        shown: ObservationSpec = IMAGE,
    ) -> Frames:
        """Read a dataset folder.

        Args:
            path: folder of a dataset.
            max_episodes: the budget; that many episodes are drawn with ``seed``, and for one seed a
                smaller budget is a subset of a larger one. None takes all.
            files: names of the episodes' files to read instead of those that ``which``, budget and seed would
                give.
            which: episodes that the budget is drawn from, see :func:`simreal_datasets.store.choice.choose`.
            shown: what is wanted beside proprioception, in the sizes that the dataset has.

        Raises:
            UsageError: no such choice, or a budget below 1 or larger than what it leaves.
            DataError: no dataset there, no readable episodes, no such observations in them, or a missing or
                damaged one among ``files``.
        """
        dataset = Dataset(path)
        spec = _of_interest(dataset, shown)
        while True:
            if files is None:
                chosen = _draw(dataset, choose(dataset, which), max_episodes, seed)
            else:
                chosen = _find(dataset, files)
            if not dataset.verify(chosen):
                break
        for file, reason in dataset.damaged:
            logger.warning("Skipped the damaged episode %s: %s", file, reason)
        numbers = [f.key for f in spec.features if f.modality in ("proprioception", "state")]
        episodes = [dataset.read(i, keys=numbers) for i in chosen]
        arrays: dict[str, Array] = {
            key: np.concatenate([episode.observations[key] for episode in episodes]).astype(np.float32)
            for key in numbers
        }
        large = [feature for feature in spec.features if feature.key not in arrays]
        return cls(
            arrays=arrays | {feature.key: decoded(dataset, chosen, feature) for feature in large},
            actions=np.concatenate([_said_each_step(episode.actions) for episode in episodes]),
            starts=np.r_[0, np.cumsum([len(episode) for episode in episodes])].astype(np.int64),
            files=tuple(dataset.infos[i].path.name for i in chosen),
            spec=spec,
            looks=tuple(sorted(_looks(dataset, chosen))),
            cameras=_different_cameras(episodes),
        )

    def __len__(self) -> int:
        return len(self.actions)

    @property
    def end_effector_positions_m(self) -> NDArray[np.float32]:
        """(N, 3), base frame."""
        return np.asarray(self.arrays[END_EFFECTOR_POSITION])

    @property
    def commanded_positions_m(self) -> NDArray[np.float32]:
        """(N, 3), base frame: where each action sends the end effector, even if the arm did not get there."""
        kind, actions = self.spec.action_kind, self.actions
        if kind == "delta":
            return self.end_effector_positions_m + np.float32(DELTA_POSITION_M) * actions[:, :3]
        if kind == "joint":
            return np.array([forward(joints)[:3, 3] for joints in actions[:, :7]], np.float32)
        return actions[:, :3]

    def paths_m(self, commanded: bool) -> list[NDArray[np.float32]]:
        """Path (T, 3) of the end effector in each episode: where it was sent, or where it was."""
        positions = self.commanded_positions_m if commanded else self.end_effector_positions_m
        return np.split(positions, self.starts[1:-1])

    def chunk_indices(self, frames: NDArray[np.int64], horizon: int) -> NDArray[np.int64]:
        """Frames (B, horizon) that hold the actions from each frame on; an episode's last one is repeated."""
        last = self.starts[np.searchsorted(self.starts, frames, side="right")] - 1
        return np.minimum(frames[:, None] + np.arange(horizon), last[:, None])

    def moments(self, frames: NDArray[np.int64], history: int) -> NDArray[np.int64]:
        """Frames (B, history) up to each one, oldest first; an episode's first one is repeated before it."""
        first = self.starts[np.searchsorted(self.starts, frames, side="right") - 1]
        return np.maximum(frames[:, None] + np.arange(1 - history, 1), first[:, None])

    def observations(self, frames: NDArray[np.int64], history: int) -> dict[str, NDArray[Any]]:
        """What an environment with this history shows at some frames: (B, ...), or (B, h, ...) each."""
        index = frames if history == 1 else self.moments(frames, history)
        return {key: array[index] for key, array in self.arrays.items()}

    def keyframes(self, count: int = KEYFRAMES) -> NDArray[np.int64]:
        """Frames (N, count) of the next changes of the gripper's command; after the last, the episode's end.

        At these frames the hand is sent to an object's place (James and Davison, "Q-attention", 2022).
        """
        found = np.empty((len(self), count), np.int64)
        for start, end in zip(self.starts[:-1], self.starts[1:], strict=True):
            closed = self.actions[start:end, -1] > 0
            changes = np.r_[start + np.flatnonzero(np.diff(closed)), np.full(count, end - 1)]
            following = np.searchsorted(changes[:-count], np.arange(start, end))
            found[start:end] = changes[following[:, None] + np.arange(count)]
        return found


def held_out(
    path: str | Path, used: Sequence[str], count: int, seed: int, among: str = SUCCESS, which: str = REST
) -> list[str]:
    """Names of the files of episodes that a training does not use, to judge it by.

    Args:
        path: folder of a dataset.
        used: names of the files of the episodes that are trained on.
        count: at most so many, drawn with ``seed``.
        among: the choice of episodes that the training's budget was drawn from.
        which: :data:`REST`, or the name of a mask.

    Raises:
        UsageError: no such mask, or one that holds episodes which are trained on.
    """
    dataset = Dataset(path)
    while True:
        names = [dataset.infos[i].path.name for i in positions(dataset, among if which == REST else which)]
        both = sorted(set(names) & set(used))
        if which != REST and both:
            raise UsageError(
                f"The episodes {which!r} of {dataset.path} are to be held out, and {len(both)} of them are "
                f"trained on, such as {both[0]}. Train on a choice of episodes that has none of them."
            )
        free = [name for name in names if name not in both]
        order = np.random.default_rng(seed).permutation(len(free))[:count]
        chosen = [free[i] for i in sorted(order.tolist())]
        if not dataset.verify(_find(dataset, chosen)):
            return chosen


def spec_of(path: str | Path, shown: ObservationSpec) -> WorldSpec:
    """What the episodes of a dataset folder show of what is wanted, without reading any.

    Raises:
        DataError: no dataset there, or something is not in it; says which command records it.
    """
    return _of_interest(Dataset(path), shown)


def _of_interest(dataset: Dataset, shown: ObservationSpec) -> WorldSpec:
    """The dataset's spec, reduced to the arrays that were asked for.

    Raises:
        DataError: something is not there; says which command records it.
    """
    there = {feature.key: feature for feature in dataset.spec.features}
    wanted = [f.key for f in shown.features(1) if f.modality != "proprioception"]
    if missing := [key for key in wanted if key not in there]:
        given = ", ".join(key for key, f in there.items() if f.modality != "proprioception") or "nothing else"
        raise DataError(
            f"Dataset {dataset.path} lacks {', '.join(missing)}; beside proprioception it has {given}. "
            f"Record one with `simreal collect` or `simreal generate` and {' '.join(options_for(shown))}."
        )
    features: tuple[Feature, ...] = (*PROPRIOCEPTIVE, *(there[key] for key in wanted))
    return replace(dataset.spec, features=features)


def options_for(shown: ObservationSpec) -> list[str]:
    """The options of our commands that ask for these observations."""
    cameras = ["--cameras", "+".join(shown.cameras)] if set(shown.groups) != {"state"} else []
    return ["--obs", "+".join(shown.groups), *cameras]


def _said_each_step(actions: NDArray[np.float64]) -> NDArray[np.float32]:
    """Actions (T, A) of an episode in which a gripper's 0 (stay) is replaced by the command before it."""
    said = actions.astype(np.float32)
    said[:, -1] = binary_gripper(actions[:, -1])
    return said


def look(described: Mapping[str, Any]) -> str:
    """The look of a world, by an environment's or an episode's description: its ``env`` and ``shift``."""
    return f"{described['env']} {canonical(seen(described['shift']))}"


def _looks(dataset: Dataset, chosen: Sequence[int]) -> set[str]:
    """The looks of episodes; a DataError names one that does not say how its world looked."""
    for info in (dataset.infos[i] for i in chosen):
        if missing := [key for key in ("env", "shift") if key not in info.meta]:
            raise DataError(f"Episode {info.path} does not say its {' and '.join(missing)}.")
    return {look(dataset.infos[i].meta) for i in chosen}


def _different_cameras(episodes: Sequence[Episode]) -> dict[str, tuple[CameraSpec, ...]]:
    """The different cameras of the episodes that have cameras in their metadata."""
    told = [(name, camera) for e in episodes for name, camera in (e.meta.get("cameras") or {}).items()]
    texts = sorted({(name, json.dumps(camera)) for name, camera in told})
    return {
        name: tuple(CameraSpec.from_json(name, json.loads(text)) for other, text in texts if other == name)
        for name, _ in texts
    }


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
