"""Time a training step on synthetic demonstrations, and the share of the transport solver in it.

``python benchmarks/train_step.py [--sizes 64x64 72x96] [--methods cotrain uot] [--updates 30] [--threads 2]``
"""

from __future__ import annotations

import argparse
import statistics
import time

import numpy as np

from simreal_agents.policies.config import load_config
from simreal_agents.training.alignments import transport
from simreal_agents.training.alignments.solver import Solution
from simreal_agents.training.learner import Learner
from simreal_datasets.loading.frames import Frames
from simreal_envs.features import WorldSpec
from simreal_envs.world_config import WorldConfig


def synthetic_frames(episodes: int, spec: WorldSpec, rng: np.random.Generator) -> Frames:
    """Random images and clouds along smooth random paths, 100 frames an episode."""
    length = 100
    count = episodes * length
    position_m = np.array([0.5, 0.0, 0.2]) + np.cumsum(rng.normal(0, 0.004, (count, 3)), axis=0)
    rotation_rad = np.tile([3.1, 0.0, 0.0], (count, 1))
    return Frames(
        arrays={
            **{
                f.key: rng.integers(0, 256, (count, *f.shape), dtype=np.uint8)
                if f.dtype == "uint8"
                else rng.normal(0, 0.1, (count, *f.shape)).astype(np.float32)
                for f in spec.features
                if f.modality != "proprioception"
            },
            "robot0_eef_pos": position_m.astype(np.float32),
            "robot0_eef_quat": np.tile(np.array([1, 0, 0, 0], np.float32), (count, 1)),
            "robot0_joint_pos": np.zeros((count, 7), np.float32),
            "robot0_gripper_qpos": np.zeros((count, 2), np.float32),
        },
        actions=np.c_[position_m, rotation_rad, np.ones(count)].astype(np.float32),
        starts=np.arange(0, count + 1, length),
        files=tuple(f"{i}" for i in range(episodes)),
        spec=spec,
        looks=("sim none",),
        cameras={},
    )


def main() -> None:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--sizes", nargs="*", default=["64x64", "72x96", "84x84", "96x128"])
    parser.add_argument("--methods", nargs="*", default=["cotrain", "mmd", "uot", "ot"])
    parser.add_argument("--amp", nargs="*", default=["bf16", "none"])
    parser.add_argument("--updates", type=int, default=30)
    parser.add_argument("--threads", type=int, default=2)
    parser.add_argument("--set", nargs="*", default=[], help="config overrides, key=value")
    arguments = parser.parse_args()

    solver_s: list[float] = []
    solve = transport.transport_plan

    def timed_solve(*args: object) -> Solution:
        started = time.perf_counter()
        result = solve(*args)  # type: ignore[arg-type]
        solver_s.append(time.perf_counter() - started)
        return result

    transport.transport_plan = timed_solve  # type: ignore[assignment]
    print("| image | encoder | method | step, median | fastest | solver, median | its share |")
    print("|---|---|---|---|---|---|---|")
    for name in arguments.sizes:
        height, width = map(int, name.split("x"))
        rng = np.random.default_rng(0)
        spec = WorldConfig("Lift", image_size=(height, width)).spec
        source, target = (synthetic_frames(n, spec, rng) for n in (50, 10))
        for amp in arguments.amp:
            for method in arguments.methods:
                overrides = [
                    f"amp={amp}",
                    f"threads={arguments.threads}",
                    "pairing.kind=none",
                    *arguments.set,
                ]
                learner = Learner(load_config("cpu-image", method, overrides), source, target)
                steps_s: list[float] = []
                for update in range(arguments.updates + 5):
                    if update == 5:
                        solver_s.clear()
                        steps_s.clear()
                    started = time.perf_counter()
                    learner.step()
                    steps_s.append(time.perf_counter() - started)
                step_ms, solver_ms = (1e3 * statistics.median(s or [0.0]) for s in (steps_s, solver_s))
                print(
                    f"| {name} | {amp} | {method} | {step_ms:.1f} ms | {1e3 * min(steps_s):.1f} ms "
                    f"| {solver_ms:.2f} ms | {100 * solver_ms / step_ms:.1f} % |",
                    flush=True,
                )


if __name__ == "__main__":
    main()
