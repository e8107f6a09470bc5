"""The rig and the control loop on it: rates, lost commands, late steps.

    python benchmarks/rig.py                   # three minutes; let nothing else run

Needs ``pip install 'simreal[real]'``.
"""

from __future__ import annotations

import argparse
import time
from typing import Any

import gymnasium as gym
import numpy as np

import simreal_envs  # noqa: F401  registers the tasks
from simreal_envs.poses import reachable_action
from simreal_envs.rig.control import RigControl
from simreal_envs.rig.d435 import SoftwareD435
from simreal_envs.rig.launch import Rig
from simreal_envs.robot.arm import Arm
from simreal_envs.robot.camera import RealSense
from simreal_envs.robot.safety import load_limits

LATE_S = 0.001


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawTextHelpFormatter)
    parser.add_argument("--seconds", type=float, default=60.0)
    parser.add_argument("--policy-ms", type=float, default=30.0)
    arguments = parser.parse_args()
    for camera in (False, True):
        control_of_the_arm(camera, arguments.seconds / 2)
    environment(arguments.seconds, arguments.policy_ms / 1000)


def control_of_the_arm(camera: bool, seconds: float) -> None:
    """Cartesian impedance at rest, with and without the camera beside it."""
    with Rig("Stack", camera=camera) as rig, RigControl(rig.host) as control:
        source = SoftwareD435(rig.host) if camera else None
        frames = RealSense(context=source.context) if source else None
        with Arm(rig.host, load_limits()) as arm:
            target = arm.state().pose_in_base
            arm.start()
            before, first, began_s = (
                control.status(),
                frames.latest().number if frames else 0,
                time.monotonic(),
            )
            while time.monotonic() < began_s + seconds:
                arm.command(target, -1.0)
                time.sleep(0.05)
            after, passed_s = control.status(), time.monotonic() - began_s
            arm.stop()
        lost = (after["lost"] - before["lost"]) / (after["commands"] - before["commands"])
        rate = (after["ticks"] - before["ticks"]) / passed_s
        busy = (after["cpu_seconds"] - before["cpu_seconds"]) / passed_s
        print(
            f"camera {'on ' if camera else 'off'}  {rate:6.1f} Hz  lost {100 * lost:.2f} %, "
            f"most in a row {after['most_lost_in_a_row']}  rig's robot uses {100 * busy:.0f} % of a core"
            + (f"  camera {(frames.latest().number - first) / passed_s:.1f} fps" if frames else "")
        )
        if frames and source:
            frames.close()
            source.close()


def environment(seconds: float, policy_s: float) -> None:
    """Steps of the environment with images, and a policy that computes for so long between them."""
    env: Any = gym.make("simreal/Stack-v0", env="rig", obs="image", max_episode_steps=10**6)
    env.reset(seed=0)
    action = reachable_action(env.unwrapped.end_effector_pose_in_base(), -1.0)
    env.step(action)  # starts control
    late_s, ages_s, began_s = [], [], time.monotonic()
    while time.monotonic() < began_s + seconds:
        busy_until_s = time.monotonic() + policy_s
        while time.monotonic() < busy_until_s:  # computes, and does not only wait
            np.linalg.norm(np.ones(1000))
        _, _, _, truncated, info = env.step(action)
        late_s.append(info["late_s"])
        ages_s.append(info["frame_age_s"])
        if truncated:
            raise SystemExit(f"interrupted: {info['interrupted']}")
    passed_s = time.monotonic() - began_s
    env.close()
    print(
        f"environment with a policy of {1000 * policy_s:.0f} ms: {len(late_s) / passed_s:.2f} Hz over "
        f"{passed_s:.0f} s, {sum(late > LATE_S for late in late_s)} of {len(late_s)} steps late by more than "
        f"{1000 * LATE_S:.0f} ms, the latest by {1000 * max(late_s):.1f} ms; frames "
        f"{1000 * np.mean(ages_s):.0f} ms old, {1000 * max(ages_s):.0f} at most"
    )


if __name__ == "__main__":
    main()
