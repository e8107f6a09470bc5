"""What can be evaluated: recipes for actors, which every worker process can follow for itself."""

from __future__ import annotations

import hashlib
import json
from collections.abc import Iterable
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Protocol

import gymnasium as gym

from simreal_envs.errors import unknown
from simreal_envs.features import WorldSpec
from simreal_envs.loop import Actor


class ActorFactory(Protocol):
    """Makes an actor for a world. Picklable."""

    def identity(self) -> str:
        """Differs whenever the actor would act differently."""

    def make(self, env: gym.Env[Any, Any]) -> Actor:
        """The actor, ready for this world.

        Raises:
            DataError: it was made for another task, other observations or other actions.
        """


@dataclass(frozen=True)
class TrainedPolicy:
    """The policy of a run folder at one of its checkpoints."""

    run: Path
    checkpoint: str

    @classmethod
    def at(cls, run: Path, checkpoint: str = "last") -> TrainedPolicy:
        """The policy as it is now: training that goes on does not change what ``last`` meant.

        Raises:
            DataError: no such run, or one without checkpoints.
            UsageError: no such checkpoint.
        """
        from simreal_agents.policies.checkpoint import find_checkpoint

        return cls(run, find_checkpoint(run, checkpoint).name)

    def world(self) -> WorldSpec:
        """What the policy was trained for, and reads."""
        from simreal_agents.policies.checkpoint import find_checkpoint, read_state

        return WorldSpec.from_json(read_state(find_checkpoint(self.run, self.checkpoint))["world"])

    def identity(self) -> str:
        """Number of updates, and the beginning of the SHA-256 of the weights and of how they are used."""
        from simreal_agents.policies.checkpoint import STATE, find_checkpoint, read_state

        folder = find_checkpoint(self.run, self.checkpoint)
        read_state(folder)  # which refuses a damaged one
        state = json.loads((folder / STATE).read_text())  # of an earlier format as it was: so are its results
        use = [state["config"]["head"], state["config"]["encoder"]]
        use += [state[key] for key in ("world", "looks", "cameras")]
        digest = hashlib.sha256((folder / "weights.safetensors").read_bytes())
        digest.update(json.dumps(use, sort_keys=True).encode())
        return f"{folder.name}-{digest.hexdigest()[:12]}"

    def make(self, env: gym.Env[Any, Any]) -> Actor:
        """The policy on the CPU: one of several worker processes shall not fill the GPU."""
        from simreal_agents.policies.policy import load_policy

        policy = load_policy(self.run, self.checkpoint, device="cpu")
        policy.face(env)
        return policy


@dataclass(frozen=True)
class Expert:
    """The task's scripted expert."""

    def identity(self) -> str:
        """There is one a task."""
        return "expert"

    def make(self, env: gym.Env[Any, Any]) -> Actor:
        """An expert that reads the object poses of this world."""
        from simreal_agents.actors.experts import make_expert

        return make_expert(env)


def named_actor(name: str, others: Iterable[str] = ()) -> ActorFactory:
    """What ``expert`` or the path of a run folder stands for.

    Raises:
        UsageError: neither; names them and ``others``.
        DataError: a run without checkpoints.
    """
    if name == "expert":
        return Expert()
    if Path(name).is_dir():
        return TrainedPolicy.at(Path(name))
    raise unknown("actor", name, ("expert", *others, "a run folder"))
