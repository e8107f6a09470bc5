"""Actions, normalisation, heads and the actor made of them."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import gymnasium as gym
import numpy as np
import pytest
import torch
from demonstrations import random_episode, write_dataset
from hypothesis import given, settings
from hypothesis import strategies as st
from scipy.spatial.transform import Rotation

from simreal_agents.policies.actions import ActionCodec, policy_inputs, rotation_from_six, six_from_rotation
from simreal_agents.policies.checkpoint import STATE, WEIGHTS, find_checkpoint
from simreal_agents.policies.config import AugmentConfig, load_config
from simreal_agents.policies.encoders import to_network
from simreal_agents.policies.heads import HEADS
from simreal_agents.policies.normalize import Normalizer
from simreal_agents.policies.policy import Policy, load_policy
from simreal_agents.policies.randomness import Randomness
from simreal_agents.training.augment import augment, random_shift, rotate_hue, saturate
from simreal_agents.training.train import train
from simreal_datasets.loading.frames import look
from simreal_envs.errors import DataError, UsageError
from simreal_envs.features import ObservationSpec, WorldSpec
from simreal_envs.spec import action_space

angles = st.floats(-3.0, 3.0)


def observation_of(frame: int, seed: int = 0) -> dict[str, np.ndarray]:
    episode = random_episode(np.random.default_rng(seed))
    return {name: values[frame] for name, values in episode.observations.items()}


@settings(max_examples=100)
@given(angles, angles, angles)
def test_six_numbers_hold_a_rotation(roll: float, pitch: float, yaw: float) -> None:
    rotation = Rotation.from_euler("xyz", [[roll, pitch, yaw]])
    again = rotation_from_six(3.7 * six_from_rotation(rotation))
    assert (rotation * again.inv()).magnitude()[0] < 1e-6


def test_six_numbers_do_not_jump_where_the_rotation_vector_flips() -> None:
    vectors = np.array([[np.pi - 0.001, 0, 0], [-np.pi + 0.001, 0, 0]])
    assert np.abs(np.diff(six_from_rotation(Rotation.from_rotvec(vectors)), axis=0)).max() < 0.01


@pytest.mark.parametrize("frame", ["base", "end_effector"])
@pytest.mark.parametrize("kind", ["pose", "delta", "joint"])
def test_actions_round_trip(kind: str, frame: str) -> None:
    rng, space = np.random.default_rng(0), action_space(kind)
    actions = rng.uniform(space.low, space.high, (50, 4, *space.shape))
    actions[..., -1] = rng.choice([-1.0, 1.0], (50, 4))
    if kind == "pose":
        actions[..., 3:6] = Rotation.random(200, random_state=0).as_rotvec().reshape(50, 4, 3)
    position_m = rng.uniform(0.3, 0.6, (50, 3))
    codec = ActionCodec(kind, frame)
    encoded = codec.encode(actions, position_m)
    assert encoded.shape == (50, 4, codec.size)
    decoded = codec.decode(encoded, position_m)
    if kind == "pose":
        ours, theirs = (Rotation.from_rotvec(a[..., 3:6].reshape(-1, 3)) for a in (decoded, actions))
        assert (ours * theirs.inv()).magnitude().max() < 1e-5
        decoded, actions = np.delete(decoded, [3, 4, 5], -1), np.delete(actions, [3, 4, 5], -1)
    assert decoded == pytest.approx(actions, abs=1e-6)


def test_relative_positions_start_at_the_end_effector() -> None:
    action = np.array([[[0.5, 0.1, 0.2, 3.0, 0, 0, 1.0]]])
    encoded = ActionCodec("pose", "end_effector").encode(action, np.array([[0.5, 0.1, 0.15]]))
    assert encoded[0, 0, :3] == pytest.approx([0, 0, 0.05], abs=1e-6)


def test_decoded_actions_lie_in_the_action_space() -> None:
    rng = np.random.default_rng(0)
    chunks = rng.normal(0, 5, (100, 3, 10))
    actions = ActionCodec("pose", "base").decode(chunks, np.zeros((100, 3)))
    assert all(action_space("pose").contains(action) for action in actions.reshape(-1, 7))
    assert set(np.unique(actions[..., 6])) == {-1.0, 1.0}


def test_policy_inputs_do_not_depend_on_the_sign_of_the_quaternion() -> None:
    observations = {k: v[None] for k, v in observation_of(0).items()}
    flipped = observations | {"robot0_eef_quat": -observations["robot0_eef_quat"]}
    names = ("robot0_eef_pos", "robot0_eef_quat")
    assert np.allclose(policy_inputs(observations, names), policy_inputs(flipped, names))
    assert policy_inputs(observations, names).shape == (1, 9)


def test_normalizer_inverts_and_does_not_blow_up_constants() -> None:
    data = torch.cat(
        [3 + 2 * torch.randn(500, 2, generator=torch.Generator().manual_seed(0)), torch.ones(500, 1)], 1
    )
    normalizer = Normalizer(3)
    normalizer.fit(data, smallest_std=0.01)
    assert torch.allclose(normalizer(data)[:, :2].std(0), torch.ones(2), atol=0.01)
    assert not normalizer(data)[:, 2].any()
    assert torch.allclose(normalizer.inverse(normalizer(data)), data, atol=1e-5)


def test_shift_moves_each_image_by_itself_and_repeats_edges() -> None:
    images = torch.arange(40 * 64.0).view(40, 1, 8, 8)
    shifted = random_shift(images, 2, Randomness(torch.Generator().manual_seed(0), 40))
    seen = set()
    for image, moved in zip(images, shifted, strict=True):
        padded = torch.nn.functional.pad(image[None], (2, 2, 2, 2), mode="replicate")[0]
        candidates = {(y, x): padded[:, y : y + 8, x : x + 8] for y in range(5) for x in range(5)}
        (found,) = [key for key, candidate in candidates.items() if torch.equal(candidate, moved)]
        seen.add(found)
    assert len(seen) > 10


@pytest.mark.parametrize("history", [1, 2])
def test_a_sample_gets_the_same_random_numbers_in_any_share_of_its_batch(history: int) -> None:
    images = torch.rand(6 * history, 3, 12, 12, generator=torch.Generator().manual_seed(1))
    config = AugmentConfig(shift_px=3, hue_rad=0.5)
    head = HEADS["flow"](4, (3, 2), HEADS["flow"].Settings(hidden=8))
    condition, chunks = images.flatten(1)[:6, :4], images.flatten(1)[:6, :6].view(6, 3, 2)

    def augmented(rows: np.ndarray) -> torch.Tensor:
        random = Randomness(torch.Generator().manual_seed(0), 6, rows)
        return augment(images.view(6, history, 3, 12, 12)[rows].flatten(0, 1), config, random, history)

    def loss(rows: np.ndarray) -> float:
        generator = torch.Generator().manual_seed(0)
        return head.loss(condition[rows], chunks[rows], Randomness(generator, 6, rows)).item()

    every = np.arange(6)
    parts = np.split(every, 3)
    assert torch.equal(augmented(every), torch.cat([augmented(rows) for rows in parts]))
    assert loss(every) == pytest.approx(np.mean([loss(rows) for rows in parts]), rel=1e-6)
    assert len({loss(rows) for rows in parts}) == 3


def test_colours_keep_grey_grey_and_full_strength_is_seeded() -> None:
    grey = torch.full((3, 1, 1), 0.2)
    for matrix in (saturate(torch.full((1, 1, 1), 0.3)), rotate_hue(torch.full((1, 1, 1), 0.7))):
        assert torch.allclose(matrix[0] @ grey[:, 0], grey[:, 0], atol=1e-6)
    image = torch.randint(
        0, 256, (4, 16, 16, 3), dtype=torch.uint8, generator=torch.Generator().manual_seed(1)
    )
    config = AugmentConfig(brightness=0.5, contrast=0.5, saturation=0.5, hue_rad=0.5)
    once, again, other = (
        augment(to_network(image), config, Randomness(torch.Generator().manual_seed(seed), 4))
        for seed in (0, 0, 1)
    )
    assert torch.equal(once, again)
    assert not torch.equal(once, other)
    off = AugmentConfig(shift_px=0, brightness=0, contrast=0, saturation=0)
    assert torch.equal(augment(to_network(image), off, Randomness(torch.Generator(), 4)), to_network(image))


@pytest.mark.parametrize(
    ("kind", "settings"),
    [
        ("flow", {"hidden": 64, "steps": 10}),
        ("diffusion", {"predicts": "sample", "steps": 10}),
        ("diffusion", {"predicts": "epsilon", "steps": 20, "eta": 1.0, "levels": 20}),
    ],
)
def test_a_head_that_samples_learns_both_of_two_answers(kind: str, settings: dict[str, Any]) -> None:
    small = {"predict": 2, "channels": (16,), "kernel": 3, "embedding": 16} if kind == "diffusion" else {}
    with torch.random.fork_rng():
        torch.manual_seed(0)
        head = HEADS[kind](1, (2, 1), HEADS[kind].Settings(kind=kind, **small, **settings))
    generator = torch.Generator().manual_seed(0)
    optimizer = torch.optim.Adam(head.parameters(), 3e-3)
    condition = torch.zeros(128, 1)
    answers = torch.randint(2, (128, 1, 1), generator=generator).expand(-1, 2, -1) * 2.0 - 1.0
    head.fit(answers)
    for _ in range(250):
        optimizer.zero_grad()
        head.loss(condition, answers, Randomness(generator, 128)).backward()
        optimizer.step()
    samples = head.sample(condition, torch.randn(128, *head.noise_shape, generator=generator))
    assert (samples.abs() - 1).abs().median() < 0.2
    assert (samples[:, 0] * samples[:, 1] > 0).float().mean() > 0.9  # one answer in the whole chunk
    assert 0.3 < (samples > 0).float().mean() < 0.7


@pytest.fixture(scope="module", params=["mse", "flow", "diffusion"])
def run(request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("policy")
    data = write_dataset(folder / "demos", 3)
    overrides = [
        f"data.source={data}", "optim.updates=4", "checkpoint_every=2",
        f"head.kind={request.param}", "threads=1",
    ]  # fmt: skip
    train(load_config("cpu-image", "source", overrides), folder / "run")
    return folder / "run"


def test_one_policy_serves_many_worlds(run: Path) -> None:
    policy = load_policy(run)
    alone: dict[int, list[np.ndarray]] = {}
    for world in range(3):
        state: Any = None
        alone[world] = []
        for frame in range(10):
            action, state = policy.predict(observation_of(frame, world), state, np.array([frame == 0]))
            alone[world].append(action)
    states: list[Any] = [None] * 3
    for frame in range(10):
        for world in range(3):
            action, states[world] = policy.predict(observation_of(frame, world), states[world])
            assert np.array_equal(action, alone[world][frame])
            assert action_space("pose").contains(action)


def test_a_new_chunk_is_predicted_when_the_queue_is_empty_or_an_episode_starts(run: Path) -> None:
    policy = load_policy(run)
    (chunk,), (other,) = policy.predict_batch([observation_of(0)]), policy.predict_batch([observation_of(2)])
    state: Any = None
    for action in (*chunk, *chunk):
        found, state = policy.predict(observation_of(0), state, np.array([False]))
        assert np.array_equal(found, action)
    _, state = policy.predict(observation_of(0), state)
    found, _ = policy.predict(observation_of(2), state, np.array([True]))
    assert np.array_equal(found, other[0])


def test_batches_give_the_same_chunks_as_single_observations(run: Path) -> None:
    policy = load_policy(run)
    observations = [observation_of(i) for i in range(5)]
    together = policy.predict_batch(observations)
    assert together.shape == (5, policy.config.head.execute, 7)
    single = np.concatenate([policy.predict_batch([o]) for o in observations])
    positions = [0, 1, 2, 6]
    assert together[..., positions] == pytest.approx(single[..., positions], abs=1e-5)
    images = np.stack([o["agentview_image"] for o in observations])
    assert policy.encode({"agentview_image": images}, "target").shape == (5, load_config().encoder.features)


def test_a_policy_is_sampled_and_the_same_observation_gives_the_same_action(run: Path) -> None:
    policy, other = load_policy(run), load_policy(run)
    seen = observation_of(0)
    before = policy.predict_batch([seen])
    policy.predict_batch([observation_of(3), observation_of(4)])
    assert np.array_equal(policy.predict_batch([seen]), before)
    assert np.array_equal(other.predict_batch([seen]), before)
    drawn = [policy.predict_batch([seen], deterministic=False) for _ in range(2)]
    assert np.array_equal(*drawn) == (policy.config.head.kind == "mse")

    images = torch.zeros((200, 4, 4, 3), dtype=torch.uint8)
    noise = policy._noise({"agentview_image": images}, torch.arange(200.0)[:, None], True)
    assert noise.shape[1:] == policy.network.head.noise_shape
    assert abs(noise.mean()) < 0.05
    assert abs(noise.std() - 1) < 0.05


class World(gym.Env[Any, Any]):
    """Spaces of a world, without one."""

    def __init__(
        self,
        task: str = "Lift",
        kind: str = "pose",
        obs: str = "image",
        size: tuple[int, int] = (32, 32),
        cameras: str = "agentview",
        history: int = 1,
    ):
        self.task = type("Task", (), {"name": task})()
        self.action_kind, self.action_space = kind, action_space(kind)
        shown = ObservationSpec.parse(obs, size, cameras, history=history)
        self.world_spec = WorldSpec(task, "pose", shown.features(1), history)
        self.observation_space = self.world_spec.space


def test_only_a_world_that_looks_as_the_source_alone_is_taken_for_the_source(run: Path) -> None:
    policy = load_policy(run)
    assert policy.domain == "target"
    for shift in ("none", "gains"):  # gains are not seen
        assert policy.domain_of(look({"env": "sim", "shift": shift})) == "source"
    for env, shift in (("sim", "viewpoint"), ("real", "none"), ("rig", "none")):
        assert policy.domain_of(look({"env": env, "shift": shift})) == "target"
    policy.looks["target"] = ["sim none"]
    assert policy.domain_of("sim none") == "target"


def test_a_world_that_means_something_else_is_refused(run: Path) -> None:
    policy = load_policy(run)
    policy.check_world(World())
    policy.check_world(World(obs="state+image+depth", cameras="agentview+wrist"))
    for world, complaint in (
        (World(task="Stack"), "task is 'Stack' instead of 'Lift'"),
        (World(kind="delta"), "action_kind is 'delta'"),
        (World(kind="joint"), r"actions have shape \(8,\)"),
        (World(size=(84, 84)), r"agentview_image uint8 \(84, 84, 3\) instead of .* \(32, 32, 3\)"),
        (World(history=2), "history is 2 instead of 1"),
        (
            World(obs="state"),
            r"agentview_image is not there\. Make the environment with obs='image', image_size=\(32, 32\), "
            r"cameras=\('agentview',\)\.$",
        ),
    ):
        with pytest.raises(DataError, match=complaint):
            policy.check_world(world)


def test_checkpoints_are_found_by_update(run: Path) -> None:
    assert load_policy(run).update == 4
    assert load_policy(run, 2).update == load_policy(run, "2").update == 2
    with pytest.raises(UsageError, match=r"no checkpoint 3\. Valid: last, 2, 4"):
        load_policy(run, 3)
    with pytest.raises(DataError, match="no run folder"):
        load_policy(run / "nothing")
    for device in ("tpu", "cpu:x", "cuda:", "cuda:99"):
        with pytest.raises(UsageError, match=f"Unknown device '{device}'. Valid: auto, cpu"):
            load_policy(run, device=device)


def copy_of(run: Path, folder: Path) -> Path:
    checkpoint = find_checkpoint(run)
    there = folder / "checkpoints" / checkpoint.name
    there.mkdir(parents=True)
    for file in checkpoint.iterdir():
        (there / file.name).write_bytes(file.read_bytes())
    return there


def test_a_checkpoint_of_another_version_or_damaged_is_refused(run: Path, tmp_path: Path) -> None:
    there = copy_of(run, tmp_path)
    state = json.loads((there / STATE).read_text())
    (there / STATE).write_text(json.dumps(state | {"format_version": 99}))
    with pytest.raises(DataError, match="format version 99"):
        load_policy(tmp_path)
    other = state["config"] | {"optim": state["config"]["optim"] | {"momentum": 0.5}}
    (there / STATE).write_text(json.dumps(state | {"config": other}))
    with pytest.raises(DataError, match=r"optim\.momentum"):
        load_policy(tmp_path)
    (there / STATE).write_text(json.dumps(state))
    (there / WEIGHTS).write_bytes((there / WEIGHTS).read_bytes()[:-100])
    with pytest.raises(DataError, match=r"weights\.safetensors cannot be read"):
        load_policy(tmp_path)
    (there / WEIGHTS).unlink()
    with pytest.raises(DataError, match=r"weights\.safetensors cannot be read"):
        load_policy(tmp_path)


def test_prediction_leaves_no_trace_in_the_policy(run: Path) -> None:
    policy = load_policy(run)
    assert isinstance(policy, Policy)
    before = {name: tensor.clone() for name, tensor in policy.network.state_dict().items()}
    policy.predict(observation_of(0))
    assert all(torch.equal(before[name], tensor) for name, tensor in policy.network.state_dict().items())
