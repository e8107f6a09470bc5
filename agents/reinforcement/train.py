"""A run of reinforcement learning: the loop around Stable-Baselines3's, its log and its checkpoints."""

from __future__ import annotations

import math
import shutil
from collections.abc import Callable
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np
from rich.console import Console
from rich.progress import Progress
from stable_baselines3.common.callbacks import BaseCallback

from simreal_agents.actors.rl_agent import BASE, read_agent_config
from simreal_agents.policies.checkpoint import (
    STATE,
    WEIGHTS,
    find_checkpoint,
    list_checkpoints,
    write_json,
)
from simreal_agents.policies.migrations import FORMAT_VERSION
from simreal_agents.policies.policy import Policy, load_policy
from simreal_agents.policies.rl_config import PpoSettings, RLConfig, is_rl
from simreal_agents.progress import bar_columns
from simreal_agents.reinforcement.learner import RLLearner
from simreal_agents.reinforcement.practice import learning_world
from simreal_agents.training.log import Log
from simreal_agents.training.run_folder import CONFIG, LOCK, check_run, read_json
from simreal_agents.training.train import stop_signals
from simreal_envs.errors import DataError, UsageError
from simreal_envs.folders import only_process


def train_agent(
    config: RLConfig,
    run: Path,
    resume: bool = False,
    console: Console | None = None,
    should_stop: Callable[[], bool] = lambda: False,
) -> Path:
    """Train, or go on with, the agent in folder ``run``; returns the folder of its last checkpoint.

    Args:
        console: where to show progress; None shows none.
        should_stop: asked after every episode, or round of PPO; stops the run as Ctrl-C does.

    Raises:
        UsageError: the folder holds another run, or an unfinished one and ``resume`` is not set; or the base
            policy does not fit.
        DataError: a checkpoint that cannot be used, a training that diverged, or another process trains in
            the folder.
        KeyboardInterrupt: after Ctrl-C, SIGTERM or ``should_stop``, once a checkpoint is written.
    """
    reached = partial(check_run, config, run, resume, stored_rl_config, config.env_steps)
    done = reached()
    if done >= config.env_steps:
        return find_checkpoint(run)
    base = _base_policy(config, run, copied=done > 0)
    learning_world(config, base)  # raises what is wrong with it before anything is written
    run.mkdir(parents=True, exist_ok=True)
    with only_process(
        run / LOCK, f"Another training is writing {run}; wait for it, or choose another folder."
    ):
        if done != reached():
            raise UsageError(f"Run {run} was trained by another process meanwhile; start again.")
        learner = RLLearner(config, base)
        try:
            if done:
                learner.restore(find_checkpoint(run))
            else:
                write_json(run / CONFIG, {"format_version": FORMAT_VERSION} | config.to_dict())
                if config.base.run:
                    _copy_base(config, run)
            _learn(learner, run, console, should_stop)
        finally:
            learner.close()
    return find_checkpoint(run)


def stored_rl_config(run: Path) -> RLConfig:
    """The configuration of the agent's run in a folder.

    Raises:
        DataError: no such run there, or one that is damaged or of another version.
    """
    values = read_json(run / CONFIG)
    if not is_rl(values):
        raise DataError(
            f"{run} holds a policy trained from demonstrations, not by --algo; use another folder."
        )
    values.pop("format_version", None)
    return read_agent_config(values, str(run / CONFIG))


def _base_policy(config: RLConfig, run: Path, copied: bool) -> Policy | None:
    """The frozen policy that the agent corrects.

    Raises:
        UsageError: it was trained for another task, or acts by other actions than ``pose``.
        DataError: no such run, a damaged one, or an agent's.
    """
    if not config.base.run:
        return None
    origin = Path(config.base.run)
    found = find_checkpoint(run / BASE if copied else origin, "last" if copied else config.base.checkpoint)
    policy = load_policy(found.parents[1], found.name, "cpu")
    if (policy.spec.task, policy.spec.action_kind) != (config.world.task, "pose"):
        raise UsageError(
            f"The policy in {origin} was trained for {policy.spec.task} and acts by "
            f"{policy.spec.action_kind!r} actions; the agent learns {config.world.task} by 'pose' actions."
        )
    return policy


def _copy_base(config: RLConfig, run: Path) -> None:
    """Copy what acting needs of the base policy, so that its training may go on and its folder may go."""
    origin = find_checkpoint(Path(config.base.run), config.base.checkpoint)
    there = run / BASE / "checkpoints" / origin.name
    shutil.rmtree(run / BASE, ignore_errors=True)
    there.mkdir(parents=True)
    for name in (WEIGHTS, STATE):
        shutil.copyfile(origin / name, there / name)


def _learn(learner: RLLearner, run: Path, console: Console | None, should_stop: Callable[[], bool]) -> None:
    config, columns = learner.config, bar_columns("success {task.fields[success]}")
    with (
        Log(run, learner.steps) as log,
        Progress(*columns, console=console, disable=console is None, refresh_per_second=2) as bar,
        stop_signals() as stop,
    ):
        task = bar.add_task(
            f"train {config.algo.kind}", total=config.env_steps, completed=learner.steps, success="-"
        )
        keeper = _Keeper(
            learner,
            run,
            log,
            lambda done, success: bar.update(task, completed=done, success=success),
            lambda: stop.is_set() or should_stop(),
        )
        steps = config.env_steps - learner.steps
        try:
            learner.model.learn(steps, keeper, log_interval=None, reset_num_timesteps=not learner.steps)
        except ValueError as error:  # torch refuses a distribution with parameters that are not finite
            if learner.is_finite():
                raise
            raise keeper.diverged() from error
        keeper.finish()


class _Keeper(BaseCallback):
    """Logs, saves and stops between two rollouts, where a resumed run can go on.

    A rollout is an episode of SAC, or a round of PPO. A round takes long, so PPO drops the one that it is in
    when it is stopped.
    """

    def __init__(
        self,
        learner: RLLearner,
        run: Path,
        log: Log,
        show: Callable[[int, str], None],
        should_stop: Callable[[], bool],
    ) -> None:
        super().__init__()
        self._learner, self._run, self._log, self._show, self._stop = learner, run, log, show, should_stop
        self._drops = isinstance(learner.config.algo, PpoSettings)
        self._begun = self._saved = self._logged = learner.steps

    def _on_rollout_start(self) -> None:
        self._keep(self._stop())

    def _on_step(self) -> bool:
        return not (self._drops and self._stop())

    def finish(self) -> None:
        """After the last rollout, or one that was dropped."""
        if self._learner.steps < self._learner.config.env_steps:
            self._learner.model.num_timesteps = self._begun
            self._keep(stopped=True)
        self._keep(stopped=False)

    def diverged(self) -> DataError:
        """The error for losses or weights that are no finite numbers."""
        saved = list_checkpoints(self._run)
        kept = f"the checkpoint at step {saved[-1]} is intact" if saved else "nothing was saved"
        return DataError(
            f"The training in {self._run} diverged after step {self._begun}: its losses or weights are no "
            f"finite numbers; {kept}. Train in another folder with a lower algo.learning_rate."
        )

    def _keep(self, stopped: bool) -> None:
        steps, config = self._learner.steps, self._learner.config
        self._begun = steps
        values = self._values()
        success = values.get("success", math.nan)
        self._show(min(steps, config.env_steps), "-" if math.isnan(success) else f"{success:.0%}")
        finished = steps >= config.env_steps
        if steps // config.log_every > self._logged // config.log_every or (
            finished and steps > self._logged
        ):
            self._log.write(steps, values)
            self._logged = steps
        due = steps // config.checkpoint_every > self._saved // config.checkpoint_every
        if steps > self._saved and (due or finished or stopped):
            self._learner.save(self._run)
            self._saved = steps
        if stopped and not finished:
            raise KeyboardInterrupt(f"stopped at step {steps}, which is saved in {self._run}")

    def _values(self) -> dict[str, float]:
        """Losses of the last update, and what the last 100 episodes came to."""
        model: Any = self._learner.model
        values = {
            name.removeprefix("train/"): float(value)
            for name, value in model.logger.name_to_value.items()
            if name.startswith("train/")
        }
        if not all(map(math.isfinite, values.values())):
            raise self.diverged()
        if model.ep_info_buffer:
            scale = self._learner.config.world.reward_scale
            values["reward"] = float(np.mean([episode["r"] for episode in model.ep_info_buffer])) / scale
            values["episode_steps"] = float(np.mean([episode["l"] for episode in model.ep_info_buffer]))
            values["success"] = float(np.mean(model.ep_success_buffer))
        return values
