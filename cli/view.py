"""``simreal view``: a world or a dataset in the browser."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from simreal_cli.options import Cameras, ImageSize, Points, Region, Shift
from simreal_envs.errors import DataError, UsageError, unknown
from simreal_envs.tasks import TASKS

if TYPE_CHECKING:
    import viser

    from simreal_agents.viewing.browser import Player
    from simreal_agents.viewing.show import MakeView, View

OF_TASKS = ("shift", "region", "seed", "cameras", "image_size", "points", "expert")
OF_DATASETS = ("episode",)
"""Options that go with one of both."""


def view(
    context: typer.Context,
    what: Annotated[
        str,
        typer.Argument(
            metavar="TASK|DATASET",
            help=f"A dataset folder, or one of {', '.join(TASKS)}.",
            show_default=False,
        ),
    ],
    shift: Shift = "none",
    region: Region = "all",
    seed: Annotated[int, typer.Option(min=0, help="Reset seed of the start that is shown first.")] = 0,
    cameras: Cameras = "agentview+wrist",
    image_size: ImageSize = (240, 320),
    points: Points = 1024,
    expert: Annotated[bool, typer.Option("--expert", help="Run the scripted expert at once.")] = False,
    episode: Annotated[
        int | None,
        typer.Option(help="Number of the episode, as in its file name.", show_default="the first"),
    ] = None,
    port: Annotated[int | None, typer.Option(help="To serve the page at.", show_default="a free one")] = None,
    bind: Annotated[
        str,
        typer.Option(
            help="Address to listen at. Others than loopback let other machines in, without a password."
        ),
    ] = "127.0.0.1",
    open_: Annotated[
        bool, typer.Option("--open/--no-open", help="Open the page in a browser, if there is a screen.")
    ] = True,
    save: Annotated[
        Path | None,
        typer.Option(
            help="Write a file instead: .html opens without a network and plays, .png is a picture."
        ),
    ] = None,
) -> None:
    """Look at a task's world, or at the episodes of a dataset, in three dimensions in the browser.

    A task shows its scene, cameras, point cloud and start regions. Sliders move objects and joints, and the
    scripted expert runs from there. A dataset shows its episodes step by step: scene, images, the hand's path
    and the targets. In FILE.html an episode plays; a task stands still unless `--expert` is given.

    **Examples**

    `simreal view Drawer --shift viewpoint+light --region ood`

    `simreal view data/lift --episode 3`

    `simreal view Stack --port 8080 --no-open`

    `simreal view data/lift --save lift.html`

    `simreal view Square --expert --save square.html`
    """
    is_task = what in TASKS
    if not is_task and not Path(what).is_dir():
        raise unknown("task or dataset folder", what, TASKS)
    for name in OF_DATASETS if is_task else OF_TASKS:
        source = context.get_parameter_source(name)
        if source is not None and source.name == "COMMANDLINE":
            option, other = name.replace("_", "-"), "a dataset" if is_task else "a task"
            raise UsageError(
                f"--{option} goes with {other}; {what} is {'a task' if is_task else 'a dataset'}."
            )

    from simreal_agents.viewing.show import save_view, serve_view

    make = (
        _of_task(what, shift, region, seed, cameras, image_size, points, expert)
        if is_task
        else _of_dataset(what, episode)
    )
    if save is not None:
        if expert and save.suffix == ".png":
            raise UsageError(f"--expert plays in an .html file; {save} is a picture of the start.")
        if not save.absolute().parent.is_dir():
            raise UsageError(f"--save is {save}, but there is no folder {save.parent}.")
        save_view(make, save)
        typer.echo(f"{save}: {save.stat().st_size / 1e6:.1f} MB")
        return
    served: list[str] = []

    def say(url: str) -> None:
        served.append(url)
        typer.echo(f"{what} at {url}, Ctrl-C ends it")

    try:
        serve_view(make, bind, port, open_, say)
    except KeyboardInterrupt:  # the usual end of what is served
        if not served:
            raise
        typer.echo("ended")


def _of_task(
    task: str,
    shift: str,
    region: str,
    seed: int,
    cameras: str,
    image_size: tuple[int, int],
    points: int,
    expert: bool,
) -> MakeView:
    """How to make the view of a task; wrong arguments are found before anything is started."""
    from simreal_envs.spec import REGIONS, check_choice
    from simreal_envs.world_config import WorldConfig

    groups = "image+pointcloud+pointcolour"
    config = WorldConfig(task, shift=shift, obs=groups, image_size=image_size, cameras=cameras, points=points)
    check_choice("region", region, REGIONS)
    if expert:
        from simreal_agents.actors.experts import expert_rule
        from simreal_envs.tasks import get_task

        expert_rule(get_task(task))

    def make(server: viser.ViserServer, player: Player) -> View:
        from simreal_agents.viewing.world_view import WorldView

        return WorldView(server, player, config, region, seed, expert)

    return make


def _of_dataset(folder: str, episode: int | None) -> MakeView:
    """The same of a dataset."""
    from simreal_datasets.store.catalogue import episode_files
    from simreal_datasets.store.choice import position_of
    from simreal_datasets.store.dataset import Dataset

    if not episode_files(Path(folder)):
        raise DataError(
            f"Folder {folder} holds no episode_*.hdf5, so it is no dataset. Tasks are {', '.join(TASKS)}."
        )
    dataset = Dataset(folder)
    number = dataset.infos[0].number if episode is None else episode
    position_of(dataset, number)  # refuses one that is not there

    def make(server: viser.ViserServer, player: Player) -> View:
        from simreal_agents.viewing.dataset_view import DatasetView

        return DatasetView(server, player, dataset, number)

    return make
