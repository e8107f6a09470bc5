"""The simulated world."""

import os
import sys

from simreal_envs.errors import MissingDependencyError

NO_OPENGL = (
    "No OpenGL for rendering ({reason}). On Debian or Ubuntu: apt-get install libegl1 libgl1 libgles2, "
    "or for software rendering: apt-get install libosmesa6 and set MUJOCO_GL=osmesa. "
    "`simreal doctor` tests each."
)

if sys.platform == "linux" and "DISPLAY" not in os.environ:
    # MuJoCo chooses its OpenGL backend when first imported, and its default needs a display.
    os.environ.setdefault("MUJOCO_GL", "egl")

try:
    import mujoco  # noqa: F401
except (ImportError, AttributeError, OSError) as error:  # each backend fails in its own way
    raise MissingDependencyError(NO_OPENGL.format(reason=f"{type(error).__name__}: {error}")) from error
