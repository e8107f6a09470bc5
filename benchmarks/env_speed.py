"""Steps and resets a second, beside robosuite's own, with equal scene, camera and image size, in one run.

    python benchmarks/env_speed.py --task Lift --size 84 84 --rounds 5

Rounds alternate between the two, so that a busy machine slows both; medians are reported.
"""

from __future__ import annotations

import argparse
import statistics
import time
from collections.abc import Callable
from typing import Any

import gymnasium as gym
import numpy as np
from rich.console import Console
from rich.table import Table

import simreal_envs  # noqa: F401
from simreal_envs.poses import reachable_action
from simreal_envs.tasks import get_task


def steps_per_s(step: Callable[[np.ndarray], Any], action: np.ndarray, steps: int) -> float:
    start = time.perf_counter()
    for _ in range(steps):
        step(action)
    return steps / (time.perf_counter() - start)


def seconds(call: Callable[[], Any]) -> float:
    start = time.perf_counter()
    call()
    return time.perf_counter() - start


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawTextHelpFormatter)
    parser.add_argument("--task", default="Lift")
    parser.add_argument("--size", type=int, nargs=2, default=(84, 84), metavar=("H", "W"))
    parser.add_argument("--rounds", type=int, default=5)
    parser.add_argument("--steps", type=int, default=60, help="a round")
    arguments = parser.parse_args()
    height, width = arguments.size

    from simreal_envs.sim.scene import TabletopScene

    table = Table("", "simreal", "robosuite", "ratio", title=f"{arguments.task}, {height} x {width}, medians")
    for depth in (False, True):
        ours = gym.make(
            f"simreal/{arguments.task}-v0",
            obs="image+depth" if depth else "image",
            image_size=(height, width),
        )
        theirs = TabletopScene(
            get_task(arguments.task),
            has_offscreen_renderer=True,
            use_camera_obs=True,
            camera_heights=height,
            camera_widths=width,
            camera_depths=depth,
        )
        ours.reset(seed=0)
        theirs.reset()
        world: Any = ours.unwrapped
        pose = world.end_effector_pose_in_base()
        action = reachable_action(pose, -1.0)
        # robosuite's own action: the grip site's axes instead of the hand's.
        from scipy.spatial.transform import Rotation

        from simreal_envs.sim.physics import GRIP_SITE_IN_HAND

        site = Rotation.from_matrix(pose[:3, :3] @ GRIP_SITE_IN_HAND).as_rotvec()
        their_action = np.r_[pose[:3, 3], site, -1.0]
        rates: dict[str, list[float]] = {"ours": [], "theirs": []}
        for _ in range(arguments.rounds):
            rates["ours"].append(steps_per_s(world.step, action, arguments.steps))
            rates["theirs"].append(steps_per_s(theirs.step, their_action, arguments.steps))
        a, b = (statistics.median(rates[name]) for name in ("ours", "theirs"))
        what = "image and depth" if depth else "image"
        table.add_row(f"steps/s, {what}", f"{a:.0f}", f"{b:.1f}", f"{a / b:.1f}")
        if not depth:
            theirs.hard_reset = True
            resets = ([], [])  # type: tuple[list[float], list[float]]
            for _ in range(arguments.rounds):
                resets[0].append(statistics.median(seconds(ours.reset) for _ in range(20)))
                resets[1].append(seconds(theirs.reset))
            a, b = statistics.median(resets[0]), statistics.median(resets[1])
            table.add_row("reset, ms (default)", f"{1e3 * a:.2f}", f"{1e3 * b:.0f}", f"{b / a:.0f}")
        ours.close()
        theirs.close()
    Console().print(table)


if __name__ == "__main__":
    main()
