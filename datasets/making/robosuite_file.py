"""Reads the layout of robosuite's ``demo.hdf5``, from 1.0 to 1.5, whichever types it was written with."""

from __future__ import annotations

import json
import logging
from pathlib import Path
from typing import Any

import h5py
import numpy as np

from simreal_datasets.store.episode import NOT_AS_EXPECTED, text
from simreal_envs.errors import DataError
from simreal_envs.spec import CONTROL_HZ

logger = logging.getLogger(__name__)


def world_args(data: h5py.Group, path: Path) -> dict[str, Any]:
    """Environment name and version from any of the places where robosuite has put them."""
    args: dict[str, Any] = {}
    for name in ("env_info", "env_args"):
        said = attribute(data, name, f"{path}: attribute {name!r} of 'data'") or "{}"
        try:
            args |= _mapping(json.loads(said))
        except (ValueError, TypeError, RecursionError) as error:
            raise DataError(f"{path}: attribute {name} of 'data' is not JSON: {error}") from error
    env_name = attribute(data, "env", f"{path}: attribute 'env' of 'data'") or args.get("env_name")
    if not env_name:
        raise DataError(
            f"{path}: 'data' has none of the attributes env, env_info, env_args: which task is it?"
        )
    try:
        kwargs = args if args.get("env_kwargs") is None else _mapping(args["env_kwargs"])
    except TypeError as error:
        raise DataError(f"{path}: env_kwargs of 'data': {error}") from error
    robots = "Panda" if kwargs.get("robots") is None else kwargs["robots"]
    if robots not in ("Panda", ["Panda"]):
        raise DataError(f"{path} was recorded with {robots}; only one Panda can be read.")
    hz = CONTROL_HZ if kwargs.get("control_freq") is None else kwargs["control_freq"]
    if hz != CONTROL_HZ:
        raise DataError(f"{path} was recorded at {hz} Hz; only {CONTROL_HZ} Hz can be read.")
    version = attribute(data, "repository_version", f"{path}: attribute 'repository_version' of 'data'")
    return {"env_name": str(env_name), "version": str(version or args.get("env_version") or "unknown")}


def _mapping(value: Any) -> dict[str, Any]:
    if not isinstance(value, dict):
        raise TypeError(f"names and values are expected, and not {value!r:.40}")
    return value


def attribute(owner: h5py.Group, name: str, what: str) -> str:
    """An attribute that holds text; empty if it is not there, or null.

    Raises:
        DataError: it holds something else.
    """
    try:
        value = owner.attrs.get(name)
        return "" if value is None or isinstance(value, h5py.Empty) else text(value)
    except (OSError, *NOT_AS_EXPECTED) as error:
        raise DataError(f"{what} cannot be read: {error}") from error


def model_xml(demo: h5py.Group, env_name: str, folder: Path, where: str) -> str:
    """The stored model's XML, or that of the file which is named instead; else today's robosuite's."""
    stored = attribute(demo, "model_file", "attribute 'model_file'")
    if stored.lstrip().startswith("<"):
        return stored
    try:
        for candidate in (folder / stored, folder / "models" / stored):
            if stored and candidate.is_file():
                return candidate.read_text()
    except (OSError, ValueError) as error:
        raise DataError(f"its model {stored!r:.40} cannot be read: {error}") from error
    logging.getLogger("robosuite_logs").setLevel(logging.ERROR)
    import robosuite

    logger.warning(
        "%s: its model %r is not there; reading it with robosuite %s", where, stored, robosuite.__version__
    )
    env = robosuite.make(
        env_name, robots="Panda", has_renderer=False, has_offscreen_renderer=False, use_camera_obs=False
    )
    try:
        return str(env.sim.model.get_xml())
    finally:
        env.close()


def group(parent: h5py.Group, name: str) -> h5py.Group:
    """A group of that name.

    Raises:
        DataError: there is none, or something else, or a link that leads to none.
    """
    try:
        found = parent[name]
    except (OSError, *NOT_AS_EXPECTED) as error:
        raise DataError(f"it is not there, or a link that leads nowhere ({error})") from error
    if not isinstance(found, h5py.Group):
        raise DataError(f"it is no group but a {type(found).__name__}")
    return found


def numbers(demo: h5py.Group, name: str) -> np.ndarray:
    """A table (T, n) of finite numbers as float64."""
    try:
        if name not in demo:
            raise DataError(f"dataset {name!r} is missing; it has {', '.join(demo) or 'none'}.")
        stored = demo[name]
        if not isinstance(stored, h5py.Dataset):
            raise DataError(f"{name!r} is no dataset but a {type(stored).__name__}.")
        if len(stored.shape or ()) != 2 or 0 in stored.shape or stored.dtype.kind not in "buif":
            raise DataError(
                f"dataset {name!r} is {stored.dtype} {stored.shape}; needed are numbers, some each step."
            )
        values = stored[()].astype(np.float64)
    except (OSError, *NOT_AS_EXPECTED) as error:
        raise DataError(f"dataset {name!r} cannot be read: {error}") from error
    if not np.isfinite(values).all():
        step = int(np.flatnonzero(~np.isfinite(values).all(axis=1))[0])
        raise DataError(f"{name!r} are not finite from step {step} on.")
    return values
