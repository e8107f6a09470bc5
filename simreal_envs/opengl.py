"""Which OpenGL MuJoCo renders with, and what to install where there is none."""

from __future__ import annotations

import logging
import os
import sys
from importlib import import_module
from importlib.util import find_spec
from multiprocessing import parent_process
from pathlib import Path

log = logging.getLogger("simreal.opengl")

NO_OPENGL = (
    "No OpenGL for rendering ({reason}). On Debian or Ubuntu: apt-get install libegl1 libgl1 libgles2, "
    "or for software rendering: apt-get install libosmesa6 and set MUJOCO_GL=osmesa. "
    "`simreal doctor` tests each."
)


def choose_backend() -> str:
    """Choose OpenGL's backend in ``MUJOCO_GL``: EGL without a display, since MuJoCo's default needs one.

    MuJoCo reads the variable when it is first imported.
    """
    if sys.platform == "linux" and "DISPLAY" not in os.environ:
        os.environ.setdefault("MUJOCO_GL", "egl")
    return os.environ.get("MUJOCO_GL", "glfw")


_torch_may_come = True


def leave_out_torch() -> None:
    """Declare that a worker process will not import torch, which saves the 80 MB of torch's compiler.

    In a main process this has no effect, since other code may import torch there.
    """
    global _torch_may_come
    _torch_may_come = parent_process() is None


def load_other_llvm_first() -> None:
    """Call before the first OpenGL context: torch's compiler, imported after it, would crash the process.

    Triton, which comes with CUDA builds of torch, and Mesa's software renderer each bring their own LLVM, and
    only this order of loading works. Where somebody else has opened OpenGL already, triton is marked as not
    installed in this process, with a warning: torch then works without ``torch.compile``.
    """
    if not _torch_may_come or "triton" in sys.modules or find_spec("triton") is None:
        return
    if not _mesa_has_loaded_llvm():
        import_module("triton")
        return
    sys.modules["triton"] = None  # type: ignore[assignment]
    log.warning(
        "OpenGL was opened before simreal drew anything, so torch.compile cannot be used in this process: "
        "triton would crash it. Import triton, or draw with simreal, first."
    )


def _mesa_has_loaded_llvm() -> bool:
    """Whether Mesa's LLVM is in this process, which it loads with the first context."""
    maps = Path("/proc/self/maps")
    return maps.exists() and "/libLLVM" in maps.read_text()
