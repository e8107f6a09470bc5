"""Options that several commands share."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated, Any

import typer

from simreal_envs.plugins import Registry
from simreal_envs.tasks import TASKS

Env = Annotated[str, typer.Option(help="Which world: sim, rig (the virtual robot) or real.")]
Host = Annotated[
    str | None,
    typer.Option(help="Address of the robot, needed for real; a rig without one is started for you."),
]
Serial = Annotated[str | None, typer.Option(help="Of the RealSense, where there are several.")]
TASK_NAMES = f"One of {', '.join(TASKS)}."
_OF_PLUG_INS = "".join(f", {name}" for name in Registry[object]("shift", "simreal.shifts", {}))
"""The package's own are written out below, because importing them takes scipy."""
Shift = Annotated[
    str,
    typer.Option(
        help="What is different, joined by +. Seen: viewpoint, viewpoint-teaser, camera-jitter, texture, "
        "random-texture, light, random-light, object-texture, random-object-texture, colour, noise, "
        "exposure, blur, sensor-noise, jpeg, depth, points, image-delay. Physics, sim only: object-shape, "
        f"friction, mass, gains, action-delay{_OF_PLUG_INS}. Presets: paper-viewpoint, paper-texture, "
        "real-like, randomise. light:0.5 is half."
    ),
]
Region = Annotated[str, typer.Option(help="Where objects start: in, ood or all.")]
Obs = Annotated[
    str, typer.Option(help="Observations, joined by +: state, image, depth, pointcloud, pointcolour.")
]
ImageSize = Annotated[tuple[int, int], typer.Option(help="Height and width in pixels.")]
Cameras = Annotated[str, typer.Option(help="agentview, wrist (on the hand; sim only), or agentview+wrist.")]
Points = Annotated[int, typer.Option(help="Of a point cloud.")]
History = Annotated[
    int,
    typer.Option(
        help="Moments in one observation, for a policy that acts; a dataset holds each moment once."
    ),
]
Workers = Annotated[str, typer.Option(help="Processes: a number, or `auto` for one a core.")]
ActingSettings = Annotated[
    list[str] | None,
    typer.Option(
        "--set",
        help="How a trained policy acts, as key=value; repeatable. head.steps=4 samples in fewer steps.",
    ),
]
Ahead = Annotated[
    int,
    typer.Option(
        min=0,
        help="Steps of 50 ms from asking a policy for a chunk of actions to its first use, which it has to "
        "compute it; until then the chunk before goes on.",
    ),
]
Join = Annotated[
    str,
    typer.Option(
        help="How chunks of actions follow each other: switch, or ensemble (the mean of all that have an "
        "action for the step)."
    ),
]
LimitsFile = Annotated[Path | None, typer.Option(help="File of safety limits in place of the package's.")]


def given_options(context: typer.Context) -> dict[str, Any]:
    """The options that the command line itself gives, by the names of their parameters."""
    sources = {name: context.get_parameter_source(name) for name in context.params}
    return {n: context.params[n] for n, source in sources.items() if source and source.name == "COMMANDLINE"}


def worker_count(text: str) -> int:
    """How many processes ``--workers`` asks for."""
    from simreal_envs.errors import UsageError
    from simreal_envs.parallel import available_cores

    if text == "auto":
        return available_cores()
    if not text.isdigit() or int(text) < 1:
        raise UsageError(f"--workers is {text!r}; it must be a number from 1, or auto.")
    return int(text)
