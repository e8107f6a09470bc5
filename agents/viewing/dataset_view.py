"""A dataset's episodes in the browser: the scene at each step, images, the path and the targets."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

import mujoco
import numpy as np
import viser
from scipy.spatial.transform import Rotation

from simreal_agents.operators.teleoperation import hand_pose_in_base
from simreal_agents.viewing.bodies import Bodies
from simreal_agents.viewing.browser import Player
from simreal_agents.viewing.panel import Layers, is_from_browser, set_value
from simreal_agents.viewing.recorded import Recorded, caption, read_episode
from simreal_agents.viewing.regions import Colour, draw_regions
from simreal_agents.viewing.sights import Sights
from simreal_datasets.store.dataset import Dataset
from simreal_envs.features import image_key
from simreal_envs.spec import FloatArray

PATH: Colour = (25, 90, 200)
TARGETS: Colour = (225, 95, 20)
LINE_M = 0.004
LAYERS = {"regions": False, "cameras": True, "cloud": True, "paths": True}


class DatasetView:
    """Shows one episode at a time, at one of its steps."""

    def __init__(self, server: viser.ViserServer, player: Player, dataset: Dataset, number: int) -> None:
        self._server, self._player, self._dataset = server, player, dataset
        self._bodies: Bodies | None = None
        self._shown: Recorded | None = None
        self._build_panel(number)
        self.open(number)

    @property
    def title(self) -> str:
        """What is shown."""
        shown = self._now
        return f"{shown.task.name}, episode {shown.number} of {self._dataset.path}"

    @property
    def scene(self) -> tuple[mujoco.MjModel, mujoco.MjData]:
        """The scene at the step that is shown."""
        scene = self._now.scene
        scene.poses(int(self._step.value))
        return scene.model, scene.data

    def open(self, number: int) -> None:
        """Show an episode from its first step on.

        Raises:
            DataError: it cannot be read, or its actions or its task are of a kind that is not known here.
        """
        self._player.play(None)
        shown = read_episode(self._dataset, number)
        self._shown = shown
        if self._bodies is not None:
            self._bodies.remove()
        self._bodies = Bodies(self._server, shown.scene.model, shown.scene.hidden)
        self._draw_path("executed", shown.episode.observations["robot0_eef_pos"], PATH)
        self._draw_path("targets", shown.targets[:, :3, 3], TARGETS)
        draw_regions(self._server, shown.task)
        self._step.max = max(1, len(shown.episode) - 1)
        self._facts.content = shown.facts()
        self._go_to(0)

    def close(self) -> None:
        """There is nothing to free."""

    def moments(self) -> Iterator[None]:
        """The steps from the one that is shown to the last; from the first, if the last is shown."""
        length = len(self._now.episode)
        first = int(self._step.value)
        for step in range(0 if first >= length - 1 else first, length):
            self._go_to(step)
            yield

    @property
    def _now(self) -> Recorded:
        assert self._shown is not None
        return self._shown

    # --- the panel --------------------------------------------------------------------------------

    def _build_panel(self, number: int) -> None:
        gui = self._server.gui
        gui.set_panel_label(f"simreal view {self._dataset.path.name}")
        names = {caption(info.number, info.meta): info.number for info in self._dataset.infos}
        first = next(name for name, n in names.items() if n == number)
        choice = gui.add_dropdown("Episode", list(names), initial_value=first)
        self._step = gui.add_slider("Step", 0, 1, 1, 0)
        play = gui.add_button("Play or pause")
        self._text = gui.add_markdown("")
        self._sights = Sights(self._server)
        self._facts = gui.add_markdown("")
        Layers(self._server, LAYERS)
        self._player.report = self._report
        axes: dict[str, Any] = {"axes_length": 0.06, "axes_radius": 0.003}
        self._hand = self._server.scene.add_frame("/paths/hand", **axes)
        self._target = self._server.scene.add_frame("/paths/target", **axes, origin_color=TARGETS)

        @choice.on_update
        def _(event: viser.GuiEvent) -> None:
            self._player.ask("episode", lambda: self.open(names[choice.value]))

        @self._step.on_update
        def _(event: viser.GuiEvent) -> None:
            if is_from_browser(event):
                self._player.play(None)
                self._player.ask("step", lambda: self._show(int(self._step.value)))

        @play.on_click
        def _(event: viser.GuiEvent) -> None:
            self._player.ask("play", self._play_or_pause)

    def _play_or_pause(self) -> None:
        self._player.play(None if self._player.is_playing else self.moments())

    def _report(self, problem: str) -> None:
        self._text.content = f"**{problem}** The episode before it is shown."

    def _draw_path(self, name: str, positions_m: FloatArray, colour: Colour) -> None:
        pairs = np.stack([positions_m[:-1], positions_m[1:]], axis=1)
        self._server.scene.add_line_segments(f"/paths/{name}", pairs, colour, thickness=LINE_M)

    # --- showing ----------------------------------------------------------------------------------

    def _go_to(self, step: int) -> None:
        set_value(self._step, step)
        self._show(step)

    def _show(self, step: int) -> None:
        shown = self._now
        if step >= len(shown.episode):
            return
        observation = {key: values[step] for key, values in shown.episode.observations.items()}
        hand, target = hand_pose_in_base(observation), shown.targets[step]
        with self._server.atomic():
            assert self._bodies is not None
            self._bodies.show(shown.scene.poses(step))
            for frame, pose in ((self._hand, hand), (self._target, target)):
                frame.position = pose[:3, 3]
                frame.wxyz = Rotation.from_matrix(pose[:3, :3]).as_quat(scalar_first=True)
            self._sights.show({name: camera.at(hand) for name, camera in shown.cameras.items()}, observation)
            self._text.content = shown.at_step(step)
        seen = [f.camera for f in shown.spec.of("image")]
        self._sights.show_pictures({camera: observation[image_key(camera)] for camera in seen})
