"""``simreal collect``: record demonstrations."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

ACTORS = ("expert",)


def collect(
    dataset: Annotated[Path, typer.Argument(help="Dataset folder to fill.", show_default=False)],
    task: Annotated[str, typer.Option(help="Lift or Stack.", show_default=False)],
    episodes: Annotated[int, typer.Option(help="Stop when the dataset holds this many.")] = 10,
    by: Annotated[str, typer.Option(help="Who acts: expert (scripted).")] = "expert",
    env: Annotated[str, typer.Option(help="Which world: sim.")] = "sim",
    shift: Annotated[str, typer.Option(help="How it looks, e.g. viewpoint:0.5+texture.")] = "none",
    region: Annotated[str, typer.Option(help="Where objects start: in, ood or all.")] = "all",
    obs: Annotated[str, typer.Option(help="Observations: state, image, depth, joined by +.")] = "image",
    image_size: Annotated[tuple[int, int], typer.Option(help="Height and width in pixels.")] = (72, 96),
    noise: Annotated[
        float, typer.Option(help="Disturb the arm by this many metres, to show recovery; 0 to 0.05.")
    ] = 0.0,
    seed: Annotated[int, typer.Option(help="First reset seed.")] = 0,
    workers: Annotated[int, typer.Option(help="Processes; 0 for one a core.")] = 0,
) -> None:
    """Record demonstrations until the dataset holds enough; a dataset that was begun is continued.

    Only successful episodes are kept. Ctrl-C keeps every finished one.

    **Examples**

    `simreal collect data/target --task Lift --shift viewpoint+texture --region in --seed 500000`

    `simreal collect data/state --task Stack --obs state --noise 0.01 --episodes 100`
    """
    from simreal_agents.collect import ExpertRecorder
    from simreal_cli.progress import show_attempts
    from simreal_datasets.fill import fill_dataset
    from simreal_envs.parallel import available_cores
    from simreal_envs.spec import check_choice
    from simreal_envs.world import World

    check_choice("actor", by, ACTORS)
    world = World(task, env, shift, obs, image_size)
    recipe = ExpertRecorder(world, region, noise)
    recipe.check()
    attempts = fill_dataset(dataset, recipe.make_work, episodes, seed, workers or available_cores())
    show_attempts(attempts, dataset, episodes)
