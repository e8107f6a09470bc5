"""Where simreal keeps what is not the user's data."""

from __future__ import annotations

import os
from pathlib import Path


def cache_dir() -> Path:
    """``$SIMREAL_CACHE``, or ``simreal`` in the user's cache folder (``$XDG_CACHE_HOME`` or ``~/.cache``)."""
    if chosen := os.environ.get("SIMREAL_CACHE"):
        return Path(chosen).expanduser()
    return Path(os.environ.get("XDG_CACHE_HOME") or Path.home() / ".cache") / "simreal"


def config_dir() -> Path:
    """``$SIMREAL_CONFIG``, or ``~/.config/simreal``: calibrations."""
    return Path(os.environ.get("SIMREAL_CONFIG") or Path.home() / ".config" / "simreal").expanduser()
