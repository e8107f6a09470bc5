"""What a rig's processes run: ``python -m simreal_envs.rig.process server|camera ARGUMENTS``.

They end when their standard input is closed. The process that started them holds it open, so they end with
that process, even if it crashes.
"""

from __future__ import annotations

import _thread
import json
import os
import signal
import sys
import threading
from contextlib import suppress
from typing import Any

from simreal_envs.errors import SimrealError


def main() -> None:
    """Arguments are a JSON object. An error that a user can mend is printed as one, with its class."""
    signal.signal(signal.SIGINT, signal.default_int_handler)  # in the background, shells have it ignored
    threading.Thread(target=_interrupt_when_orphaned, daemon=True).start()
    with suppress(KeyboardInterrupt):  # the end that was asked for
        _run(sys.argv[1], json.loads(sys.argv[2]))


def _run(kind: str, arguments: dict[str, Any]) -> None:
    try:
        import simreal_envs.sim  # noqa: F401 - chooses OpenGL's backend before MuJoCo is imported

        if kind == "server":
            from simreal_envs.rig.server import serve

            serve(**arguments)
        else:
            from simreal_envs.rig.camera import run_camera

            run_camera(**arguments)
    except SimrealError as error:
        print(json.dumps({"error": str(error), "kind": type(error).__name__}), flush=True)
        sys.exit(1)


def _interrupt_when_orphaned() -> None:
    while os.read(sys.stdin.fileno(), 1):  # nothing ever comes
        pass
    _thread.interrupt_main()


if __name__ == "__main__":
    main()
