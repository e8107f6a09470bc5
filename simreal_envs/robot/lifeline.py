"""Ends a process together with the one that started it, even while it waits inside a C++ library."""

from __future__ import annotations

import ctypes
import signal

_PR_SET_PDEATHSIG = 1


def die_with_parent(on: bool = True) -> None:
    """Have the kernel kill this process when the thread that started it ends (Linux's ``prctl(2)``)."""
    if ctypes.CDLL(None, use_errno=True).prctl(_PR_SET_PDEATHSIG, signal.SIGKILL if on else 0) != 0:
        raise OSError(ctypes.get_errno(), "prctl failed")
