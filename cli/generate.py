"""``simreal generate``: many demonstrations from a few."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

from simreal_cli.options import (
    Cameras,
    History,
    Host,
    ImageSize,
    LimitsFile,
    Obs,
    Points,
    Region,
    Shift,
    Workers,
    worker_count,
)


def generate(
    demonstrations: Annotated[
        Path, typer.Argument(help="Dataset of demonstrations to start from.", show_default=False)
    ],
    dataset: Annotated[Path, typer.Argument(help="Dataset folder to fill.", show_default=False)],
    episodes: Annotated[int, typer.Option(min=1, help="Stop when the dataset holds this many.")] = 200,
    env: Annotated[str, typer.Option(help="Where they are executed: sim or rig.")] = "sim",
    host: Host = None,
    limits: LimitsFile = None,
    shift: Shift = "none",
    region: Region = "all",
    obs: Obs = "image",
    image_size: ImageSize = (72, 96),
    cameras: Cameras = "agentview",
    points: Points = 1024,
    history: History = 1,
    selection: Annotated[
        str,
        typer.Option(help="Which demonstration a part is taken from: random, nearest_object, nearest_robot."),
    ] = "nearest_object",
    noise: Annotated[
        float, typer.Option(help="Disturb the arm by this many metres, unrecorded; 0 to 0.05.")
    ] = 0.003,
    seed: Annotated[int, typer.Option(help="First reset seed.")] = 0,
    workers: Workers = "auto",
) -> None:
    """Generate demonstrations by moving the parts of given ones to new scenes (MimicGen's method).

    Each attempt is executed and kept if it succeeds; the success rate is reported by start region. The data
    carry MimicGen's `datagen_info`. Ctrl-C keeps every finished episode; the same command continues.

    **Examples**

    `simreal generate data/stack-human data/stack-source --episodes 200`

    `simreal generate data/stack-human data/stack-state --obs state --episodes 1000 --selection random`

    `simreal generate data/lift-human data/lift-rig --env rig --shift viewpoint --region in --episodes 20`
    """
    from simreal_cli.attempts import show_attempts
    from simreal_datasets.making.fill import fill_dataset
    from simreal_datasets.making.generate import Generator, load_segments
    from simreal_datasets.store.dataset import Dataset
    from simreal_envs.errors import UsageError
    from simreal_envs.world_config import WorldConfig

    if dataset.resolve() == demonstrations.resolve():
        raise UsageError(f"{dataset} holds the demonstrations to start from: give another folder to fill.")
    cores = worker_count(workers)
    limits_file = str(limits) if limits else None
    task = load_segments(demonstrations).task
    world = WorldConfig(
        task,
        env,
        shift,
        obs,
        image_size,
        host=host,
        limits=limits_file,
        cameras=cameras,
        points=points,
        history=history,
    )
    recipe = Generator(demonstrations, world, region, selection, noise)
    recipe.check()
    shown = {feature.key for feature in world.spec.features}
    given = Dataset(demonstrations).spec.features
    if lost := [
        f.key for f in given if f.modality in ("image", "depth", "pointcloud") and f.key not in shown
    ]:
        typer.echo(f"Not shown by the new demonstrations: {', '.join(lost)} (--obs, --cameras)")
    attempts = fill_dataset(dataset, recipe, episodes, seed, world.workers or cores)
    show_attempts(attempts, dataset, episodes)
