"""How the 1 kHz loops get the processor first."""

from __future__ import annotations

import ctypes
import os
import platform
import struct
import subprocess
import sys

import pytest

from simreal_envs.scheduling import SLICE_NS

UNPRIVILEGED = """
import os
def refuse(*_): raise PermissionError
os.sched_setscheduler = refuse
os.nice(3)
from simreal_envs.scheduling import run_first
print(run_first(1), flush=True)
input()
"""


def scheduled(pid: int) -> tuple[int, int, int]:
    """(policy, nice, slice in ns) of a process, by ``sched_getattr(2)``."""
    attributes = ctypes.create_string_buffer(48)
    number = {"x86_64": 315, "aarch64": 275}[platform.machine()]
    assert ctypes.CDLL(None).syscall(number, pid, attributes, 48, 0) == 0
    _, policy, _, nice, _, slice_ns, _, _ = struct.unpack("IIQiIQQQ", attributes.raw)
    return policy, nice, slice_ns


def test_without_permission_a_loop_stays_ordinary_and_asks_for_short_slices() -> None:
    if tuple(int(part) for part in platform.release().split(".")[:2]) < (6, 12):
        pytest.skip("Linux before 6.12 has one slice for all")
    before = scheduled(os.getpid())
    with subprocess.Popen(
        [sys.executable, "-c", UNPRIVILEGED], stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True
    ) as process:
        assert process.stdout is not None
        assert process.stdout.readline() == "False\n"
        assert scheduled(process.pid) == (os.SCHED_OTHER, before[1] + 3, SLICE_NS)
        process.communicate("\n")
    assert before[2] != SLICE_NS
