"""Shifts of how the simulated world moves, and of how late it is seen."""

from __future__ import annotations

from collections.abc import Sequence
from math import ceil
from typing import TYPE_CHECKING

import numpy as np

from simreal_envs.gains import Gains
from simreal_envs.shifts.base import Shift

if TYPE_CHECKING:
    import mujoco


class ArmGains(Shift):
    """The arm follows position and rotation less firmly and holds its elbow elsewhere, anew in every episode.

    Nobody knows how a real arm lags behind its targets. With source data that lag in many ways, a policy
    tolerates one more, and the target's states have similar states in the source.
    """

    stream = 0

    def reset_gains(self, gains: Gains, rng: np.random.Generator) -> Gains:
        s = self.strength
        position, rotation, posture = np.array([4.0, 6.0, 10.0]) ** (-s * rng.random(3))
        offset_rad = rng.normal(0.0, 0.06 * s, 7)
        return Gains(
            gains.position * float(position),
            gains.rotation * float(rotation),
            gains.posture * float(posture),
            tuple((np.array(gains.posture_offset_rad) + offset_rad).tolist()),
        )


class Friction(Shift):
    """Table, hand and each object are slipperier or rougher, anew in every episode.

    At strength 1 the friction of each of them is multiplied by 0.5 to 2. Where two touch, MuJoCo takes the
    greater friction.
    """

    stream = 19

    def reset_physics(self, model: mujoco.MjModel, rng: np.random.Generator) -> None:
        factors = 2.0 ** (self.strength * rng.uniform(-1, 1, model.nbody))
        model.geom_friction *= factors[model.body_rootid[model.geom_bodyid], None]


class Mass(Shift):
    """Each object is lighter or heavier, anew in every episode: at strength 1 half to twice its mass."""

    stream = 20

    def reset_physics(self, model: mujoco.MjModel, rng: np.random.Generator) -> None:
        from simreal_envs.sim.parts import object_geoms

        entities = np.unique(model.body_rootid[model.geom_bodyid[object_geoms(model)]])
        factors = np.ones(model.nbody)
        factors[entities] = 2.0 ** (self.strength * rng.uniform(-1, 1, len(entities)))
        model.body_mass *= factors[model.body_rootid]
        model.body_inertia *= factors[model.body_rootid, None]


STEPS_LATE = 2
"""Control steps of 50 ms by which actions and images are late at strength 1."""


class ActionDelay(Shift):
    """The arm carries out actions late: at strength 1 by two control steps, 0.1 s; before, the first one.

    Up to strength 0.5 by one step, above strength 1 by three.
    """

    stream = 21

    def act(self, actions: Sequence[np.ndarray], rng: np.random.Generator) -> np.ndarray:
        return actions[max(0, len(actions) - 1 - ceil(STEPS_LATE * self.strength))]


class ImageDelay(Shift):
    """All that the cameras show is late: at strength 1 by two control steps, 0.1 s; before, as at the reset.

    Up to strength 0.5 by one step, above strength 1 by three. Proprioception is that of the present moment.
    """

    stream = 22

    def reset_image_delay(self, steps: int, rng: np.random.Generator) -> int:
        return steps + ceil(STEPS_LATE * self.strength)
