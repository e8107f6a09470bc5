"""Small real datasets for tests: smooth random reaching motions under random images."""

from __future__ import annotations

from pathlib import Path

import numpy as np

from simreal_datasets.store.dataset import DatasetWriter
from simreal_datasets.store.episode import Episode
from simreal_envs.features import ObservationSpec, WorldSpec


def random_episode(
    rng: np.random.Generator,
    steps: int = 20,
    size: tuple[int, int] = (32, 32),
    task: str = "Lift",
    shown: ObservationSpec | None = None,
) -> Episode:
    """An episode of ``steps`` frames with native pose actions, gripper pointing down.

    Args:
        shown: what is to be seen; None: an image of this size.
    """
    position_m = np.array([0.5, 0.0, 0.2]) + np.cumsum(rng.normal(0, 0.004, (steps, 3)), axis=0)
    quaternion = np.tile([1.0, 0.0, 0.0, 0.0], (steps, 1))
    spec = WorldSpec(task, "pose", (shown or ObservationSpec(("image",), size)).features(1))
    observations = {
        "robot0_eef_pos": position_m.astype(np.float32),
        "robot0_eef_quat": quaternion.astype(np.float32),
        "robot0_joint_pos": rng.normal(0, 0.1, (steps, 7)).astype(np.float32),
        "robot0_gripper_qpos": rng.uniform(0, 0.04, (steps, 2)).astype(np.float32),
    }
    for feature in spec.features[len(observations) :]:
        array = rng.integers(0, 256, (steps, *feature.shape), dtype=np.uint8)
        observations[feature.key] = array if feature.dtype == "uint8" else array.astype(np.float32) / 255
    rotation = np.array([np.pi, 0.0, 0.0]) * rng.choice([-0.999, 0.999], (steps, 1))
    gripper = np.where(np.arange(steps) < steps // 2, -1.0, 1.0)[:, None]
    actions = np.concatenate([position_m + 0.01, rotation, gripper], axis=1)
    dones = np.zeros(steps, dtype=bool)
    dones[-1] = True
    meta = {
        **spec.to_json(),
        "env": "sim", "shift": "none", "region": "in", "seed": 0, "actor": "random", "success": True,
        "stage": "lift", "stages_reached": 1, "placement_region": "in", "versions": {},
    }  # fmt: skip
    return Episode(observations, actions, dones.astype(float), dones, meta)


def write_dataset(
    path: Path,
    episodes: int,
    seed: int = 0,
    size: tuple[int, int] = (32, 32),
    task: str = "Lift",
    shown: ObservationSpec | None = None,
) -> Path:
    """A dataset of so many random episodes of 15 to 25 steps."""
    rng = np.random.default_rng(seed)
    with DatasetWriter(path) as writer:
        for _ in range(episodes):
            writer.add(random_episode(rng, int(rng.integers(15, 26)), size, task, shown))
    return path


def settings_of(data: Path, *more: str) -> list[str]:
    """Overrides for a short training on the fixture ``data``."""
    return [
        f"data.source={data / 'source'}", f"data.target={data / 'target'}", "batch.size=16",
        "batch.alignment_size=8", "optim.updates=6", "checkpoint_every=100", "log_every=2", "threads=1",
        *more,
    ]  # fmt: skip
