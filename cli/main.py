"""The program ``simreal``: its commands, and what a user sees when something goes wrong.

Every command is a thin function in a file of its own; what is heavy (torch, robosuite) is imported inside the
command that needs it, so that ``simreal --help`` answers at once.
"""

from __future__ import annotations

import errno
import sys
import threading
from _thread import interrupt_main
from typing import Annotated, Any

import typer
from typer.core import TyperGroup

from simreal_cli import calibrate, data
from simreal_cli.collect import collect
from simreal_cli.demo import demo
from simreal_cli.doctor import doctor
from simreal_cli.eval import evaluate_runs
from simreal_cli.generate import generate
from simreal_cli.replay import replay
from simreal_cli.rig import rig
from simreal_cli.serve import serve
from simreal_cli.train import train
from simreal_cli.view import view
from simreal_envs import __version__
from simreal_envs.errors import SimrealError

INTERRUPTED = 130
"""Exit code after Ctrl-C: 128 + SIGINT, as shells have it."""
GOES_ON = ("collect", "generate", "train", "eval", "demo", "data")
"""Commands that continue where they were interrupted when they are given again."""


class Program(TyperGroup):
    """Turns what a user can mend into one line on stderr and an exit code."""

    def invoke(self, ctx: Any) -> Any:
        """Run the command; faults of the program itself keep their traceback."""
        try:
            return super().invoke(ctx)
        except SimrealError as error:
            message, code = str(error), error.exit_code
            cause: BaseException = error
        except KeyboardInterrupt as error:
            message, code = str(error) or _interrupted(ctx.invoked_subcommand), INTERRUPTED
            cause = error
        except OSError as error:
            message, code = _explain(error), 1
            if not message:
                raise
            cause = error
        if ctx.params.get("debug"):
            raise cause
        typer.secho("error: " + " ".join(message.split()), err=True, fg="red")
        raise typer.Exit(code)


def _interrupted(command: str | None) -> str:
    if command in GOES_ON:
        return "interrupted; what was finished is kept, and the same command goes on from there."
    return "interrupted."


def _explain(error: OSError) -> str:
    """What a user can do about an error of a file or the disk; empty for other errors."""
    if error.errno in (errno.ENOSPC, errno.EDQUOT):
        where = f" while writing {error.filename}" if error.filename else ""
        return f"disk full{where}: free some space and run the same command again."
    return f"{error.strerror}: {error.filename}" if error.filename else ""


app = typer.Typer(
    cls=Program,
    no_args_is_help=True,
    rich_markup_mode="markdown",
    pretty_exceptions_enable=False,
    context_settings={"help_option_names": ["-h", "--help"]},
)


def _print_version(wanted: bool) -> None:
    if wanted:
        typer.echo(f"simreal {__version__}")
        raise typer.Exit


@app.callback()
def program(
    version: Annotated[
        bool, typer.Option("--version", callback=_print_version, is_eager=True, help="Print the version.")
    ] = False,
    debug: Annotated[bool, typer.Option("--debug", help="Show the traceback of an error.")] = False,
) -> None:
    """Robot policies from simulation and a few real demonstrations, aligned by optimal transport.

    A first run: `simreal doctor`, then `simreal demo --quick`.
    """


app.add_typer(data.app, name="data")
app.command()(collect)
app.command()(generate)
app.command()(train)
app.command("eval")(evaluate_runs)
app.command()(replay)
app.command()(serve)
app.command()(view)
app.command()(demo)
app.command()(rig)
app.add_typer(calibrate.app, name="calibrate")
app.command()(doctor)


def main() -> None:
    """Entry point of the console script."""
    sys.unraisablehook = _repeat_ignored_interrupt
    threading.excepthook = _say_once
    app()


def _say_once(raised: threading.ExceptHookArgs) -> None:
    """Report an error of TensorBoard's thread once: its writer raises the same one in the main thread."""
    if not type(raised.thread).__module__.startswith("tensorboard."):
        threading.__excepthook__(raised)


def _repeat_ignored_interrupt(ignored: sys.UnraisableHookArgs) -> None:
    """Repeat a Ctrl-C that Python ignored because it came in a weak reference's callback (h5py has many)."""
    if ignored.exc_type is KeyboardInterrupt:
        again = threading.Timer(0.05, interrupt_main)  # later: what is raised in here is ignored as well
        again.daemon = True
        again.start()
    else:
        sys.__unraisablehook__(ignored)
