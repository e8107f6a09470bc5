"""What the tasks' objects are made of."""

from __future__ import annotations

from typing import TYPE_CHECKING

if TYPE_CHECKING:
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
