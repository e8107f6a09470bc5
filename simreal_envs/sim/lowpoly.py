"""Fewer triangles for rendering small images: the Panda's visual meshes have 180,000 faces as shipped."""

from __future__ import annotations

import copy

import fast_simplification
import mujoco
import numpy as np

FACES_PER_MESH = 400
"""More than a link shows at 84 x 84 pixels; a test compares with the full meshes."""


def simplified(model: mujoco.MjModel, faces_per_mesh: int = FACES_PER_MESH) -> mujoco.MjModel:
    """A copy of ``model`` whose large meshes are decimated in place; good for rendering only.

    Bodies, geoms and mesh frames keep their numbers and poses, so the copy renders the original's ``MjData``.
    """
    low = copy.deepcopy(model)
    for mesh in range(model.nmesh):
        faces = int(model.mesh_facenum[mesh])
        if faces <= faces_per_mesh:
            continue
        vertex_at, face_at = int(model.mesh_vertadr[mesh]), int(model.mesh_faceadr[mesh])
        normal_at = int(model.mesh_normaladr[mesh])
        vertices = model.mesh_vert[vertex_at : vertex_at + model.mesh_vertnum[mesh]]
        triangles = model.mesh_face[face_at : face_at + faces]
        vertices, corner_of = _one_a_place(vertices)
        triangles = corner_of[triangles]
        vertices, triangles = fast_simplification.simplify(
            vertices, np.ascontiguousarray(triangles, np.int32), 1 - faces_per_mesh / faces
        )
        count = len(triangles)
        if len(vertices) > model.mesh_normalnum[mesh]:
            continue  # no room for a normal a vertex
        low.mesh_facenum[mesh] = count
        low.mesh_vertnum[mesh] = low.mesh_normalnum[mesh] = len(vertices)
        low.mesh_vert[vertex_at : vertex_at + len(vertices)] = vertices
        low.mesh_normal[normal_at : normal_at + len(vertices)] = _vertex_normals(vertices, triangles)
        low.mesh_face[face_at : face_at + count] = triangles
        low.mesh_facenormal[face_at : face_at + count] = triangles
        low.mesh_graphadr[mesh] = -1  # the convex hull refers to the old vertices
    return low


def _one_a_place(vertices: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """The distinct vertices, and which of them each given one is: ``np.unique`` of rows, but faster."""
    order = np.lexsort(vertices.T[::-1])
    rows = vertices[order]
    new = np.ones(len(rows), bool)
    new[1:] = (rows[1:] != rows[:-1]).any(axis=1)
    which = np.empty(len(rows), np.intp)
    which[order] = np.cumsum(new) - 1
    return rows[new], which


def _vertex_normals(vertices: np.ndarray, triangles: np.ndarray) -> np.ndarray:
    """Unit normals (V, 3): the mean of the adjacent faces' normals, weighted by area."""
    corners = vertices[triangles]
    face_normals = np.cross(corners[:, 1] - corners[:, 0], corners[:, 2] - corners[:, 0])
    normals = np.zeros_like(vertices)
    for corner in range(3):
        np.add.at(normals, triangles[:, corner], face_normals)
    return normals / (np.linalg.norm(normals, axis=1, keepdims=True) + 1e-12)
