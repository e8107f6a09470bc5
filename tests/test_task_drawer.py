"""Drawer: the scene stays as it is left, and the stages are what they say."""

from __future__ import annotations

from contextlib import closing
from typing import Any

import numpy as np
import pytest

from simreal_envs.poses import reachable_action
from simreal_envs.registration import make_env
from simreal_envs.spec import TABLE_CENTRE_IN_BASE_M
from simreal_envs.tasks.drawer import Drawer, opening_m


def opening(info: dict[str, Any]) -> float:
    poses = info["object_poses_in_base"]
    return opening_m(poses["cabinet_tray"], poses["cabinet"])


def test_things_start_where_they_are_asked_to() -> None:
    asked = {"cabinet": (0.155, -0.095, 0.1), "pod": (-0.02, 0.13, 0.5), "cabinet_slide": 0.052}
    with closing(make_env("Drawer", obs="state")) as env:
        _, info = env.reset(seed=0, options={"placement": asked})
        poses = info["object_poses_in_base"]
        for name in ("cabinet", "pod"):
            expected = TABLE_CENTRE_IN_BASE_M[:2] + asked[name][:2]  # type: ignore[index]
            np.testing.assert_allclose(poses[name][:2, 3], expected, atol=1e-9)
        assert opening(info) == pytest.approx(0.052, abs=1e-9)
        for seed in range(10):
            _, info = env.reset(seed=seed)
            assert 0.05 <= opening(info) <= 0.07


def test_the_drawer_stays_where_it_is_left() -> None:
    with closing(make_env("Drawer", obs="state")) as env:
        _, info = env.reset(seed=0)
        still = reachable_action(info["end_effector_pose_in_base"], -1.0)
        slide = env.physics.data.joint("cabinet_slide")
        slide.qvel[0] = -0.1  # a push that is over
        for _ in range(10):
            _, _, _, _, info = env.step(still)
        left = opening(info)
        assert 0.0 < left < 0.0695
        assert abs(slide.qvel[0]) < 1e-5
        for _ in range(60):
            _, _, _, _, info = env.step(still)
        assert opening(info) == pytest.approx(left, abs=1e-5)


@pytest.mark.parametrize("slide_m", [0.0, 0.029, 0.031, 0.06])
def test_the_pod_counts_as_in_the_drawer_and_the_drawer_as_closed(slide_m: float) -> None:
    with closing(make_env("Drawer", obs="state")) as env:
        env.reset(seed=0, options={"placement": {"cabinet_slide": slide_m}})
        physics = env.physics
        tray = physics.object_pose_in_base("cabinet_tray")
        pod = physics.data.joint("pod_joint0").qpos
        on_table = pod[:3].copy()
        offset = physics.data.body("cabinet_tray").xpos - tray[:3, 3]
        pod[:3] = (tray @ [-0.03, 0.02, 0.021, 1.0])[:3] + offset
        signals = Drawer().stages_reached(_forward(physics))
        assert (signals["place"], signals["close"]) == (True, slide_m < 0.03)
        for beside in ([-0.03, 0.02, 0.06], [0.2, 0.0, 0.021], [-0.03, 0.08, 0.021]):  # on, behind, beside it
            pod[:3] = (tray @ [*beside, 1.0])[:3] + offset
            assert not Drawer().stages_reached(_forward(physics))["place"], beside
        pod[:3] = on_table
        assert not any(Drawer().stages_reached(_forward(physics)).values())


def _forward(physics: Any) -> Any:
    physics.set_state(physics.get_state())
    return physics
