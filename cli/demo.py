"""``simreal demo``: from one human demonstration to a policy in a world it was hardly shown."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer
from rich.console import Console

if TYPE_CHECKING:
    from simreal_agents.experiment import Experiment


def demo(
    task: Annotated[str, typer.Option(help="Lift or Stack.")] = "Lift",
    quick: Annotated[bool, typer.Option("--quick", help="The same, smaller: about six minutes.")] = False,
    output: Annotated[
        Path | None,
        typer.Option(
            help="Folder to fill, or to continue.",
            show_default="out/demo-<task>, with --quick out/demo-<task>-quick",
        ),
    ] = None,
) -> None:
    """Train co-training and unbalanced optimal transport, and compare them in a stand-in for the real world.

    Generates source demonstrations from one human demonstration, records a few target demonstrations (another
    viewpoint, table, light and camera noise; one half of the table only), trains both methods with equal
    budgets, and evaluates them on the same episodes on both halves of the table. Prints a table, writes
    pictures. Ctrl-C keeps what is done; the same command goes on.

    **Examples**

    `simreal demo --quick`

    `simreal demo --task Stack --output out/stack`
    """
    from simreal_agents.experiment import run_experiment
    from simreal_envs.spec import check_choice

    check_choice("task", task, DURATIONS_MINUTES)
    experiment = demo_experiment(task, quick)
    console = Console()
    console.print(
        f"[bold]{task}[/], {' and '.join(experiment.methods)}: {experiment.source_demos} source and "
        f"{experiment.target_demos} target demonstrations, {experiment.updates} updates each. "
        f"About {DURATIONS_MINUTES[task][quick]} minutes on two cores."
    )
    folder = output or Path("out") / f"demo-{task.lower()}{'-quick' if quick else ''}"
    run_experiment(experiment, folder, console)


DURATIONS_MINUTES = {"Lift": {False: 20, True: 6}, "Stack": {False: 40, True: 15}}
"""On two cores. Only the quick Lift is measured as a whole (docs/benchmarks.md), others by their parts."""


SOURCE_DEMOS = {"Lift": 800, "Stack": 300}
MAX_STEPS = {"Lift": 200, "Stack": 300}


def demo_experiment(task: str, quick: bool) -> Experiment:
    """The sizes of the demo."""
    from simreal_agents.experiment import Experiment

    if quick:
        return Experiment(
            task,
            source_demos=100,
            updates=1000,
            checkpoint_every=500,
            validation_episodes=8,
            test_episodes=20,
            max_steps=MAX_STEPS[task],
        )
    return Experiment(task, source_demos=SOURCE_DEMOS[task], max_steps=MAX_STEPS[task])
