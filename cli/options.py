"""Options that several commands share."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

Env = Annotated[str, typer.Option(help="Which world: sim, rig (the virtual robot) or real.")]
Host = Annotated[str | None, typer.Option(help="Address of the robot; without one a rig is started for you.")]
Serial = Annotated[str | None, typer.Option(help="Of the RealSense, where there are several.")]
LimitsFile = Annotated[Path | None, typer.Option(help="File of safety limits in place of the package's.")]
