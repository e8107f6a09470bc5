"""Files that bear an episode's name, with the right digest, and hold anything: never a traceback."""

from __future__ import annotations

import json
from collections.abc import Callable
from contextlib import suppress
from functools import partial
from typing import Any

import h5py
import numpy as np
import pytest
from episodes import make_episode, store
from hypothesis import given, settings
from hypothesis import strategies as st

from simreal_cli.data import summarise
from simreal_datasets.loading.frames import Frames
from simreal_datasets.making.fill import resume_point
from simreal_datasets.making.generate import load_segments
from simreal_datasets.store.catalogue import digest_of
from simreal_datasets.store.dataset import Dataset, DatasetWriter
from simreal_envs.errors import DataError, UsageError
from simreal_envs.world_config import WorldConfig


def _put(demo: h5py.Group, name: str, value: Any) -> None:
    """Something else in place of a dataset or group; None for nothing."""
    if demo.get(name, getlink=True) is not None:
        del demo[name]
    if isinstance(value, dict):
        demo.create_group(name)
    elif value is not None:
        demo[name] = value


EDITS: list[Callable[[h5py.Group], None]] = [
    *(
        partial(lambda demo, name, value: demo.attrs.__setitem__(name, value), name=name, value=value)
        for name in ("simreal", "num_samples", "model_file")
        for value in (b"\xff", 3, "null", "[]", "{}", "{", [1, 2], h5py.Empty("f"), -1, 2.5)
    ),
    *(
        partial(
            lambda demo, key, value: demo.attrs.__setitem__(
                "simreal", json.dumps(json.loads(demo.attrs["simreal"]) | {key: value})
            ),
            key=key,
            value=value,
        )
        for key in ("task", "action_kind", "features", "control_hz", "history", "seed", "success", "versions",
                    "origin", "cameras", "shift", "interrupted", "placement_region", "stage", "actor",
                    "region")
        for value in (None, 3, 1.5, "text", [1], ["a"], {"a": 1}, {"sha256": []}, {"size": 3})
    ),
    *(
        partial(_put, name=name, value=value)
        for name in ("actions", "rewards", "dones", "states", "obs", "obs/agentview_image", "obs/object",
                     "obs/robot0_eef_pos", "datagen_info", "datagen_info/eef_pose", "timing", "timing/late_s",
                     "datagen_info/gripper_action", "datagen_info/object_poses",
                     "datagen_info/object_poses/cube", "datagen_info/subtask_term_signals")
        for value in (None, 3.0, np.zeros(0), np.zeros(5), np.zeros((5, 7)), np.zeros((5, 4, 4)),
                      np.full((5, 7), np.nan), np.array([b"a"] * 5), np.zeros((5, 12, 16, 3), np.uint8),
                      h5py.Empty("f"), h5py.SoftLink("/data"), h5py.ExternalLink("no.hdf5", "/"), {})
    ),
]  # fmt: skip


@settings(max_examples=60)
@given(edits=st.lists(st.sampled_from(EDITS), min_size=1, max_size=2))
def test_anything_in_an_episodes_file_is_an_episode_or_a_data_error(
    tmp_path_factory: pytest.TempPathFactory, edits: list[Callable[[h5py.Group], None]]
) -> None:
    """A file that another program wrote, with the right digest in its name."""
    folder = tmp_path_factory.mktemp("edited")
    (good, path) = store(folder, count=2)
    with h5py.File(path, "a") as file:
        for edit in edits:
            with suppress(KeyError, ValueError, TypeError, OSError):  # the first may leave no group
                edit(file["data/demo_0"])
    path.rename(path.with_name(f"episode_000001.{digest_of(path.read_bytes())}.hdf5"))
    dataset = Dataset(folder)
    assert dataset.infos[0].path == good
    json.dumps(summarise(dataset))
    for use in (
        lambda: dataset.read(len(dataset) - 1),
        lambda: Frames.load(folder, which="all"),
        lambda: load_segments(folder),
        lambda: DatasetWriter(folder).add(make_episode(length=3)),
        lambda: resume_point(folder, WorldConfig("Lift", obs="image", image_size=(12, 16)), "all", 9, 0),
    ):
        with suppress(DataError, UsageError):
            use()
