"""Parts of a scene's model, to draw some without the others."""

from __future__ import annotations

import copy

import mujoco
import numpy as np


def without(model: mujoco.MjModel, hidden: np.ndarray) -> mujoco.MjModel:
    """A copy whose geoms ``hidden`` (ngeom,) bool are not drawn: the renderer leaves out group 0."""
    rest = copy.copy(model)
    rest.geom_group[hidden] = 0
    return rest


def shrink_unseen_textures(model: mujoco.MjModel) -> None:
    """Make textures that nothing drawn wears one pixel large, in place.

    Every OpenGL context gets all of a model's textures, each face of a cube with its mipmaps: half a second
    where OpenGL is computed on the CPU. Geoms of group 0 and skyboxes are taken as not drawn.
    """
    worn = np.unique(model.geom_matid[model.geom_group != 0])
    seen = model.mat_texid[worn[worn >= 0]]
    unseen = np.setdiff1d(np.arange(model.ntex), seen)
    model.tex_width[unseen] = model.tex_height[unseen] = 1


def moving_geoms(model: mujoco.MjModel) -> np.ndarray:
    """(ngeom,) bool: those of bodies that are not fixed to the world."""
    return model.body_weldid[model.geom_bodyid] != 0


def robot_geoms(model: mujoco.MjModel) -> np.ndarray:
    """(ngeom,) bool: those of the arm and its hand."""
    names = (model.body(body).name for body in model.geom_bodyid)
    return np.array([name.startswith(("robot0_", "gripper0_")) for name in names])
