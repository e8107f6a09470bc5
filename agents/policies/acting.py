"""Acting in time: when the next chunk of actions is asked for, when it is used, and how chunks are joined.

A policy predicts a chunk of H actions and asks for the next one after ``execute`` of them. With ``ahead`` = d
a chunk that is asked for at step t is used from step t + d on; the actions until then are those of the chunk
before, so the policy has d steps of 50 ms to compute. Simulation waits for the chunk: an episode there is
deterministic and has the delay that the robot has. A robot does not wait. A chunk that is not there in time
is late, and the arm goes on with the remaining actions of the chunk before and then holds.

Every world waits for the first chunk of an episode and uses it from step 0 on: the arm has not started yet.
"""

from __future__ import annotations

import logging
from abc import ABC, abstractmethod
from collections.abc import Sequence
from concurrent.futures import Future, ThreadPoolExecutor
from dataclasses import dataclass, replace
from typing import Any, NamedTuple

import numpy as np
from numpy.typing import NDArray

from simreal_envs.errors import UsageError
from simreal_envs.features import WorldSpec
from simreal_envs.loop import Observation
from simreal_envs.spec import action_space, check_choice, check_observation
from simreal_envs.vector import states_of

log = logging.getLogger("simreal.policy")

SWITCH, ENSEMBLE = "switch", "ensemble"
JOINS = (SWITCH, ENSEMBLE)
ENSEMBLE_DECAY = 0.01
"""m of the temporal ensemble of ACT (Zhao et al., 2023): weights exp(-m i), i = 0 for the oldest chunk."""

Actions = NDArray[np.float32]


@dataclass(frozen=True)
class Acting:
    """How the chunks of a policy are carried out.

    Attributes:
        ahead: steps from asking for a chunk to its first use.
        join: ``switch`` carries out the newest chunk alone; ``ensemble`` the mean of all chunks that have an
            action for the step, with nearly equal weights (ACT's temporal ensemble).
    """

    ahead: int = 0
    join: str = SWITCH

    def check(self, predict: int, execute: int) -> None:
        """Refuse what a policy cannot do that predicts and executes so many actions.

        Raises:
            UsageError: a chunk would have to be used after the next one is asked for, it ends before the next
                one is used, or no two chunks have actions for the same step, so there is nothing to join.
        """
        check_choice("join", self.join, JOINS)
        most = min(execute, predict - execute - (self.join == ENSEMBLE))
        if not 0 <= self.ahead <= most:
            valid = f"are 0 to {most}" if most >= 0 else "is no such join"
            raise UsageError(
                f"ahead is {self.ahead} with join {self.join!r}; valid for a policy that predicts {predict} "
                f"actions and executes {execute} (head.predict, head.execute) {valid}."
            )

    def __str__(self) -> str:
        """What differs from the defaults, for an actor's identity; empty if nothing does."""
        parts = [f"ahead {self.ahead}"] if self.ahead else []
        parts += [self.join] if self.join != SWITCH else []
        return " ".join(parts)


DEFAULT_ACTING = Acting()
"""A chunk is asked for when the one before is used up, and waited for."""


class Chunk(NamedTuple):
    """Actions (H, A) for the steps from ``asked`` on."""

    asked: int
    actions: Actions

    def covers(self, step: int) -> bool:
        return step < self.asked + len(self.actions)

    def at(self, step: int) -> Actions:
        return self.actions[step - self.asked]


class Coming(NamedTuple):
    """A chunk that was asked for at a step: row ``row`` of what is being computed."""

    asked: int
    chunks: Future[Actions]
    row: int


@dataclass(frozen=True)
class Plan:
    """Where an episode stands: what an actor's ``state`` is between two predictions.

    Attributes:
        step: the step of the episode that comes next.
        chunks: those in use, the oldest first.
        coming: the chunk that was asked for and is not in use yet.
        last: the last action that was carried out.
    """

    step: int = 0
    chunks: tuple[Chunk, ...] = ()
    coming: Coming | None = None
    last: Actions | None = None


class ChunkActor(ABC):
    """An actor (see :class:`simreal_envs.loop.Actor`) of anything that predicts chunks of actions.

    It holds no state of an episode, which travels in ``state`` (:class:`Plan`), so one actor can serve any
    number of worlds.

    Args:
        spec: the worlds that it acts in, and the arrays that it reads.
        predict: actions of a chunk.
        execute: steps from asking for one chunk to asking for the next.
        acting: how chunks are carried out.

    Attributes:
        real_time: whether the world goes on by itself, so that a late chunk is not waited for.
        late_chunks: how many chunks were not there in time.

    Raises:
        UsageError: see :meth:`Acting.check`.
    """

    def __init__(self, spec: WorldSpec, predict: int, execute: int, acting: Acting) -> None:
        acting.check(predict, execute)
        self.spec, self.acting, self.execute = spec, acting, execute
        self.real_time, self.late_chunks = False, 0
        self._reads = spec.space
        self._beside = ThreadPoolExecutor(1, "chunks")

    @abstractmethod
    def chunks(self, observations: Observation, deterministic: bool = True) -> Actions:
        """Chunks (B, H, A) in the action space, of checked observations with a leading batch axis."""

    def predict(
        self,
        observation: Observation,
        state: Any = None,
        episode_start: Any = None,
        deterministic: bool = True,
    ) -> tuple[Actions, Any]:
        """Next action (A,) and the :class:`Plan` of those to follow; asks for a new chunk when it is due.

        Of a vector environment's observations, with a leading batch axis, come actions (n, A) and a list of
        n plans. ``episode_start`` (n,) begins single ones anew. One pass through the network makes the chunks
        of all that are due; it agrees within 1e-5 with that of each observation by itself.

        ``deterministic``: the same observation gives the same chunk. A head that samples does so in either
        case: from noise that the observation decides, or else from torch's own generator.

        Raises:
            UsageError: an array is not there, of another shape or dtype than in training, or not finite;
                ``state`` or ``episode_start`` are of another number of environments.
        """
        count = check_observation(observation, self._reads)
        plans = [before or Plan() for before in states_of(state, episode_start, count)]
        plans = [self._received(plan) for plan in plans]
        due = [i for i, plan in enumerate(plans) if self._is_due(plan)]
        if due:
            asked = observation if count is not None else {n: observation[n][None] for n in self._reads}
            # Indexing copies, so a world may reuse its arrays meanwhile.
            coming = self._ask({name: asked[name][due] for name in self._reads}, deterministic)
            for row, i in enumerate(due):
                plans[i] = self._received(replace(plans[i], coming=Coming(plans[i].step, coming, row)))
        acted = [self._act(plan) for plan in plans]
        if count is None:
            return acted[0]
        return np.stack([action for action, _ in acted]), [plan for _, plan in acted]

    def predict_batch(self, observations: Sequence[Observation], deterministic: bool = True) -> Actions:
        """Chunks (B, execute, A) for the observations of B worlds, float32 in the action space."""
        for observation in observations:
            check_observation(observation, self._reads)
        together = {name: np.stack([o[name] for o in observations]) for name in self._reads}
        return self.chunks(together, deterministic)[:, : self.execute]

    def _is_due(self, plan: Plan) -> bool:
        """Whether it is time to ask for a chunk; one is computed at a time."""
        return plan.coming is None and (not plan.chunks or plan.step - plan.chunks[-1].asked >= self.execute)

    def _ask(self, observations: Observation, deterministic: bool) -> Future[Actions]:
        if self.acting.ahead:
            return self._beside.submit(self.chunks, observations, deterministic)
        now: Future[Actions] = Future()
        now.set_result(self.chunks(observations, deterministic))
        return now

    def _received(self, plan: Plan) -> Plan:
        """The plan with the coming chunk in use, if it is time and, on a robot, the chunk is there."""
        coming = plan.coming
        if coming is None:
            return plan
        overdue = plan.step - coming.asked - self.acting.ahead
        if plan.chunks and overdue < 0:
            return plan
        if plan.chunks and self.real_time and not coming.chunks.done():
            if overdue == 0:
                self.late_chunks += 1
                log.warning(
                    "Late chunk: asked for at step %d, not there at step %d. The arm goes on with the chunk "
                    "before, whose actions end at step %d, and then holds.",
                    coming.asked,
                    plan.step,
                    plan.chunks[-1].asked + len(plan.chunks[-1].actions),
                )
            return plan
        newest = Chunk(coming.asked, coming.chunks.result()[coming.row])
        before = plan.chunks if self.acting.join == ENSEMBLE else ()
        return replace(plan, chunks=(*before, newest), coming=None)

    def _act(self, plan: Plan) -> tuple[Actions, Plan]:
        """The action of the plan's step, and the plan for the next one."""
        action = joined([chunk.at(plan.step) for chunk in plan.chunks if chunk.covers(plan.step)], self.spec)
        if action is None:
            assert plan.last is not None
            action = holding(plan.last, self.spec.action_kind)
        old, newest = plan.chunks[:-1], plan.chunks[-1]
        kept = (*(chunk for chunk in old if chunk.covers(plan.step + 1)), newest)
        return action, replace(plan, step=plan.step + 1, chunks=kept, last=action)


def joined(proposed: Sequence[Actions], spec: WorldSpec) -> Actions | None:
    """One action (A,) of those that chunks propose for a step, the oldest first; None if there are none.

    The weighted mean, with the weights of :data:`ENSEMBLE_DECAY`; of orientations the mean rotation; the
    gripper does what has more weight.
    """
    if len(proposed) < 2:
        return proposed[0] if proposed else None
    weights = np.exp(-ENSEMBLE_DECAY * np.arange(len(proposed)))
    actions = np.asarray(proposed, dtype=np.float64)
    action = weights @ actions / weights.sum()
    if spec.action_kind == "pose":
        from scipy.spatial.transform import Rotation

        action[3:6] = Rotation.from_rotvec(actions[:, 3:6]).mean(weights).as_rotvec()
    action[-1] = 1.0 if action[-1] > 0 else -1.0
    space = action_space(spec.action_kind)
    return np.clip(action, space.low, space.high).astype(np.float32)


def holding(last: Actions, action_kind: str) -> Actions:
    """The action (A,) that keeps the arm where ``last`` sent it, and the gripper as it is."""
    held = last.copy()
    if action_kind == "delta":
        held[:-1] = 0.0
    return held
