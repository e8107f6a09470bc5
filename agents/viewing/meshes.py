"""The visual geoms of a MuJoCo model as triangle meshes, one glTF file a body."""

from __future__ import annotations

import io
from dataclasses import dataclass
from typing import Any

import mujoco
import numpy as np
import trimesh
from PIL import Image
from scipy.spatial.transform import Rotation
from trimesh.visual import TextureVisuals
from trimesh.visual.material import PBRMaterial

from simreal_envs.errors import UsageError
from simreal_envs.poses import pose
from simreal_envs.spec import FloatArray

TEXTURE_PX = 512
"""Side of a texture at most; robosuite's have up to 1450 pixels."""
AROUND = 48
"""Corners of a circle."""
ROUGHNESS = 0.6

_DEFAULT_RGBA = np.array([0.5, 0.5, 0.5, 1.0], np.float32)
"""Of a geom that has no colour of its own, so that its material's counts."""


@dataclass(frozen=True)
class Surface:
    """Triangles in a geom's frame, metres.

    Attributes:
        vertices, normals: (V, 3).
        faces: (F, 3) numbers of vertices.
        uv: (V, 2) place in the texture, from 0 to 1; None for a surface that shows one colour.
    """

    vertices: FloatArray
    normals: FloatArray
    faces: np.ndarray
    uv: FloatArray | None = None


def visual_geoms(model: mujoco.MjModel) -> list[int]:
    """The geoms that the renderer draws, without the room: its floor and walls would hide the table."""
    kinds = model.geom_group, model.geom_type, model.geom_bodyid
    return [
        geom
        for geom, (group, kind, body) in enumerate(zip(*kinds, strict=True))
        if group in (1, 2)
        and kind != mujoco.mjtGeom.mjGEOM_PLANE
        and not model.geom(geom).name.startswith("wall_")
        and not model.body(body).name.endswith("_eef_target")
    ]


def geom_in_body(model: mujoco.MjModel, geom: int) -> FloatArray:
    """The pose (4, 4) of a geom in the frame of its body."""
    turn = Rotation.from_quat(model.geom_quat[geom], scalar_first=True)
    return pose(turn.as_matrix(), model.geom_pos[geom])


def body_files(model: mujoco.MjModel) -> dict[int, bytes]:
    """For each body that shows something, its visual geoms as one binary glTF file in the body's frame."""
    geoms: dict[int, list[int]] = {}
    for geom in visual_geoms(model):
        geoms.setdefault(int(model.geom_bodyid[geom]), []).append(geom)
    return {body: _file(model, own) for body, own in geoms.items()}


def surface_of(model: mujoco.MjModel, geom: int) -> Surface:
    """The surface of a geom."""
    size = model.geom_size[geom]
    match mujoco.mjtGeom(model.geom_type[geom]):
        case mujoco.mjtGeom.mjGEOM_MESH:
            return _mesh(model, int(model.geom_dataid[geom]))
        case mujoco.mjtGeom.mjGEOM_BOX:
            return _box(size)
        case mujoco.mjtGeom.mjGEOM_CYLINDER:
            return _cylinder(size[0], size[1])
        case mujoco.mjtGeom.mjGEOM_CAPSULE:
            return _capsule(size[0], size[1])
        case mujoco.mjtGeom.mjGEOM_SPHERE:
            return _capsule(size[0], 0.0)
        case mujoco.mjtGeom.mjGEOM_ELLIPSOID:
            ball = _capsule(1.0, 0.0)
            normals = ball.normals / size
            normals /= np.linalg.norm(normals, axis=1, keepdims=True)
            return Surface(ball.vertices * size, normals, ball.faces)
        case kind:
            name = model.geom(geom).name
            raise UsageError(f"Geom {name!r} is of type {kind.name}, which the viewer cannot show.")


def _file(model: mujoco.MjModel, geoms: list[int]) -> bytes:
    scene = trimesh.Scene()
    for geom in geoms:
        surface, frame = surface_of(model, geom), geom_in_body(model, geom)
        material, uses_uv = _material(model, geom, surface)
        scene.add_geometry(
            trimesh.Trimesh(
                surface.vertices @ frame[:3, :3].T + frame[:3, 3],
                surface.faces,
                vertex_normals=surface.normals @ frame[:3, :3].T,
                visual=TextureVisuals(uv=surface.uv if uses_uv else None, material=material),
                process=False,
            ),
            geom_name=f"geom{geom}",
        )
    return bytes(scene.export(file_type="glb", include_normals=True))


def _material(model: mujoco.MjModel, geom: int, surface: Surface) -> tuple[PBRMaterial, bool]:
    """The geom's look, and whether it is an image on the surface."""
    rgba, material = model.geom_rgba[geom], int(model.geom_matid[geom])
    texture = -1
    if material >= 0:
        texture = int(model.mat_texid[material, mujoco.mjtTextureRole.mjTEXROLE_RGB])
        if (rgba == _DEFAULT_RGBA).all():
            rgba = model.mat_rgba[material]
    look: dict[str, Any] = {"metallicFactor": 0.0, "roughnessFactor": ROUGHNESS}
    if rgba[3] < 1:
        look["alphaMode"] = "BLEND"
    if texture >= 0:
        picture = _texture(model, texture)
        if surface.uv is not None:
            return PBRMaterial(baseColorTexture=picture, baseColorFactor=_linear(rgba), **look), True
        rgba = rgba * np.append(np.asarray(picture).mean(axis=(0, 1)) / 255, 1.0)
    return PBRMaterial(baseColorFactor=_linear(rgba), **look), False


def _linear(rgba: FloatArray) -> list[float]:
    """glTF's colour factors are linear in light, MuJoCo's are as a screen takes them (sRGB)."""
    rgb = np.clip(rgba[:3], 0.0, 1.0)
    linear = np.where(rgb <= 0.04045, rgb / 12.92, ((rgb + 0.055) / 1.055) ** 2.4)
    return [*linear.tolist(), float(rgba[3])]


def _texture(model: mujoco.MjModel, texture: int) -> Image.Image:
    """The image; of a cube's six sides, which robosuite makes of one image, the first."""
    width, channels, start = (int(a[texture]) for a in (model.tex_width, model.tex_nchannel, model.tex_adr))
    is_flat = model.tex_type[texture] == mujoco.mjtTexture.mjTEXTURE_2D
    height = int(model.tex_height[texture]) if is_flat else width
    pixels = model.tex_data[start : start + height * width * channels].reshape(height, width, channels)
    picture = Image.fromarray(
        np.ascontiguousarray(pixels[..., [0, 1, 2]] if channels >= 3 else pixels[..., 0])
    )
    picture = picture.convert("RGB")
    picture.thumbnail((TEXTURE_PX, TEXTURE_PX))
    packed = io.BytesIO()
    picture.save(packed, "JPEG", quality=85)
    return Image.open(packed)  # whose format trimesh keeps


def _mesh(model: mujoco.MjModel, mesh: int) -> Surface:
    """MuJoCo numbers vertices and normals of a triangle's corners separately, glTF has one for both."""
    at, count = int(model.mesh_faceadr[mesh]), int(model.mesh_facenum[mesh])
    vertices_at, normals_at = int(model.mesh_vertadr[mesh]), int(model.mesh_normaladr[mesh])
    vertices = model.mesh_vert[vertices_at : vertices_at + model.mesh_vertnum[mesh]]
    normals = model.mesh_normal[normals_at : normals_at + model.mesh_normalnum[mesh]]
    vertices, place_of = np.unique(vertices, axis=0, return_inverse=True)
    normals, direction_of = np.unique(normals, axis=0, return_inverse=True)
    place = place_of.reshape(-1)[model.mesh_face[at : at + count]].astype(np.int64)
    direction = direction_of.reshape(-1)[model.mesh_facenormal[at : at + count]].astype(np.int64)
    corners, faces = np.unique(place * len(normals) + direction, return_inverse=True)
    return Surface(
        vertices[corners // len(normals)], normals[corners % len(normals)], faces.reshape(count, 3)
    )


def _box(half_m: FloatArray) -> Surface:
    """Each side has the whole texture."""
    vertices, normals = [], []
    for axis in range(3):
        for sign in (-1.0, 1.0):
            normal = np.zeros(3)
            normal[axis] = sign
            along = np.roll([0.0, 1.0, 0.0], axis)  # the axis after this one
            across = np.cross(normal, along)
            for u, v in _CORNERS:
                vertices.append((normal + u * along + v * across) * half_m)
                normals.append(normal)
    faces = np.concatenate([np.array([[0, 1, 2], [0, 2, 3]]) + 4 * side for side in range(6)])
    uv = np.tile((np.array(_CORNERS) + 1) / 2, (6, 1))
    return Surface(np.array(vertices), np.array(normals), faces, uv)


_CORNERS = ((-1.0, -1.0), (1.0, -1.0), (1.0, 1.0), (-1.0, 1.0))


def _cylinder(radius_m: float, half_length_m: float) -> Surface:
    r, h = radius_m, half_length_m
    profile = [(0, h), (r, h), (r, h), (r, -h), (r, -h), (0, -h)]
    return _revolved(profile, [(0, 1), (0, 1), (1, 0), (1, 0), (0, -1), (0, -1)])


def _capsule(radius_m: float, half_length_m: float) -> Surface:
    """A sphere, if it has no length."""
    angles = np.linspace(0, np.pi / 2, AROUND // 4 + 1)
    upper = np.stack([np.sin(angles), np.cos(angles)], axis=1)
    normals = np.concatenate([upper, upper[::-1] * [1, -1]])
    heights = np.where(np.arange(len(normals)) < len(upper), half_length_m, -half_length_m)
    return _revolved(radius_m * normals + np.stack([0 * heights, heights], axis=1), normals)


def _revolved(profile: object, normals: object) -> Surface:
    """A profile (K, 2) of (distance from the z axis, height), from the top down, turned about the z axis."""
    outline, outwards = np.asarray(profile, float), np.asarray(normals, float)
    turns = np.linspace(0, 2 * np.pi, AROUND, endpoint=False)
    round_ = np.stack([np.cos(turns), np.sin(turns)], axis=1)

    def turned(points: FloatArray) -> FloatArray:
        xy = round_[:, None] * points[None, :, :1]
        z = np.broadcast_to(points[None, :, 1:], (AROUND, len(points), 1))
        return np.concatenate([xy, z], axis=2).reshape(-1, 3)

    here = np.arange(AROUND)[:, None] * len(outline) + np.arange(len(outline) - 1)
    there = np.roll(here, -1, axis=0)
    faces = np.stack([here, here + 1, there + 1, here, there + 1, there], axis=-1).reshape(-1, 3)
    return Surface(turned(outline), turned(outwards), faces)
