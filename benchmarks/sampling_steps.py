"""Steps of a sample against success and time, of a trained policy whose head samples.

    simreal train runs/diffusion -m source --preset cpu-diffusion --source data/sim --set threads=1
    python benchmarks/sampling_steps.py runs/diffusion

Nothing is trained anew: `head.steps` is set when the policy acts. Every number of steps plays the same
episodes of selection seeds in the region `in`, without a shift. Time is that of the processor for one chunk,
the shortest of several. Writes ``docs/figures/sampling_steps.json`` and prints its table.
"""

from __future__ import annotations

import argparse
import os
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import torch
from networks import shortest

from simreal_agents.actors.factories import TrainedPolicy
from simreal_agents.evaluation.play import evaluate
from simreal_agents.evaluation.statistics import wilson_interval
from simreal_agents.policies.checkpoint import write_json
from simreal_agents.policies.policy import load_policy
from simreal_envs.seeds import SELECTION, seeds_for
from simreal_envs.world_config import WorldConfig

FIGURES = Path(__file__).parents[1] / "docs" / "figures" / "sampling_steps.json"


def measure(run: Path, steps: int, episodes: int, folder: Path, workers: int) -> dict[str, Any]:
    """One row."""
    settings = (f"head.steps={steps}",)
    factory = TrainedPolicy.at(run, overrides=settings)
    world = replace(WorldConfig.showing(factory.world()), max_steps=500)
    seeds = seeds_for(SELECTION, episodes)
    results = evaluate({run.name: factory}, world, ["in"], seeds, folder / str(steps), workers)
    policy = load_policy(run, device="cpu", overrides=settings)
    rng = np.random.default_rng(0)
    seen = {name: box.sample() for name, box in policy.spec.space.items() if box.dtype == np.uint8}
    seen |= {
        name: rng.normal(0, 0.1, box.shape).astype(np.float32)
        for name, box in policy.spec.space.items()
        if name not in seen
    }
    one = {name: array[None] for name, array in seen.items()}
    solved = [result.success for result in results]
    lengths = [result.steps for result in results if result.success]
    return {
        "steps": steps,
        "solved": sum(solved),
        "episodes": len(solved),
        "median_length_of_solved": float(np.median(lengths)) if lengths else None,
        "predict_cpu_ms": 1e3 * shortest(30, lambda: policy.chunks(one))[1],
        "load_average": os.getloadavg()[0],
    }


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawTextHelpFormatter)
    parser.add_argument("run", type=Path)
    parser.add_argument("--steps", type=int, nargs="+", default=[1, 2, 4, 8, 16, 32])
    parser.add_argument("--episodes", type=int, default=50)
    parser.add_argument("--folder", type=Path, default=Path("out/sampling_steps"))
    parser.add_argument("--workers", type=int, default=1)
    parser.add_argument("--output", type=Path, default=FIGURES)
    asked = parser.parse_args()
    torch.set_num_threads(1)
    rows = [measure(asked.run, n, asked.episodes, asked.folder, asked.workers) for n in asked.steps]
    write_json(asked.output, {"checkpoint": TrainedPolicy.at(asked.run).identity(), "rows": rows})
    print("| `head.steps` | success | steps of a solved episode, median | one chunk |")
    print("|---|---|---|---|")
    for row in rows:
        low, high = wilson_interval(row["solved"], row["episodes"])
        print(
            f"| {row['steps']} | {row['solved']} / {row['episodes']} = {row['solved'] / row['episodes']:.0%} "
            f"[{100 * low:.0f}, {100 * high:.0f}] | {row['median_length_of_solved']} "
            f"| {row['predict_cpu_ms']:.1f} ms |"
        )


if __name__ == "__main__":
    main()
