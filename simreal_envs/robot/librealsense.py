"""The one place that imports pyrealsense2."""

from __future__ import annotations

import ctypes
from functools import cache
from typing import Any

from simreal_envs.errors import MissingDependencyError


@cache
def librealsense() -> Any:
    """The module ``pyrealsense2``, after the libusb that it looks for.

    Raises:
        MissingDependencyError: it is not installed, or does not load.
    """
    try:
        import libusb_package

        ctypes.CDLL(str(libusb_package.get_library_path()), mode=ctypes.RTLD_GLOBAL)
        import pyrealsense2
    except (ImportError, OSError) as error:
        raise MissingDependencyError(
            f"The camera needs librealsense ({error}): pip install 'simreal[real]'"
        ) from error
    return pyrealsense2
