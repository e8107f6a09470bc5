"""Which OpenGL MuJoCo renders with, and what to install where there is none."""

from __future__ import annotations

import os
import sys
from importlib import import_module
from importlib.util import find_spec
from multiprocessing import parent_process

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

    Triton, which comes with torch, and Mesa's software renderer each bring their own LLVM; only this order of
    loading works.
    """
    if _torch_may_come and find_spec("triton") is not None:
        import_module("triton")
