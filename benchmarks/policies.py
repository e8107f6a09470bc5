"""Every policy with every method: image or cloud, each head, each method, on Lift and Stack under one shift.

    python benchmarks/policies.py out/policies                          # days on two cores; interrupt at will
    python benchmarks/policies.py out/policies --tasks Lift --seeds 0   # a part of it

A cell is one training and 100 test episodes in each region, of the last checkpoint: nothing is chosen. Each
is added to ``docs/figures/policies.json`` when it is done, and a cell that is in this file is not played
again, so the table grows over any number of calls and machines. ``benchmarks/policies_table.py`` prints it.
"""

from __future__ import annotations

import argparse
import json
import sys
import time
from contextlib import ExitStack
from dataclasses import asdict, astuple, dataclass
from itertools import product
from pathlib import Path
from typing import Any

from rich.console import Console

from simreal_agents.actors.factories import TrainedPolicy
from simreal_agents.evaluation.play import evaluate
from simreal_agents.policies.checkpoint import write_json
from simreal_agents.policies.config import TrainConfig, load_config
from simreal_agents.study.experiment import Experiment, claim_folder, prepare_data
from simreal_agents.training.train_all import train_one
from simreal_envs.errors import SimrealError
from simreal_envs.parallel import Heartbeat, Work, available_cores, run_in_processes
from simreal_envs.world_config import WorldConfig

SHIFT = "viewpoint:1.5+texture+light+noise"
SOURCE_DEMOS, TARGET_DEMOS, EPISODES = 800, 5, 100
REGIONS = ("in", "ood")
TABLE = Path(__file__).parents[1] / "docs" / "figures" / "policies.json"

PRESETS = {
    ("Lift", "image"): ("cpu-image", 4000),
    ("Lift", "pointcloud"): ("cpu-pointcloud", 4000),
    ("Stack", "image"): ("cpu-large", 8000),
    ("Stack", "pointcloud"): ("cpu-pointcloud", 8000),
}
"""The preset and the updates of a task's policies that see this."""


@dataclass(frozen=True)
class Cell:
    """One training."""

    task: str
    obs: str
    head: str
    method: str
    seed: int

    @property
    def name(self) -> str:
        """Of its run folder."""
        return "-".join(map(str, astuple(self)))

    def config(self, data: Path) -> TrainConfig:
        """Of its training on one thread, with the demonstrations below ``data``."""
        preset, updates = PRESETS[self.task, self.obs]
        values = {
            "data.source": data / "source", "data.target": data / "target", "data.target_demos": TARGET_DEMOS,
            "head.kind": self.head, "seed": self.seed, "threads": 1,
            "optim.updates": updates, "checkpoint_every": updates // 4,
        }  # fmt: skip
        return load_config(preset, self.method, [f"{key}={value}" for key, value in values.items()])


def experiment(task: str) -> Experiment:
    """Whose demonstrations the task's policies learn from."""
    return Experiment(
        task, shift=SHIFT, source_demos=SOURCE_DEMOS, target_demos=TARGET_DEMOS,
        obs="image+pointcloud+pointcolour", test_episodes=EPISODES,
    )  # fmt: skip


def measure(item: tuple[Cell, Path], heartbeat: Heartbeat) -> dict[str, Any]:
    """Train one cell and play its episodes; goes on with what an earlier call left."""
    cell, folder = item
    run, config = folder / cell.task / "runs" / cell.name, cell.config((folder / cell.task).resolve())
    train_one((run, config), heartbeat)
    factory = TrainedPolicy.at(run)
    tested = experiment(cell.task)
    world = WorldConfig.showing(factory.world(), shift=SHIFT, max_steps=tested.max_steps)
    started = time.process_time()
    results = evaluate(
        {cell.name: factory}, world, REGIONS, tested.test_seeds, run / "test", 1, lambda _: heartbeat()
    )
    solved = {region: [r.success for r in results if r.region == region] for region in REGIONS}
    last = json.loads((run / "log.jsonl").read_text().splitlines()[-1])
    return {
        **asdict(cell),
        "updates": config.optim.updates,
        "solved": {region: sum(each) for region, each in solved.items()},
        "episodes": EPISODES,
        "solved_by_seed": {r: "".join("01"[won] for won in each) for r, each in solved.items()},
        "train_wall_s": last["time_s"],
        "test_cpu_s": round(time.process_time() - started, 1),
    }


def make_work(stack: ExitStack) -> Work[tuple[Cell, Path], dict[str, Any]]:
    return measure


def read_table() -> dict[Cell, dict[str, Any]]:
    """What has been measured."""
    rows = json.loads(TABLE.read_text())["cells"] if TABLE.exists() else []
    return {Cell(**{key: row[key] for key in Cell.__dataclass_fields__}): row for row in rows}


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawTextHelpFormatter)
    parser.add_argument("folder", type=Path)
    parser.add_argument("--tasks", nargs="+", default=["Lift", "Stack"])
    parser.add_argument("--obs", nargs="+", default=["image", "pointcloud"])
    parser.add_argument("--heads", nargs="+", default=["mse", "flow", "diffusion"])
    parser.add_argument("--methods", nargs="+", default=["uot", "cotrain", "mmd"])
    parser.add_argument("--seeds", type=int, nargs="+", default=[0, 1, 2])
    parser.add_argument("--workers", type=int, default=available_cores())
    asked = parser.parse_args()
    console = Console()
    cells = [
        Cell(task, obs, head, method, seed)
        for seed, task, obs, head, method in product(
            asked.seeds, asked.tasks, asked.obs, asked.heads, asked.methods
        )
    ]
    todo = [cell for cell in cells if cell not in read_table()]
    console.print(f"{len(cells) - len(todo)} of {len(cells)} cells are measured.")
    for task in dict.fromkeys(cell.task for cell in todo):
        claim_folder(experiment(task), asked.folder / task)
        prepare_data(experiment(task), asked.folder / task, console)
    for row in run_in_processes(make_work, [(cell, asked.folder) for cell in todo], asked.workers):
        rows = [*read_table().values(), row]
        settings = {"shift": SHIFT, "source_demos": SOURCE_DEMOS, "target_demos": TARGET_DEMOS}
        write_json(TABLE, {**settings, "cells": rows})
        console.print(row)


if __name__ == "__main__":
    try:
        main()
    except SimrealError as error:
        sys.exit(f"Error: {error}")
    except KeyboardInterrupt:
        print("Interrupted; the same command goes on from there.", file=sys.stderr)
        sys.exit(130)
