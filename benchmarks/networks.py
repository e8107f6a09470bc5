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
import statistics
import subprocess
import sys
import tempfile
import time
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
import time; started = time.perf_counter()
import sys
from simreal_agents.policies.policy import load_policy
load_policy(sys.argv[1], device="cpu"); print(time.perf_counter() - started)
"""


def measure(preset: str, share: float, updates: int, loads: int, predictions: int) -> dict[str, Any]:
    """One row. Times are the shortest of several, as other programs of the machine only lengthen them."""
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
    times_s = []
    for _ in range(updates):
        started = time.perf_counter()
        learner.step()
        times_s.append(time.perf_counter() - started)
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
    predicts_s = []
    for i in range(predictions):
        one = {key: array[i : i + 1] for key, array in seen.items()}
        started = time.perf_counter()
        policy.chunks(one)
        predicts_s.append(time.perf_counter() - started)
    return {
        "preset": preset,
        "observation": f"{full.observation.history} x {'+'.join(shown.groups)}",
        **parameters,
        "update_flop": counted.get_total_flops() / real,
        "batch_share": real,
        f"update_ms_on_{threads}": 1e3 * min(times_s) / real,
        f"update_median_ms_on_{threads}": 1e3 * statistics.median(times_s) / real,
        f"load_s_on_{threads}": min(loads_s),
        f"predict_ms_on_{threads}": 1e3 * min(predicts_s),
        f"load_average_on_{threads}": os.getloadavg()[0],
    }


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawTextHelpFormatter)
    parser.add_argument("--presets", nargs="+", default=presets())
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
        update = " | ".join(f"{row.get(f'update_ms_on_{n}', float('nan')):,.0f} ms" for n in (1, 2))
        print(
            f"| `{row['preset']}` | {row['encoder'] / 1e6:.2f} M | {row['head'] / 1e6:.2f} M "
            f"| {row['update_flop'] / 1e9:,.1f} GFLOP | {update} | {row['load_s_on_1']:.1f} s "
            f"| {row['predict_ms_on_1']:.1f} ms |"
        )


if __name__ == "__main__":
    main()
