"""A recording session: one episode after another, each kept, discarded or done again by the operator."""

from __future__ import annotations

from collections import Counter
from contextlib import ExitStack, closing
from pathlib import Path

from simreal_agents.actors.factories import ActorFactory, Expert
from simreal_agents.operators.attended import STOP, AttendedWorld, Operator, SessionOver
from simreal_agents.operators.devices import DEVICES
from simreal_agents.operators.live_view import State, choose_view
from simreal_agents.operators.teleoperation import GuidedHand, GuidedRecorder, Teleoperator, check_speed
from simreal_agents.operators.terminal import Terminal
from simreal_datasets.making.fill import LAST_SEED, no_seed_left, only_filling, resume_point
from simreal_datasets.store.dataset import DatasetWriter
from simreal_datasets.store.episode import Episode
from simreal_datasets.store.recorder import EpisodeRecorder
from simreal_envs.errors import RobotError, UsageError
from simreal_envs.loop import Actor, Outcome, run_episode
from simreal_envs.world_config import WorldConfig

GUIDING = {"guiding": "keyboard", "guiding:spacemouse": "spacemouse", "guiding:gamepad": "gamepad"}
"""The arm in one's hands, and the device whose button moves the fingers meanwhile."""
BY_HAND = (*DEVICES, *GUIDING)

INTERRUPTED_FOLDER = "interrupted"
"""Inside a dataset: the episodes that a fault ended, as a dataset of their own that nothing trains on."""


class Session:
    """Records episodes with a person present until a dataset holds enough.

    Args:
        world: the attended world.
        actor: who acts.
        name: of the actor, as recorded.
        dataset: folder to fill.
        episodes: how many it shall hold.
        stored, seed: how many it holds, and the reset seed of the next one; see
            :func:`simreal_datasets.making.fill.resume_point`.

    Attributes:
        stored: how many episodes the dataset holds.
        results: how many attempts of this session were saved, discarded and interrupted.
    """

    def __init__(
        self,
        world: AttendedWorld,
        actor: Actor,
        name: str,
        dataset: Path,
        episodes: int,
        stored: int,
        seed: int,
    ) -> None:
        self._world, self._actor, self._name = world, actor, name
        self._dataset, self._episodes = dataset, episodes
        self.stored, self._seed = stored, seed
        self.results: Counter[str] = Counter()

    def run(self) -> None:
        """Record until the dataset is full or the operator stops; what is kept is on the disk at once.

        Raises:
            DataError: another process fills the dataset, or no seed is left.
        """
        try:
            with DatasetWriter(self._dataset) as writer, only_filling(self._dataset):
                while self.stored < self._episodes and self._world.ended_by != STOP:
                    if self._seed >= LAST_SEED:
                        raise no_seed_left(self.stored, self._episodes)
                    self._world.progress = f"demonstration {self.stored + 1} of {self._episodes}"
                    try:
                        recorded = self._record()
                    except RobotError as error:  # most likely the reset's
                        self._world.ask_to_go_on(str(error))
                    else:
                        self._settle(*recorded, writer)
        except SessionOver:
            pass  # stopped between episodes, as the operator may

    def _record(self) -> tuple[Outcome, Episode]:
        recorder = GuidedRecorder() if self._world.guided else EpisodeRecorder()
        outcome = run_episode(self._world, self._actor, seed=self._seed, recorder=recorder)
        return outcome, recorder.finish(self._world, outcome, self._name)

    def _settle(self, outcome: Outcome, episode: Episode, writer: DatasetWriter) -> None:
        """Keep the episode or not, and say so; a start that was discarded or interrupted is tried again."""
        took = f"{outcome.steps} steps"
        if outcome.interrupted:
            with DatasetWriter(self._dataset / INTERRUPTED_FOLDER) as aside:
                aside.add(episode)
            self.results[State.INTERRUPTED.word] += 1
            self._world.ask_to_go_on(f"{outcome.interrupted}; {took} kept apart")
        elif self._world.ended_by:
            self._count(State.DISCARDED, f"{took}, as you wished")
        elif not outcome.success:
            self._seed += 1
            self._count(State.DISCARDED, f"not solved in {took}; furthest stage {outcome.stage!r}")
        elif self._world.approves(f"solved in {took}"):
            writer.add(episode)
            self.stored += 1
            self._seed += 1
            self._count(State.SAVED, f"{self.stored} of {self._episodes}, {took}")
        else:
            self._count(State.DISCARDED, f"{took}, as you wished")

    def _count(self, state: State, text: str) -> None:
        self.results[state.word] += 1
        self._world.tell(state, text)


def run_session(
    world: WorldConfig,
    region: str,
    by: str,
    factory: ActorFactory | None,
    dataset: Path,
    episodes: int,
    first_seed: int,
    speed_mps: float,
) -> Session:
    """Record until the dataset, which may have been begun before, holds ``episodes`` or the operator stops.

    Args:
        world: where.
        region: where objects start.
        by: one of :data:`BY_HAND`, or the name that is recorded for the actor of ``factory``.
        factory: makes the actor if the person only watches.
        dataset: folder to fill.
        episodes: how many it shall hold.
        first_seed: reset seed of the first episode; it decides where the objects start.
        speed_mps: full speed of a device.

    Raises:
        UsageError: an argument is not one of the valid ones, or there is no terminal.
        DataError: the dataset is of another kind.
        RobotError: robot, camera or device fail.
    """
    _check(world, by, factory, speed_mps)
    stored, seed = resume_point(dataset, world, region, episodes, first_seed)
    with ExitStack() as stack:
        operator = _open_operator(stack, by if factory is None else None)
        env = stack.enter_context(closing(world.make(region, render_mode="rgb_array")))
        attended = AttendedWorld(env, operator, factory is None, by in GUIDING)
        actor: Actor
        if factory is not None:
            actor = factory.make(env)
        elif by in GUIDING:
            actor = GuidedHand(lambda: operator.motion)
        else:
            actor = Teleoperator(lambda: operator.motion, speed_mps)
        session = Session(attended, actor, by, dataset, episodes, stored, seed)
        session.run()
    return session


def _check(world: WorldConfig, by: str, factory: ActorFactory | None, speed_mps: float) -> None:
    if by in GUIDING and world.env == "sim":
        raise UsageError("Guiding needs an arm to take by the hand: --env real or --env rig.")
    if isinstance(factory, Expert) and world.env == "real":
        raise UsageError(
            "The scripted expert reads object poses, which nobody knows on hardware. "
            f"Valid for --env real: {', '.join(BY_HAND)}, or a run folder."
        )
    check_speed(speed_mps)


def _open_operator(stack: ExitStack, by: str | None) -> Operator:
    """Terminal, device (None for someone who only watches) and view, closed by ``stack``."""
    terminal = stack.enter_context(Terminal())
    device = stack.enter_context(closing(DEVICES[GUIDING.get(by, by)]())) if by else None
    return Operator(terminal, stack.enter_context(closing(choose_view())), device)
