"""Factories of actors that learnt by trial: our own runs, and models of Stable-Baselines3."""

from __future__ import annotations

import hashlib
import json
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import gymnasium as gym

from simreal_envs.features import WorldSpec
from simreal_envs.loop import Actor


@dataclass(frozen=True)
class TrainedAgent:
    """The agent of a run folder at one of its checkpoints."""

    run: Path
    checkpoint: str

    @classmethod
    def at(cls, run: Path, checkpoint: str = "last") -> TrainedAgent:
        """The factory for a checkpoint as it is now: further training does not change what ``last`` is."""
        from simreal_agents.policies.checkpoint import find_checkpoint

        return cls(run, find_checkpoint(run, checkpoint).name)

    def world(self) -> WorldSpec:
        """The worlds that the agent was trained for, and the arrays that it and its base policy read."""
        return WorldSpec.from_json(self._state()["world"])

    def identity(self) -> str:
        """Number of steps, and the beginning of the SHA-256 of the weights and of how they are used."""
        state = self._state()
        use = [state["config"][key] for key in ("action", "base", "network")] + [state["world"]]
        digest = hashlib.sha256(json.dumps(use, sort_keys=True).encode())
        for weights in sorted([self._folder / "weights.safetensors", *self.run.glob("base/*/*/weights.*")]):
            digest.update(weights.read_bytes())
        return f"{self.checkpoint}-{digest.hexdigest()[:12]}"

    def make(self, env: gym.Env[Any, Any]) -> Actor:
        """The agent, and the base policy that it corrects, on the CPU."""
        from simreal_agents.actors.rl_agent import load_agent

        agent = load_agent(self.run, self.checkpoint)
        agent.face(env)
        return agent

    @property
    def _folder(self) -> Path:
        return self.run / "checkpoints" / self.checkpoint

    def _state(self) -> dict[str, Any]:
        from simreal_agents.policies.checkpoint import read_state

        return read_state(self._folder)


@dataclass(frozen=True)
class SB3Model:
    """A model that Stable-Baselines3's ``save`` wrote, in the worlds of a task."""

    file: Path
    task: str

    def world(self) -> WorldSpec:
        """Worlds with the model's arrays and actions."""
        from simreal_agents.actors.sb3_model import read_model

        return read_model(self.file, self.task).spec

    def identity(self) -> str:
        """The beginning of the file's SHA-256."""
        return f"sb3-{hashlib.sha256(self.file.read_bytes()).hexdigest()[:12]}"

    def make(self, env: gym.Env[Any, Any]) -> Actor:
        """The model's policy on the CPU."""
        from simreal_agents.actors.sb3_model import read_model

        model = read_model(self.file, self.task)
        model.face(env)
        return model


def learnt_by_trial(run: Path, checkpoint: str = "last") -> bool:
    """Whether a run folder holds an agent, not a policy trained from demonstrations.

    Raises:
        DataError: no such run, or one without checkpoints.
        UsageError: no such checkpoint.
    """
    from simreal_agents.policies.checkpoint import find_checkpoint, read_state
    from simreal_agents.policies.rl_config import is_rl

    return is_rl(read_state(find_checkpoint(run, checkpoint), ("config",))["config"])
