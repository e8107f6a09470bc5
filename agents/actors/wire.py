"""Messages between a policy server and its clients: msgpack, with arrays of a few fixed dtypes.

A message is a map with the key ``type``, in one binary websocket message:

* server, at once: ``hello`` with ``protocol``, ``simreal`` (its version), ``identity`` of the policy,
  ``world`` (:class:`WorldSpec` as JSON: what the policy reads and how it acts), ``predict`` and ``execute``
* client: ``face`` with ``sights``, a list of :class:`~simreal_agents.policies.facing.Sight` as JSON
* server: ``ready``
* client: ``predict`` with ``observation``, arrays (B, ...) by name, and ``deterministic``
* server: ``chunks`` with ``actions`` (B, H, A) float32
* server, instead of an answer: ``error`` with ``message`` and ``kind``, a class of :mod:`simreal_envs.errors`
"""

from __future__ import annotations

import logging
import math
from typing import Any

import msgpack
import numpy as np

from simreal_envs.errors import DataError

PROTOCOL = 1
"""Raised when messages change, so that each side can refuse the other."""
MAX_BYTES = 64 * 2**20
"""Of one message: some hundred observations of images."""
TOKEN_VARIABLE = "SIMREAL_TOKEN"
LOG = logging.getLogger("simreal.websocket")
"""Of websockets, whose debugging messages would show the token."""
LOG.setLevel(logging.INFO)
ARRAY = 1
"""Number of the msgpack extension type for arrays: name of the dtype, shape, bytes in C order."""
DTYPES = {"uint8": np.dtype("|u1"), "float32": np.dtype("<f4")}
"""Nothing else is read, above all no objects, which could only be pickled."""


def packed(message: dict[str, Any]) -> bytes:
    """The bytes of a message."""
    return msgpack.packb(message, default=_array_to_ext)


def unpacked(data: bytes | str) -> dict[str, Any]:
    """The message of some bytes, which may come from anybody.

    Raises:
        DataError: they are no message.
    """
    if isinstance(data, str):
        raise DataError("it is text, not msgpack")
    try:
        message = msgpack.unpackb(data, ext_hook=_array_from_ext)
    except (ValueError, TypeError, OverflowError, msgpack.UnpackException) as error:
        raise DataError(f"it is not msgpack ({error or type(error).__name__})") from error
    if not isinstance(message, dict) or not isinstance(message.get("type"), str):
        raise DataError("it is no map with a type")
    return message


def _array_to_ext(value: Any) -> msgpack.ExtType:
    if not isinstance(value, np.ndarray) or value.dtype.name not in DTYPES:
        raise TypeError(f"{type(value).__name__} cannot be sent")
    name = value.dtype.name
    values = value.astype(DTYPES[name], copy=False).tobytes()  # in C order, whatever the array's own
    return msgpack.ExtType(ARRAY, msgpack.packb((name, value.shape, values)))


def _array_from_ext(code: int, data: bytes) -> np.ndarray:
    if code != ARRAY:
        raise ValueError(f"extension type {code} is unknown")
    name, shape, values = msgpack.unpackb(data)
    if name not in DTYPES:
        raise ValueError(f"an array has dtype {name!r:.40}; valid are {', '.join(DTYPES)}")
    dtype = DTYPES[name]
    if not all(type(n) is int and n >= 0 for n in shape) or not isinstance(values, bytes):
        raise ValueError(f"an array has shape {shape!r:.40}")
    if math.prod(shape) * dtype.itemsize != len(values):
        raise ValueError(f"an array of shape {shape} and dtype {name} has {len(values)} bytes")
    return np.frombuffer(values, dtype).reshape(shape).copy()  # torch wants to own what it computes with
