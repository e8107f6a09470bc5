"""``simreal train``: a policy from demonstrations of a source and a target domain."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer
from rich.console import Console

from simreal_agents.policies.methods import METHODS


def train(
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
    settings: Annotated[
        list[str] | None,
        typer.Option("--set", help="Any other value, as key=value; repeatable. --show-config lists them."),
    ] = None,
    resume: Annotated[
        bool, typer.Option("--resume", help="Go on with an interrupted run; needs no other option.")
    ] = False,
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

    `simreal train runs/uot --resume`
    """
    from simreal_agents.policies.config import config_values, default_preset, load_config
    from simreal_agents.training.train import stored_config
    from simreal_agents.training.train import train as run_training
    from simreal_envs.errors import UsageError

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
        given = overrides + [f"{k}={v}" for k, v in (("method", method), ("preset", preset)) if v]
        if given:
            raise UsageError(f"A resumed run keeps its configuration; leave out {', '.join(given)}.")
        config = stored_config(run)
    else:
        preset = preset or default_preset(overrides)
        config = load_config(preset, method or "uot", overrides)
    if show_config:
        typer.echo(f"# preset: {preset}" if preset else f"# of the run {run}")
        for key, value in config_values(config).items():
            typer.echo(f"{key}={value}")
        return
    console = Console(stderr=True)
    try:
        checkpoint = run_training(config, run, resume, console)
    except KeyboardInterrupt as stopped:
        if not str(stopped):  # before there was anything to save
            raise
        raise KeyboardInterrupt(f"{stopped}. Go on with: simreal train {run} --resume") from stopped
    typer.echo(f"Trained: {checkpoint}")
