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


def moving_geoms(model: mujoco.MjModel) -> np.ndarray:
    """(ngeom,) bool: those of bodies that are not fixed to the world."""
    return model.body_weldid[model.geom_bodyid] != 0


def robot_geoms(model: mujoco.MjModel) -> np.ndarray:
    """(ngeom,) bool: those of the arm and its hand."""
    names = (model.body(body).name for body in model.geom_bodyid)
    return np.array([name.startswith(("robot0_", "gripper0_")) for name in names])
