"""``simreal demo``: from one human demonstration to a policy in a world it was hardly shown."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer
from rich.console import Console

from simreal_cli.options import TASK_NAMES

if TYPE_CHECKING:
    from simreal_agents.study.experiment import Experiment


def demo(
    task: Annotated[str, typer.Option(help=TASK_NAMES)] = "Lift",
    quick: Annotated[bool, typer.Option("--quick", help="The same, smaller: about six minutes.")] = False,
    env: Annotated[
        str, typer.Option(help="The target world: sim, or rig (the virtual robot, in real time).")
    ] = "sim",
    output: Annotated[
        Path | None,
        typer.Option(
            help="Folder to fill, or to continue.",
            show_default="out/demo-<task>, then -rig and -quick where they are asked for",
        ),
    ] = None,
) -> None:
    """Train co-training and unbalanced optimal transport, and compare them in a stand-in for the real world.

    Generates source demonstrations from one of a human, or ten of the expert; records a few target
    demonstrations (another viewpoint, table, light and camera noise; one part of the table only); trains both
    methods with equal budgets; evaluates them on the same episodes in both regions. Prints a table, writes
    pictures. Ctrl-C keeps what is done; the same command goes on.

    **Examples**

    `simreal demo --quick`

    `simreal demo --task Stack --output out/stack`

    `simreal demo --env rig --quick`
    """
    from simreal_agents.study.experiment import run_experiment
    from simreal_envs.spec import check_choice
    from simreal_envs.tasks import get_task

    given = get_task(task).demo
    check_choice("env of the demo", env, ("sim", "rig"))
    experiment = demo_experiment(task, quick, env)
    console = Console()
    console.print(
        f"[bold]{task}[/], {' and '.join(experiment.methods)}: {experiment.source_demos} source and "
        f"{experiment.target_demos} target demonstrations, {experiment.updates} updates each."
    )
    if given is not None:
        minutes = given.quick_minutes if quick else given.minutes
        console.print(f"About {minutes + (env == 'rig') * RIG_MINUTES[quick]} minutes on two cores.")
    name = "-".join(["demo", task.lower(), *(["rig"] if env == "rig" else []), *(["quick"] if quick else [])])
    folder = output or Path("out") / name
    run_experiment(experiment, folder, console)


RIG_MINUTES = {False: 10, True: 4}
"""Additional minutes that the demo takes with the rig, which runs in real time."""

POINTS = {False: 4, True: 2}
"""Checkpoints on the curve of success over updates."""

RIG_SETTINGS = ("encoder.view=calibrated", "encoder.goal_weight=1")
"""The rig's arm follows its commands differently than the simulated one, which misleads a map of the view
that is learnt from matches (docs/benchmarks.md). So the calibrated view is used, as a lab could."""
RIG_TARGET_DEMOS = 20
RIG_TEST_EPISODES = {False: 20, True: 5}


def demo_experiment(task: str, quick: bool, env: str = "sim") -> Experiment:
    """The sizes of the demo: the task's, else an experiment's usual ones."""
    from simreal_agents.study.experiment import Experiment
    from simreal_envs.tasks import get_task

    given = get_task(task).demo
    sizes: dict[str, Any] = {"updates": Experiment.updates} | (given.sizes if given else {})
    if quick:
        sizes |= {"source_demos": 100, "updates": 1000, "validation_episodes": 8, "test_episodes": 20}
    if env == "rig":
        sizes |= {
            "target_demos": RIG_TARGET_DEMOS,
            "test_episodes": RIG_TEST_EPISODES[quick],
            "overrides": RIG_SETTINGS,
        }
    return Experiment(task, env=env, checkpoint_every=sizes["updates"] // POINTS[quick], **sizes)
