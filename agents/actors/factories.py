"""Factories of actors: what can be evaluated. Every worker process makes its own actor from a factory."""

from __future__ import annotations

import hashlib
import json
from collections.abc import Iterable
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Protocol

import gymnasium as gym

from simreal_agents.policies.acting import DEFAULT_ACTING, Acting
from simreal_envs.errors import UsageError, unknown
from simreal_envs.features import WorldSpec
from simreal_envs.loop import Actor


class ActorFactory(Protocol):
    """A factory makes an actor for a world; it is picklable, so that worker processes can use it."""

    def identity(self) -> str:
        """Identifies what the actor does; actors that act differently have different identities."""

    def world(self) -> WorldSpec | None:
        """The worlds that the actor is for, and the arrays that it reads; None: any world of any task."""

    def make(self, env: gym.Env[Any, Any]) -> Actor:
        """The actor, ready for this world.

        Raises:
            DataError: it was made for another task, other observations or other actions.
        """


@dataclass(frozen=True)
class TrainedPolicy:
    """The policy of a run folder at one of its checkpoints, and how it acts, see :func:`load_policy`."""

    run: Path
    checkpoint: str
    acting: Acting = DEFAULT_ACTING
    overrides: tuple[str, ...] = ()

    @classmethod
    def at(
        cls,
        run: Path,
        checkpoint: str = "last",
        acting: Acting = DEFAULT_ACTING,
        overrides: Iterable[str] = (),
    ) -> TrainedPolicy:
        """The factory for a checkpoint as it is now: further training does not change what ``last`` is.

        Raises:
            DataError: no such run, one without checkpoints, or an agent's.
            UsageError: no such checkpoint, or it cannot act as the overrides say.
        """
        from simreal_agents.policies.checkpoint import find_checkpoint
        from simreal_agents.policies.policy import checkpoint_config

        folder, changed = find_checkpoint(run, checkpoint), tuple(overrides)
        checkpoint_config(folder, changed)
        return cls(run, folder.name, acting, changed)

    def world(self) -> WorldSpec:
        """The worlds that the policy was trained for, and the arrays that it reads."""
        from simreal_agents.policies.checkpoint import find_checkpoint, read_state

        return WorldSpec.from_json(read_state(find_checkpoint(self.run, self.checkpoint))["world"])

    def identity(self) -> str:
        """Number of updates, the beginning of the SHA-256 of the weights and of how they are used, and how it
        acts if that is not the default."""
        from simreal_agents.policies.checkpoint import STATE, find_checkpoint, read_state

        folder = find_checkpoint(self.run, self.checkpoint)
        read_state(folder)  # refuses a damaged checkpoint
        state = json.loads((folder / STATE).read_text())  # unconverted, so that the identity stays the same
        use = [state["config"]["head"], state["config"]["encoder"]]
        use += [state[key] for key in ("world", "looks", "cameras")]
        digest = hashlib.sha256((folder / "weights.safetensors").read_bytes())
        digest.update(json.dumps(use, sort_keys=True).encode())
        changes = (str(self.acting), *sorted(self.overrides))
        return " ".join([f"{folder.name}-{digest.hexdigest()[:12]}", *filter(None, changes)])

    def make(self, env: gym.Env[Any, Any]) -> Actor:
        """The policy on the CPU: one of several worker processes shall not fill the GPU."""
        from simreal_agents.policies.policy import load_policy

        policy = load_policy(self.run, self.checkpoint, "cpu", self.acting, self.overrides)
        policy.face(env)
        return policy


@dataclass(frozen=True)
class Expert:
    """The task's scripted expert, which moves in a style."""

    style: str = "plain"

    def world(self) -> None:
        """None, as every task has an expert."""

    def identity(self) -> str:
        """The style, as a task has one expert."""
        return "expert" if self.style == "plain" else f"expert:{self.style}"

    def make(self, env: gym.Env[Any, Any]) -> Actor:
        """An expert that reads the object poses of this world."""
        from simreal_agents.actors.experts import make_expert

        return make_expert(env, self.style)


def named_actor(
    name: str,
    others: Iterable[str] = (),
    checkpoint: str = "last",
    acting: Acting = DEFAULT_ACTING,
    overrides: Iterable[str] = (),
    task: str | None = None,
) -> ActorFactory:
    """The factory that a name is of: ``expert``, the path of a run folder or of a model of Stable-Baselines3
    (.zip), or the address of a policy server (``ws://...``).

    ``acting`` is of a policy trained from demonstrations, here or on a server, ``overrides`` of one here,
    ``checkpoint`` of a run folder, and ``task`` of a model, whose file does not say it.

    Raises:
        UsageError: none of them; names them and ``others``. Or see :meth:`TrainedPolicy.at`.
        DataError: a run without checkpoints.
        ActorError: there is no policy server, or it refuses us.
    """
    from simreal_agents.actors.rl_factories import SB3Model, TrainedAgent, learnt_by_trial

    path, own = Path(name), tuple(overrides)
    if name == "expert":
        return Expert()
    if name.startswith(("ws://", "wss://")):
        from simreal_agents.actors.served import ServedPolicy

        if checkpoint != "last" or own:
            chosen = f"Checkpoint {checkpoint}" if checkpoint != "last" else ", ".join(own)
            raise UsageError(f"{chosen} is for a run folder; who serves {name} has chosen.")
        return ServedPolicy.at(name, acting)
    is_model = path.suffix == ".zip" and path.is_file()
    if not is_model and not path.is_dir():
        known = ("expert", *others, "a run folder", "a model.zip", "ws://HOST:PORT of a policy server")
        raise unknown("actor", name, known)
    if not is_model and not learnt_by_trial(path, checkpoint):
        return TrainedPolicy.at(path, checkpoint, acting, own)
    if acting != DEFAULT_ACTING or own:
        raise UsageError(
            f"{name} learnt by trial: it has no chunks to ask for ahead or to join, and no settings. "
            f"Leave out {' '.join(filter(None, (str(acting), *own)))}."
        )
    if not is_model:
        return TrainedAgent.at(path, checkpoint)
    if task is None or checkpoint != "last":
        raise UsageError(
            f"{name} does not say for which task it is, and has no checkpoints: give --task alone."
        )
    return SB3Model(path, task)
