"""A task's world in the browser: its scene, cameras and start regions, sliders for everything, the expert."""

from __future__ import annotations

import time
from collections.abc import Callable, Iterator
from contextlib import ExitStack
from dataclasses import replace
from typing import Any, cast

import mujoco
import numpy as np
import viser

from simreal_agents.actors.experts import make_expert
from simreal_agents.viewing.bodies import Bodies, poses_in_base
from simreal_agents.viewing.browser import Player
from simreal_agents.viewing.panel import Layers, is_from_browser, set_value, table
from simreal_agents.viewing.regions import draw_regions, other_starts
from simreal_agents.viewing.sights import Sights
from simreal_envs.features import image_key
from simreal_envs.sim.env import SimEnv
from simreal_envs.spec import CONTROL_HZ, JOINT_HIGH_RAD, JOINT_LOW_RAD
from simreal_envs.tasks import JointStart, OnTable
from simreal_envs.tasks.placement import placement_of
from simreal_envs.tasks.progress import conditions
from simreal_envs.tasks.starts import Placement
from simreal_envs.world_config import WorldConfig

ON_TABLE_M, ON_TOP_M = 0.4, 0.1
"""Sliders of an entity's place reach so far from the middle of what it stands on."""
UNLIMITED_RAD = 3.1416
"""So far reaches the slider of a joint without limits."""
FINGER_OPEN_M = 0.04
LAYERS = {"regions": True, "cameras": True, "cloud": False}

Slider = viser.GuiSliderHandle


class WorldView:
    """Shows one episode's start, whatever it is moved to, and the expert's episode from there.

    One world acts and observes nothing but states. Another one with the same seed shows its states to the
    cameras, which takes much longer than a step.

    Args:
        config: the world, with the observations to show.
        runs_expert: whether the expert begins at once.
    """

    def __init__(
        self,
        server: viser.ViserServer,
        player: Player,
        config: WorldConfig,
        region: str,
        seed: int,
        runs_expert: bool = False,
    ) -> None:
        self._server, self._player, self._seed = server, player, seed
        self._runs_expert = runs_expert
        self._open = ExitStack()
        self._acting = replace(config, obs="state").make(region)
        self._open.callback(self._acting.close)
        self._seeing = config.make(region)
        self._open.callback(self._seeing.close)
        self._world, self._eyes = (cast(SimEnv, env.unwrapped) for env in (self._acting, self._seeing))
        self._task, self._model = self._world.task, self._world.physics.model
        self._asked: Placement = {}
        self._turned: dict[str, float] = {}
        """Joints whose starts the task does not draw, by name."""
        self._steps, self._sight_s, self._looked_at = 0, 0.0, 0
        self._info: dict[str, Any] = {}

        draw_regions(server, self._task)
        self._bodies = Bodies(server, self._model)
        self._build_panel(config, region)
        self.reset()
        if runs_expert:
            player.play(self._expert_moments())

    def close(self) -> None:
        """Free both worlds."""
        self._open.close()

    @property
    def title(self) -> str:
        """What is shown."""
        return f"{self._task.name}, seed {self._seed}"

    @property
    def scene(self) -> tuple[mujoco.MjModel, mujoco.MjData]:
        """The scene as it stands now."""
        return self._model, self._world.physics.data

    def moments(self) -> Iterator[None]:
        """The expert's episode with all images, if it shall run; else nothing moves."""
        return self._expert_moments(look_always=True) if self._runs_expert else iter(())

    def reset(self) -> None:
        """Show the start of the seed's episode, but for what was moved."""
        self._player.play(None)
        self._begin()

    def _begin(self) -> None:
        options = {"placement": self._asked}
        _, self._info = self._acting.reset(seed=self._seed, options=options)
        self._seeing.reset(seed=self._seed, options=options)
        self._turn_joints()
        self._steps = 0
        self._show(look=True)
        self._set_sliders()

    def _expert_moments(self, look_always: bool = False) -> Iterator[None]:
        """The expert's episode, a step each time; images follow as fast as they can unless all are wanted."""
        self._turned.clear()
        self._begin()
        actor, state, start = make_expert(self._acting), None, np.array([True])
        observation = self._acting.unwrapped.observe()  # type: ignore[attr-defined]
        is_over = False
        while not is_over:
            yield
            action, state = actor.predict(observation, state, start)
            observation, _, terminated, truncated, self._info = self._acting.step(action)
            start[0], is_over = False, terminated or truncated
            self._steps += 1
            since_s = (self._steps - self._looked_at) / CONTROL_HZ
            self._show(look=look_always or is_over or since_s >= 2 * self._sight_s)
        self._set_sliders()

    # --- the panel --------------------------------------------------------------------------------

    def _build_panel(self, config: WorldConfig, region: str) -> None:
        gui = self._server.gui
        gui.set_panel_label(f"simreal view {self._task.name}")
        gui.add_markdown(f"**{self._task.name}** — {self._task.instruction}")
        self._text = gui.add_markdown("")
        self._player.report = self._report
        seed = gui.add_number("Seed", self._seed, min=0, step=1)
        fresh = gui.add_button("New seed")
        has_expert = self._task.expert is not None
        run = gui.add_button(
            "Run the expert" if has_expert else "This task has no expert", disabled=not has_expert
        )

        @seed.on_update
        def _(_: viser.GuiEvent) -> None:
            self._player.ask("seed", lambda: self._start(seed.value))

        @fresh.on_click
        def _(_: viser.GuiEvent) -> None:
            set_value(seed, seed.value + 1)

        @run.on_click
        def _(_: viser.GuiEvent) -> None:
            self._player.ask("expert", self._run_or_stop)

        self._sights = Sights(self._server)
        self._moving: dict[str, Callable[[], float]] = {}
        self._sliders: dict[str, Slider[float]] = {}
        for name in self._task.starts["all"]:
            self._add_sliders(name)
        self._add_joint_sliders()
        Layers(self._server, LAYERS)
        lines = other_starts(self._task)
        if lines:
            gui.add_markdown(
                "Starts that are no place on the table:\n\n" + "\n".join(f"- {line}" for line in lines)
            )
        gui.add_markdown(table({"shift": config.shift, "region": region}))

    def _run_or_stop(self) -> None:
        self._player.play(None if self._player.is_playing else self._expert_moments())

    def _report(self, problem: str) -> None:
        self._text.content = f"**{problem}**"

    def _start(self, seed: int) -> None:
        """Another episode; what was moved goes back to where it starts."""
        self._seed = seed
        self._asked.clear()
        self._turned.clear()
        self.reset()

    def _add_sliders(self, name: str) -> None:
        """Sliders for how one thing starts."""
        start = self._task.starts["all"][name]
        if isinstance(start, JointStart):
            return  # with the other joints
        reach_m = ON_TABLE_M if isinstance(start, OnTable) else ON_TOP_M
        with self._server.gui.add_folder(name if isinstance(start, OnTable) else f"{name} on {start.of}"):
            sliders = [
                self._slider(f"{name} x", "x (m)", -reach_m, reach_m),
                self._slider(f"{name} y", "y (m)", -reach_m, reach_m),
                self._slider(f"{name} yaw", "yaw (rad)", -np.pi, np.pi),
            ]

        def move() -> None:
            place = tuple(slider.value for slider in sliders)
            self._asked[name] = place if isinstance(start, OnTable) else (*place, start.of)  # type: ignore[assignment]
            self.reset()

        for slider in sliders:
            self._on_change(slider, name, move)

    def _add_joint_sliders(self) -> None:
        """Sliders of hinges and slides: those of entities, the arm's, and one for both fingers."""
        folders: dict[str, list[str]] = {"Joints of entities": [], "Joints of the arm": []}
        for i in range(self._model.njnt):
            joint = self._model.joint(i)
            is_hinge_or_slide = joint.type[0] in (mujoco.mjtJoint.mjJNT_HINGE, mujoco.mjtJoint.mjJNT_SLIDE)
            if is_hinge_or_slide and not joint.name.startswith("gripper0_"):
                folders[f"Joints of {'the arm' if joint.name.startswith('robot0_') else 'entities'}"].append(
                    joint.name
                )
        for title, names in folders.items():
            if not names:
                continue
            with self._server.gui.add_folder(title, expand_by_default=title.endswith("entities")):
                for name in names:
                    self._add_joint_slider(name)
                if title.endswith("arm"):
                    self._add_joint_slider(_FINGER)

    def _add_joint_slider(self, name: str) -> None:
        joint = self._model.joint(name)
        is_slide = joint.type[0] == mujoco.mjtJoint.mjJNT_SLIDE
        low, high = joint.range if joint.limited[0] else (-UNLIMITED_RAD, UNLIMITED_RAD)
        if name.startswith("robot0_joint"):
            number = int(name.removeprefix("robot0_joint")) - 1
            low, high = JOINT_LOW_RAD[number], JOINT_HIGH_RAD[number]
        shown = "fingers" if name == _FINGER else name.removeprefix("robot0_")
        slider = self._slider(name, f"{shown} ({'m' if is_slide else 'rad'})", float(low), float(high))

        def turn() -> None:
            if name in self._task.starts["all"]:
                self._asked[name] = float(np.clip(slider.value, low, high))
            else:
                self._turned[name] = float(np.clip(slider.value, low, high))
            self.reset()

        self._on_change(slider, name, turn)

    def _slider(self, key: str, label: str, low: float, high: float) -> Slider[float]:
        low, high = round(float(low), 4), round(float(high), 4)
        self._sliders[key] = self._server.gui.add_slider(label, low, high, 0.001, min(max(0.0, low), high))
        return self._sliders[key]

    def _on_change(self, slider: Slider[float], name: str, action: Callable[[], None]) -> None:
        @slider.on_update
        def _(event: viser.GuiEvent) -> None:
            if is_from_browser(event):
                self._player.ask(f"move {name}", action)

    def _set_sliders(self) -> None:
        """Let the sliders stand where things are."""
        for name, place in placement_of(self._task, self._world.object_poses_in_base()).items():
            for part, value in zip(("x", "y", "yaw"), cast(tuple[float, float, float], place), strict=False):
                self._set_slider(f"{name} {part}", value)
        data = self._world.physics.data
        for i in range(self._model.njnt):
            joint = self._model.joint(i)
            if joint.name in self._sliders:
                self._set_slider(joint.name, float(data.qpos[joint.qposadr[0]]))

    def _set_slider(self, key: str, value: float) -> None:
        slider = self._sliders[key]
        set_value(slider, round(float(np.clip(value, slider.min, slider.max)), 4))

    # --- showing ----------------------------------------------------------------------------------

    def _turn_joints(self) -> None:
        if not self._turned:
            return
        state = self._world.sim_state()
        for name, value in self._turned.items():
            state[1 + self._model.joint(name).qposadr[0]] = value
            if name == _FINGER:
                state[1 + self._model.joint(_OTHER_FINGER).qposadr[0]] = -value
        self._world.set_sim_state(state)
        self._info["subtask_signals"] = conditions(self._task, self._world.physics)

    def _show(self, look: bool) -> None:
        with self._server.atomic():
            self._bodies.show(poses_in_base(self._world.physics.data))
            if look:
                self._look()
            self._text.content = self._describe()

    def _look(self) -> None:
        began_s = time.perf_counter()
        self._eyes.set_sim_state(self._world.sim_state())
        observation = self._eyes.observe()
        names = self._eyes.observation_spec.cameras
        self._sights.show({name: self._eyes.camera_now(name) for name in names}, observation)
        self._sights.show_pictures({name: observation[image_key(name)] for name in names})
        self._sight_s, self._looked_at = time.perf_counter() - began_s, self._steps

    def _describe(self) -> str:
        now = self._info["subtask_signals"]
        reached = self._info["stages_reached"]
        stages = " → ".join(
            f"**{stage}**" if i < reached else stage for i, stage in enumerate(self._task.stages)
        )
        holding = ", ".join(stage for stage, holds in now.items() if holds) or "none"
        return table(
            {
                "seed": f"{self._seed}, starts in region {self._info['placement_region']}",
                "time": f"{self._steps / CONTROL_HZ:.2f} s, step {self._steps}",
                "stages reached": stages + (" — solved" if self._info["success"] else ""),
                "hold now": holding,
            }
        )


_FINGER, _OTHER_FINGER = "gripper0_right_finger_joint1", "gripper0_right_finger_joint2"
