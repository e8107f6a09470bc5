"""The objects on the table: who puts them there, and who says that the task is solved.

On hardware it is the operator; on the virtual rig it is the rig itself, with the simulation's rule.
"""

from __future__ import annotations

import select
import sys
from collections.abc import Callable
from typing import TYPE_CHECKING, Protocol

import numpy as np

from simreal_envs.cameras import Camera
from simreal_envs.errors import RobotError
from simreal_envs.robot.placement_picture import draw_placement
from simreal_envs.spec import TABLE_CENTRE_IN_BASE_M, FloatArray
from simreal_envs.tasks.base import Task
from simreal_envs.tasks.placement import Placement

if TYPE_CHECKING:
    from simreal_envs.rig.control import RigControl

SUCCESS_KEY = "s"
"""Typed (with Enter) while an episode runs: the task is solved."""


class Scene(Protocol):
    """What :class:`simreal_envs.robot.env.RobotEnv` needs to know about the table."""

    def place(self, placement: Placement) -> None:
        """Return once the objects lie where they are asked for."""

    def subtask_signals(self) -> dict[str, bool]:
        """For each stage of the task, whether its condition holds right now."""

    def object_poses_in_base(self) -> dict[str, FloatArray]:
        """Each object's (4, 4) pose; empty where nobody knows them."""

    def may_recover(self, cause: str) -> bool:
        """Whether the arm may move again after a fault."""


class RigScene:
    """The virtual rig places its objects by itself and always knows where they are."""

    def __init__(self, control: RigControl) -> None:
        self.control = control

    def place(self, placement: Placement) -> None:
        self.control.place(placement)

    def subtask_signals(self) -> dict[str, bool]:
        return self.control.subtask_signals()

    def object_poses_in_base(self) -> dict[str, FloatArray]:
        return self.control.object_poses_in_base()

    def may_recover(self, cause: str) -> bool:
        return True


class OperatorScene:
    """A person at the terminal places the objects, and types ``s`` and Enter when the task is solved.

    Args:
        task: whose objects they are.
        look: the camera's present image (H, W, 3) and its calibration, to draw the places into.
    """

    def __init__(self, task: Task, look: Callable[[], tuple[np.ndarray, Camera]]) -> None:
        self._task, self._look = task, look
        self._solved = False
        self.listens = True
        """Whether it reads the terminal; a recording session does so itself, and calls :meth:`solved`."""

    def place(self, placement: Placement) -> None:
        self._solved = False
        picture = draw_placement(*self._look(), placement)
        print("Place the objects (robot base frame), with their yaw about the vertical:")
        for name, (x, y, yaw) in placement.items():
            in_base = TABLE_CENTRE_IN_BASE_M[:2] + (x, y)
            where = f"x {100 * in_base[0]:.1f} cm, y {100 * in_base[1]:.1f} cm"
            print(f"  {name}: {where}, {np.rad2deg(yaw):.0f} degrees")
        print(f"Drawn into the camera's view: {picture}")
        self._ask("Hands out of the way? Enter starts the episode.")

    def solved(self) -> None:
        """Take the operator's word, however it came (a key of a recording session, say)."""
        self._solved = True

    def subtask_signals(self) -> dict[str, bool]:
        typed = self.listens and sys.stdin.isatty() and select.select([sys.stdin], [], [], 0)[0]
        if typed and not self._solved:
            self._solved = sys.stdin.readline().strip().lower() == SUCCESS_KEY
        return dict.fromkeys(self._task.stages, self._solved)

    def object_poses_in_base(self) -> dict[str, FloatArray]:
        return {}

    def may_recover(self, cause: str) -> bool:
        answer = self._ask(f"The robot stopped: {cause}. Is the arm free to move? y recovers.")
        return answer.strip().lower() in ("y", "yes")

    @staticmethod
    def _ask(question: str) -> str:
        try:
            return input(f"{question} ")
        except EOFError as error:
            raise RobotError(
                "An operator has to place the objects and answer at a terminal, but there is none."
            ) from error
