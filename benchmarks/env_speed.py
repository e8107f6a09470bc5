"""Time of a step and a reset, beside robosuite's own, with equal scene, camera and image size, in one run.

    python benchmarks/env_speed.py --task Lift --size 84 84 --rounds 5

Each scene lives in a process of its own (robosuite draws into whichever OpenGL context is current, that of
another scene too); rounds alternate between them, so that a busy machine slows both. Medians are reported.
"""

from __future__ import annotations

import argparse
import statistics
import time
from collections.abc import Callable
from concurrent.futures import ProcessPoolExecutor
from functools import cache
from multiprocessing import get_context
from typing import Any

import numpy as np
from rich.console import Console
from rich.table import Table
from scipy.spatial.transform import Rotation

Step = Callable[[], Any]


@cache
def ours(task: str, size: tuple[int, int], depth: bool) -> tuple[Step, Step]:
    """What makes one step, and one reset, of simreal."""
    from simreal_envs.poses import reachable_action
    from simreal_envs.world_config import WorldConfig

    world: Any = (
        WorldConfig(task, obs="image+depth" if depth else "image", image_size=size).make("all").unwrapped
    )
    world.reset(seed=0)
    action = reachable_action(world.end_effector_pose_in_base(), -1.0)
    return (lambda: world.step(action)), world.reset


@cache
def theirs(task: str, size: tuple[int, int], depth: bool) -> tuple[Step, Step]:
    """The same of robosuite, which resets by building the scene anew unless told otherwise."""
    from simreal_envs.sim.physics import GRIP_SITE_IN_HAND, Physics
    from simreal_envs.sim.scene import TabletopScene
    from simreal_envs.tasks import get_task

    scene = TabletopScene(
        get_task(task),
        has_offscreen_renderer=True,
        use_camera_obs=True,
        camera_heights=size[0],
        camera_widths=size[1],
        camera_depths=depth,
        hard_reset=True,
    )
    scene.reset()
    physics = Physics(scene.sim.model._model, scene.sim.data._data, scene.task.objects)
    pose = physics.end_effector_pose_in_base()
    site = Rotation.from_matrix(pose[:3, :3] @ GRIP_SITE_IN_HAND).as_rotvec()
    action = np.r_[pose[:3, 3], site, -1.0]
    return (lambda: scene.step(action)), scene.reset


def seconds(make: Callable[..., tuple[Step, Step]], world: tuple[Any, ...], what: int, times: int) -> float:
    """Seconds a step (``what`` 0) or a reset (1)."""
    call = make(*world)[what]
    start = time.perf_counter()
    for _ in range(times):
        call()
    return (time.perf_counter() - start) / times


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawTextHelpFormatter)
    parser.add_argument("--task", default="Lift")
    parser.add_argument("--size", type=int, nargs=2, default=(84, 84), metavar=("H", "W"))
    parser.add_argument("--rounds", type=int, default=5)
    parser.add_argument("--steps", type=int, default=40, help="a round")
    arguments = parser.parse_args()
    size = tuple(arguments.size)
    table = Table(
        "", "simreal", "robosuite", "ratio", title=f"{arguments.task}, {size[0]} x {size[1]}, medians"
    )
    measurements = (
        ("ms a step, image", False, 0, arguments.steps, arguments.steps),
        ("ms a step, image and depth", True, 0, arguments.steps, arguments.steps),
        ("ms a reset, image", False, 1, 20, 1),
    )
    context = get_context("spawn")
    for name, depth, what, our_times, their_times in measurements:
        world = (arguments.task, size, depth)
        ours_s, theirs_s = [], []
        with ProcessPoolExecutor(1, context) as our_process, ProcessPoolExecutor(1, context) as their_process:
            for _ in range(arguments.rounds + 1):
                ours_s.append(our_process.submit(seconds, ours, world, what, our_times).result())
                theirs_s.append(their_process.submit(seconds, theirs, world, what, their_times).result())
        a, b = (1e3 * statistics.median(taken[1:]) for taken in (ours_s, theirs_s))  # the first warms up
        table.add_row(name, f"{a:.2f}", f"{b:.1f}", f"{b / a:.1f}")
    Console().print(table)


if __name__ == "__main__":
    main()
