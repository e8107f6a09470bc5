"""The simulated world.

Others take MuJoCo from here: where OpenGL is missing, its import then fails with advice.
"""

from simreal_envs.errors import MissingDependencyError
from simreal_envs.opengl import NO_OPENGL, choose_backend

choose_backend()

try:
    import mujoco
except (ImportError, AttributeError, OSError, RuntimeError) as error:  # each backend fails in its own way
    raise MissingDependencyError(NO_OPENGL.format(reason=f"{type(error).__name__}: {error}")) from error

__all__ = ["mujoco"]
