"""Parts of a scene's model: which geoms belong to which body, and how far up and down they reach."""

from __future__ import annotations

import copy
from collections.abc import Sequence

import mujoco
import numpy as np

from simreal_envs.errors import UsageError


def without(model: mujoco.MjModel, hidden: np.ndarray) -> mujoco.MjModel:
    """A copy whose geoms ``hidden`` (ngeom,) bool are not drawn: the renderer leaves out group 0."""
    rest = copy.copy(model)
    rest.geom_group[hidden] = 0
    return rest


def restore(model: mujoco.MjModel, original: mujoco.MjModel, arrays: Sequence[str]) -> None:
    """Set these arrays of a copied model back to those of the original."""
    for name in arrays:
        getattr(model, name)[:] = getattr(original, name)


def shrink_unseen_textures(model: mujoco.MjModel) -> None:
    """Shrink textures that no drawn geom uses to one pixel, in place.

    Every OpenGL context gets all of a model's textures, each face of a cube with its mipmaps: half a second
    where OpenGL is computed on the CPU. Geoms of group 0 and skyboxes are taken as not drawn.
    """
    worn = np.unique(model.geom_matid[model.geom_group != 0])
    seen = model.mat_texid[worn[worn >= 0]]
    unseen = np.setdiff1d(np.arange(model.ntex), seen)
    model.tex_width[unseen] = model.tex_height[unseen] = 1


def moving_geoms(model: mujoco.MjModel) -> np.ndarray:
    """Mask (ngeom,) of the geoms whose bodies are not fixed to the world."""
    return model.body_weldid[model.geom_bodyid] != 0


def robot_geoms(model: mujoco.MjModel) -> np.ndarray:
    """Mask (ngeom,) of the geoms of the arm and its hand."""
    names = (model.body(body).name for body in model.geom_bodyid)
    return np.array([name.startswith(("robot0_", "gripper0_")) for name in names])


def object_geoms(model: mujoco.MjModel) -> np.ndarray:
    """Mask (ngeom,) of the geoms of what moves and is no part of the robot: the task's objects."""
    roots = model.body_rootid[model.geom_bodyid]
    of_robot = np.isin(roots, roots[robot_geoms(model)])
    return moving_geoms(model) & ~of_robot


def check_every_pair(model: mujoco.MjModel) -> None:
    """Let MuJoCo test every pair of geoms of two bodies that are near each other for contact.

    It usually leaves pairs out by boxes around a body's geoms, which were computed when the model was
    compiled, in the frame of the body's inertia. Where that frame is changed afterwards, these boxes are
    elsewhere, and contacts with bodies of several geoms are missed.
    """
    model.opt.disableflags |= int(mujoco.mjtDisableBit.mjDSBL_MIDPHASE)


def carried_by(model: mujoco.MjModel, body: int) -> np.ndarray:
    """Mask (nbody,) of the body itself and the bodies fixed or jointed to it."""
    carried = np.arange(model.nbody) == body
    for below in range(body + 1, model.nbody):  # a body comes after its parent
        carried[below] |= carried[model.body_parentid[below]]
    return carried


def collision_geoms(model: mujoco.MjModel, body: int) -> frozenset[int]:
    """The colliding geoms of a body and of the bodies fixed or jointed to it."""
    own = carried_by(model, body)[model.geom_bodyid]
    return frozenset(
        np.flatnonzero(own & ((model.geom_contype != 0) | (model.geom_conaffinity != 0))).tolist()
    )


def top_m(model: mujoco.MjModel, body: int) -> float:
    """Height of a body's highest point of contact over its origin, see :func:`bottom_m`."""
    return -bottom_m(model, body, -1.0)


def bottom_m(model: mujoco.MjModel, body: int, upwards: float = 1.0) -> float:
    """Height of a body's lowest point of contact over its origin, where the body stands upright.

    A geom with a margin is held up at that distance already (robosuite's cylinders: 1 mm).

    Raises:
        UsageError: the body has no geom that collides, or one of a type that has no lowest point.
    """
    data = mujoco.MjData(model)
    mujoco.mj_kinematics(model, data)
    up_in_world = upwards * data.xmat[body].reshape(3, 3)[:, 2]
    name, geoms = model.body(body).name, collision_geoms(model, body)
    if not geoms:
        raise UsageError(f"Object {name!r} has no geom that collides, so it cannot lie on the table.")
    heights_m = []
    for geom in geoms:
        up_in_geom = data.geom_xmat[geom].reshape(3, 3).T @ up_in_world
        centre_m = up_in_world @ (data.geom_xpos[geom] - data.xpos[body])
        cushion_m = model.geom_margin[geom] - model.geom_gap[geom]
        heights_m.append(centre_m + _lowest_m(model, geom, up_in_geom, name) - cushion_m)
    return float(min(heights_m))


def _lowest_m(model: mujoco.MjModel, geom: int, up: np.ndarray, name: str) -> float:
    """Height over the geom's centre of its lowest point, where ``up`` (3,) is a unit vector in its frame."""
    size = model.geom_size[geom]
    match kind := mujoco.mjtGeom(model.geom_type[geom]):
        case mujoco.mjtGeom.mjGEOM_SPHERE:
            return -size[0]
        case mujoco.mjtGeom.mjGEOM_ELLIPSOID:
            return -float(np.linalg.norm(up * size))
        case mujoco.mjtGeom.mjGEOM_BOX:
            return -np.abs(up) @ size
        case mujoco.mjtGeom.mjGEOM_CAPSULE:
            return -size[0] - abs(up[2]) * size[1]
        case mujoco.mjtGeom.mjGEOM_CYLINDER:
            return -np.hypot(up[0], up[1]) * size[0] - abs(up[2]) * size[1]
        case mujoco.mjtGeom.mjGEOM_MESH:
            mesh = model.geom_dataid[geom]
            start = model.mesh_vertadr[mesh]
            return (model.mesh_vert[start : start + model.mesh_vertnum[mesh]] @ up).min()
    valid = "sphere, ellipsoid, box, capsule, cylinder, mesh"
    raise UsageError(f"Object {name!r} collides by a geom of type {kind.name}. Valid: {valid}.")
