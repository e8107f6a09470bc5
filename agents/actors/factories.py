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
from simreal_envs.errors import unknown
from simreal_envs.features import WorldSpec
from simreal_envs.loop import Actor


class ActorFactory(Protocol):
    """A factory makes an actor for a world; it is picklable, so that worker processes can use it."""

    def identity(self) -> str:
        """Identifies what the actor does; actors that act differently have different identities."""

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
            DataError: no such run, or one without checkpoints.
            UsageError: no such checkpoint, or it cannot act as the overrides say.
        """
        from simreal_agents.policies.checkpoint import find_checkpoint

        if overrides := tuple(overrides):
            from simreal_agents.policies.policy import checkpoint_config

            checkpoint_config(find_checkpoint(run, checkpoint), overrides)
        return cls(run, find_checkpoint(run, checkpoint).name, acting, overrides)

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
) -> ActorFactory:
    """The factory that ``expert`` or the path of a run folder names.

    ``checkpoint``, ``acting`` and ``overrides`` are of a trained policy.

    Raises:
        UsageError: neither; names them and ``others``. Or see :meth:`TrainedPolicy.at`.
        DataError: a run without checkpoints.
    """
    if name == "expert":
        return Expert()
    if Path(name).is_dir():
        return TrainedPolicy.at(Path(name), checkpoint, acting, overrides)
    raise unknown("actor", name, ("expert", *others, "a run folder"))
