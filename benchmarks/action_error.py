"""Train on some demonstrations and measure the actions on others: judges a setting without a rollout.

``python benchmarks/action_error.py DATASET [--preset cpu-pointcloud] [--updates 800] [--set key=value ...]``

A row is the mean distance, in the table's plane, between the first positions of predicted and demonstrated
chunks: of all frames, and of the 12 before the gripper first closes, where millimetres decide the grasp. The
times are the process's CPU times of an update, so other work on the machine changes them little.
"""

from __future__ import annotations

import argparse
import time

import numpy as np

from simreal_agents.policies.config import load_config
from simreal_agents.policies.policy import Policy
from simreal_agents.training.learner import Learner
from simreal_datasets.loading.frames import Frames

FIRST_ACTIONS = 4
BEFORE_GRASP = 12


def plane_errors_mm(policy: Policy, frames: Frames) -> np.ndarray:
    """(N,) mean error of the positions in x and y of the first actions predicted at each frame."""
    demonstrated = frames.actions[frames.chunk_indices(np.arange(len(frames)), FIRST_ACTIONS)]
    errors_mm = []
    for rows in np.split(np.arange(len(frames)), range(256, len(frames), 256)):
        chunks = policy.chunks(frames.observations(rows, policy.spec.history))
        apart_m = chunks[:, :FIRST_ACTIONS, :2] - demonstrated[rows, :, :2]
        errors_mm.append(1000 * np.linalg.norm(apart_m, axis=2).mean(axis=1))
    return np.concatenate(errors_mm)


def before_grasp(frames: Frames) -> np.ndarray:
    """The last frames of each episode before the gripper's first command to close."""
    closes = [
        start + int(np.argmax(frames.actions[start:end, -1] > 0))
        for start, end in zip(frames.starts[:-1], frames.starts[1:], strict=True)
    ]
    return np.unique(np.concatenate([np.arange(close - BEFORE_GRASP, close) for close in closes]))


def main() -> None:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("dataset")
    parser.add_argument("--preset", default="cpu-pointcloud")
    parser.add_argument("--demos", type=int, default=200, help="demonstrations, those held out included")
    parser.add_argument("--held-out", type=int, default=30)
    parser.add_argument("--updates", type=int, default=800)
    parser.add_argument("--set", action="append", default=[], help="config override, key=value")
    arguments = parser.parse_args()

    overrides = [f"optim.updates={arguments.updates}", "threads=1", *arguments.set]
    config = load_config(arguments.preset, "source", overrides)
    shown = config.observation.spec
    files = Frames.load(arguments.dataset, arguments.demos, shown=shown).files
    split = len(files) - arguments.held_out
    trained, held_out = (
        Frames.load(arguments.dataset, files=part, shown=shown) for part in (files[:split], files[split:])
    )
    learner = Learner(config, trained, None)
    started_s = time.process_time()
    for _ in range(arguments.updates):
        learner.step()
    update_ms = 1000 * (time.process_time() - started_s) / arguments.updates
    policy = Policy(learner.average, config, learner.update, learner.looks, learner.cameras, learner.device)
    policy.domain = "source"
    errors_mm = plane_errors_mm(policy, held_out)
    print("| settings | all frames, mm | before the grasp, mm | CPU time of an update, ms |")
    print("|---|---|---|---|")
    settings = ", ".join(f"`{value}`" for value in arguments.set) or "those of the preset"
    print(
        f"| {settings} | {errors_mm.mean():.1f} | {errors_mm[before_grasp(held_out)].mean():.1f} "
        f"| {update_ms:.0f} |"
    )


if __name__ == "__main__":
    main()
