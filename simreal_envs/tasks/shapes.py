"""Objects put together from MuJoCo's primitives."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import numpy as np
from scipy.spatial.transform import Rotation

if TYPE_CHECKING:
    from robosuite.models.objects import MujocoObject
    from robosuite.utils.mjcf_utils import CustomMaterial

Triple = tuple[float, float, float]
Colour = tuple[float, float, float, float]

WHITE: Colour = (1.0, 1.0, 1.0, 1.0)


@dataclass(frozen=True)
class Part:
    """One primitive of an object, in the object's frame.

    Attributes:
        kind: ``box``, ``cylinder``, ``capsule`` or ``sphere``.
        size: as MuJoCo takes it: half sizes of a box; radius and half length of a cylinder or capsule.
        at: its centre.
        quaternion: its orientation, wxyz.
        material: how it looks.
        colour: what the material's texture is multiplied with.
        use: ``all``; ``collision`` if it only touches, ``visual`` if it is only seen.
        friction: sliding, torsional and rolling, all of which count; None for the usual sliding alone.
    """

    kind: str
    size: tuple[float, ...]
    at: Triple
    material: CustomMaterial
    quaternion: tuple[float, float, float, float] = (1.0, 0.0, 0.0, 0.0)
    colour: Colour = WHITE
    use: str = "all"
    friction: Triple | None = None


def rod(
    start: Triple,
    end: Triple,
    radius_m: float,
    material: CustomMaterial,
    colour: Colour = WHITE,
    friction: Triple | None = None,
) -> Part:
    """A capsule whose round ends are about two points."""
    a, b = np.array(start), np.array(end)
    turn, _ = Rotation.align_vectors([b - a], [[0.0, 0.0, 1.0]])
    x, y, z, w = turn.as_quat().tolist()
    length_m = float(np.linalg.norm(b - a))
    middle: Any = tuple(((a + b) / 2).tolist())
    size = (radius_m, length_m / 2)
    return Part("capsule", size, middle, material, (w, x, y, z), colour, friction=friction)


def assemble(name: str, parts: Sequence[Part], half_size_m: Triple, density: float) -> MujocoObject:
    """robosuite's model of a free object of these parts.

    Args:
        half_size_m: of the box about the object's origin that holds it.
        density: of its parts, kg/m3.
    """
    from robosuite.models.objects import CompositeObject

    entity = CompositeObject(
        name=name,
        total_size=list(half_size_m),
        geom_types=[part.kind for part in parts],
        geom_sizes=[list(part.size) for part in parts],
        geom_locations=[part.at for part in parts],
        geom_quats=[part.quaternion for part in parts],
        geom_rgbas=[list(part.colour) for part in parts],
        geom_materials=[part.material.mat_attrib["name"] for part in parts],
        geom_frictions=[part.friction for part in parts],
        geom_condims=[None if part.friction is None else 6 for part in parts],
        obj_types=[part.use for part in parts],
        density=density,
        locations_relative_to_center=True,
    )
    for material in {part.material.name: part.material for part in parts}.values():
        entity.append_material(material)
    return entity
