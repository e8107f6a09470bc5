"""Reads robosuite's ``demo.hdf5``, from 1.0 to 1.5, as state episodes that generation can start from.

A demonstration is a sequence of simulator states. What they mean is read by setting each of them in the
model that it was recorded in and letting MuJoCo compute the poses.
"""

from __future__ import annotations

import hashlib
import logging
import re
from dataclasses import dataclass
from pathlib import Path
from typing import Any, NamedTuple

import h5py
import numpy as np
from scipy.spatial.transform import Rotation

from simreal_datasets.making.robosuite_file import group, model_xml, numbers, world_args
from simreal_datasets.making.robosuite_model import Scene, recorded_scene
from simreal_datasets.store.episode import DatagenInfo, Episode
from simreal_envs.errors import DataError
from simreal_envs.features import ObservationSpec, WorldSpec
from simreal_envs.poses import actions_from_poses
from simreal_envs.spec import OBJECT_KEY
from simreal_envs.tasks import Task, get_task, tasks_with
from simreal_envs.tasks.placement import placement_of
from simreal_envs.tasks.progress import Progress

SHOWN = ObservationSpec(("state",))

logger = logging.getLogger(__name__)


class Demonstrations(NamedTuple):
    """The demonstrations of a file that can be read, and for each of the others the reason why not."""

    episodes: list[Episode]
    left_out: list[str]


def import_demonstrations(path: Path | str, task_name: str | None = None) -> list[Episode]:
    """What :func:`read_demonstrations` finds; warns of demonstrations that are left out."""
    found = read_demonstrations(path, task_name)
    for reason in found.left_out:
        logger.warning("Not imported: %s", reason)
    return found.episodes


def read_demonstrations(path: Path | str, task_name: str | None = None) -> Demonstrations:
    """Every demonstration of a robosuite ``demo.hdf5``, in the order of their numbers, judged one by one.

    The frame is ours, with the origin on the table top. robosuite mounts its Panda 11 cm higher, so
    ``robot0_joint_pos`` are the joints of that arm while ``robot0_eef_pos`` and the objects keep their true
    heights over the table.

    In another scene than the task's own, bodies stand for the task's objects (:class:`HumanScene`), and only
    the steps that belong to the task are kept, see :func:`_part`. ``states`` are those of the model in which
    they were recorded; no world of ours can show them.

    The action of a step is the pose that the end effector had reached at the next one, with the gripper
    command of the step: what the recorded action asked for depends on a controller that is not here.

    Args:
        task_name: refuse the file unless it holds this task; None takes the task from the file.

    Raises:
        DataError: the file is missing or of another kind, or none of its demonstrations can be read; the
            message says what.
        UsageError: unknown task.
    """
    path = Path(path)
    wanted = None if task_name is None else get_task(task_name)
    if not path.is_file():
        raise DataError(
            f"Demonstration file {path} does not exist. By name there are: "
            f"{', '.join(tasks_with('human_demonstrations'))}."
        )
    try:
        with h5py.File(path, "r", locking=False) as file:
            found = _read_all(file, path, wanted)
    except OSError as error:
        raise DataError(f"{path} cannot be read as HDF5: {error}") from error
    if not found.episodes:
        reasons = "; ".join(found.left_out)
        raise DataError(reasons or f"{path} holds no demonstrations under 'data'.")
    return found


def _read_all(file: h5py.File, path: Path, wanted: Task | None) -> Demonstrations:
    try:
        data = group(file, "data")
    except DataError as error:
        raise DataError(f"{path} holds no group 'data', as a robosuite demo.hdf5 has: {error}.") from error
    world = world_args(data, path)
    task = _task_of(world["env_name"])
    if wanted is not None and task.name != wanted.name:
        raise DataError(f"{path} holds {task.name} demonstrations, not {wanted.name}.")
    digest = hashlib.sha256(path.read_bytes()).hexdigest()[:16]
    found = Demonstrations([], [])
    for key in sorted(data, key=_number):
        where = f"{path}, {key}"
        try:
            episode = _import_one(group(data, key), world["env_name"], task, path.parent, where)
        except DataError as error:
            found.left_out.append(f"{where}: {error}")
            continue
        episode.meta["origin"] |= {"file": path.name, "demo": key, "sha256": digest}
        episode.meta["versions"] = {"robosuite": world["version"]}
        found.episodes.append(episode)
    return found


def _task_of(env_name: str) -> Task:
    """The task that is done in a robosuite scene; MimicGen's names tell a variant too, as in ``Stack_D0``."""
    name = env_name.split("_")[0]
    for task in map(get_task, tasks_with("human_scene")):
        if task.human_scene and name in task.human_scene.envs:
            return task
    return get_task(name)


def _import_one(demo: h5py.Group, env_name: str, task: Task, folder: Path, where: str) -> Episode:
    states, actions = numbers(demo, "states"), numbers(demo, "actions")
    if len(states) == len(actions) + 1:  # the state that the last action led to
        states = states[:-1]
    if len(states) != len(actions) or len(states) < 2:
        raise DataError(f"{len(states)} states and {len(actions)} actions; needed are as many, and two.")
    xml = model_xml(demo, task.human_scene.envs[0] if task.human_scene else task.name, folder, where)
    scene = recorded_scene(xml, task)
    expected = 1 + scene.physics.model.nq + scene.physics.model.nv
    if states.shape[1] != expected:
        raise DataError(f"a state has {states.shape[1]} numbers; its model's has {expected}.")
    track = _replay(scene, task, states)
    part = _part(track, task)
    gripper = np.clip(actions[part, -1], -1.0, 1.0)
    episode = _episode(track.steps(part), task, states[part], gripper, xml)
    episode.meta["origin"] = {"scene": env_name, "steps": [part.start, part.stop]}
    return episode


@dataclass(frozen=True)
class _Track:
    """What the T states of a demonstration show; poses are (T, 4, 4) in the base frame.

    Attributes:
        elsewhere: (T,) whether the hand holds what is none of the task's objects.
    """

    hand: np.ndarray
    joints_rad: np.ndarray
    fingers_m: np.ndarray
    objects: dict[str, np.ndarray]
    signals: dict[str, np.ndarray]
    elsewhere: np.ndarray

    def steps(self, part: slice) -> _Track:
        """Some of the steps."""
        return _Track(
            self.hand[part],
            self.joints_rad[part],
            self.fingers_m[part],
            {name: poses[part] for name, poses in self.objects.items()},
            {stage: values[part] for stage, values in self.signals.items()},
            self.elsewhere[part],
        )


def _part(track: _Track, task: Task) -> slice:
    """The steps that belong to the task, in a scene where other things are handled too.

    Between letting go of another thing and reaching for the task's, the hand goes away from the one and then
    comes down to the other. The part begins where it is highest. It ends with the demonstration, or when the
    task is done if other things are handled after that.
    """
    done = np.flatnonzero(track.signals[task.stages[-1]])
    end = int(done[0]) + 1 if len(done) else len(track.hand)
    before, after = np.flatnonzero(track.elsewhere[:end]), track.elsewhere[end:]
    start = 0
    if len(before):
        let_go = int(before[-1]) + 1
        if not track.signals[task.stages[0]][let_go:end].any():
            raise DataError(
                f"it ends before {task.name} is begun: no stage is reached after other things are let go"
            )
        reached = let_go + int(np.argmax(track.signals[task.stages[0]][let_go:end]))
        start = let_go + int(np.argmax(track.hand[let_go : max(reached, let_go + 1), 2, 3]))
    return slice(start, end if after.any() else len(track.hand))


def _replay(scene: Scene, task: Task, states: np.ndarray) -> _Track:
    """Read poses, proprioception and stages from every state."""
    physics, others = scene
    hand, joints, fingers, elsewhere = [], [], [], []
    objects: dict[str, list[np.ndarray]] = {name: [] for name in task.objects}
    signals: dict[str, list[bool]] = {stage: [] for stage in task.stages}
    for state in states:
        physics.set_state(state)
        hand.append(physics.end_effector_pose_in_base())
        joints.append(physics.joint_positions_rad.copy())
        fingers.append(physics.finger_positions_m.copy())
        for name in task.objects:
            objects[name].append(physics.object_pose_in_base(name))
        for stage, now in task.human_stages_reached(physics).items():
            signals[stage].append(now)
        elsewhere.append(any(physics.is_grasped(other) for other in others))
    return _Track(
        np.stack(hand),
        np.stack(joints),
        np.stack(fingers),
        {name: np.stack(poses) for name, poses in objects.items()},
        {stage: np.array(values, dtype=np.int64) for stage, values in signals.items()},
        np.array(elsewhere, dtype=bool),
    )


def _episode(track: _Track, task: Task, states: np.ndarray, gripper: np.ndarray, xml: str) -> Episode:
    target = np.concatenate([track.hand[1:], track.hand[-1:]])
    objects = [part for pose in track.objects.values() for part in (pose[:, :3, 3], _quaternions_xyzw(pose))]
    return Episode(
        observations={
            "robot0_eef_pos": track.hand[:, :3, 3].astype(np.float32),
            "robot0_eef_quat": _quaternions_xyzw(track.hand),
            "robot0_joint_pos": track.joints_rad.astype(np.float32),
            "robot0_gripper_qpos": track.fingers_m.astype(np.float32),
            OBJECT_KEY: np.concatenate(objects, axis=1).astype(np.float32),
        },
        actions=actions_from_poses(target, gripper),
        rewards=_after_each_action(track.signals[task.stages[-1]]),
        dones=np.arange(len(states)) == len(states) - 1,
        meta=_meta(track, task),
        states=states,
        model_xml=xml,
        datagen=DatagenInfo(
            eef_pose=track.hand,
            object_poses=track.objects,
            subtask_term_signals=track.signals,
            target_pose=target,
            gripper_action=gripper[:, None],
        ),
    )


def _after_each_action(signal: np.ndarray) -> np.ndarray:
    """Shift what each state shows to the action that led to it: a reward (T,) belongs to that action.

    The state after the last action is not in the file; the last stored state stands for it.
    """
    return np.r_[signal[1:], signal[-1:]].astype(np.float64)


def _meta(track: _Track, task: Task) -> dict[str, Any]:
    progress = Progress(task.stages)
    progress.update({stage: bool(values.any()) for stage, values in track.signals.items()})
    return {
        **WorldSpec(task.name, "pose", SHOWN.features(len(task.objects))).to_json(),
        "env": "robosuite",
        "shift": "none",
        "region": "all",
        "cameras": {},
        "seed": None,
        "actor": "human",
        **progress.to_json(),
        "placement_region": task.region_of(
            placement_of(task, {name: poses[0] for name, poses in track.objects.items()})
        ),
    }


def _quaternions_xyzw(poses: np.ndarray) -> np.ndarray:
    """(T, 4) float32 with w >= 0."""
    return Rotation.from_matrix(poses[:, :3, :3]).as_quat(canonical=True).astype(np.float32)


def _number(key: str) -> tuple[int, str]:
    """For sorting: demo_2 comes before demo_10."""
    digits = re.sub(r"[^0-9]", "", key).lstrip("0")
    return len(digits), digits
