"""A world with a person beside it: shown live, kept to real time, and ended by their keys."""

from __future__ import annotations

import time
from collections import deque
from collections.abc import Sequence
from typing import Any

import gymnasium as gym
import numpy as np

from simreal_agents.operators.devices import Device, Motion
from simreal_agents.operators.live_view import LiveView, Picture, State, Status
from simreal_agents.operators.terminal import BACKSPACE, ENTER, Terminal
from simreal_envs.loop import Observation
from simreal_envs.robot.pace import PERIOD_S, Pace
from simreal_envs.spec import CONTROL_HZ

STOP = "q"
ENTER_S = 1.0
"""An Enter this soon after another is the same one, held or doubled."""


class SessionOver(KeyboardInterrupt):
    """Raised when the operator ends the session; uncaught, it ends the program like Ctrl-C."""


class Operator:
    """Brings together what one person types, how they move the device, and what they are shown.

    Args:
        terminal: where they type.
        view: what they see.
        device: what they steer with; None for someone who only watches.
    """

    def __init__(self, terminal: Terminal, view: LiveView, device: Device | None = None) -> None:
        self.device, self._terminal, self._view = device, terminal, view
        self.motion = Motion()
        self._from_view: list[str] = []
        self._entered_s = -ENTER_S

    def show(self, status: Status, picture: Picture) -> None:
        """Show where the session stands."""
        self._from_view += self._view.show(status, picture)

    def poll(self) -> list[str]:
        """The keys typed since the last call; also reads the device into ``motion``, for the coming step."""
        keys = self._from_view + self._terminal.keys()
        self._from_view = []
        self.motion = self.device.read(keys) if self.device else Motion()
        return [key for key in (*keys, *self.motion.keys) if key != ENTER or self._enters_anew()]

    def _enters_anew(self) -> bool:
        before_s, self._entered_s = self._entered_s, time.monotonic()
        return self._entered_s - before_s > ENTER_S

    def ask(self, status: Status, picture: Picture, answers: Sequence[str]) -> str:
        """Wait for one of the keys ``answers``."""
        self.poll()  # what was typed before was no answer
        while True:
            self.show(status, picture)
            time.sleep(PERIOD_S)
            for key in self.poll():
                if key in answers:
                    return key


class AttendedWorld(gym.Wrapper[Any, Any, Any, Any]):
    """Wraps a world so that an operator begins and ends its episodes, behind Gymnasium's interface.

    ``reset`` returns when the operator begins, with Enter or a first motion; what they did before is not
    part of the episode. ``step`` ends the episode (``truncated``) when they discard it or stop. Enter says
    that the task is solved, where no rule can: on hardware.

    Args:
        env: the world; simulation is slowed down to real time, a robot keeps its time by itself.
        operator: who attends.
        by_hand: whether the operator acts, so that ``reset`` waits for them.
        guided: whether they take the arm by the hand.

    Attributes:
        progress: shown all the time, for example which demonstration this is.
        ended_by: the key that ended the last episode; empty if the world did.

    ``reset`` raises SessionOver if the operator does not want to begin.
    """

    acting = State.RECORDING
    """What an episode is while it runs."""
    ways_out = f"Backspace discard and again, {STOP} discard and stop"
    """What the keys do that end one."""

    def __init__(
        self, env: gym.Env[Any, Any], operator: Operator, by_hand: bool = True, guided: bool = False
    ) -> None:
        super().__init__(env)
        self.operator, self.guided, self._by_hand = operator, guided, by_hand
        self.progress = self.ended_by = self._remark = self._event = ""
        world: Any = env.unwrapped
        self._world = world
        self._paced = not world.real_time  # a robot keeps the time by itself
        if world.real_time:
            world.scene.attend(self._ask_for_world)
        self._agreed = False
        self._rule_known = False
        self._pace = Pace()
        self._ends_s: deque[float] = deque(maxlen=CONTROL_HZ + 1)
        self._steps = 0

    # --- Gymnasium --------------------------------------------------------------------------------

    def reset(
        self, *, seed: int | None = None, options: dict[str, Any] | None = None
    ) -> tuple[Observation, dict[str, Any]]:
        self.ended_by = self._remark = self._event = ""
        self._steps = 0
        self._show(State.RESETTING, self.progress)
        self.operator.poll()  # keys typed earlier must not answer a question of the reset
        observation, info = self.env.reset(seed=seed, options=options)
        self._rule_known = bool(self._world.object_poses_in_base())
        if self.guided:
            self._world.guide(True)
        if self._by_hand:
            observation = self._wait_for_begin()
        self._pace.start()
        self._ends_s.clear()
        return observation, info

    def step(self, action: np.ndarray) -> tuple[Observation, float, bool, bool, dict[str, Any]]:
        observation, reward, terminated, truncated, info = self.env.step(action)
        self._steps += 1
        for event in info.get("events", ()):
            self._event = event.message
        solved = "" if self._rule_known else "Enter solved, "
        self._show(self.acting, self._describe(observation, info), solved + self.ways_out)
        if self._paced:
            self._pace.wait()
        self._ends_s.append(time.monotonic())
        self._obey(self.operator.poll())
        truncated = truncated or bool(self.ended_by)
        if self.guided and (terminated or truncated):
            self._world.guide(False)
        return observation, float(reward), terminated, truncated, info

    # --- between episodes ---------------------------------------------------------------------------

    def tell(self, state: State, text: str) -> None:
        """Say what came of an episode."""
        self._show(state, text)

    def approves(self, text: str) -> bool:
        """Ask whether to keep a solved episode, if the operator acted by hand or said that it is solved."""
        if self._rule_known and not self._by_hand:
            return True
        keys = f"Enter keep, Backspace discard, {STOP} keep and stop"
        answer = self._ask(State.REVIEW, text, keys, (ENTER, BACKSPACE, STOP))
        return answer != BACKSPACE

    def ask_to_go_on(self, text: str) -> None:
        """After a fault: wait until the operator lets the arm recover and move to its start, or stops."""
        keys = f"Enter recovers and moves the arm to its start, {STOP} stop"
        self._agreed = self._ask(State.INTERRUPTED, text, keys, (ENTER, STOP)) == ENTER

    # --- inside -----------------------------------------------------------------------------------

    def _ask_for_world(self, question: str, picture: np.ndarray | None) -> None:
        """A question of the world's reset; to move after a fault was allowed already."""
        agreed, self._agreed = self._agreed, False
        if agreed:
            return
        status = Status(State.ASKED, question, f"Enter yes, {STOP} stop")
        look = self._world.render if picture is None else lambda: picture
        if self.operator.ask(status, look, (ENTER, STOP)) == STOP:
            self.ended_by = STOP
            raise SessionOver
        self._show(State.RESETTING, self.progress)

    def _ask(self, state: State, text: str, keys: str, answers: Sequence[str]) -> str:
        answer = self.operator.ask(Status(state, text, keys), self._world.render, answers)
        if answer == STOP:
            self.ended_by = STOP
        return answer

    def _show(self, state: State, text: str, keys: str = "") -> None:
        self.operator.show(Status(state, text, keys), self._world.render)

    def _wait_for_begin(self) -> Observation:
        how = "Enter begins" if self.guided else "Enter or a first motion begins"
        keys = f"{self.operator.device.help if self.operator.device else ''} | {STOP} stop"
        self.operator.poll()
        self._pace.start()
        while True:
            observation: Observation = self._world.begin()
            self._show(State.READY, f"{self.progress}: {how}", keys)
            self._pace.wait()
            typed = self.operator.poll()
            if STOP in typed:
                self.ended_by = STOP
                raise SessionOver
            if ENTER in typed or (self.operator.motion and not self.guided):
                return observation

    def _obey(self, keys: Sequence[str]) -> None:
        for key in keys:
            if key in (BACKSPACE, STOP):
                self.ended_by = key
            elif key == ENTER and self._rule_known:
                self._remark = "(not solved yet, says the task's rule)"
            elif key == ENTER:
                self._world.scene.solved()

    def _describe(self, observation: Observation, info: dict[str, Any]) -> str:
        # The last moment, where there is a history.
        x, y, z = observation["robot0_eef_pos"].reshape(-1, 3)[-1]
        finger, other = observation["robot0_gripper_qpos"].reshape(-1, 2)[-1]
        steps = len(self._ends_s) - 1
        rate = f"{steps / (self._ends_s[-1] - self._ends_s[0]):.1f} Hz" if steps > 0 else ""
        parts = [
            self.progress,
            f"{info['stage']} {self._remark}".rstrip(),
            f"{self._steps / CONTROL_HZ:.1f} s",
            rate,
            f"hand {x:.3f} {y:.3f} {z:.3f} m",
            f"fingers {100 * (finger - other):.1f} cm",
            self._event,
        ]
        return ", ".join(part for part in parts if part)
