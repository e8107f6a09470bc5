"""What is said of an episode beside its arrays: which kind it is, and how it ended."""

from __future__ import annotations

from typing import Any, Literal

from simreal_envs.cameras import Camera
from simreal_envs.errors import DataError, UsageError
from simreal_envs.shifts import parse_shift

FORMAT_VERSION = 1
IDENTITY_KEYS = ("task", "action_kind", "obs", "image_size")


def identity(meta: dict[str, Any]) -> dict[str, Any]:
    """What all episodes of a dataset must agree in; the size only where there are images."""
    found: dict[str, Any] = {key: meta[key] for key in IDENTITY_KEYS}
    found["obs"] = sorted(found["obs"])
    if not {"image", "depth"} & set(found["obs"]):
        found["image_size"] = None
    return found


_META_TYPES: dict[str, tuple[type, ...]] = {
    "task": (str,), "action_kind": (str,), "obs": (list,), "image_size": (list,), "env": (str,),
    "shift": (str,), "region": (str,), "camera": (dict,), "seed": (int,), "actor": (str,),
    "success": (bool,), "stage": (str,), "stages_reached": (int,), "placement_region": (str,),
    "interrupted": (str,), "events": (list,), "versions": (dict,), "source": (dict,),
    "control_hz": (int, float), "format_version": (int,),
}  # fmt: skip
"""Of the metadata that simreal reads; null stands for what nobody knows."""


def check_meta(meta: Any) -> None:
    """Refuse metadata that cannot be an episode's.

    Raises:
        DataError: names the key, and what it holds.
    """
    if not isinstance(meta, dict):
        raise DataError(f"its metadata are {meta!r:.40}, not names and values")
    if missing := [key for key in IDENTITY_KEYS if key not in meta]:
        raise DataError(f"its metadata lack {', '.join(missing)}")
    known = {key: value for key, value in meta.items() if key in _META_TYPES and value is not None}
    known |= {key: meta[key] for key in ("task", "action_kind", "obs", "shift") if key in meta}
    for key, value in known.items():
        if not isinstance(value, _META_TYPES[key]):
            valid = " or ".join(kind.__name__ for kind in _META_TYPES[key])
            raise DataError(f"its {key} is {value!r:.40}, not a {valid}")
    if not all(isinstance(group, str) for group in meta["obs"]):
        raise DataError(f"its obs are {meta['obs']!r:.40}, not names")
    size = meta["image_size"]
    if size is not None and not (len(size) == 2 and all(type(pixels) is int for pixels in size)):
        raise DataError(f"its image_size is {size!r:.40}, not [height, width]")
    try:
        parse_shift(meta.get("shift", "none"))
    except UsageError as error:
        raise DataError(f"its shift cannot be read: {error}") from error
    if meta.get("camera"):
        _check_camera(meta["camera"])


def _check_camera(values: dict[str, Any]) -> None:
    try:
        camera = Camera.from_json(values)
        shapes = camera.intrinsics.shape, camera.pose_in_base.shape
    except (KeyError, ValueError, TypeError) as error:
        raise DataError(f"its camera lacks {error}") from error
    if shapes != ((3, 3), (4, 4)):
        raise DataError(f"its camera has matrices {shapes}, not (3, 3) and (4, 4)")


Ending = Literal["success", "failed", "interrupted"]


def how_it_ended(meta: dict[str, Any]) -> Ending:
    """By an episode's metadata; one that is not marked as a success failed."""
    if meta.get("interrupted"):
        return "interrupted"
    return "success" if meta.get("success") else "failed"
