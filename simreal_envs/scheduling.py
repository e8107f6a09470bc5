"""Gives a 1 kHz loop priority, so that it does not wait for other processes on its cores."""

from __future__ import annotations

import ctypes
import os
import platform
import struct

SLICE_NS = 100_000
"""The shortest slice that Linux grants. A thread with a shorter slice interrupts the running one."""
_SCHED_SETATTR = {"x86_64": 314, "aarch64": 274}
"""Number of the system call, which Python does not offer."""
_SIZE = 48
"""Bytes of the first version of the kernel's ``struct sched_attr``."""


def run_first(priority: int) -> bool:
    """Have this thread, and what it starts from now on, run before ordinary ones.

    If permitted, it runs in real time (``SCHED_FIFO``). Otherwise it stays an ordinary thread that asks for
    short time slices, with which Linux from 6.12 on lets it interrupt others as soon as it wakes.

    Args:
        priority: of 1 to 99, among real-time threads.

    Returns:
        Whether it runs in real time.
    """
    try:
        os.sched_setscheduler(0, os.SCHED_FIFO, os.sched_param(priority))
    except PermissionError:
        _ask_for_short_slices()
        return False
    return True


def _ask_for_short_slices() -> None:
    """``sched_setattr(2)``; an older kernel does nothing on it."""
    call = _SCHED_SETATTR.get(platform.machine())
    if call is not None:
        nice = os.getpriority(os.PRIO_PROCESS, 0)
        flags = priority = deadline_ns = period_ns = 0
        attributes = struct.pack(
            "IIQiIQQQ", _SIZE, os.SCHED_OTHER, flags, nice, priority, SLICE_NS, deadline_ns, period_ns
        )
        ctypes.CDLL(None).syscall(call, 0, attributes, 0)
