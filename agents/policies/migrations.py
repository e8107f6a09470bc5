"""What configurations and checkpoints of earlier formats mean.

A configuration is complete when it is written, in ``config.json`` and in each checkpoint's ``state.json``,
with its format version. A new key of the configuration, or of an encoder's or head's ``Settings``, needs an
entry in :data:`MEANT_BEFORE` too: what runs did before the key existed, which is seldom the new default. Any
other missing key is an error.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from torch import Tensor

from simreal_agents.policies.config import TrainConfig
from simreal_agents.policies.methods import METHODS, method_that_aligns_by
from simreal_agents.policies.overrides import flatten
from simreal_agents.policies.rl_config import is_rl
from simreal_envs.errors import DataError, UsageError
from simreal_envs.features import ObservationSpec, WorldSpec
from simreal_envs.spec import check_choice

FORMAT_VERSION = 7
"""Of configurations and checkpoints. It rises when a key is added or renamed after a release."""
READABLE = (3, 4, 5, 6, 7)

MEANT_BEFORE: Mapping[int, Mapping[str, Any]] = {
    4: {
        "pairing.path": "executed",  # where the hand went, as published
        "data.source_episodes": "all",
        "data.target_episodes": "all",
    },
    5: {  # policies read the image of one camera only
        "observation.obs": "image",
        "observation.cameras": "agentview",
        "observation.points": None,
        "observation.history": 1,
        "encoder.kind": "cnn",
        "encoder.points_kind": "pointnet",
        "alignment.projection": 0,
    },
    7: {
        "encoder.crop": 1.0,
        "optim.ema_power": 0.0,
        "data.validation_demos": 0,  # nothing was held out
        "data.source_validation": "rest",
        "data.target_validation": "rest",
        "finetune.share": 0.25,
        "finetune.learning_rate_factor": 0.1,
        "encoder.cloud.frame": "table",
        "encoder.cloud.unit_m": 0.2,
        "encoder.cloud.every": 1,
        "encoder.points.project": 0,
    },
}
"""For each format version its new keys, and the value that a configuration without the key meant. Some keys
were added before the version number rose. A key has the name that its version gave it."""
ONLY_OF_KIND: Mapping[str, str] = {"encoder.points.project": "pointnet"}
"""Keys of them that their section has with this kind alone."""

_ALL = ("weight", "warmup_updates", "normalize_features", "projection")
_PLANS = (*_ALL, "feature_cost", "label_cost", "label", "path_steps", "epsilon")
_SOLVED = (*_PLANS, "solver", "max_iterations", "tolerance")
ALIGNED_BY: Mapping[str, tuple[str, ...]] = {
    "none": (), "mmd": (*_ALL, "mmd_kernel"), "diagonal": (*_PLANS, "tau"), "ot": _SOLVED,
    "uot": (*_SOLVED, "tau"),
}  # fmt: skip
"""Up to format 5 all alignments shared one set of keys; these are the keys that each alignment read."""


def read_config(values: Mapping[str, Any], version: object, where: str) -> TrainConfig:
    """A configuration that was stored with a run.

    Args:
        values: as :meth:`TrainConfig.to_dict` gave them.
        version: the format version they were stored with.
        where: the file, for errors.

    Raises:
        DataError: a format version that cannot be read, a key that is missing and that nothing above speaks
            of, one that does not exist, or a value that does not fit; names them and the file.
            Or it is an agent's.
    """
    if is_rl(values):
        raise DataError(
            f"{where} is of an agent that learnt by trial (--algo), not of a policy trained from "
            "demonstrations."
        )
    if version not in READABLE or not isinstance(version, int):
        raise DataError(
            f"{where} has format version {version!r}; this simreal reads {' and '.join(map(str, READABLE))}."
        )
    later = [meant for since, meant in MEANT_BEFORE.items() if since > version]
    stored = {key: value for meant in later for key, value in meant.items()} | dict(flatten(values))
    try:
        if version < 6:
            stored = by_kind(stored)
        if version < 7:
            stored = named_by_what_they_do(stored)
        for key, kind in ONLY_OF_KIND.items():
            if stored.get(f"{key.rpartition('.')[0]}.kind", kind) != kind:
                stored.pop(key, None)
        return TrainConfig.from_dict(stored)
    except UsageError as error:
        raise DataError(
            f"{where} was written by another version, needs a package that is not installed, or is damaged: "
            f"{error}"
        ) from error


def by_kind(stored: Mapping[str, Any]) -> dict[str, Any]:
    """Turn keys of format 5 into those of the chosen kinds; keys that these kinds do not have are dropped.

    Raises:
        UsageError: there is no such method.
    """
    image, points, head, kind = (
        stored.get(f"{key}kind") for key in ("encoder.", "encoder.points_", "head.", "alignment.")
    )
    if kind == "auto":  # what the method says
        method = stored.get("method")
        kind = METHODS[check_choice("method", method, METHODS)].alignment if method else None
    became = {"encoder.kind": "encoder.image.kind", "encoder.points_kind": "encoder.points.kind"}
    for key in ("width", "stem_stride", "keypoints"):
        became[f"encoder.{key}"] = f"encoder.image.{key}" if image == "cnn" else ""
    became["head.hidden"] = "head.hidden" if head in ("mse", "flow") else ""
    became["head.flow_steps"] = "head.steps" if head == "flow" else ""
    for key in {*ALIGNED_BY["uot"], *ALIGNED_BY["mmd"]}:
        now = "kernel" if key == "mmd_kernel" else key
        became[f"alignment.{key}"] = f"alignment.{now}" if key in ALIGNED_BY.get(str(kind), ()) else ""
    new = {became.get(key, key): value for key, value in stored.items()}
    for key in ("", "alignment.kind"):
        new.pop(key, None)
    if kind is not None:
        new["alignment.kind"] = kind
    width = stored.get("encoder.width")
    if points == "pointnet" and isinstance(width, int):
        new["encoder.points.width"] = 2 * width
    return new


PAIRED_BY: Mapping[str, str] = {"dtw": "temporal", "random": "none"}
"""Up to format 6 the kinds of pairing had these names."""


def named_by_what_they_do(stored: Mapping[str, Any]) -> dict[str, Any]:
    """Give a configuration of format 6 the method that it was trained by, and its pairing today's name.

    Up to format 6 the kind of alignment could differ from the method's.
    """
    new = dict(stored)
    paired, kind = (str(stored.get(key)) for key in ("pairing.kind", "alignment.kind"))
    if paired in PAIRED_BY:
        new["pairing.kind"] = PAIRED_BY[paired]
    method = METHODS.get(str(stored.get("method")))
    if method and method.alignment != kind and kind in ALIGNED_BY:
        new["method"] = method_that_aligns_by(kind)
    return new


def read_world(state: dict[str, Any]) -> dict[str, Any]:
    """The state of a checkpoint with its world and its cameras as today's format has them.

    Raises:
        DataError: of an earlier format, and without the keys that this had.
    """
    if state["format_version"] >= 5:
        return state
    world = state["world"]
    if missing := [f"world.{key}" for key in ("task", "action_kind", "image_size") if key not in world]:
        raise DataError(f"lacks {', '.join(missing)}")
    height, width = world["image_size"]
    read = {*state["config"].get("head", {}).get("proprioception", ()), "robot0_eef_pos", "agentview_image"}
    shown = ObservationSpec(("image",), (height, width)).features(1)
    spec = WorldSpec(world["task"], world["action_kind"], tuple(f for f in shown if f.key in read))
    cameras = {domain: {"agentview": camera} for domain, camera in state["cameras"].items()}
    return state | {"world": spec.to_json(), "cameras": cameras}


def renamed(tensors: Mapping[str, Tensor], version: int, prefix: str = "") -> dict[str, Tensor]:
    """Weights of a checkpoint of formats 3 and 4 by today's names; these had one encoder, of one image.

    Args:
        prefix: before the names of the network's weights.
    """
    if version >= 5:
        return dict(tensors)
    old, new = f"{prefix}encoder.", f"{prefix}encoder.agentview_image."
    named = {}
    for name, tensor in tensors.items():
        if name.startswith(old):
            rest = name.removeprefix(old)
            name = new + (f"encoder.{rest}" if rest.startswith(("maps.", "detectors.")) else rest)
        named[name] = tensor
    return named
