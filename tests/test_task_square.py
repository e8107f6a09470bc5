"""Square: the scene stays as it is left, and the stages are what they say."""

from __future__ import annotations

from contextlib import closing
from typing import Any

import numpy as np
import pytest

from simreal_envs.poses import reachable_action
from simreal_envs.registration import make_env
from simreal_envs.spec import TABLE_CENTRE_IN_BASE_M
from simreal_envs.tasks.square import Square


def test_things_start_where_they_are_asked_to() -> None:
    asked = {"nut": (0.01, -0.08, 3.0), "peg": (0.03, 0.12, 0.2)}
    with closing(make_env("Square", obs="state")) as env:
        _, info = env.reset(seed=0, options={"placement": asked})
        for name, (x, y, yaw) in asked.items():
            pose = info["object_poses_in_base"][name]
            np.testing.assert_allclose(pose[:2, 3], TABLE_CENTRE_IN_BASE_M[:2] + [x, y], atol=1e-9)
            assert np.arctan2(pose[1, 0], pose[0, 0]) == pytest.approx(yaw)


def test_a_nut_dropped_over_the_peg_comes_to_lie_around_it() -> None:
    """The nut fits at any turn of its start; on top of the peg, or beside it, it does not count."""
    with closing(make_env("Square", obs="state")) as env:
        _, info = env.reset(seed=0)
        physics, still = env.physics, reachable_action(info["end_effector_pose_in_base"], -1.0)
        nut, peg = physics.data.joint("nut_joint0"), physics.data.body("peg_main").xpos.copy()

        def put(x: float, y: float, z: float) -> dict[str, bool]:
            nut.qpos[:3], nut.qvel[:] = peg + [x, y, z], 0.0
            physics.set_state(physics.get_state())
            return Square().stages_reached(physics)

        assert not put(0.0, 0.0, 0.101)["place"]
        assert not put(0.045, 0.0, 0.101)["place"]
        assert not put(0.1, 0.0, 0.01)["place"]
        put(0.0, 0.0, 0.08)
        ended = [env.step(still)[2] for _ in range(10)]
        assert any(ended)
        height_m = physics.object_position_in_base("nut")[2]
        assert height_m == pytest.approx(0.04, abs=5e-4)  # on the plate
        assert _signals(physics)["release"]


def test_a_nut_under_a_peg_or_beside_one_that_lies_on_its_side_does_not_count() -> None:
    with closing(make_env("Square", obs="state")) as env:
        env.reset(seed=0)
        physics = env.physics
        nut, peg = physics.data.joint("nut_joint0"), physics.data.joint("peg_joint0")
        stands, lies = [1, 0, 0, 0], [np.sqrt(0.5), np.sqrt(0.5), 0, 0]
        on_table_m = peg.qpos[2]
        for quaternion, raised_m, nut_m, counts in (
            (stands, 0.0, 0.04, True),
            (stands, 0.0, 0.056, False),
            (stands, 0.02, 0.01, False),
            (lies, 0.05, 0.01, False),
        ):
            peg.qpos[3:], peg.qpos[2] = quaternion, on_table_m + raised_m
            nut.qpos[:3] = *peg.qpos[:2], 0.8 + nut_m
            physics.set_state(physics.get_state())
            assert _signals(physics)["place"] == counts, (raised_m, nut_m)


def _signals(physics: Any) -> dict[str, bool]:
    return Square().stages_reached(physics)
