"""One episode, in memory and as the bytes of one HDF5 file.

The file has robomimic's layout, so it alone is a robomimic dataset with one demonstration::

    data                      attrs: total, env_args (JSON: env_name, type, env_kwargs)
    data/demo_0               attrs: num_samples, model_file (MJCF), simreal (JSON: our metadata)
    data/demo_0/obs/<name>    (T, ...), images uint8 (T, H, W, 3), depth float32 (T, H, W, 1)
    data/demo_0/actions       (T, A)    rewards (T,)    dones (T,)    states (T, S)
    data/demo_0/timing/<name> (T,) seconds, of worlds that run in real time
    data/demo_0/datagen_info  MimicGen's fields; attrs: env_interface_name, env_interface_type

Frames. In memory every pose is in the robot base frame, the end effector with the axes of Franka's hand.
MimicGen's interfaces use robosuite's world frame and its grip site, so ``datagen_info`` is converted to these
on writing and back on reading; the two constants below define the conversion.
"""

from __future__ import annotations

import io
import json
from collections.abc import Iterable
from dataclasses import dataclass, field
from typing import Any

import h5py
import numpy as np

from simreal_datasets.store.metadata import FORMAT_VERSION, check_meta, read_meta
from simreal_envs.errors import DataError, UsageError
from simreal_envs.features import WorldSpec
from simreal_envs.spec import BASE_IN_WORLD_M

DEMO = "data/demo_0"

BASE_IN_WORLD = np.eye(4)
BASE_IN_WORLD[:3, 3] = BASE_IN_WORLD_M

GRIP_SITE_IN_END_EFFECTOR = np.eye(4)
GRIP_SITE_IN_END_EFFECTOR[:2, :2] = ((0.0, 1.0), (-1.0, 0.0))
"""robosuite's grip site has the end effector's origin, turned by -90 degrees about z."""


@dataclass
class DatagenInfo:
    """What MimicGen needs to cut and move an episode; poses in the base frame, metres.

    Attributes:
        eef_pose: (T, 4, 4) pose of the end effector when the action was chosen.
        object_poses: for each object (T, 4, 4).
        subtask_term_signals: for each stage (T,), 1 where its condition holds; MimicGen cuts at the first.
        target_pose: (T, 4, 4) pose that the action asked for.
        gripper_action: (T, 1), from -1 (open) to 1 (closed).
    """

    eef_pose: np.ndarray
    object_poses: dict[str, np.ndarray]
    subtask_term_signals: dict[str, np.ndarray]
    target_pose: np.ndarray
    gripper_action: np.ndarray


@dataclass
class Episode:
    """What was seen and done in one episode of T steps.

    Attributes:
        observations: name -> (T, ...), names and dtypes of ``simreal_envs.spec``.
        actions: (T, A) float64 of ``meta["action_kind"]``.
        rewards: (T,) float64.
        dones: (T,) bool, True on the last step.
        meta: JSON-able: the world's ``describe()``, and seed, actor, success, stage, ...
        states: (T, S) float64 simulator states [time, qpos, qvel], each before its action.
        model_xml: the MJCF that ``states`` belong to.
        datagen: MimicGen's fields, if the world knows its objects.
        timing: name -> (T,) float64 seconds: when each observation was made, and how late; see
            :data:`simreal_datasets.store.recorder.TIMING`.
    """

    observations: dict[str, np.ndarray]
    actions: np.ndarray
    rewards: np.ndarray
    dones: np.ndarray
    meta: dict[str, Any]
    states: np.ndarray | None = None
    model_xml: str | None = None
    datagen: DatagenInfo | None = None
    timing: dict[str, np.ndarray] = field(default_factory=dict)

    def __len__(self) -> int:
        return len(self.actions)


def binary_gripper(commands: np.ndarray) -> np.ndarray:
    """The commands (T,) of one episode as -1 (open) and 1 (close).

    A world reads only the sign of a command; 0 leaves the fingers as they are. So here 0 becomes the command
    before it; before the first command the hand is open.
    """
    signs = np.sign(np.r_[-1.0, np.asarray(commands, dtype=np.float64)])
    latest = np.maximum.accumulate(np.where(signs != 0, np.arange(len(signs)), 0))
    return signs[latest][1:]


def encode(episode: Episode) -> bytes:
    """The episode as an HDF5 file.

    Raises:
        UsageError: metadata missing or not JSON, no steps, lengths that differ, or an action that is not
            finite.
    """
    try:
        meta = json.dumps(
            episode.meta | {"format_version": FORMAT_VERSION}, default=_plain, allow_nan=False, sort_keys=True
        )
        spec = check_meta(json.loads(meta))
    except DataError as error:
        raise UsageError(f"An episode that cannot be stored: {error}.") from error
    except (TypeError, ValueError) as error:
        raise UsageError(f"Episode metadata must be JSON: {error}") from error
    if missing := [feature.key for feature in spec.features if feature.key not in episode.observations]:
        raise UsageError(f"Episode lacks the observations {', '.join(missing)} that its metadata describe.")
    _check(episode, spec)
    with h5py.File("episode", "w", driver="core", backing_store=False) as file:
        demo = file.create_group(DEMO)
        file["data"].attrs.update(total=len(episode), env_args=env_args(episode.meta))
        demo.attrs.update(num_samples=len(episode), simreal=meta)
        if episode.model_xml is not None:
            demo.attrs["model_file"] = episode.model_xml
        demo["actions"] = np.asarray(episode.actions, dtype=np.float64)
        demo["rewards"] = np.asarray(episode.rewards, dtype=np.float64)
        demo["dones"] = np.asarray(episode.dones, dtype=np.uint8)
        if episode.states is not None:
            demo["states"] = np.asarray(episode.states, dtype=np.float64)
        for name, values in episode.observations.items():
            _write_observation(demo, name, np.asarray(values))
        for name, values in episode.timing.items():
            demo[f"timing/{name}"] = np.asarray(values, dtype=np.float64)
        if episode.datagen is not None:
            _write_datagen(demo.create_group("datagen_info"), episode.datagen, spec.task)
        file.flush()
        return file.id.get_file_image()


def env_args(meta: dict[str, Any]) -> str:
    """robomimic's description of the world; type 1 is robosuite."""
    kwargs = {"robots": "Panda", "control_freq": meta.get("control_hz", 20)}
    return json.dumps({"env_name": meta["task"], "type": 1, "env_kwargs": kwargs})


NOT_AS_EXPECTED = (KeyError, ValueError, TypeError, AttributeError, IndexError, RuntimeError)
"""What h5py, numpy and json raise where a file does not hold what is read from it."""


def text(value: Any) -> str:
    """An HDF5 attribute that holds text, in whichever way it was written.

    Raises:
        TypeError: it holds something else.
    """
    if isinstance(value, np.ndarray) and value.size == 1:
        value = value.item()
    if isinstance(value, bytes):
        return value.decode()
    if isinstance(value, str):
        return str(value)
    raise TypeError(f"text is expected, and not {type(value).__name__} {value!r:.40}")


def decode_meta(content: bytes) -> tuple[dict[str, Any], int]:
    """Metadata and number of steps.

    Raises:
        DataError: not a simreal episode.
    """
    try:
        with h5py.File(io.BytesIO(content), "r") as file:
            demo = file[DEMO]
            meta, length = read_meta(json.loads(text(demo.attrs["simreal"]))), int(demo.attrs["num_samples"])
            if demo["actions"].shape[:1] != (length,):
                raise DataError(f"it says {length} steps and holds actions {demo['actions'].shape}")
    except (OSError, DataError, *NOT_AS_EXPECTED) as error:
        raise DataError(f"not a simreal episode ({error})") from error
    return meta, length


def decode(file: h5py.File, keys: Iterable[str] | None = None) -> Episode:
    """Read the episode, of its observations only ``keys``.

    Raises:
        DataError: an observation that is not there, and lists those that are; or not a simreal episode.
    """
    try:
        demo = file[DEMO]
        names = list(demo["obs"]) if keys is None else list(keys)
        for name in names:
            if name not in demo["obs"]:
                raise DataError(f"Observation {name!r} is not in the data. There: {', '.join(demo['obs'])}.")
        observations = {name: demo["obs"][name][()] for name in names}
        for name in names:
            if name.endswith("_depth"):
                observations[name] = observations[name][..., 0]
        episode = Episode(
            observations=observations,
            actions=demo["actions"][()],
            rewards=demo["rewards"][()],
            dones=demo["dones"][()].astype(bool),
            meta=read_meta(json.loads(text(demo.attrs["simreal"]))),
            states=demo["states"][()] if "states" in demo else None,
            model_xml=text(demo.attrs["model_file"]) if "model_file" in demo.attrs else None,
            datagen=_read_datagen(demo["datagen_info"]) if "datagen_info" in demo else None,
            timing={name: values[()] for name, values in demo.get("timing", {}).items()},
        )
        _check(episode, WorldSpec.from_json(episode.meta))
    except NOT_AS_EXPECTED as error:
        raise DataError(f"It is not a simreal episode ({error}).") from error
    return episode


def _check(episode: Episode, spec: WorldSpec) -> None:
    """Raises UsageError for what cannot be the record of one episode."""
    if episode.actions.ndim != 2:
        raise UsageError(f"Episode actions have shape {episode.actions.shape}; needed is (steps, numbers).")
    length = len(episode)
    if length == 0:
        raise UsageError("An episode needs at least one step.")
    arrays = {"rewards": episode.rewards, "dones": episode.dones, "actions": episode.actions}
    arrays |= episode.timing | episode.observations
    if episode.states is not None:
        arrays["states"] = episode.states
    if episode.datagen is not None:
        arrays |= _check_datagen(episode.datagen, length)
    for name, values in arrays.items():
        values = np.asarray(values)
        if values.shape[:1] != (length,):
            raise UsageError(f"Episode has {length} actions but {len(np.atleast_1d(values))} {name}.")
        if values.dtype.kind not in "buif":
            raise UsageError(f"Episode {name} are not numbers: {values.dtype}.")
    for feature in spec.features:
        if feature.key not in episode.observations:
            continue
        values = np.asarray(episode.observations[feature.key])
        if values.shape[1:] != feature.shape or values.dtype != feature.dtype:
            raise UsageError(
                f"Episode {feature.key} is {values.dtype} {values.shape}; "
                f"needed is {feature.dtype} {(length, *feature.shape)}."
            )
    if not np.isfinite(episode.actions).all():
        raise UsageError("Episode actions must be finite.")


def _check_datagen(info: DatagenInfo, length: int) -> dict[str, np.ndarray]:
    """MimicGen's arrays by name; raises UsageError for one of another shape."""
    poses = {"eef_pose": info.eef_pose, "target_pose": info.target_pose} | info.object_poses
    for name, values in poses.items():
        if values.shape != (length, 4, 4):
            raise UsageError(f"Episode {name} has shape {values.shape}; needed is {(length, 4, 4)}.")
        if not (np.isfinite(values).all() and (np.linalg.det(values[:, :3, :3]) > 0).all()):
            raise UsageError(f"Episode {name} are not all poses.")
    if info.gripper_action.shape != (length, 1):
        raise UsageError(f"Episode gripper_action has shape {info.gripper_action.shape}.")
    return poses | info.subtask_term_signals | {"gripper_action": info.gripper_action}


def _plain(value: Any) -> Any:
    """numpy's numbers and arrays as JSON's."""
    if isinstance(value, np.generic):
        return value.item()
    if isinstance(value, np.ndarray):
        return value.tolist()
    raise TypeError(f"{type(value).__name__} {value!r}")


def _write_observation(demo: h5py.Group, name: str, values: np.ndarray) -> None:
    """Images frame by frame, so that one can be read alone; why gzip 1 is in docs/data.md."""
    if name.endswith("_depth"):
        values = values[..., None]
    options: dict[str, Any] = {}
    if values.ndim >= 3:
        chunk = (1, *values.shape[1:])
        options = {"chunks": chunk, "compression": "gzip", "compression_opts": 1, "shuffle": True}
    demo.create_dataset(f"obs/{name}", data=values, **options)


def _write_datagen(group: h5py.Group, info: DatagenInfo, task: str) -> None:
    group.attrs.update(env_interface_name=f"MG_{task}", env_interface_type="robosuite")
    group["eef_pose"] = BASE_IN_WORLD @ info.eef_pose @ GRIP_SITE_IN_END_EFFECTOR
    group["target_pose"] = BASE_IN_WORLD @ info.target_pose @ GRIP_SITE_IN_END_EFFECTOR
    group["gripper_action"] = info.gripper_action
    for name, poses in info.object_poses.items():
        group[f"object_poses/{name}"] = BASE_IN_WORLD @ poses
    for name, signal in info.subtask_term_signals.items():
        group[f"subtask_term_signals/{name}"] = np.asarray(signal, dtype=np.int64)


def _read_datagen(group: h5py.Group) -> DatagenInfo:
    to_base = np.linalg.inv(BASE_IN_WORLD)
    to_end_effector = GRIP_SITE_IN_END_EFFECTOR.T
    return DatagenInfo(
        eef_pose=to_base @ group["eef_pose"][()] @ to_end_effector,
        object_poses={name: to_base @ poses[()] for name, poses in group.get("object_poses", {}).items()},
        subtask_term_signals={name: s[()] for name, s in group.get("subtask_term_signals", {}).items()},
        target_pose=to_base @ group["target_pose"][()] @ to_end_effector,
        gripper_action=group["gripper_action"][()],
    )
