"""``simreal rig``: a virtual Panda with a D435, for programs that talk to the real ones."""

from __future__ import annotations

import time
from typing import Annotated, Any

import typer

from simreal_cli.options import TASK_NAMES
from simreal_envs.errors import RobotError, UsageError
from simreal_envs.rig.faults import FAULTS, parse_fault

REFRESH_S = 1.0


def rig(
    task: Annotated[str, typer.Option(help=f"Task whose table is served. {TASK_NAMES}")] = "Stack",
    shift: Annotated[
        str, typer.Option(help="What the camera sees differently, joined by +, as in `simreal eval`.")
    ] = "none",
    host: Annotated[
        str | None, typer.Option(help="Address to listen at, for example 127.0.0.2. [default: a free one]")
    ] = None,
    fault: Annotated[
        list[str] | None,
        typer.Option(help=f"What goes wrong, NAME or NAME:VALUE; repeatable: {', '.join(FAULTS)}."),
    ] = None,
    inject: Annotated[
        list[str] | None,
        typer.Option(help="The same in the rig that runs at --host; `none` ends every fault."),
    ] = None,
    camera: Annotated[bool, typer.Option(help="Whether there is a camera.")] = True,
    enforce_loss: Annotated[
        bool, typer.Option(help="Stop the arm after 20 lost commands in a row, as the robot does.")
    ] = False,
    expose: Annotated[
        bool, typer.Option(help="Listen at an address that other machines can reach; there is no password.")
    ] = False,
) -> None:
    """Run a virtual robot until Ctrl-C: a Panda and its hand over Franka's protocol, and a RealSense D435.

    Connect with `panda_py.Panda(HOST)`, or with `env="rig"` and `host=HOST`.

    **Examples**

    `simreal rig --task Stack --host 127.0.0.2`

    `simreal rig --task Lift --shift viewpoint+texture --fault packet_loss:0.05`

    `simreal rig --host 127.0.0.2 --inject reflex:cartesian_reflex`
    """
    if inject:
        _inject(host, inject)
        return

    from rich.console import Console

    from simreal_envs.latest import Latest
    from simreal_envs.rig.control import RigControl
    from simreal_envs.rig.launch import Rig
    from simreal_envs.rig.stereo import FRAMES

    console = Console()
    try:
        with (
            console.status("starting") as line,
            Rig(task, shift, host, camera, fault or (), enforce_loss, expose) as running,
        ):
            console.print(f"{task} at [bold]{running.host}[/], Ctrl-C ends it", highlight=False)
            frames = Latest(f"rig-{running.host}-camera", FRAMES) if camera else None
            with RigControl(running.host) as control:
                before = now = control.status()
                while running.running:
                    time.sleep(REFRESH_S)
                    before, now = now, control.status() | {"frames": frames.written if frames else 0}
                    line.update(_describe(before, now))
        raise RobotError("A process of the virtual rig ended by itself; its message is above.")
    except KeyboardInterrupt:
        console.print("ended")


def _inject(host: str | None, faults: list[str]) -> None:
    """Make something go wrong in a rig that runs."""
    from simreal_envs.rig.control import RigControl

    if host is None:
        raise UsageError(f"--inject {faults[0]} needs the address of a running rig: --host 127.0.0.2.")
    parsed = [parse_fault(fault) for fault in faults]
    with RigControl(host) as control:
        for name, value in parsed:
            control.inject(name, value)


def _describe(before: dict[str, Any], now: dict[str, Any]) -> str:
    """The status line of the time between two reports."""
    seconds = now["seconds"] - before["seconds"]
    parts = [
        f"{(now['ticks'] - before['ticks']) / seconds:.0f} Hz",
        f"client {now['client']}" if now["client"] else "no client",
    ]
    if now["frames"]:
        parts.append(f"{(now['frames'] - before.get('frames', now['frames'])) / seconds:.0f} frames/s")
    commands = now["commands"] - before["commands"]
    if commands:
        parts.append(f"{(now['lost'] - before['lost']) / commands:.1%} of commands lost")
    if now["reflexes"]:
        parts.append(f"{now['reflexes']} reflexes")
    if now["faults"]:
        parts.append(f"faults: {', '.join(now['faults'])}")
    if not now["real_time"]:
        parts.append("without real-time scheduling")
    return " · ".join(parts)
