"""Sizes and times of the presets' policies, on synthetic demonstrations.

    python benchmarks/networks.py                                             # all presets
    python benchmarks/networks.py --presets paper-image --share 0.125         # with an eighth of each batch

Counts the parameters and the floating-point operations of one update with `uot`, and measures one update,
loading in a fresh process and one prediction. Operations of convolutions and matrices count, two for a
multiplication and addition. Those of an update and its time are proportional to the batch, but for the
optimiser's share; with ``--share`` they are measured with a part of the batch and divided by it. Each
preset's row is kept in ``docs/figures/networks.json``; the table of all rows is printed.
"""

from __future__ import annotations

import argparse
import json
import os
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import torch
from torch.utils.flop_counter import FlopCounterMode
from train_step import synthetic_frames

from simreal_agents.policies.checkpoint import write_json
from simreal_agents.policies.config import load_config
from simreal_agents.policies.policy import load_policy
from simreal_agents.policies.presets import presets
from simreal_agents.training.learner import Learner
from simreal_envs.features import ObservationSpec
from simreal_envs.world_config import WorldConfig

TABLE = Path(__file__).parents[1] / "docs" / "figures" / "networks.json"
FRESH = """
import sys, time
from simreal_agents.policies.policy import load_policy
load_policy(sys.argv[1], device="cpu"); print(time.process_time())
"""


def measure(preset: str, share: float, updates: int, loads: int, predictions: int) -> dict[str, Any]:
    """One row. Times are the shortest of several; those of the processor (``cpu``) do not depend on what else
    the machine computes.
    """
    threads = torch.get_num_threads()
    full = load_config(preset, "uot")
    batch = [
        f"batch.{name}={max(8, round(getattr(full.batch, name) * share))}"
        for name in ("size", "alignment_size")
    ]
    config = load_config(preset, "uot", [*batch, f"threads={threads}", "pairing.kind=none", "device=cpu"])
    size = (120, 160) if preset.startswith("paper") else (72, 96)
    shown = ObservationSpec.parse(full.observation.obs, image_size=size, points=1024)
    spec = WorldConfig("Lift", obs=full.observation.obs, image_size=size, points=1024).spec
    rng = np.random.default_rng(0)
    frames = [synthetic_frames(episodes, spec, rng) for episodes in (6, 3)]
    learner = Learner(config, *frames)
    with FlopCounterMode(display=False) as counted:
        learner.step()
    wall_s, cpu_s = shortest(updates, learner.step)
    real = config.batch.size / full.batch.size
    parameters = {
        name: sum(p.numel() for p in part.parameters())
        for name, part in (("encoder", learner.network.encoder), ("head", learner.network.head))
    }
    with tempfile.TemporaryDirectory() as run:
        learner.save(Path(run))
        command = [sys.executable, "-c", FRESH, run]
        loads_s = [float(subprocess.check_output(command, env=os.environ)) for _ in range(loads)]
        policy = load_policy(run, device="cpu")
    seen = frames[0].observations(np.arange(50, 50 + predictions), full.observation.history)
    rows = iter({key: array[i : i + 1] for key, array in seen.items()} for i in range(predictions))
    predict_wall_s, predict_cpu_s = shortest(predictions, lambda: policy.chunks(next(rows)))
    return {
        "preset": preset,
        "observation": f"{full.observation.history} x {'+'.join(shown.groups)}",
        **parameters,
        "update_flop": counted.get_total_flops() / real,
        "batch_share": real,
        f"on_{threads}": {
            "update_ms": 1e3 * wall_s / real,
            "update_cpu_ms": 1e3 * cpu_s / real,
            "load_cpu_s": min(loads_s),
            "predict_ms": 1e3 * predict_wall_s,
            "predict_cpu_ms": 1e3 * predict_cpu_s,
            "load_average": os.getloadavg()[0],
        },
    }


def shortest(times: int, call: Callable[[], object]) -> tuple[float, float]:
    """Seconds of the shortest of several calls, by the clock and of the processor."""
    took = []
    for _ in range(times):
        started = time.perf_counter(), time.process_time()
        call()
        took.append((time.perf_counter() - started[0], time.process_time() - started[1]))
    wall_s, cpu_s = zip(*took, strict=True)
    return min(wall_s), min(cpu_s)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawTextHelpFormatter)
    parser.add_argument("--presets", nargs="*", default=presets())
    parser.add_argument("--threads", type=int, nargs="+", default=[1, 2])
    parser.add_argument("--share", type=float, default=1.0, help="of the batch")
    parser.add_argument("--updates", type=int, default=10)
    parser.add_argument("--loads", type=int, default=3)
    parser.add_argument("--predictions", type=int, default=20)
    parser.add_argument("--output", type=Path, default=TABLE)
    asked = parser.parse_args()
    rows = json.loads(asked.output.read_text()) if asked.output.exists() else {}
    for preset in asked.presets:
        for threads in asked.threads:
            torch.set_num_threads(threads)
            row = measure(preset, asked.share, asked.updates, asked.loads, asked.predictions)
            rows[preset] = rows.get(preset, {}) | row
            write_json(asked.output, rows)
    print("| preset | encoder | head | one update | on 1 thread | on 2 | loading | one prediction |")
    print("|---|---|---|---|---|---|---|---|")
    for row in rows.values():
        one, two = row["on_1"], row.get("on_2")
        on_2 = f"{two['update_ms']:,.0f} ms" if two else ""
        print(
            f"| `{row['preset']}` | {row['encoder'] / 1e6:.2f} M | {row['head'] / 1e6:.2f} M "
            f"| {row['update_flop'] / 1e9:,.0f} GFLOP | {one['update_cpu_ms']:,.0f} ms "
            f"| {on_2} "
            f"| {one['load_cpu_s']:.1f} s | {one['predict_cpu_ms']:,.1f} ms |"
        )


if __name__ == "__main__":
    main()
