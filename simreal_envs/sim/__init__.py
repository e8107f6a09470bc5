"""The simulated world."""

import os
import sys

if sys.platform == "linux" and "DISPLAY" not in os.environ:
    # MuJoCo chooses its OpenGL backend when first imported, and its default needs a display.
    os.environ.setdefault("MUJOCO_GL", "egl")
