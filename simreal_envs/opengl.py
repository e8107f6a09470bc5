"""Which OpenGL MuJoCo renders with, and what to install where there is none."""

from __future__ import annotations

import os
import sys

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
