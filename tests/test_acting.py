"""Acting in time: when chunks are asked for and used, how they are joined, and what a late one does."""

from __future__ import annotations

import threading
from typing import Any

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from scipy.spatial.transform import Rotation

from simreal_agents.policies.acting import ENSEMBLE_DECAY, Acting, ChunkActor, holding, joined
from simreal_envs.errors import UsageError
from simreal_envs.features import ObservationSpec, WorldSpec
from simreal_envs.spec import Observation, action_space

SPEC = WorldSpec("Lift", "pose", ObservationSpec(("image",), (8, 8)).features(1))
JOINTS = WorldSpec("Lift", "joint", SPEC.features)


def seen_at(step: int) -> Observation:
    """An observation that says at which step it was made."""
    observation = {name: np.zeros(box.shape, box.dtype) for name, box in SPEC.space.spaces.items()}
    observation["robot0_joint_pos"][0] = step
    return observation


class Counting(ChunkActor):
    """Predicts actions that say from which observation they come (joint 1) and for which step (joint 2).

    They say it in hundredths of a radian, which the joints' ranges allow.
    """

    def __init__(self, predict: int, execute: int, acting: Acting) -> None:
        super().__init__(JOINTS, predict, execute, acting)
        self.horizon = predict
        self.may_answer = threading.Event()
        self.may_answer.set()
        self.asked: list[list[int]] = []

    def chunks(self, observations: Observation, deterministic: bool = True) -> Any:
        seen = observations["robot0_joint_pos"][:, 0]
        self.asked.append([int(step) for step in seen])
        self.may_answer.wait(10.0)
        steps = seen[:, None] + np.arange(self.horizon)
        said = [np.broadcast_to(seen[:, None], steps.shape) / 100, steps / 100]
        return np.stack([*said, *[np.ones_like(steps)] * 6], -1).astype(np.float32)


def said(action: np.ndarray) -> tuple[float, float]:
    """From which observation an action is, and for which step it was meant."""
    return round(100 * float(action[0]), 3), round(100 * float(action[1]), 3)


def play(actor: ChunkActor, steps: int) -> list[tuple[float, float]]:
    """What the action of each step says."""
    state: Any = None
    acted = []
    for step in range(steps):
        action, state = actor.predict(seen_at(step), state, np.array([step == 0]))
        acted.append(said(action))
    return acted


@given(execute=st.integers(1, 6), more=st.integers(0, 6), ahead=st.integers(0, 6))
def test_a_chunk_that_is_asked_for_at_a_step_is_used_so_many_steps_later(
    execute: int, more: int, ahead: int
) -> None:
    acting, predict = Acting(ahead), execute + more
    if ahead > min(execute, more):
        with pytest.raises(UsageError, match=f"are 0 to {min(execute, more)}"):
            Counting(predict, execute, acting)
        return
    actor = Counting(predict, execute, acting)
    for step, (seen, meant) in enumerate(play(actor, 25)):
        assert meant == step
        assert seen == max(0, (step - ahead) // execute * execute)
    actor._beside.shutdown()  # when the last one is there, too
    assert actor.asked == [[step] for step in range(0, 25, execute)]
    assert actor.late_chunks == 0


@pytest.mark.parametrize("ahead", [0, 2])
def test_an_ensemble_is_the_weighted_mean_of_all_chunks_with_an_action_for_the_step(ahead: int) -> None:
    acted = play(Counting(8, 2, Acting(ahead, "ensemble")), 25)
    for step, (seen, meant) in enumerate(acted):
        used = [
            asked for asked in range(0, 25, 2) if asked > step - 8 and (asked == 0 or asked + ahead <= step)
        ]
        weights = np.exp(-ENSEMBLE_DECAY * np.arange(len(used)))
        assert seen == pytest.approx(weights @ used / weights.sum(), abs=1e-3)
        assert meant == step


def test_an_ensemble_without_overlap_and_an_unknown_join_are_refused() -> None:
    Acting(3, "ensemble").check(8, 4)
    with pytest.raises(UsageError, match="are 0 to 3"):
        Acting(4, "ensemble").check(8, 4)
    with pytest.raises(UsageError, match="no such join"):
        Acting(0, "ensemble").check(4, 4)
    with pytest.raises(UsageError, match=r"Unknown join 'glue'\. Valid: switch, ensemble"):
        Acting(0, "glue").check(8, 4)


def test_a_robot_goes_on_with_the_old_chunk_then_holds_and_counts_the_late_one(caplog: Any) -> None:
    actor = Counting(8, 4, Acting(2))
    state: Any = None
    actor.real_time = True
    for step in range(14):
        if step == 4:
            actor.may_answer.clear()
        if step == 11:
            actor.may_answer.set()
        if state and state.coming and actor.may_answer.is_set():
            state.coming.chunks.result()  # what may be there is there, however busy the machine is
        action, state = actor.predict(seen_at(step), state, np.array([step == 0]))
        wanted = (0, min(step, 7)) if step < 11 else (4, 11) if step < 13 else (11, step)
        assert said(action) == wanted, step
    assert actor.late_chunks == 1
    assert "asked for at step 4, not there at step 6" in caplog.text
    assert actor.asked == [[0], [4], [11]]


def test_in_simulation_a_slow_chunk_is_waited_for() -> None:
    actor = Counting(8, 4, Acting(1))
    actor.may_answer.clear()
    threading.Timer(0.2, actor.may_answer.set).start()
    assert play(actor, 12)[5:] == [(4, step) for step in range(5, 9)] + [(8, step) for step in range(9, 12)]


def test_environments_of_a_batch_have_plans_of_their_own() -> None:
    actor = Counting(8, 4, Acting(2, "ensemble"))
    starts = (0, 0, 3)  # the third environment begins a new episode at step 3
    state: Any = None
    together = []
    for step in range(12):
        each = [seen_at(step - begun if step >= begun else step) for begun in starts]
        batch = {name: np.stack([one[name] for one in each]) for name in each[0]}
        begins = np.array([step == 0, step == 0, step in (0, 3)])
        actions, state = actor.predict(batch, state, begins)
        together.append([said(action) for action in actions])
    alone = play(Counting(8, 4, Acting(2, "ensemble")), 12)
    assert [row[0] for row in together] == [row[1] for row in together] == alone
    assert [row[2] for row in together[3:]] == alone[:9]


@given(
    vectors=st.lists(st.tuples(*[st.floats(-1.5, 1.5)] * 3), min_size=2, max_size=5),
    gripper=st.sampled_from([-1.0, 1.0]),
)
def test_joined_poses_are_actions_and_a_chunk_joined_with_itself_is_itself(
    vectors: list[tuple[float, float, float]], gripper: float
) -> None:
    proposed = [np.array([0.5, 0.0, 0.2, *vector, gripper], np.float32) for vector in vectors]
    action = joined(proposed, SPEC)
    assert action is not None
    assert action_space("pose").contains(action)
    assert action[6] == gripper
    same = joined([proposed[0]] * 3, SPEC)
    assert same == pytest.approx(proposed[0], abs=1e-5)


def test_orientations_on_both_sides_of_the_flip_are_joined_between_them() -> None:
    turned = [np.array([0.5, 0.0, 0.2, sign * (np.pi - 0.01), 0, 0, 1], np.float32) for sign in (1, -1)]
    action = joined(turned, SPEC)
    assert action is not None
    mean = Rotation.from_rotvec(action[3:6])
    for one in turned:
        assert (mean * Rotation.from_rotvec(one[3:6]).inv()).magnitude() < 0.011


def test_holding_is_to_stay() -> None:
    last = np.full(7, 0.5, np.float32)
    assert np.array_equal(holding(last, "pose"), last)
    assert np.array_equal(holding(last, "delta"), [0, 0, 0, 0, 0, 0, 0.5])
