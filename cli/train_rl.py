"""``simreal train --algo``: an agent that learns by trial in a simulated world."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping
from pathlib import Path
from typing import Any

import typer
from rich.console import Console

from simreal_cli.options import TASK_NAMES
from simreal_envs.errors import UsageError

OPTIONS = {
    "algo": "algo.kind", "task": "world.task", "shift": "world.shift", "region": "world.region",
    "residual": "base.run", "env_steps": "env_steps", "checkpoint_every": "checkpoint_every", "seed": "seed",
    "device": "device",
}  # fmt: skip
"""Options of ``simreal train`` that apply with ``--algo``, and the keys of the configuration they set."""
OWN = ("algo", "task", "shift", "region", "residual", "env_steps")
"""Those of them that apply with ``--algo`` only."""
BESIDE = ("run", "settings", "resume", "show_config")
"""Options that apply to every training."""
_OPTION = {"settings": "set"}
"""Options with another name than their parameter."""


def train_by_trial(run: Path, given: Mapping[str, Any]) -> None:
    """Train an agent, or list its configuration.

    Args:
        given: the options that the command line gives, by name, and their values.

    Raises:
        UsageError: one of them does not apply, or no task is given.
    """
    from simreal_agents.policies.overrides import flatten, plain
    from simreal_agents.policies.rl_config import load_rl_config
    from simreal_agents.reinforcement.train import stored_rl_config, train_agent

    refuse(
        given,
        [name for name in given if name not in (*OPTIONS, *BESIDE)],
        "an agent that learns by trial (--algo) has no such option",
    )
    settings, resume = given.get("settings", []), given.get("resume", False)
    if resume:
        refuse(given, (*OPTIONS, "settings"), "a resumed run keeps its configuration")
        config = stored_rl_config(run)
    else:
        named = {OPTIONS[name]: value for name, value in given.items() if name in OPTIONS}
        for key in (setting.partition("=")[0].strip() for setting in settings):
            if key in named:
                raise UsageError(f"{key} is given by an option, as {named[key]}, and by --set; give it once.")
        if base := given.get("residual"):
            named = {"world.task": _task_of(base)} | named | {"base.run": base.resolve()}
        elif "task" not in given:
            raise UsageError(f"--algo {given['algo']} needs --task. {TASK_NAMES}")
        config = load_rl_config([*(f"{key}={value}" for key, value in named.items()), *settings])
    if given.get("show_config"):
        typer.echo(f"# of the run {run}" if resume else f"# --algo {config.algo.kind}")
        for key, value in flatten(plain(config)):
            typer.echo(f"{key}={value}")
        return
    going_on(run, lambda: train_agent(config, run, resume, Console(stderr=True)))


def refuse(given: Iterable[str], names: Iterable[str], why: str) -> None:
    """Raise a UsageError if options are given that do not apply; it names them, and why."""
    if found := [f"--{_OPTION.get(name, name.replace('_', '-'))}" for name in names if name in given]:
        raise UsageError(f"Leave out {', '.join(found)}: {why}.")


def going_on(run: Path, training: Callable[[], Path]) -> None:
    """Train, and say after Ctrl-C how to go on."""
    from simreal_agents.training.processes import is_first

    try:
        checkpoint = training()
    except KeyboardInterrupt as stopped:
        if not str(stopped):  # before there was anything to save
            raise
        raise KeyboardInterrupt(f"{stopped}. Go on with: simreal train {run} --resume") from stopped
    if is_first():  # of the processes that a launcher such as accelerate's has started
        typer.echo(f"Trained: {checkpoint}")


def _task_of(base: Path) -> str:
    """The task that a run's policy was trained for."""
    from simreal_agents.policies.checkpoint import find_checkpoint, read_state

    return str(read_state(find_checkpoint(base), ("world",))["world"]["task"])


def is_agent(run: Path) -> bool:
    """Whether a folder holds an agent's run."""
    from simreal_agents.policies.rl_config import is_rl
    from simreal_agents.training.run_folder import CONFIG, read_json

    return (run / CONFIG).exists() and is_rl(read_json(run / CONFIG))
