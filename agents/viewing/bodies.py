"""The bodies of a MuJoCo model in the browser, moved with the state."""

from __future__ import annotations

from collections.abc import Collection
from typing import NamedTuple

import mujoco
import viser

from simreal_agents.viewing.meshes import body_files
from simreal_envs.spec import BASE_IN_WORLD_M, FloatArray


class Poses(NamedTuple):
    """Where every body of a model is in the base frame: (nbody, 3) in m, and quaternions (nbody, 4)."""

    positions_m: FloatArray
    wxyz: FloatArray


def poses_in_base(data: mujoco.MjData) -> Poses:
    """The bodies' poses in a state whose kinematics have been computed."""
    return Poses(data.xpos - BASE_IN_WORLD_M, data.xquat.copy())


class Bodies:
    """The meshes of a model's bodies, one node each under ``/scene``.

    Args:
        hidden: bodies that are not shown.
    """

    def __init__(
        self, server: viser.ViserServer, model: mujoco.MjModel, hidden: Collection[int] = ()
    ) -> None:
        self._nodes = {
            body: server.scene.add_glb(f"/scene/{model.body(body).name or body}", file)
            for body, file in body_files(model).items()
            if body not in hidden
        }

    def show(self, poses: Poses) -> None:
        """Move every body to its pose."""
        for body, node in self._nodes.items():
            node.position, node.wxyz = poses.positions_m[body], poses.wxyz[body]

    def remove(self) -> None:
        """Take them out of the scene."""
        for node in self._nodes.values():
            node.remove()
