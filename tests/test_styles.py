"""Manners of moving of scripted experts."""

from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from typer.testing import CliRunner

from simreal_agents.actors.experts import make_expert
from simreal_cli.main import app
from simreal_datasets.store.dataset import Dataset
from simreal_envs.errors import UsageError
from simreal_envs.loop import Step, run_episode
from simreal_envs.poses import pose
from simreal_envs.tasks import tasks_with
from simreal_envs.tasks.styles import FREE_FROM_M, LEAD_M, PLAIN, Style, named_style
from simreal_envs.world_config import WorldConfig

DOWN = np.diag([1.0, -1.0, -1.0])
START = {"cube": pose(np.eye(3), [0.5, 0.1, 0.02])}

numbers = st.integers(0, 10_000)
offsets_m = st.tuples(*[st.floats(-0.4, 0.4)] * 3).map(np.array)


def _step(style: Style, offset_m: np.ndarray) -> np.ndarray:
    """Where a hand in the middle of the table is sent, relative to it."""
    hand = pose(DOWN, [0.5, 0.0, 0.2])
    return style.target(hand, hand[:3, 3] + offset_m, 0.0)[0] - hand[:3, 3]


@given(numbers, offsets_m)
def test_no_style_is_faster_than_the_plain_one(number: int, offset_m: np.ndarray) -> None:
    assert np.linalg.norm(_step(named_style(str(number), START), offset_m)) <= LEAD_M + 1e-9


@given(numbers, offsets_m)
def test_every_style_goes_straight_near_the_goal_and_up_and_down(number: int, offset_m: np.ndarray) -> None:
    horizontal_m = np.linalg.norm(offset_m[:2])
    near_m = offset_m * [*[min(1.0, 0.99 * FREE_FROM_M / (horizontal_m + 1e-9))] * 2, 1.0]
    went = _step(named_style(str(number), START), near_m)
    assert np.allclose(np.cross(went, near_m), 0.0, atol=1e-9)
    assert went @ near_m >= 0


@given(offsets_m)
def test_the_plain_style_goes_straight(offset_m: np.ndarray) -> None:
    assert np.allclose(np.cross(_step(PLAIN, offset_m), offset_m), 0.0, atol=1e-9)


def test_a_number_is_always_the_same_manner_and_varied_one_for_each_start() -> None:
    elsewhere = {"cube": pose(np.eye(3), [0.5, 0.1001, 0.02])}
    assert named_style("7", START) == named_style("7", elsewhere) != named_style("8", START)
    assert named_style("varied", START) == named_style("varied", dict(START))
    assert named_style("varied", START) != named_style("varied", elsewhere)
    assert named_style("plain", START) == PLAIN


@pytest.mark.parametrize("name", ["fast", "-1", "1.5", "", "²"])
def test_an_unknown_style_is_refused_with_the_valid_ones(name: str) -> None:
    with pytest.raises(UsageError, match="plain, varied"):
        named_style(name, START)


@pytest.mark.slow
def test_varied_experts_take_different_times_and_paths_and_still_succeed() -> None:
    for task in tasks_with("expert"):
        env = WorldConfig(task, obs="state").make("all")
        paths: dict[str, np.ndarray] = {}
        for style in ("plain", "3", "varied"):
            path: list[np.ndarray] = []

            def film(step: Step, path: list[np.ndarray] = path) -> None:
                path.append(step.observation["robot0_eef_pos"])

            outcome = run_episode(env, make_expert(env, style), seed=5, recorder=film)
            assert outcome.success, (task, style)
            paths[style] = np.stack(path)
        env.close()
        assert len(paths["3"]) > len(paths["plain"]), task
        away_m = np.linalg.norm(paths["3"][:, None] - paths["plain"][None], axis=2).min(1).max()
        assert away_m > 0.005, task


def test_collecting_records_the_style_and_refuses_it_for_others(tmp_path: object) -> None:
    run = ["collect", f"{tmp_path}/data", "--task", "Lift", "--obs", "state", "--workers", "1"]
    result = CliRunner().invoke(app, [*run, "--episodes", "1", "--style", "varied"])
    assert result.exit_code == 0, result.output
    assert Dataset(f"{tmp_path}/data").infos[0].meta["style"] == "varied"
    for options, named in (
        (["--style", "wild"], "wild"),
        (["--style", "3", "--by", "keyboard"], "keyboard"),
    ):
        result = CliRunner().invoke(app, [*run, *options])
        assert result.exit_code == 2
        assert named in result.stderr
