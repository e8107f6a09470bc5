"""The main experiment: five methods, three training seeds, success over updates, in and out of distribution.

    python benchmarks/cotraining.py out/cotraining            # hours; interrupt and repeat at will
    python benchmarks/cotraining.py out/part --seeds 0 --methods uot cotrain

Everything is kept and continued: run it in pieces. Equal data, equal updates; each method's checkpoint is
chosen on one set of reset seeds (of both regions together, which is an oracle) and judged once on another,
beside its last checkpoint.
"""

from __future__ import annotations

import argparse
import sys
from pathlib import Path

from rich.console import Console

from simreal_agents.study.experiment import Experiment, run_experiment
from simreal_envs.errors import SimrealError


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawTextHelpFormatter)
    parser.add_argument("folder", type=Path)
    parser.add_argument("--task", default="Lift")
    parser.add_argument("--methods", nargs="+", default=["uot", "cotrain", "mmd", "source", "target"])
    parser.add_argument("--seeds", type=int, nargs="+", default=[0, 1, 2])
    parser.add_argument("--shift", default=Experiment("Lift").shift)
    parser.add_argument("--source-demos", type=int, default=800)
    parser.add_argument("--target-demos", type=int, default=20)
    parser.add_argument("--updates", type=int, default=8000)
    parser.add_argument("--checkpoint-every", type=int, default=2000)
    parser.add_argument("--validation-episodes", type=int, default=25)
    parser.add_argument("--test-episodes", type=int, default=100)
    parser.add_argument("--test-checkpoint", type=int, help="test this one, and the last, and choose none")
    parser.add_argument("--max-steps", type=int, default=200)
    parser.add_argument("--preset", default="cpu-image")
    parser.add_argument("--set", dest="overrides", action="append", default=[], metavar="KEY=VALUE")
    arguments = vars(parser.parse_args())
    folder = arguments.pop("folder")
    try:
        experiment = Experiment(**{k: tuple(v) if isinstance(v, list) else v for k, v in arguments.items()})
        run_experiment(experiment, folder, Console())
    except SimrealError as error:
        sys.exit(f"Error: {error}")
    except KeyboardInterrupt:
        print("Interrupted; the same command goes on from there.", file=sys.stderr)
        sys.exit(130)


if __name__ == "__main__":
    main()
