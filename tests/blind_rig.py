"""The program on a virtual rig that does not say where its objects are: an operator has to, as on hardware.

python tests/blind_rig.py collect ... --env rig
"""

from __future__ import annotations

from simreal_cli.main import main
from simreal_envs.robot import backends
from simreal_envs.robot.scene import OperatorScene, Scene
from simreal_envs.tasks.base import Task


class BlindRig(backends.VirtualRig):
    """Robot and camera of the rig, table of an operator."""

    knows_objects = False

    def open_scene(self, task: Task, look: backends.Look) -> Scene:
        return OperatorScene(task, look)


if __name__ == "__main__":
    backends.VirtualRig = BlindRig  # type: ignore[misc]
    main()
