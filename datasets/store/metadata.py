"""An episode's metadata: the description of its world, and how the episode ended."""

from __future__ import annotations

from typing import Any, Literal

from simreal_envs.cameras import CameraSpec
from simreal_envs.errors import DataError, UsageError
from simreal_envs.features import DEFAULT_IMAGE_SIZE, ObservationSpec, WorldSpec
from simreal_envs.spec import CONTROL_HZ
from simreal_envs.tasks import get_task

FORMAT_VERSION = 2

_META_TYPES: dict[str, tuple[type, ...]] = {
    "env": (str,), "shift": (str,), "region": (str,), "cameras": (dict,), "seed": (int,), "actor": (str,),
    "success": (bool,), "stage": (str,), "stages_reached": (int,), "placement_region": (str,),
    "interrupted": (str,), "events": (list,), "versions": (dict,), "origin": (dict,),
    "format_version": (int,),
}  # fmt: skip
"""Of the metadata that simreal reads besides its :class:`WorldSpec`; null stands for what nobody knows."""


def read_meta(values: Any) -> dict[str, Any]:
    """Convert stored metadata of an episode to today's format.

    Raises:
        DataError: they cannot be an episode's metadata; names the key and its value.
    """
    if not isinstance(values, dict):
        raise DataError(f"its metadata are {values!r:.40}, not names and values")
    meta = _from_version_1(values) if values.get("format_version") == 1 else values
    check_meta(meta)
    return meta


def check_meta(meta: dict[str, Any]) -> WorldSpec:
    """The spec of the episode's world; a DataError names the key if the metadata cannot be an episode's."""
    spec = WorldSpec.from_json(meta)
    if spec.history != 1:
        raise DataError(f"its history is {spec.history}; an episode holds each moment once")
    known = {key: meta[key] for key in _META_TYPES if meta.get(key) is not None}
    if "shift" in meta:  # which everybody reads
        known["shift"] = meta["shift"]
    for key, value in known.items():
        if not isinstance(value, _META_TYPES[key]):
            valid = " or ".join(kind.__name__ for kind in _META_TYPES[key])
            raise DataError(f"its {key} is {value!r:.40}, not a {valid}")
    for name, camera in (meta.get("cameras") or {}).items():
        _check_camera(name, camera)
    return spec


def _from_version_1(meta: dict[str, Any]) -> dict[str, Any]:
    """Version 1 named groups of observations and one camera, where version 2 has features and cameras."""
    meta = dict(meta)
    try:
        groups, size = tuple(meta.pop("obs")), meta.pop("image_size")
        if "source" in meta:  # which is the word for a domain
            meta["origin"] = meta.pop("source")
        camera = meta.pop("camera", None)
        objects = len(get_task(meta["task"]).objects)
    except (KeyError, TypeError) as error:
        raise DataError(f"its metadata of format version 1 lack {error}") from error
    except UsageError as error:
        raise DataError(f"its task cannot be read: {error}") from error
    shown = ObservationSpec(groups, tuple(size or DEFAULT_IMAGE_SIZE))
    spec = WorldSpec(meta["task"], meta.get("action_kind", ""), shown.features(objects))
    return (
        meta
        | {"control_hz": meta.get("control_hz", CONTROL_HZ), "history": 1}
        | {"features": spec.to_json()["features"], "cameras": {"agentview": camera} if camera else {}}
        | {"format_version": FORMAT_VERSION}
    )


def _check_camera(name: str, values: dict[str, Any]) -> None:
    try:
        camera = CameraSpec.from_json(name, values)
        shapes = camera.intrinsics.shape, camera.pose_in_mount.shape
    except (KeyError, ValueError, TypeError) as error:
        raise DataError(f"its camera {name} lacks {error}") from error
    if shapes != ((3, 3), (4, 4)):
        raise DataError(f"its camera {name} has matrices {shapes}, not (3, 3) and (4, 4)")


Ending = Literal["success", "failed", "interrupted"]


def how_it_ended(meta: dict[str, Any]) -> Ending:
    """How an episode ended, by its metadata; one that is not marked as a success counts as failed."""
    if meta.get("interrupted"):
        return "interrupted"
    return "success" if meta.get("success") else "failed"
