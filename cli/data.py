"""``simreal data``: fetch, import, look at and mend datasets."""

from __future__ import annotations

import json
from collections import Counter
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer
from rich.console import Console
from rich.table import Table

if TYPE_CHECKING:
    from simreal_datasets.store import Dataset

app = typer.Typer(
    no_args_is_help=True, rich_markup_mode="markdown", help="Fetch, import, look at and mend datasets."
)


@app.command()
def fetch(
    tasks: Annotated[
        list[str] | None,
        typer.Argument(
            help="Lift, Stack, NutAssembly (kept, but not a task here yet); all three if none is named."
        ),
    ] = None,
) -> None:
    """Fetch human demonstrations into the cache and print where they are.

    One teleoperated episode a task, from the wheel of robosuite 1.0.1 (92 MB, through pip). The cache is
    `$SIMREAL_CACHE`, by default `~/.cache/simreal`; what is there and unchanged is not fetched again.

    **Examples**

    `simreal data fetch`

    `SIMREAL_CACHE=/data/cache simreal data fetch Stack`
    """
    from simreal_datasets.fetch import HUMAN_DEMONSTRATIONS, fetch_demonstrations

    for task, path in fetch_demonstrations(tasks or HUMAN_DEMONSTRATIONS).items():
        typer.echo(f"{task}: {path}")


@app.command("import")
def import_(
    file: Annotated[
        Path,
        typer.Argument(
            help="demo.hdf5 of robosuite 1.0 to 1.5; or Lift or Stack: what `simreal data fetch` fetches.",
            show_default=False,
        ),
    ],
    dataset: Annotated[Path, typer.Argument(help="Dataset folder to add to.", show_default=False)],
    task: Annotated[
        str | None, typer.Option(help="Refuse the file unless it holds this task.", show_default=False)
    ] = None,
) -> None:
    """Import robosuite's demonstrations as state episodes, ready for `simreal generate`.

    A demonstration that is there already, by the checksum of its file, is skipped.

    **Examples**

    `simreal data import Lift data/lift-human`

    `simreal data import demo.hdf5 data/stack-human --task Stack`
    """
    from simreal_datasets.fetch import HUMAN_DEMONSTRATIONS, fetch_demonstrations
    from simreal_datasets.robosuite_import import import_demonstrations
    from simreal_datasets.store import Dataset, DatasetWriter

    if str(file) in HUMAN_DEMONSTRATIONS and not file.exists():
        file = fetch_demonstrations([str(file)])[str(file)]
    episodes = import_demonstrations(file, task)
    begun = dataset.is_dir() and any(dataset.glob("episode_*.hdf5"))
    there = {_origin(info.meta) for info in Dataset(dataset).infos} if begun else set()
    with DatasetWriter(dataset) as writer:
        for episode in episodes:
            if _origin(episode.meta) in there:
                typer.echo(f"{episode.meta['source']['demo']}: already there")
                continue
            path = writer.add(episode)
            result = "solved" if episode.meta["success"] else f"failed after {episode.meta['stage']}"
            typer.echo(f"{episode.meta['source']['demo']}: {len(episode)} steps, {result} -> {path.name}")


def _origin(meta: dict[str, Any]) -> tuple[str, str] | None:
    source = meta.get("source")
    return (source["sha256"], source["demo"]) if source else None


@app.command()
def info(
    dataset: Annotated[Path, typer.Argument(help="Dataset folder.", show_default=False)],
    as_json: Annotated[bool, typer.Option("--json", help="Print JSON instead of a table.")] = False,
) -> None:
    """Show what a dataset holds, and name its damaged episodes.

    **Examples**

    `simreal data info data/stack-human`

    `simreal data info data/source --json | jq .episodes`
    """
    from simreal_datasets.store import Dataset

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
def drop(
    dataset: Annotated[Path, typer.Argument(help="Dataset folder.", show_default=False)],
    episodes: Annotated[
        list[int], typer.Argument(help="Numbers of episodes, as in their file names.", show_default=False)
    ],
) -> None:
    """Delete episodes from a dataset, for instance a demonstration that was kept by mistake.

    **Examples**

    `simreal data drop data/stack-real 12`

    `simreal data drop data/stack-real 3 7 8`
    """
    from simreal_datasets.store import Dataset, drop_episodes
    from simreal_envs.errors import DataError

    try:
        there = {info.path: info for info in Dataset(dataset).infos}
    except DataError:  # none can be read, for which dropping them is the cure
        there = {}
    try:
        dropped = drop_episodes(dataset, episodes)
    except KeyboardInterrupt:  # the same command may then name episodes that are gone
        raise KeyboardInterrupt(
            f"interrupted; `simreal data info {dataset}` says what is left of it."
        ) from None
    for path in dropped:
        info = there.get(path)
        what = f"{info.length} steps by {_readable(info.meta.get('actor'))}" if info else "damaged"
        typer.echo(f"dropped {path.name}: {what}")


def summarise(dataset: Dataset) -> dict[str, Any]:
    """What is in a dataset, JSON-able; counts are of episodes."""
    metas = [info.meta for info in dataset.infos]
    lengths = sorted(info.length for info in dataset.infos)

    def count(key: str) -> dict[str, int]:
        return dict(Counter(_readable(meta.get(key)) for meta in metas).most_common())

    first = metas[0]
    versions = Counter(f"{name} {v}" for meta in metas for name, v in meta.get("versions", {}).items())
    return {
        "task": first["task"],
        "action_kind": first["action_kind"],
        "observations": first["obs"],
        "image_size": first["image_size"],
        "episodes": len(metas),
        "steps": sum(lengths),
        "shortest_median_longest": [lengths[0], lengths[len(lengths) // 2], lengths[-1]],
        "success": sum(bool(meta.get("success")) for meta in metas),
        "env": count("env"),
        "shift": count("shift"),
        "start_region": count("placement_region"),
        "actor": count("actor"),
        "versions": dict(versions.most_common()),
        "format_version": first["format_version"],
        "megabytes": round(sum(info.path.stat().st_size for info in dataset.infos) / 1e6, 2),
        "damaged": {path.name: reason for path, reason in dataset.damaged},
    }


def _readable(value: Any) -> str:
    if isinstance(value, dict):
        return ", ".join(f"{name}: {count}" for name, count in value.items())
    if isinstance(value, list):
        return ", ".join(map(str, value))
    return "-" if value is None else str(value)
