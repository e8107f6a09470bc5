"""Episodes with everything that one can hold, of random numbers."""

from __future__ import annotations

from pathlib import Path

import numpy as np

from simreal_datasets.store.dataset import DatasetWriter
from simreal_datasets.store.episode import DatagenInfo, Episode
from simreal_envs.features import ObservationSpec, WorldSpec
from simreal_envs.poses import pose_from_action
from simreal_envs.spec import PROPRIOCEPTION

SHOWN = ObservationSpec(("state", "image", "depth"), (12, 16))
META = {
    **WorldSpec("Lift", "pose", SHOWN.features(1)).to_json(),
    "env": "sim",
    "shift": "none",
    "region": "all",
    "seed": 7,
    "actor": "expert",
    "success": True,
    "placement_region": "in",
}


def poses_of(actions: np.ndarray) -> np.ndarray:
    return np.array([pose_from_action(action) for action in actions]).reshape(-1, 4, 4)


def make_episode(length: int = 5, seed: int = 0, **meta: object) -> Episode:
    rng = np.random.default_rng(seed)
    actions = rng.uniform(-1, 1, (length, 7))
    poses = poses_of(rng.uniform(-1, 1, (length, 7)))
    return Episode(
        observations={
            **{
                name: rng.normal(size=(length, numbers)).astype(np.float32)
                for name, numbers in PROPRIOCEPTION.items()
            },
            "object": rng.normal(size=(length, 7)).astype(np.float32),
            "agentview_image": rng.integers(0, 256, (length, 12, 16, 3), dtype=np.uint8),
            "agentview_depth": rng.uniform(0, 2, (length, 12, 16)).astype(np.float32),
        },
        actions=actions,
        rewards=rng.uniform(size=length),
        dones=np.arange(length) == length - 1,
        meta=META | meta,
        states=rng.normal(size=(length, 20)),
        model_xml="<mujoco/>",
        datagen=DatagenInfo(
            eef_pose=poses,
            object_poses={"cube": poses[::-1].copy()},
            subtask_term_signals={"grasp": np.arange(length) > 2},
            target_pose=poses_of(actions),
            gripper_action=actions[:, 6:],
        ),
    )


def store(path: Path, count: int = 3) -> list[Path]:
    with DatasetWriter(path) as writer:
        return [writer.add(make_episode(length=4 + i, seed=i)) for i in range(count)]
