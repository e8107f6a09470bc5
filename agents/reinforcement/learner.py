"""Stable-Baselines3's algorithm for a configuration, saved and restored without pickle.

SB3's own files hold pickled objects. Here a checkpoint holds tensors, and JSON of counters and generators;
everything else follows from the configuration.
"""

from __future__ import annotations

from collections import deque
from collections.abc import Mapping
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np
import torch
from stable_baselines3 import PPO, SAC
from stable_baselines3.common.logger import Logger
from stable_baselines3.common.monitor import Monitor
from stable_baselines3.common.vec_env import DummyVecEnv
from torch import Tensor

from simreal_agents.actors.rl_agent import load_network, network_arguments
from simreal_agents.policies.checkpoint import POLICY_KEYS, TRAINING, WEIGHTS, read_state, save_checkpoint
from simreal_agents.policies.policy import Policy, pick_device
from simreal_agents.policies.rl_config import PpoSettings, RLConfig, SacSettings
from simreal_agents.policies.tensors import read_tensors
from simreal_agents.reinforcement.practice import PracticeWorld, learning_world
from simreal_envs.errors import DataError

BUFFER = ("observations", "next_observations", "actions", "rewards", "dones", "timeouts")
"""Arrays of SB3's replay buffer."""
_NAMED_OTHERWISE = ("kind", "envs", "entropy_weight")
"""Settings of an algorithm that Stable-Baselines3 has under another name, or not."""


class RLLearner:
    """An algorithm, its networks and its worlds.

    It seeds and uses the global generators of torch and numpy, as Stable-Baselines3 does.

    Attributes:
        model: Stable-Baselines3's.
    """

    def __init__(self, config: RLConfig, base: Policy | None) -> None:
        self.config = config
        self._settings = learning_world(config, base)
        self.device = pick_device(config.device)
        if self.device.type == "cpu":
            torch.set_num_threads(config.threads)
        count = config.algo.envs if isinstance(config.algo, PpoSettings) else 1
        make = [partial(self._make_world, base, number, count) for number in range(count)]
        self._envs = DummyVecEnv(make)  # type: ignore[arg-type]
        self.model = self._make_model()
        self.model.set_logger(Logger(None, []))  # what it logs is read from the logger's memory

    @property
    def steps(self) -> int:
        """Steps in the worlds so far."""
        return int(self.model.num_timesteps)

    def is_finite(self) -> bool:
        """Whether all weights are finite numbers."""
        return all(bool(weights.isfinite().all()) for weights in self.model.policy.parameters())

    def _make_world(self, base: Policy | None, number: int, count: int) -> Monitor:
        env = self._settings.make(self.config.world.region, reward="staged")
        return Monitor(PracticeWorld(env, self.config, base, number, count))

    def _make_model(self) -> Any:
        algo = self.config.algo
        own: dict[str, Any] = {
            name: value for name, value in vars(algo).items() if name not in _NAMED_OTHERWISE
        }
        own |= {
            "policy_kwargs": network_arguments(self.config),
            "seed": self.config.seed,
            "device": self.device,
        }
        if isinstance(algo, SacSettings):
            # Whole episodes, so that a checkpoint falls between two and a resumed run is the same.
            own |= {
                "train_freq": (1, "episode"),
                "gradient_steps": -1,
                "ent_coef": f"auto_{algo.entropy_weight}",
            }
            return SAC("MlpPolicy", self._envs, **own)
        return PPO("MlpPolicy", self._envs, **own)

    @property
    def _worlds(self) -> list[PracticeWorld]:
        return [monitor.env for monitor in self._envs.envs]  # type: ignore[attr-defined]

    @property
    def _optimizers(self) -> dict[str, torch.optim.Optimizer]:
        if isinstance(self.model, PPO):
            return {"policy": self.model.policy.optimizer}
        model = self.model
        return {
            "actor": model.actor.optimizer, "critic": model.critic.optimizer,
            "entropy": model.ent_coef_optimizer,
        }  # fmt: skip

    def save(self, run: Path) -> Path:
        """Write a checkpoint; with SAC it holds the replay buffer, too.

        Raises:
            DataError: it cannot be written.
        """
        model = self.model
        # Stable-Baselines3 draws from the global generators.
        numpy_name, numpy_keys, *numpy_rest = np.random.get_state()  # noqa: NPY002
        training = {"generator.torch": torch.get_rng_state()}
        training["generator.numpy"] = torch.from_numpy(np.asarray(numpy_keys).astype(np.int64))
        for name, optimizer in self._optimizers.items():
            for i, values in optimizer.state_dict()["state"].items():
                training |= {f"optimizer.{name}.{i}.{key}": tensor for key, tensor in values.items()}
        buffer = getattr(model, "replay_buffer", None)
        if buffer is not None:
            training["log_ent_coef"] = model.log_ent_coef.detach()
            filled = buffer.buffer_size if buffer.full else buffer.pos
            training |= {f"buffer.{key}": torch.from_numpy(getattr(buffer, key)[:filled]) for key in BUFFER}
        state = {
            "config": self.config.to_dict(),
            "world": self._settings.spec.to_json(),
            "looks": {},
            "cameras": {},
            "device": self.device.type,
            "episodes": [world.episode for world in self._worlds],
            "counters": {"_n_updates": model._n_updates, "_episode_num": getattr(model, "_episode_num", 0)},
            "buffer": {"pos": buffer.pos, "full": bool(buffer.full)} if buffer is not None else {},
            "numpy": [numpy_name, *numpy_rest],
            "action_space": model.action_space.np_random.bit_generator.state,
            "recent": [list(map(_plain, recent or ())) for recent in self._recent],
        }
        return save_checkpoint(run, self.steps, model.policy.state_dict(), training, state)

    @property
    def _recent(self) -> tuple[Any, Any]:
        return self.model.ep_info_buffer, self.model.ep_success_buffer

    def restore(self, checkpoint: Path) -> None:
        """Go back to what :meth:`save` wrote. The episodes in progress begin anew.

        Raises:
            DataError: it is damaged, or of another kind of device.
        """
        keys = (*POLICY_KEYS, "device", "episodes", "counters", "buffer", "numpy", "action_space", "recent")
        state = read_state(checkpoint, keys)
        if state["device"] != self.device.type:
            raise DataError(
                f"{checkpoint} was trained on {state['device']}, and would go on on {self.device.type}: "
                f"resume it on a machine with {state['device']}."
            )
        tensors, model = read_tensors(checkpoint / TRAINING), self.model
        load_network(model.policy, read_tensors(checkpoint / WEIGHTS), checkpoint)
        try:
            self._restore_rest(state, tensors)
        except (KeyError, ValueError, TypeError, RuntimeError) as error:
            raise DataError(f"Checkpoint {checkpoint} is damaged: {error}") from error

    def _restore_rest(self, state: Mapping[str, Any], tensors: Mapping[str, Tensor]) -> None:
        model = self.model
        for name, optimizer in self._optimizers.items():
            moments: dict[int, dict[str, Tensor]] = {}
            for key, tensor in tensors.items():
                part, _, rest = key.partition(f"optimizer.{name}.")
                if not part and rest:
                    i, _, quantity = rest.partition(".")
                    moments.setdefault(int(i), {})[quantity] = tensor
            groups = optimizer.state_dict()["param_groups"]
            optimizer.load_state_dict({"state": moments, "param_groups": groups})
        if state["buffer"]:
            model.log_ent_coef.data.copy_(tensors["log_ent_coef"])
            buffer = model.replay_buffer
            for key in BUFFER:
                values = tensors[f"buffer.{key}"].numpy()
                getattr(buffer, key)[: len(values)] = values
            buffer.pos, buffer.full = state["buffer"]["pos"], state["buffer"]["full"]
        for world, episode in zip(self._worlds, state["episodes"], strict=True):
            world.go_to(episode)
        for name, value in state["counters"].items():
            setattr(model, name, value)
        infos, successes = state["recent"]
        model.ep_info_buffer = deque(infos, maxlen=model._stats_window_size)
        model.ep_success_buffer = deque(successes, maxlen=model._stats_window_size)
        model.action_space.np_random.bit_generator.state = state["action_space"]
        name, *rest = state["numpy"]
        np.random.set_state((name, tensors["generator.numpy"].numpy().astype(np.uint32), *rest))  # noqa: NPY002
        torch.set_rng_state(tensors["generator.torch"])
        model.num_timesteps = int(state["update"])

    def close(self) -> None:
        """Close the worlds."""
        self._envs.close()


def _plain(value: Any) -> Any:
    """A statistic of an episode as JSON takes it."""
    if isinstance(value, dict):
        return {key: float(number) for key, number in value.items()}
    return float(value)
