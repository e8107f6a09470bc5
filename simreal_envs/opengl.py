"""Which OpenGL MuJoCo renders with, and what to install where there is none."""

from __future__ import annotations

import os
import sys
from importlib import import_module
from importlib.util import find_spec

NO_OPENGL = (
    "No OpenGL for rendering ({reason}). On Debian or Ubuntu: apt-get install libegl1 libgl1 libgles2, "
    "or for software rendering: apt-get install libosmesa6 and set MUJOCO_GL=osmesa. "
    "`simreal doctor` tests each."
)


def choose_backend() -> str:
    """The backend in ``MUJOCO_GL``; without a display EGL is chosen there, since MuJoCo's own needs one.

    MuJoCo reads the variable when it is first imported.
    """
    if sys.platform == "linux" and "DISPLAY" not in os.environ:
        os.environ.setdefault("MUJOCO_GL", "egl")
    return os.environ.get("MUJOCO_GL", "glfw")


def load_other_llvm_first() -> None:
    """Call before the first OpenGL context: torch's compiler, imported after it, would crash the process.

    Triton, which comes with torch, and Mesa's software renderer each bring their own LLVM; only this order of
    loading works.
    """
    if find_spec("triton") is not None:
        import_module("triton")
