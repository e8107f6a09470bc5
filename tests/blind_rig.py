"""The program with a virtual rig for hardware: nobody knows where its objects are, so an operator has to.

python tests/blind_rig.py collect ... --task Lift --env real --host RIG
"""

from __future__ import annotations

from simreal_cli.main import main
from simreal_envs.robot import backends
from simreal_envs.robot.scene import OperatorScene, Scene
from simreal_envs.tasks.base import Task


class BlindRig(backends.VirtualRig):
    """Robot and camera of the rig, table of an operator."""

    name = "real"
    knows_objects = False

    def __init__(self, host: str | None, shift: str = "none", serial: str | None = None) -> None:
        super().__init__("Lift", host, shift)

    def open_scene(self, task: Task, look: backends.Look) -> Scene:
        return OperatorScene(task, look)


if __name__ == "__main__":
    backends.Hardware = BlindRig  # type: ignore[assignment, misc]
    main()
