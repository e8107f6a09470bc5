"""Commands on a disk that is really full: one line, exit code 1, and what was whole stays whole."""

from __future__ import annotations

import json
import sys
from pathlib import Path

import pytest
from demonstrations import settings_of
from mounting import run_with_mount

from simreal_agents.policies.checkpoint import list_checkpoints
from simreal_agents.policies.policy import load_policy
from simreal_datasets.making.fetch import fetch_demonstrations
from simreal_datasets.store.dataset import Dataset

SIMREAL = Path(sys.executable).with_name("simreal")
KEEP = """
"$0" "$@"
code=$?
cp -a disk/. kept  # the disk goes with the process
exit $code
"""


def fill(size: str, folder: Path, *arguments: object) -> tuple[str, Path]:
    """Run the program beside a ``disk`` that holds ``size``; its last line, and where the files are kept."""
    for name in ("disk", "kept"):
        (folder / name).mkdir()
    command = ["sh", "-c", KEEP, str(SIMREAL), *map(str, arguments)]
    ended = run_with_mount(f"mount -t tmpfs -o size={size} none disk", command, folder)
    assert ended.returncode == 1, ended.stderr
    assert "Traceback" not in ended.stdout + ended.stderr
    last = ended.stderr.splitlines()[-1]
    assert last.startswith("error: ")
    return last, folder / "kept"


def test_demonstrations_that_fit_are_kept(tmp_path: Path) -> None:
    given = ["collect", "disk/d", "--task", "Lift", "--obs", "state", "--episodes", 500, "--workers", 1]
    last, kept = fill("1M", tmp_path, *given)
    assert "No space left on device. Episodes stored before are intact" in last
    dataset = Dataset(kept / "d")
    assert dataset.damaged == []
    assert 0 < len(dataset) < 500


def test_an_import_that_does_not_fit_leaves_no_part_of_an_episode(tmp_path: Path) -> None:
    demo = fetch_demonstrations(["Lift"])["Lift"]
    last, kept = fill("128k", tmp_path, "data", "import", demo, "disk/d")
    assert "No space left on device" in last
    assert list((kept / "d").glob("episode_*")) == []


@pytest.mark.parametrize("size", ["16k", "3M"])  # its logs do not fit; one checkpoint does, the next does not
def test_a_training_keeps_the_checkpoints_that_it_wrote(size: str, data: Path, tmp_path: Path) -> None:
    settings = settings_of(data, "optim.updates=3000", "log_every=1", "checkpoint_every=20")
    last, kept = fill(size, tmp_path, "train", "disk/run", *(f"--set={setting}" for setting in settings))
    assert "No space left on device" in last or "disk full" in last
    checkpoints = list_checkpoints(kept / "run")
    assert bool(checkpoints) == (size == "3M")
    for update in checkpoints:
        load_policy(kept / "run", update)


def test_an_evaluation_keeps_the_episodes_that_it_logged(tmp_path: Path) -> None:
    given = ["eval", "expert", "--task", "Lift", "--max-steps", 2, "--episodes", 500]
    last, kept = fill("32k", tmp_path, *given, "--output", "disk/eval", "--workers", 1)
    assert "disk full" in last
    lines = (kept / "eval" / "episodes.jsonl").read_text().splitlines()
    assert len([json.loads(line) for line in lines[:-1]]) > 10
