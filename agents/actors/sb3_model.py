"""Reads models of Stable-Baselines3 without running what is in them, and acts by them.

``model.save("model.zip")`` writes the weights, which torch loads as mere tensors, and ``data``: JSON in
which what JSON has not is pickled, beside a text that says what it was. Loading a pickle runs code, so only
JSON and texts are read here. They suffice for the policies that Stable-Baselines3 itself has.
"""

from __future__ import annotations

import io
import json
import re
import zipfile
from collections.abc import Mapping
from importlib import import_module
from pathlib import Path
from typing import Any

import gymnasium as gym
import numpy as np
import torch
from gymnasium import spaces
from numpy.typing import NDArray
from stable_baselines3.common.policies import BasePolicy

from simreal_agents.actors.rl_agent import load_network
from simreal_agents.policies.facing import check_world
from simreal_envs import spec
from simreal_envs.errors import DataError, UsageError
from simreal_envs.features import (
    CAMERAS,
    DEFAULT_CAMERAS,
    DEFAULT_IMAGE_SIZE,
    DEFAULT_POINTS,
    GROUPS,
    POINT_COLOUR_KEY,
    POINTS_KEY,
    Feature,
    ObservationSpec,
    WorldSpec,
)
from simreal_envs.loop import Observation
from simreal_envs.spec import check_choice
from simreal_envs.tasks import get_task

POLICY_MODULES = tuple(f"stable_baselines3.{name}.policies" for name in ("sac", "td3", "common"))
PART_MODULES = ("torch.nn.modules.activation", "stable_baselines3.common.torch_layers")
"""Modules whose classes a model may name: the policies, and the parts of policies."""

_BOX = re.compile(r"'(\w+)': Box\(([^,()]+), ([^,()]+), \(([\d, ]*)\), (\w+)\)")


class SB3Actor:
    """An actor (see :class:`simreal_envs.loop.Actor`) with a policy of Stable-Baselines3, which has no state.

    Attributes:
        spec: the worlds that it fits, and the arrays that it reads.
    """

    def __init__(self, network: Any, world: WorldSpec) -> None:
        self.network, self.spec = network, world
        self._names = list(world.space)
        self._flat = isinstance(network.observation_space, spaces.Box)

    def predict(
        self,
        observation: Observation,
        state: Any = None,
        episode_start: Any = None,
        deterministic: bool = True,
    ) -> tuple[NDArray[np.float32], None]:
        """The next action (A,), or actions (n, A) of a vector environment's observations.

        Raises:
            UsageError: an array is not there, of another shape or dtype than in training, or not finite.
        """
        count = spec.check_observation(observation, self.spec.space)
        seen: Any = {name: observation[name] for name in self._names}
        if self._flat:
            seen = np.concatenate(
                [v.reshape(*([] if count is None else [count]), -1) for v in seen.values()], -1
            )
        action, _ = self.network.predict(seen, deterministic=deterministic)
        box = spec.action_space(self.spec.action_kind)
        return np.clip(action, box.low, box.high).astype(np.float32), None

    def face(self, env: gym.Env[Any, Any]) -> None:
        """Refuse a world that the model is not for, by a DataError."""
        check_world(self.spec, env)


def read_model(file: Path, task: str) -> SB3Actor:
    """The policy of a model that was saved by Stable-Baselines3, for worlds of a task.

    Raises:
        DataError: the file is no such model, is damaged, or was trained for other observations or actions
            than our worlds have.
        UsageError: there is no such task, or the model has parts that only unpickling could restore.
    """
    get_task(task)
    data, weights = _read(file)
    try:
        network, world = _untrained(data, task, file)
    except (AttributeError, IndexError, KeyError, TypeError, AssertionError) as error:
        raise DataError(f"The description in {file} is none of Stable-Baselines3's: {error}") from error
    load_network(network, weights, file)
    return SB3Actor(network.eval(), world)


def _untrained(data: Mapping[str, Any], task: str, file: Path) -> tuple[Any, WorldSpec]:
    """A policy with the described spaces and layers, and the worlds that it is for."""
    actions = _box(data, "action_space", file)
    kind = next((k for k in spec.ACTION_KINDS if _alike(spec.action_space(k), actions)), None)
    if kind is None:
        raise DataError(
            f"{file} acts by {actions}, which is no action of ours: {', '.join(spec.ACTION_KINDS)}."
        )
    seen, world = _observations(data, task, kind, file)
    policy = _policy_class(data, file)
    return policy(seen, spec.action_space(kind), lambda remaining: 0.0, **_arguments(data, file)), world


def _read(file: Path) -> tuple[dict[str, Any], dict[str, Any]]:
    try:
        with zipfile.ZipFile(file) as archive:
            data = json.loads(archive.read("data"))
            content = io.BytesIO(archive.read("policy.pth"))
        weights = torch.load(content, map_location="cpu", weights_only=True)
    except (OSError, KeyError, ValueError, RuntimeError, zipfile.BadZipFile) as error:
        raise DataError(f"{file} is no model of Stable-Baselines3, or is damaged: {error}") from error
    except Exception as error:  # torch raises pickle.UnpicklingError for anything but tensors
        raise DataError(
            f"The weights in {file} hold more than tensors, which is not loaded: {error}"
        ) from error
    if not isinstance(data, dict) or not isinstance(weights, dict):
        raise DataError(f"{file} is no model of Stable-Baselines3: its data or its weights are no mapping.")
    return data, weights


def _policy_class(data: Mapping[str, Any], file: Path) -> Any:
    told = data["policy_class"]
    name = re.match(r"<function (\w+)\.__init__ ", str(told.get("__init__")))
    module = str(told.get("__module__"))
    if module not in POLICY_MODULES or name is None:
        raise _pickled(file, f"its policy is of {module}", POLICY_MODULES)
    return _class(module, name.group(1), BasePolicy)


def _class(module: str, name: str, base: type) -> type:
    """A class of a module; an AttributeError or TypeError if there is none that inherits ``base``."""
    found = getattr(import_module(module), name)
    if not issubclass(found, base):
        raise TypeError(f"{name} of {module} is no {base.__name__}")
    return found


def _arguments(data: Mapping[str, Any], file: Path) -> dict[str, Any]:
    """``policy_kwargs``, without those of the optimiser, which acting does not need."""
    arguments = {}
    for key, value in data["policy_kwargs"].items():
        if key.startswith((":", "optimizer_")):
            continue
        named = re.fullmatch(r"<class '([\w.]+)\.(\w+)'>", value) if isinstance(value, str) else None
        if named and named.group(1) in PART_MODULES:
            value = _class(named.group(1), named.group(2), torch.nn.Module)
        elif isinstance(value, str) and value.startswith(("<", "{", "[")):
            raise _pickled(file, f"its {key} is {value}", PART_MODULES)
        arguments[key] = value
    return arguments


def _pickled(file: Path, why: str, valid: tuple[str, ...]) -> UsageError:
    return UsageError(
        f"{file} cannot be read without unpickling, which would run code in it: {why}, and not of "
        f"{', '.join(valid)}. In Python, load it yourself and give simreal_agents.evaluation.play.evaluate a "
        "factory of it."
    )


def _box(data: Mapping[str, Any], key: str, file: Path) -> spaces.Box:
    """A stored Box whose bounds are few enough to be told in full."""
    told = data[key]
    try:
        bounds = [np.array(str(told[side]).strip("[]").split(), np.float64) for side in ("low", "high")]
        shape, dtype = tuple(told["_shape"]), np.dtype(told["dtype"])
        low, high = (b.astype(dtype).reshape(shape) for b in bounds)
        return spaces.Box(low, high, shape, dtype.type)
    except (KeyError, TypeError, ValueError, AttributeError) as error:
        raise DataError(f"The {key} of {file} is no Box of numbers: {str(told)[:80]}") from error


def _alike(own: spaces.Box, told: spaces.Box) -> bool:
    """Whether two Boxes are the same but for the digits that a text leaves out."""
    return own.shape == told.shape and bool(
        np.allclose(own.low, told.low, atol=1e-3) and np.allclose(own.high, told.high, atol=1e-3)
    )


def _observations(
    data: Mapping[str, Any], task: str, kind: str, file: Path
) -> tuple[spaces.Space[Any], WorldSpec]:
    """The space that the policy was made for, and the worlds that show it.

    SB3 turns images (H, W, 3) to (3, H, W), and its policies turn what they are given, too.
    """
    told = data["observation_space"]
    objects = len(get_task(task).objects)
    if "spaces" not in told:
        world = WorldSpec(task, kind, ObservationSpec(("state",)).features(objects))
        flat, size = _box(data, "observation_space", file), spaces.flatdim(world.space)
        if flat.shape != (size,):
            raise DataError(
                f"{file} reads numbers of shape {flat.shape}; those of {task} (proprioception and object, "
                f"flattened) are {size}. A model for single arrays must have been trained on a Dict."
            )
        return flat, world
    boxes = {name: rest for name, *rest in _BOX.findall(str(told["spaces"]))}
    shapes = {name: tuple(int(n) for n in rest[2].split(",") if n.strip()) for name, rest in boxes.items()}
    world = WorldSpec(task, kind, *_features(shapes, objects))
    for name, own in world.space.items():
        if sorted(own.shape or ()) != sorted(shapes[name]):
            raise DataError(f"{file} reads {name} of shape {shapes[name]}; that of {task} has {own.shape}.")
    told_boxes: dict[str, spaces.Space[Any]] = {
        name: spaces.Box(float(low), float(high), shapes[name], np.dtype(dtype).type)
        for name, (low, high, _, dtype) in boxes.items()
    }
    return spaces.Dict(told_boxes), world


def _features(shapes: Mapping[str, tuple[int, ...]], objects: int) -> tuple[tuple[Feature, ...], int]:
    """The features of these names, with the sizes that the shapes tell, and the length of the history.

    Raises:
        UsageError: no world of ours shows one of them.
    """
    hand = shapes.get("robot0_eef_pos", (3,))
    images = [
        shape[-2:] if name.endswith("_depth") or shape[0] == 3 else shape[-3:-1]
        for name, shape in shapes.items()
        if name.endswith(("_image", "_depth"))
    ]
    clouds = [shape[-2] for name, shape in shapes.items() if name in (POINTS_KEY, POINT_COLOUR_KEY)]
    shown = ObservationSpec.parse(
        GROUPS,
        images[0] if images else DEFAULT_IMAGE_SIZE,
        [name for name in CAMERAS if any(key.startswith(name) for key in shapes)] or DEFAULT_CAMERAS,
        clouds[0] if clouds else DEFAULT_POINTS,
        hand[0] if len(hand) == 2 else 1,
    )
    offered = {feature.key: feature for feature in shown.features(objects)}
    return tuple(offered[check_choice("observation", name, offered)] for name in shapes), shown.history
