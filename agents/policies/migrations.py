"""What configurations that were stored before a key existed mean by not holding it.

A configuration is complete when it is written, in ``config.json`` and in each checkpoint's ``state.json``,
with the format version of that moment. Whoever adds a key to :mod:`simreal_agents.policies.config` adds it to
:data:`MEANT_BEFORE` too, with what runs did before, which seldom is the new default. What is still missing is
an error.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from simreal_agents.policies.config import TrainConfig
from simreal_agents.policies.overrides import flatten
from simreal_envs.errors import DataError, UsageError

FORMAT_VERSION = 4
"""Of configurations and checkpoints. It rises when a key is added after a release."""
READABLE = (3, 4)

MEANT_BEFORE: Mapping[int, Mapping[str, Any]] = {
    4: {
        "pairing.path": "executed",  # where the hand went, as published
        "data.source_episodes": "all",
        "data.target_episodes": "all",
    },
}
"""The keys that came with each format version (some while the one before was still written), and what every
configuration that was stored without them meant."""


def read_config(values: Mapping[str, Any], version: object, where: str) -> TrainConfig:
    """A configuration that was stored with a run.

    Args:
        values: as :meth:`TrainConfig.to_dict` gave them.
        version: the format version they were stored with.
        where: the file, for errors.

    Raises:
        DataError: a format version that cannot be read, a key that is missing and that nothing above speaks
            of, one that does not exist, or a value that does not fit; names them and the file.
    """
    if version not in READABLE or not isinstance(version, int):
        raise DataError(
            f"{where} has format version {version!r}; this simreal reads {' and '.join(map(str, READABLE))}."
        )
    later = [meant for since, meant in MEANT_BEFORE.items() if since > version]
    stored = {key: value for meant in later for key, value in meant.items()} | dict(flatten(values))
    try:
        return TrainConfig.from_dict(stored)
    except UsageError as error:
        raise DataError(f"{where} was written by another version, or is damaged: {error}") from error
