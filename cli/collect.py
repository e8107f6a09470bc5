"""``simreal collect``: record demonstrations."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

from simreal_cli.options import (
    TASK_NAMES,
    Ahead,
    Cameras,
    Env,
    History,
    Host,
    ImageSize,
    Join,
    LimitsFile,
    Obs,
    Points,
    Region,
    Serial,
    Shift,
    Workers,
    worker_count,
)

BY_HAND_STEPS = 1200
"""People take their time: 60 s."""


def collect(
    dataset: Annotated[Path, typer.Argument(help="Dataset folder to fill.", show_default=False)],
    task: Annotated[str, typer.Option(help=TASK_NAMES, show_default=False)],
    episodes: Annotated[int, typer.Option(min=1, help="Stop when the dataset holds this many.")] = 10,
    by: Annotated[
        str,
        typer.Option(
            help="Who acts: expert (scripted); keyboard, spacemouse, gamepad, guiding, guiding:spacemouse, "
            "guiding:gamepad (you); a run folder; or ws://HOST:PORT of `simreal serve`."
        ),
    ] = "expert",
    env: Env = "sim",
    host: Host = None,
    serial: Serial = None,
    limits: LimitsFile = None,
    shift: Shift = "none",
    region: Region = "all",
    obs: Obs = "image",
    image_size: ImageSize = (72, 96),
    cameras: Cameras = "agentview",
    points: Points = 1024,
    history: History = 1,
    noise: Annotated[
        float, typer.Option(help="Disturb the arm by this many metres, to show recovery; 0 to 0.05.")
    ] = 0.0,
    style: Annotated[
        str | None,
        typer.Option(
            help="How the expert moves: plain; varied (another pace and path in every episode); or a number, "
            "one of many manners.",
            show_default="plain",
        ),
    ] = None,
    seed: Annotated[int, typer.Option(help="First reset seed.")] = 0,
    max_steps: Annotated[
        int | None,
        typer.Option(
            min=1, help="End an episode after so many steps of 50 ms.", show_default="500; by hand 1200"
        ),
    ] = None,
    speed: Annotated[float, typer.Option(help="Full speed of a device, m/s; 0.1 turns by 1 rad/s.")] = 0.1,
    ahead: Ahead = 0,
    join: Join = "switch",
    workers: Workers = "auto",
) -> None:
    """Record demonstrations until the dataset holds enough; a dataset that was begun is continued.

    Only successful episodes are kept. Ctrl-C keeps every finished one. By hand you see the camera, begin with
    a first motion, and keep, discard or repeat each episode by a key; on hardware you say what is solved.

    **Examples**

    `simreal collect data/target --task Lift --shift viewpoint+texture --region in --seed 500000`

    `simreal collect data/state --task Stack --obs state --noise 0.01 --episodes 100`

    `simreal collect data/drawer-ten --task Drawer --style varied --region in`

    `simreal collect data/lift-keyboard --task Lift --by keyboard`

    `simreal collect data/stack-real --task Stack --env real --host 172.16.0.2 --by guiding --episodes 25`

    `simreal collect data/lift-policy --task Lift --by runs/uot`
    """
    from simreal_agents.actors.factories import Expert, named_actor
    from simreal_agents.operators.session import BY_HAND, run_session
    from simreal_agents.policies.acting import Acting
    from simreal_agents.study.collect import ActorRecorder
    from simreal_cli.attempts import show_attempts
    from simreal_datasets.making.fill import fill_dataset
    from simreal_envs.errors import UsageError
    from simreal_envs.spec import HORIZON
    from simreal_envs.world_config import WorldConfig

    cores = worker_count(workers)
    acting = Acting(ahead, join)
    factory = None if by in BY_HAND else named_actor(by, BY_HAND, acting=acting)
    if str(acting) and (factory is None or factory.world() is None):
        raise UsageError(f"{acting} (--ahead, --join) is of a policy's chunks, and {by!r} acts.")
    if style is not None:
        if not isinstance(factory, Expert):
            raise UsageError(f"--style {style} is a manner of the scripted expert, and {by!r} acts.")
        factory = Expert(style)
    trained_in = factory.world() if factory else None
    world = WorldConfig(
        task,
        env,
        shift,
        obs,
        image_size,
        max_steps=max_steps or (HORIZON if factory else BY_HAND_STEPS),
        action_kind=trained_in.action_kind if trained_in else "pose",
        host=host,
        serial=serial,
        limits=str(limits) if limits else None,
        cameras=cameras,
        points=points,
        history=history if trained_in else 1,
    )
    if factory is None or world.env == "real":
        if noise:
            raise UsageError(f"--noise {noise} disturbs scripted experts and policies on sim and rig only.")
        session = run_session(world, region, by, factory, dataset, episodes, seed, speed)
        counts = ", ".join(f"{number} {result}" for result, number in session.results.items())
        typer.echo(f"{dataset} holds {session.stored} episodes. This session: {counts or 'none'}.")
        return
    recipe = ActorRecorder(world, region, noise, factory, by)
    recipe.check()
    attempts = fill_dataset(dataset, recipe, episodes, seed, world.workers or cores)
    show_attempts(attempts, dataset, episodes)
