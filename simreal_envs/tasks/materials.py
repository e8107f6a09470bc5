"""What the tasks' objects are made of."""

from __future__ import annotations

from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from robosuite.models.objects import MujocoXMLObject
    from robosuite.utils.mjcf_utils import CustomMaterial


def wood(texture: str, name: str) -> CustomMaterial:
    """One of robosuite's wood textures, ``WoodRed`` for example, as a material of its own name."""
    from robosuite.utils.mjcf_utils import CustomMaterial

    return CustomMaterial(
        texture=texture,
        tex_name=name,
        mat_name=f"{name}_mat",
        tex_attrib={"type": "cube"},
        mat_attrib={"texrepeat": "1 1", "specular": "0.4", "shininess": "0.1"},
    )


def glaze(name: str) -> CustomMaterial:
    """Glossy ceramic, whose colour is its geoms'."""
    from robosuite.utils.mjcf_utils import CustomMaterial

    return CustomMaterial(
        texture="Ceramic",
        tex_name=name,
        mat_name=f"{name}_mat",
        tex_attrib={"type": "cube"},
        mat_attrib={"texrepeat": "1 1", "specular": "0.3", "shininess": "0.5", "emission": "0.15"},
    )


def add_material(entity: MujocoXMLObject, material: CustomMaterial) -> None:
    """Make a material known to an entity that is read from a file, whose parts name it."""
    from robosuite.utils.mjcf_utils import new_element

    entity.asset.append(new_element("texture", **material.tex_attrib))
    entity.asset.append(new_element("material", **material.mat_attrib))
