"""``simreal eval``: play policies on the same episodes and say which is better, and how sure that is."""

from __future__ import annotations

import os.path
from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer
from rich.console import Console

from simreal_cli.options import (
    ActingSettings,
    Ahead,
    Env,
    Host,
    Join,
    LimitsFile,
    Serial,
    Shift,
    Workers,
    worker_count,
)
from simreal_envs.errors import UsageError
from simreal_envs.spec import REGIONS, check_choice

if TYPE_CHECKING:
    from simreal_agents.actors.factories import ActorFactory
    from simreal_envs.world_config import WorldConfig

EXPERT = "expert"


def evaluate_runs(
    runs: Annotated[
        list[str],
        typer.Argument(
            help="Run folders, ws://HOST:PORT of `simreal serve`, models that Stable-Baselines3 saved "
            "(.zip), or `expert`. The first is compared with each other."
        ),
    ],
    task: Annotated[
        str | None, typer.Option(help="Task of the expert or of a .zip; a run knows its own.")
    ] = None,
    env: Env = "sim",
    host: Host = None,
    shift: Shift = "none",
    serial: Serial = None,
    limits: LimitsFile = None,
    region: Annotated[
        str, typer.Option(help="Where objects start, joined by comma: in, ood, all.")
    ] = "in,ood",
    episodes: Annotated[int, typer.Option(min=1, help="Episodes a policy and region.")] = 100,
    seed: Annotated[
        str,
        typer.Option(
            help="Reset seeds: `test`, `selection` (for choosing checkpoints and settings), or the first one "
            "as a number, 2000000 or more for test, 1000000 or more for selection.",
            metavar="test|selection|INTEGER",
        ),
    ] = "test",
    checkpoint: Annotated[str, typer.Option(help="`last`, or the number of an update.")] = "last",
    settings: ActingSettings = None,
    ahead: Ahead = 0,
    join: Join = "switch",
    workers: Workers = "auto",
    output: Annotated[
        Path, typer.Option(help="Folder for results; what it holds is not played again.")
    ] = Path("out/eval"),
    redo_interrupted: Annotated[
        bool, typer.Option("--redo-interrupted", help="Play episodes again that a fault broke off.")
    ] = False,
    max_steps: Annotated[int, typer.Option(min=1, help="End an episode after so many steps of 50 ms.")] = 500,
    video: Annotated[
        int, typer.Option(min=0, help="Write MP4s of so many failures a policy and region; sim only.")
    ] = 0,
    video_of: Annotated[
        str, typer.Option(help="What --video films: the first failures, successes, or all.")
    ] = "failures",
) -> None:
    """Play policies on the same episodes: success with intervals, paired tests, stages of failure.

    Policies are compared on test seeds, which no demonstration and no choice of a checkpoint used. The tables
    name reset seeds and checkpoints.

    Every episode is written to `episodes.jsonl` as it ends; the same command goes on after Ctrl-C. The tables
    are also written as `report.md`, `summary.json` and `summary.csv`.

    On hardware you see the camera, place the objects, and judge by keys: Enter solved, Backspace gives up (a
    failure), q gives up and stops; the same command plays the unfinished episode again.

    **Examples**

    `simreal eval runs/uot runs/cotrain --shift viewpoint+texture --episodes 100`

    `simreal eval runs/uot --checkpoint 3000 --seed selection --region in --output out/uot-3000`

    `simreal eval runs/uot --region ood --video 5 --output out/uot-videos`

    `simreal eval expert --task Drawer --episodes 3 --video 3 --video-of all`

    `simreal eval expert --task Stack --episodes 200 --workers 2`

    `simreal eval runs/sac expert --episodes 20`

    `simreal eval model.zip --task Lift`

    `simreal eval runs/uot --env real --host 172.16.0.2 --episodes 20`
    """
    from simreal_agents.evaluation.play import evaluate
    from simreal_agents.evaluation.progress import success_bar
    from simreal_agents.evaluation.report import report
    from simreal_agents.evaluation.videos import SHOWN, record_episodes
    from simreal_agents.operators.attended_evaluation import evaluate_attended
    from simreal_envs.seeds import describe
    from simreal_envs.tasks import get_task

    seeds = _seeds(seed, episodes)
    actors = _actors(runs, checkpoint, ahead, join, settings or (), task)
    world = replace(
        _world(actors, task, shift),
        env=env,
        max_steps=max_steps,
        host=host,
        serial=serial,
        limits=str(limits) if limits else None,
    )
    check_choice("--video-of", video_of, SHOWN)
    if video and world.env != "sim":
        raise UsageError(
            f"--video plays episodes once more, which env {world.env!r} never does alike; leave it out."
        )
    regions = [check_choice("region", name, REGIONS) for name in region.split(",")]
    total = len(actors) * len(regions) * episodes
    typer.echo(
        f"{total} episodes: {', '.join(actors)}; regions {', '.join(regions)}; {episodes} in each, "
        f"reset seeds {describe(seeds)}"
    )
    cores = worker_count(workers)
    if world.env == "real":  # where no rule knows what is solved
        results = evaluate_attended(actors, world, regions, seeds, output, redo_interrupted)
    else:
        with success_bar(total) as show:
            results = evaluate(actors, world, regions, seeds, output, cores, show, redo_interrupted)
    summary = report(results, get_task(world.task).stages)
    summary.write(output)
    summary.print(Console())
    if video:
        for path in record_episodes(results, actors, world, output / "videos", video, video_of):
            typer.echo(f"video: {path}")
    typer.echo(f"results: {output}")


def _seeds(asked: str, episodes: int) -> range:
    """The reset seeds that ``--seed`` asks for.

    Raises:
        UsageError: it is neither a purpose nor a number, or they are not all for one purpose of evaluations.
    """
    from simreal_envs.seeds import SELECTION, TEST, purpose_of, ranges, seeds_for

    if asked in (SELECTION, TEST):
        return seeds_for(asked, episodes)
    purpose = purpose_of(int(asked)) if asked.isdecimal() else ""
    if purpose not in (SELECTION, TEST):
        raise UsageError(
            f"--seed is {asked}; valid are test, selection, or a number of one of them. The ranges are "
            f"{ranges()}."
        )
    return seeds_for(purpose, episodes, int(asked))


def _actors(
    runs: list[str],
    checkpoint: str = "last",
    ahead: int = 0,
    join: str = "switch",
    settings: Sequence[str] = (),
    task: str | None = None,
) -> dict[str, ActorFactory]:
    """The factories of actors by name: the run folder's name, or its path where two have the same name."""
    from simreal_agents.actors.factories import named_actor
    from simreal_agents.policies.acting import Acting

    if all(run == EXPERT for run in runs):
        if checkpoint != "last":
            raise UsageError(f"--checkpoint {checkpoint} is of a trained policy; the expert has none.")
        if ahead or join != "switch":
            raise UsageError(
                f"--ahead {ahead} --join {join} are of a trained policy; the expert has no chunks."
            )
        if settings:
            raise UsageError(f"--set {settings[0]} is of a trained policy; the expert has no settings.")
    actors: dict[str, ActorFactory] = {}
    names = [Path(os.path.abspath(run)).name for run in runs]  # `.` has no name
    for run, name in zip(runs, names, strict=True):
        name = name if names.count(name) == 1 else Path(run).as_posix()
        if name in actors:
            raise UsageError(f"Run {run!r} is given twice.")
        actors[name] = named_actor(run, (), checkpoint, Acting(ahead, join), settings, task)
    return actors


def _world(actors: dict[str, ActorFactory], task: str | None, shift: str) -> WorldConfig:
    """The simulated world that all actors were made for."""
    from simreal_envs.world_config import WorldConfig

    trained = {name: world for name, factory in actors.items() if (world := factory.world()) is not None}
    if not trained:
        if task is None:
            raise UsageError("The expert alone does not say which task: give --task.")
        return WorldConfig(task, shift=shift, obs="state")
    (first, spec), *others = trained.items()
    for name, other in others:  # the world shows what any of them reads
        features = {f.key: f for f in (*other.features, *spec.features)}
        spec = replace(spec, features=tuple(features.values()))
        if differing := other.lacks(spec):
            raise UsageError(f"{first!r} and {name!r} cannot be compared: {', '.join(differing)}.")
    if task not in (None, spec.task):
        raise UsageError(f"--task is {task}, but {first!r} was trained for {spec.task}.")
    return WorldConfig.showing(spec, shift=shift)
