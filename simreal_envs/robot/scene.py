"""The objects on the table: who puts them there, and who says that the task is solved.

On hardware it is the operator; on the virtual rig it is the rig itself, with the simulation's rule.
"""

from __future__ import annotations

import select
import sys
import tempfile
from collections.abc import Callable
from pathlib import Path
from typing import TYPE_CHECKING, Protocol

import numpy as np
from PIL import Image

from simreal_envs.cameras import Camera
from simreal_envs.robot.placement_picture import draw_placement
from simreal_envs.robot.question import ask
from simreal_envs.spec import TABLE_CENTRE_IN_BASE_M, FloatArray
from simreal_envs.tasks.base import Task
from simreal_envs.tasks.starts import Place, Placement

if TYPE_CHECKING:
    from simreal_envs.rig.control import RigControl

Ask = Callable[[str, np.ndarray | None], None]
"""Shows the operator a question, and a picture (H, W, 3) to it, and returns once they agree."""

SUCCESS_KEY = "s"
"""Typed (with Enter) while an episode runs: the task is solved."""


class Scene(Protocol):
    """The table as :class:`simreal_envs.robot.env.RobotEnv` uses it: placing objects, and who says solved."""

    def confirm(self, question: str) -> bool:
        """Wait until the person beside the robot agrees; False where there is nobody to ask."""

    def place(self, placement: Placement) -> None:
        """Return once the objects lie where they are asked for."""

    def subtask_signals(self) -> dict[str, bool]:
        """For each stage of the task, whether its condition holds right now."""

    def closeness(self) -> dict[str, float]:
        """For each stage of the task, how close its condition is; empty where nobody knows."""

    def object_poses_in_base(self) -> dict[str, FloatArray]:
        """Each object's (4, 4) pose; empty where nobody knows them."""

    def attend(self, ask: Ask) -> None:
        """From now on a recording session reads the terminal: it asks, and calls ``solved``."""


class RigScene:
    """The virtual rig places its objects by itself and always knows where they are."""

    def __init__(self, control: RigControl) -> None:
        self.control = control

    def confirm(self, question: str) -> bool:
        return False

    def place(self, placement: Placement) -> None:
        self.control.place(placement)

    def subtask_signals(self) -> dict[str, bool]:
        return self.control.subtask_signals()

    def closeness(self) -> dict[str, float]:
        return self.control.closeness()

    def object_poses_in_base(self) -> dict[str, FloatArray]:
        return self.control.object_poses_in_base()

    def attend(self, ask: Ask) -> None:
        pass  # the rig asks no questions


class OperatorScene:
    """A person at the terminal places the objects, and types ``s`` and Enter when the task is solved.

    Args:
        task: whose objects they are.
        look: the camera's present image (H, W, 3) and its calibration, to draw the places into.
    """

    def __init__(self, task: Task, look: Callable[[], tuple[np.ndarray, Camera]]) -> None:
        self._task, self._look = task, look
        self._solved = False
        self._ask: Ask = self._ask_at_terminal
        self._listens = True
        self._folder = tempfile.TemporaryDirectory(prefix="simreal-")

    def attend(self, ask: Ask) -> None:
        self._ask, self._listens = ask, False

    def confirm(self, question: str) -> bool:
        self._ask(question, None)
        return True

    def place(self, placement: Placement) -> None:
        self._solved = False
        picture = draw_placement(*self._look(), placement)
        print("Place the objects (robot base frame), with their yaw about the vertical:")
        for name, place in placement.items():
            print(f"  {name}: {_in_words(place)}")
        self._ask("Are the objects in place and your hands out of the way?", picture)

    def solved(self) -> None:
        """Note that the operator says the task is solved, for example by a key of a recording session."""
        self._solved = True

    def subtask_signals(self) -> dict[str, bool]:
        typed = self._listens and sys.stdin.isatty() and select.select([sys.stdin], [], [], 0)[0]
        if typed and not self._solved:
            self._solved = sys.stdin.readline().strip().lower() == SUCCESS_KEY
        return dict.fromkeys(self._task.stages, self._solved)

    def closeness(self) -> dict[str, float]:
        return {}

    def object_poses_in_base(self) -> dict[str, FloatArray]:
        return {}

    def _ask_at_terminal(self, question: str, picture: np.ndarray | None) -> None:
        if picture is not None:
            path = Path(self._folder.name) / "placement.png"
            Image.fromarray(picture).save(path)
            print(f"Drawn into the camera's view: {path}")
        ask(question)


def _in_words(place: Place) -> str:
    if isinstance(place, float):
        return f"at {place:.3f} (m or rad)"
    x, y, yaw = place[:3]
    origin = TABLE_CENTRE_IN_BASE_M[:2] if len(place) == 3 else np.zeros(2)
    in_cm = 100 * (origin + (x, y))
    on = "" if len(place) == 3 else f"on {place[3]}, from its middle "
    return f"{on}x {in_cm[0]:.1f} cm, y {in_cm[1]:.1f} cm, {np.rad2deg(yaw):.0f} degrees"
