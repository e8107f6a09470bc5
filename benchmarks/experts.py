"""Success of the scripted experts over many seeds.

python benchmarks/experts.py --episodes 200 --noise 0.01 --tasks Lift Stack --region all
python benchmarks/experts.py --episodes 20 --noise 0 --shifts friction mass action-delay object-shape
"""

from __future__ import annotations

import argparse
from itertools import product

from simreal_agents.actors.experts import make_expert
from simreal_agents.evaluation.statistics import wilson_interval
from simreal_envs.loop import run_episode
from simreal_envs.tasks import tasks_with
from simreal_envs.world_config import WorldConfig
from simreal_envs.wrappers import ActionNoise


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawTextHelpFormatter)
    parser.add_argument("--episodes", type=int, default=200)
    parser.add_argument("--noise", type=float, nargs="*", default=(0.0, 0.01, 0.02), help="metres")
    parser.add_argument("--tasks", nargs="*", default=tasks_with("expert"))
    parser.add_argument("--region", default="all", help="where objects start: in, ood or all")
    parser.add_argument("--style", default="plain", help="plain, varied or a number")
    parser.add_argument("--shifts", nargs="*", default=("none",))
    arguments = parser.parse_args()
    for task, shift in product(arguments.tasks, arguments.shifts):
        for noise_m in arguments.noise:
            world = WorldConfig(task, obs="state", shift=shift)
            env = ActionNoise(world.make(arguments.region), std_m=noise_m)
            expert = make_expert(env, arguments.style)
            outcomes = [run_episode(env, expert, seed=seed) for seed in range(arguments.episodes)]
            solved = sum(outcome.success for outcome in outcomes)
            steps = sorted(outcome.steps for outcome in outcomes)
            low, high = wilson_interval(solved, len(outcomes))
            print(
                f"{task}, {arguments.style}, shift {shift}, noise {noise_m} m: {solved}/{len(outcomes)} "
                f"[{100 * low:.0f}, {100 * high:.0f}] %, median {steps[len(steps) // 2]} steps",
                flush=True,
            )


if __name__ == "__main__":
    main()
