"""Real file systems that only one command sees: a small disk, a folder that is read-only."""

from __future__ import annotations

import subprocess
from collections.abc import Sequence
from pathlib import Path

import pytest


def run_with_mount(
    mount: str, command: Sequence[str], cwd: Path | None = None
) -> subprocess.CompletedProcess[str]:
    """Run ``command`` after the shell command ``mount``, in a mount namespace of its own."""
    namespace = ["unshare", "--user", "--map-root-user", "--mount", "sh", "-c"]
    if subprocess.run([*namespace, mount], cwd=cwd, capture_output=True, check=False).returncode != 0:
        pytest.skip("this machine lets its users mount nothing")
    mounted = [*namespace, f'{mount} && "$0" "$@"', *command]
    return subprocess.run(mounted, cwd=cwd, capture_output=True, text=True, timeout=120, check=False)
