"""``simreal train``: a policy from demonstrations of a source and a target domain."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer
from rich.console import Console

from simreal_agents.policies.methods import METHODS
from simreal_cli import train_rl
from simreal_cli.options import TASK_NAMES, given_options

BY_TRIAL = "Learning by trial"
"""Heading of the options that go with --algo."""


def train(
    context: typer.Context,
    run: Annotated[Path, typer.Argument(help="Folder of the run; made if it does not exist.")],
    method: Annotated[
        str,
        typer.Option("--method", "-m", help=f"{', '.join(METHODS)}.", show_default="uot"),
    ] = "",
    policy: Annotated[
        str | None,
        typer.Option(
            help="How actions are predicted: mse, flow, diffusion, or a plug-in's head.",
            show_default="the preset's",
        ),
    ] = None,
    source: Annotated[Path | None, typer.Option(help="Dataset of the source domain.")] = None,
    target: Annotated[Path | None, typer.Option(help="Dataset of the target domain.")] = None,
    source_demos: Annotated[int | None, typer.Option(help="Budget of source demonstrations.")] = None,
    target_demos: Annotated[int | None, typer.Option(help="Budget of target demonstrations.")] = None,
    obs: Annotated[
        str | None,
        typer.Option(help="What the policy sees, joined by +: image, depth, pointcloud, pointcolour, state."),
    ] = None,
    cameras: Annotated[str | None, typer.Option(help="agentview, wrist, or agentview+wrist.")] = None,
    points: Annotated[int | None, typer.Option(help="Of a point cloud.")] = None,
    history: Annotated[int | None, typer.Option(help="Moments that the policy sees at once.")] = None,
    updates: Annotated[int | None, typer.Option(help="Length of the run.")] = None,
    checkpoint_every: Annotated[int | None, typer.Option(help="Updates between checkpoints.")] = None,
    seed: Annotated[int | None, typer.Option(help="Of everything random.")] = None,
    device: Annotated[str | None, typer.Option(help="auto, cpu, cuda or cuda:0.")] = None,
    preset: Annotated[
        str,
        typer.Option(
            help="Settings to begin with. For two CPU cores: cpu-image, cpu-diffusion, cpu-pointcloud; "
            "cpu-large, for several objects. As published, for a GPU: paper-image, paper-pointcloud. Or a "
            "file of your own, NAME.yaml.",
            show_default="cpu-image; cpu-pointcloud if --obs has clouds and no images",
        ),
    ] = "",
    algo: Annotated[
        str,
        typer.Option(
            help="sac or ppo: learn by trial instead of from demonstrations.", rich_help_panel=BY_TRIAL
        ),
    ] = "",
    task: Annotated[str, typer.Option(help=TASK_NAMES, rich_help_panel=BY_TRIAL)] = "",
    env_steps: Annotated[
        int, typer.Option(help="Length of the run, in the agent's steps.", rich_help_panel=BY_TRIAL)
    ] = 20_000,
    residual: Annotated[
        Path | None,
        typer.Option(
            help="Run folder of a policy, which is kept and whose actions are corrected.",
            rich_help_panel=BY_TRIAL,
        ),
    ] = None,
    shift: Annotated[
        str,
        typer.Option(
            help="Shifts of the worlds to learn in, as `simreal eval` takes them.", rich_help_panel=BY_TRIAL
        ),
    ] = "none",
    region: Annotated[
        str,
        typer.Option(
            help="Where objects start: in, ood or all.",
            rich_help_panel=BY_TRIAL,
            show_default="all; in with --residual",
        ),
    ] = "",
    settings: Annotated[
        list[str] | None,
        typer.Option("--set", help="Any other value, as key=value; repeatable. --show-config lists them."),
    ] = None,
    resume: Annotated[
        bool, typer.Option("--resume", help="Go on with an interrupted run; needs no other option.")
    ] = False,
    processes: Annotated[
        int, typer.Option(min=1, help="Processes of this machine that share each batch; one a GPU.")
    ] = 1,
    show_config: Annotated[
        bool, typer.Option("--show-config", help="Show the preset and every value; no training.")
    ] = False,
) -> None:
    """Train a policy. Ctrl-C saves a checkpoint; `--resume` goes on to the same weights.

    **Examples**

    `simreal train runs/uot --source data/sim --target data/real`

    `simreal train runs/cotrain -m cotrain --source data/sim --target data/real --target-demos 10`

    `simreal train runs/tau1 --source data/sim --target data/real --policy flow --set alignment.tau=1`

    `simreal train runs/full --source data/sim --target data/real --preset paper-image --device cuda`

    `simreal train runs/both -m source --source data/sim --obs image+depth --cameras agentview+wrist`

    `simreal train runs/uot --source data/sim --target data/real --processes 2`

    `simreal train runs/uot --resume`

    `simreal train runs/sac --algo sac --task Lift`

    `simreal train runs/corrected --algo sac --residual runs/cotrain --shift viewpoint+texture`
    """
    from simreal_agents.policies.config import config_values, default_preset, load_config
    from simreal_agents.training.run_folder import stored_config
    from simreal_agents.training.train import train as run_training
    from simreal_envs.errors import UsageError

    given = given_options(context)
    if algo or (resume and train_rl.is_agent(run)):
        return train_rl.train_by_trial(run, given)
    train_rl.refuse(given, train_rl.OWN, "only an agent that learns by trial (--algo) has such options")
    named = {
        "data.source": source and source.resolve(), "data.target": target and target.resolve(),
        "data.source_demos": source_demos,
        "data.target_demos": target_demos, "optim.updates": updates, "checkpoint_every": checkpoint_every,
        "seed": seed, "device": device, "head.kind": policy,
        "observation.obs": obs, "observation.cameras": cameras, "observation.points": points,
        "observation.history": history,
    }  # fmt: skip
    overrides = [f"{key}={value}" for key, value in named.items() if value is not None]
    for key in (setting.partition("=")[0].strip() for setting in settings or ()):
        if named.get(key) is not None:
            raise UsageError(f"{key} is given by an option, as {named[key]}, and by --set; give it once.")
    overrides += settings or []
    if resume:
        if kept := overrides + [f"{k}={v}" for k, v in (("method", method), ("preset", preset)) if v]:
            raise UsageError(f"A resumed run keeps its configuration; leave out {', '.join(kept)}.")
        config = stored_config(run)
    else:
        preset = preset or default_preset(overrides)
        config = load_config(preset, method or "uot", overrides)
    if show_config:
        typer.echo(f"# preset: {preset}" if preset else f"# of the run {run}")
        for key, value in config_values(config).items():
            typer.echo(f"{key}={value}")
        return

    def training() -> Path:
        console = Console(stderr=True)
        if processes > 1:
            from simreal_agents.training.launch import launch

            return launch(config, run, resume, processes, console)
        return run_training(config, run, resume, console)

    train_rl.going_on(run, training)
