"""``simreal replay``: a recorded episode executed again."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

from simreal_cli.options import Env, Host, LimitsFile, Serial
from simreal_envs.spec import PROPRIOCEPTION


def replay(
    dataset: Annotated[Path, typer.Argument(help="Dataset folder.", show_default=False)],
    episode: Annotated[int, typer.Option(help="Number of the episode, as in its file name.")] = 0,
    env: Env = "sim",
    host: Host = None,
    serial: Serial = None,
    limits: LimitsFile = None,
    speed: Annotated[
        float, typer.Option(help="Part of the recorded speed, 0.05 to 1; try slowly first.")
    ] = 0.25,
) -> None:
    """Put the objects where they were and execute the recorded actions again.

    The hand first moves to its recorded start pose, in 1.5 s at full speed and 6 s at the default speed. At
    the end the command says whether the task was solved, and how far the hand was from the recorded path.

    **Examples**

    `simreal replay data/lift-keyboard --episode 3`

    `simreal replay data/source --env rig --speed 0.5`

    `simreal replay data/stack-real --env real --host 172.16.0.2`
    """
    from simreal_agents.operators.replay import replay as execute
    from simreal_datasets.store.choice import position_of
    from simreal_datasets.store.dataset import Dataset

    stored = Dataset(dataset)
    recorded = stored.read(position_of(stored, episode), keys=PROPRIOCEPTION)
    result = execute(recorded, env, speed, host, serial, str(limits) if limits else None)
    outcome = result.outcome
    how = "solved" if outcome.success else f"not solved, furthest stage {outcome.stage!r}"
    typer.echo(
        f"Episode {episode} on {env} at {speed:g} of its speed: {how}, {outcome.steps} steps; the hand was "
        f"{1000 * result.mean_deviation_m:.1f} mm from the recorded path on average, "
        f"{1000 * result.max_deviation_m:.1f} mm at most."
    )
