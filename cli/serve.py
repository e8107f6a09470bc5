"""``simreal serve``: compute a policy's actions for programs on other computers."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

from simreal_cli.options import ActingSettings


def serve(
    run: Annotated[Path, typer.Argument(help="Run folder.", show_default=False)],
    port: Annotated[int, typer.Option(min=0, max=65535, help="0 takes a free one.")] = 8765,
    host: Annotated[
        str, typer.Option(help="Address to listen at. One that other computers can reach needs a token.")
    ] = "127.0.0.1",
    token: Annotated[
        str | None,
        typer.Option(
            envvar="SIMREAL_TOKEN", show_default=False, help="What clients have to show in SIMREAL_TOKEN."
        ),
    ] = None,
    checkpoint: Annotated[str, typer.Option(help="`last`, or the number of an update.")] = "last",
    settings: ActingSettings = None,
    device: Annotated[
        str, typer.Option(help="auto (a GPU if there is one), cpu, cuda, cuda:1, ...")
    ] = "auto",
) -> None:
    """Serve a policy until Ctrl-C: `ws://HOST:PORT` is taken wherever a run folder is.

    The computer that controls the robot then needs neither torch nor a GPU.

    **Examples**

    `simreal serve runs/uot` and, on the same computer, `simreal eval ws://127.0.0.1:8765`

    `SIMREAL_TOKEN=... simreal serve runs/uot --host 0.0.0.0 --port 8765`
    """
    from simreal_agents.actors.factories import TrainedPolicy
    from simreal_agents.policies.policy import load_policy
    from simreal_agents.serving.server import PolicyServer, check_exposure

    check_exposure(host, token)
    factory = TrainedPolicy.at(run, checkpoint, overrides=settings or ())
    identity = factory.identity()
    policy = load_policy(run, factory.checkpoint, device, overrides=factory.overrides)
    try:
        with PolicyServer(policy, identity, token).listening(host, port) as server:
            address = server.socket.getsockname()
            typer.echo(f"{run} at {policy.update} updates, on {policy.device}: ws://{host}:{address[1]}")
            typer.echo("Ctrl-C ends it.")
            server.serve_forever()
    except KeyboardInterrupt:
        typer.echo("ended")
