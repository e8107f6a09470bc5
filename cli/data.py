"""``simreal data``: fetch, import, look at, film, merge and mend datasets."""

from __future__ import annotations

import json
from collections import Counter
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer
from rich.console import Console
from rich.table import Table

if TYPE_CHECKING:
    from simreal_datasets.store.dataset import Dataset

app = typer.Typer(
    no_args_is_help=True,
    rich_markup_mode="markdown",
    help="Fetch, import, look at, film, merge and mend datasets.",
)


@app.command()
def fetch(
    tasks: Annotated[
        list[str] | None,
        typer.Argument(help="Tasks, for example Lift; all that have a demonstration if none is named."),
    ] = None,
) -> None:
    """Fetch human demonstrations into the cache and print where they are.

    One teleoperated episode a task, from the wheel of robosuite 1.0.1 (92 MB, through pip). The cache is
    `$SIMREAL_CACHE`, by default `~/.cache/simreal`; what is there and unchanged is not fetched again.

    **Examples**

    `simreal data fetch`

    `SIMREAL_CACHE=/data/cache simreal data fetch Stack`
    """
    from simreal_datasets.making.fetch import fetch_demonstrations

    for task, path in fetch_demonstrations(tasks or ()).items():
        typer.echo(f"{task}: {path}")


@app.command("import")
def import_(
    file: Annotated[
        Path,
        typer.Argument(
            help="demo.hdf5 of robosuite 1.0 to 1.5; or a task: what `simreal data fetch` fetches.",
            show_default=False,
        ),
    ],
    dataset: Annotated[Path, typer.Argument(help="Dataset folder to add to.", show_default=False)],
    task: Annotated[
        str | None, typer.Option(help="Refuse the file unless it holds this task.", show_default=False)
    ] = None,
) -> None:
    """Import robosuite's demonstrations as state episodes, ready for `simreal generate`.

    Square's demonstrations are those of robosuite's NutAssembly; what is done with the round nut is left out.

    A demonstration that is there already, by the checksum of its file, is skipped. One that cannot be read
    is left out, with the reason; if none can be read, nothing is imported.

    **Examples**

    `simreal data import Lift data/lift-human`

    `simreal data import Square data/square-human`

    `simreal data import demo.hdf5 data/stack-human --task Stack`
    """
    from simreal_datasets.making.fetch import fetch_demonstrations
    from simreal_datasets.making.robosuite_import import read_demonstrations
    from simreal_datasets.store.dataset import Dataset, DatasetWriter
    from simreal_envs.tasks import tasks_with

    if not file.exists() and str(file) in tasks_with("human_demonstrations"):
        file = fetch_demonstrations([str(file)])[str(file)]
    episodes, left_out = read_demonstrations(file, task)
    begun = dataset.is_dir() and any(dataset.glob("episode_*.hdf5"))
    there = {_origin(info.meta) for info in Dataset(dataset).infos} if begun else set()
    with DatasetWriter(dataset) as writer:
        for episode in episodes:
            if _origin(episode.meta) in there:
                typer.echo(f"{episode.meta['origin']['demo']}: already there")
                continue
            path = writer.add(episode)
            result = "solved" if episode.meta["success"] else f"failed after {episode.meta['stage']}"
            typer.echo(f"{episode.meta['origin']['demo']}: {len(episode)} steps, {result} -> {path.name}")
    if left_out:
        for reason in left_out:
            typer.echo(f"left out: {reason}", err=True)
        total = len(episodes) + len(left_out)
        typer.echo(f"{len(left_out)} of {total} demonstrations are left out.", err=True)


def _origin(meta: dict[str, Any]) -> tuple[Any, Any] | None:
    origin = meta.get("origin")
    return (origin.get("sha256"), origin.get("demo")) if origin else None


@app.command()
def info(
    dataset: Annotated[Path, typer.Argument(help="Dataset folder.", show_default=False)],
    as_json: Annotated[bool, typer.Option("--json", help="Print JSON instead of a table.")] = False,
) -> None:
    """Show what a dataset holds, and name the episodes that are known to be damaged.

    Content is read and compared with its checksum by `simreal data check`.

    **Examples**

    `simreal data info data/stack-human`

    `simreal data info data/source --json | jq .episodes`
    """
    from simreal_datasets.store.dataset import Dataset

    summary = summarise(Dataset(dataset))
    if as_json:
        typer.echo(json.dumps(summary, indent=2))
        return
    table = Table(title=str(dataset), show_header=False, title_justify="left")
    for key, value in summary.items():
        if key != "damaged":
            table.add_row(key.replace("_", " "), _readable(value))
    console = Console()
    console.print(table)
    for name, reason in summary["damaged"].items():
        console.print(f"[red]damaged[/red] {name}: {reason}")


@app.command()
def check(dataset: Annotated[Path, typer.Argument(help="Dataset folder.", show_default=False)]) -> None:
    """Read every episode whole and compare it with its checksum; exit code 1 if one is damaged.

    **Examples**

    `simreal data check data/stack-human`

    `simreal data check data/source && simreal train runs/source -m source --source data/source`
    """
    from simreal_datasets.store.dataset import Dataset
    from simreal_envs.errors import DataError

    there = Dataset(dataset)
    there.verify()
    for path, reason in there.damaged:
        typer.echo(f"damaged {path.name}: {reason}")
    if there.damaged:
        names = " ".join(path.name for path, _ in there.damaged)
        raise DataError(
            f"{len(there.damaged)} of {len(there) + len(there.damaged)} episodes are damaged. "
            f"Put them back, or delete them: simreal data drop {dataset} {names}"
        )
    typer.echo(f"{len(there)} episodes are what was written.")


@app.command()
def video(
    dataset: Annotated[Path, typer.Argument(help="Dataset folder.", show_default=False)],
    episode: Annotated[int, typer.Option(help="Number of the episode, as in its file name.")] = 0,
    output: Annotated[
        Path | None, typer.Option(help="MP4 file.", show_default="DATASET_EPISODE.mp4 in this folder")
    ] = None,
) -> None:
    """Film an episode's recorded images as MP4, 20 frames a second, those of all cameras side by side.

    These are the pixels that a policy is shown, enlarged. Episodes of states alone hold none.

    **Examples**

    `simreal data video data/source --episode 3`

    `simreal data video data/stack-real --output out/first.mp4`
    """
    from simreal_agents.episode_video import film_episode
    from simreal_datasets.store.choice import position_of
    from simreal_datasets.store.dataset import Dataset
    from simreal_envs.errors import UsageError

    stored = Dataset(dataset)
    position = position_of(stored, episode)
    path = output or Path(f"{dataset.resolve().name}_{episode}.mp4")
    if path.suffix != ".mp4":
        raise UsageError(f"--output is {path}; the file must end in .mp4.")
    frames = film_episode(stored.read(position), path)
    typer.echo(f"{frames} frames: {path}")


@app.command()
def merge(
    into: Annotated[
        Path, typer.Argument(help="Dataset folder to add to; made if it is not there.", show_default=False)
    ],
    folders: Annotated[list[Path], typer.Argument(help="Dataset folders to copy.", show_default=False)],
) -> None:
    """Copy the episodes of datasets into one, under new numbers; they stay as they are.

    What is there already, by the checksum of its content, is skipped: after Ctrl-C the same command goes on.

    **Examples**

    `simreal data merge data/all data/monday data/tuesday`

    `simreal data merge data/mended data/copied-together`
    """
    from simreal_datasets.store.editing import merge as copy_episodes

    copied: Counter[Path] = Counter()
    skipped: Counter[Path] = Counter()
    for episode, copy in copy_episodes(into, folders):
        (skipped if copy is None else copied)[episode.parent] += 1
    for folder in dict.fromkeys([*copied, *skipped]):
        typer.echo(f"{folder}: {copied[folder]} episodes copied, {skipped[folder]} already there")


@app.command()
def drop(
    dataset: Annotated[Path, typer.Argument(help="Dataset folder.", show_default=False)],
    episodes: Annotated[
        list[str],
        typer.Argument(
            help="Numbers of episodes, as in their file names, or file names.", show_default=False
        ),
    ],
) -> None:
    """Delete episodes from a dataset, for instance a demonstration that was kept by mistake.

    Files of datasets that were merged by copying can have the same number; they are dropped by name.

    **Examples**

    `simreal data drop data/stack-real 12`

    `simreal data drop data/stack-real 3 7 episode_000008.5f0c3a9e81d2b740.hdf5`
    """
    from simreal_datasets.store.catalogue import list_episodes
    from simreal_datasets.store.editing import drop_episodes

    there = {info.path: info for info in list_episodes(dataset).infos} if dataset.is_dir() else {}
    wanted = [int(text) if text.isdecimal() else Path(text).name for text in episodes]
    try:
        dropped = drop_episodes(dataset, wanted)
    except KeyboardInterrupt:  # the same command would name episodes that are deleted already
        raise KeyboardInterrupt(
            f"interrupted; `simreal data info {dataset}` says what is left of it."
        ) from None
    for path in dropped:
        info = there.get(path)
        what = f"{info.length} steps by {_readable(info.meta.get('actor'))}" if info else "damaged"
        typer.echo(f"dropped {path.name}: {what}")


def summarise(dataset: Dataset) -> dict[str, Any]:
    """What is in a dataset, JSON-able; counts are of episodes."""
    from simreal_datasets.store.choice import masks
    from simreal_datasets.store.metadata import how_it_ended

    metas = [info.meta for info in dataset.infos]
    lengths = sorted(info.length for info in dataset.infos)

    def count(key: str) -> dict[str, int]:
        return dict(Counter(_readable(meta.get(key)) for meta in metas).most_common())

    first = metas[0]
    versions = Counter(f"{name} {v}" for meta in metas for name, v in (meta.get("versions") or {}).items())
    endings = Counter(how_it_ended(meta) for meta in metas)
    return {
        "task": first["task"],
        "action_kind": first["action_kind"],
        "observations": {f.key: f"{f.dtype} {f.shape} {f.unit}" for f in dataset.infos[0].spec.features},
        "cameras": [*(first.get("cameras") or {})],
        "episodes": len(metas),
        "steps": sum(lengths),
        "shortest_median_longest": [lengths[0], lengths[len(lengths) // 2], lengths[-1]],
        "success": endings["success"],
        "failed": endings["failed"],
        "interrupted": endings["interrupted"],
        "masks": {name: len(chosen) for name, chosen in masks(dataset).items()},
        "env": count("env"),
        "shift": count("shift"),
        "start_region": count("placement_region"),
        "actor": count("actor"),
        "style": count("style"),
        "noise_m": count("noise_m"),
        "versions": dict(versions.most_common()),
        "format_version": first["format_version"],
        "megabytes": round(sum(info.stamp.size for info in dataset.infos) / 1e6, 2),
        "damaged": {path.name: reason for path, reason in dataset.damaged},
    }


def _readable(value: Any) -> str:
    if isinstance(value, dict):
        return ", ".join(f"{name}: {count}" for name, count in value.items())
    if isinstance(value, list):
        return ", ".join(map(str, value))
    return "-" if value is None else str(value)
