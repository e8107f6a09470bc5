"""Shifts of what the scene looks like: the table, the light, the objects' colours."""

from __future__ import annotations

from typing import TYPE_CHECKING

import numpy as np

from simreal_envs.shifts.base import Shift

if TYPE_CHECKING:
    from collections.abc import Iterator

    import mujoco


class Texture(Shift):
    """The table is of wood instead of ceramic."""

    stream = 2
    is_scaled = False
    sets = "the table's texture"

    def reset_look(self, model: mujoco.MjModel, rng: np.random.Generator) -> None:
        model.geom_matid[model.geom("table_visual").id] = model.material("table_wood").id


class RandomTexture(Shift):
    """The table is of ceramic, wood or plaster, and of another colour, anew in every episode.

    At strength 1 red, green and blue are each multiplied by 0.4 to 1.
    """

    stream = 9
    is_drawn = True
    sets = Texture.sets

    def reset_look(self, model: mujoco.MjModel, rng: np.random.Generator) -> None:
        table, material = model.geom("table_visual").id, rng.integers(len(_MATERIALS))
        model.geom_matid[table] = model.material(_MATERIALS[material]).id
        model.geom_rgba[table, :3] = 1 - min(1.0, 0.6 * self.strength) * rng.random(3)


class Light(Shift):
    """A warmer, dimmer light from the other side."""

    stream = 3
    sets = "the light"

    def reset_look(self, model: mujoco.MjModel, rng: np.random.Generator) -> None:
        s = self.strength
        direction = np.array([-0.2, -0.2, -1.0]) + s * np.array([0.6, 0.9, 0.2])
        model.light_dir[0] = direction / np.linalg.norm(direction)
        model.light_diffuse[0] *= 1 - s * np.array([0.15, 0.25, 0.40])
        model.vis.headlight.ambient[:] *= 1 - 0.3 * s
        model.vis.headlight.diffuse[:] *= 1 - s * np.array([0.25, 0.35, 0.45])


class RandomLight(Shift):
    """The light comes from another side and has another brightness and colour, anew in every episode.

    At strength 1 it is up to 45 degrees from the vertical along each axis of the table, its brightness is
    multiplied by 0.5 to 1.3, and red, green and blue by 0.75 to 1.25 each.
    """

    stream = 10
    is_drawn = True
    sets = Light.sets

    def reset_look(self, model: mujoco.MjModel, rng: np.random.Generator) -> None:
        s = self.strength
        x, y = s * rng.uniform(-1, 1, 2)
        model.light_dir[0] = np.array([x, y, -1.0]) / np.linalg.norm([x, y, -1.0])
        colour = (1 + s * rng.uniform(-0.5, 0.3)) * (1 + s * rng.uniform(-0.25, 0.25, 3))
        model.light_diffuse[0] *= colour
        model.vis.headlight.ambient[:] *= colour
        model.vis.headlight.diffuse[:] *= colour


_MATERIALS = ("table_ceramic", "table_wood", "walls_mat")
"""Of every scene: ceramic, light wood and grey plaster."""

_COLOURS = (
    (0.95, 0.75, 0.15), (0.50, 0.30, 0.85), (0.20, 0.70, 0.70), (0.90, 0.45, 0.65), (0.45, 0.75, 0.20),
)  # fmt: skip


class ObjectTexture(Shift):
    """The objects are of other colours: yellow, violet, turquoise, pink and green plaster, part by part."""

    stream = 8
    is_scaled = False
    sets = "the objects' texture"

    def reset_look(self, model: mujoco.MjModel, rng: np.random.Generator) -> None:
        for number, part in enumerate(_parts(model)):
            model.geom_matid[part] = model.material("walls_mat").id
            model.geom_rgba[part, :3] = _COLOURS[number % len(_COLOURS)]


class RandomObjectTexture(Shift):
    """Each part of the objects is of ceramic, wood or plaster of any colour, anew in every episode."""

    stream = 11
    is_scaled = False
    is_drawn = True
    sets = ObjectTexture.sets

    def reset_look(self, model: mujoco.MjModel, rng: np.random.Generator) -> None:
        for part in _parts(model):
            model.geom_matid[part] = model.material(_MATERIALS[rng.integers(len(_MATERIALS))]).id
            model.geom_rgba[part, :3] = rng.uniform(0.1, 1.0, 3)


def _parts(model: mujoco.MjModel) -> Iterator[np.ndarray]:
    """The geoms that are seen of each part of the objects: those of one entity that look alike.

    The order does not depend on which of them a renderer leaves out.
    """
    from simreal_envs.sim.parts import object_geoms

    alike: dict[tuple[int, int, bytes], list[int]] = {}
    for geom in np.flatnonzero(object_geoms(model) & (model.geom_matid >= 0)):
        entity = int(model.body_rootid[model.geom_bodyid[geom]])
        look = (entity, int(model.geom_matid[geom]), model.geom_rgba[geom].tobytes())
        alike.setdefault(look, []).append(int(geom))
    yield from (np.array(geoms) for geoms in alike.values())
