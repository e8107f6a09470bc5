"""Agents that learn by trial: configuration, runs that go on, acting, and models of Stable-Baselines3."""

from __future__ import annotations

import base64
import io
import json
import os
import pickle
import shutil
import signal
import zipfile
from functools import partial
from pathlib import Path
from typing import Any

import gymnasium as gym
import numpy as np
import pytest
import torch
from demonstrations import write_dataset
from gymnasium import spaces
from gymnasium.wrappers import FlattenObservation
from safetensors.torch import load_file, save_file
from scipy.spatial.transform import Rotation
from stable_baselines3 import A2C, DDPG, PPO, SAC
from stable_baselines3.common.evaluation import evaluate_policy
from stable_baselines3.common.torch_layers import BaseFeaturesExtractor
from stable_baselines3.common.vec_env import DummyVecEnv
from typer.testing import CliRunner

import simreal_envs  # noqa: F401  registers the tasks
from simreal_agents.actors.experts import make_expert
from simreal_agents.actors.factories import named_actor
from simreal_agents.actors.rl_agent import Commands, load_agent
from simreal_agents.actors.sb3_model import read_model
from simreal_agents.policies.checkpoint import find_checkpoint, list_checkpoints
from simreal_agents.policies.config import load_config
from simreal_agents.policies.policy import load_policy
from simreal_agents.policies.rl_config import ActionConfig, RLConfig, load_rl_config
from simreal_agents.reinforcement.learner import RLLearner
from simreal_agents.reinforcement.practice import PracticeWorld, learning_world
from simreal_agents.reinforcement.train import train_agent
from simreal_agents.training.train import train
from simreal_cli.main import app
from simreal_datasets.store.recorder import EpisodeRecorder
from simreal_envs.errors import DataError, UsageError
from simreal_envs.loop import run_episode
from simreal_envs.seeds import seeds_for
from simreal_envs.spec import action_space
from simreal_envs.world_config import WorldConfig
from simreal_envs.wrappers import DeltaActions

SMALL = (
    "world.max_steps=16", "env_steps=48", "log_every=8", "checkpoint_every=16", "network.width=16",
)  # fmt: skip
SAC_SMALL = (*SMALL, "algo.batch_size=8", "algo.learning_starts=10", "algo.buffer_size=30")
PPO_SMALL = (
    *SMALL, "algo.kind=ppo", "algo.envs=2", "algo.n_steps=8", "algo.n_epochs=2", "algo.batch_size=8",
)  # fmt: skip


def small(*more: str) -> RLConfig:
    return load_rl_config(["world.task=Lift", *SAC_SMALL, *more])


def settings(*overrides: str) -> list[str]:
    return [part for override in overrides for part in ("--set", override)]


def simreal(*arguments: object) -> Any:
    return CliRunner().invoke(app, [str(a) for a in arguments], env={"COLUMNS": "200", "TERM": "dumb"})


def weights(checkpoint: Path) -> dict[str, torch.Tensor]:
    return load_file(checkpoint / "weights.safetensors")


def log(run: Path) -> list[dict[str, float]]:
    lines = [json.loads(line) for line in (run / "log.jsonl").read_text().splitlines()]
    return [{name: value for name, value in line.items() if name != "time_s"} for line in lines]


@pytest.fixture(scope="module")
def agent(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The run of an agent that was hardly trained."""
    run = tmp_path_factory.mktemp("agent") / "sac"
    train_agent(small(), run)
    return run


@pytest.fixture(scope="module")
def base(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The run of a policy that was hardly trained, from demonstrations with images."""
    folder = tmp_path_factory.mktemp("base")
    write_dataset(folder / "source", 3)
    given = [f"data.source={folder / 'source'}", "optim.updates=1", "threads=1"]
    train(load_config("cpu-image", "source", given), folder / "run")
    return folder / "run"


# --- runs -----------------------------------------------------------------------------------------------


def test_a_run_of_sac_that_was_stopped_goes_on_to_the_same_weights_and_log(
    agent: Path, tmp_path: Path
) -> None:
    asked = iter([False, False, True])
    with pytest.raises(KeyboardInterrupt, match="step 16"):
        train_agent(small(), tmp_path / "run", should_stop=lambda: next(asked))
    with pytest.raises(UsageError, match="--resume"):
        train_agent(small(), tmp_path / "run")
    with pytest.raises(UsageError, match=r"algo.tau: 0.005 -> 0.1"):
        train_agent(small("algo.tau=0.1"), tmp_path / "run", resume=True)
    resumed, whole = train_agent(small(), tmp_path / "run", resume=True), agent / "checkpoints" / "0000048"
    assert resumed.name == whole.name
    expected, found = weights(whole), weights(resumed)
    assert expected.keys() == found.keys()
    assert all(torch.equal(expected[name], found[name]) for name in expected)
    assert log(tmp_path / "run") == log(agent)
    before = weights(agent / "checkpoints" / "0000016")
    assert any(not torch.equal(before[name], expected[name]) for name in before)  # it learnt


def test_a_run_of_ppo_is_stopped_in_a_round_and_goes_on_from_the_one_before(tmp_path: Path) -> None:
    config = load_rl_config(["world.task=Lift", *PPO_SMALL])
    asked = iter([False] * 14)  # the second round is under way
    with pytest.raises(KeyboardInterrupt, match="step 16"):
        train_agent(config, tmp_path / "run", should_stop=lambda: next(asked, True))
    last = train_agent(config, tmp_path / "run", resume=True)
    assert last.name == "0000048"
    assert [line["update"] for line in log(tmp_path / "run")] == [16, 32, 48]
    first = weights(tmp_path / "run" / "checkpoints" / "0000016")
    assert any(not torch.equal(values, first[name]) for name, values in weights(last).items())


def test_the_program_trains_stops_at_ctrl_c_goes_on_and_evaluates_beside_the_expert(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    run = tmp_path / "run"
    with monkeypatch.context() as patched:  # Ctrl-C comes while the first checkpoint is being written
        save = RLLearner.save
        patched.setattr(RLLearner, "save", lambda *a: (os.kill(os.getpid(), signal.SIGINT), save(*a)))
        stopped = simreal("train", run, "--algo", "sac", "--task", "Lift", *settings(*SAC_SMALL))
    assert stopped.exit_code == 130, stopped.output
    assert list_checkpoints(run)[-1] < 48
    assert f"simreal train {run} --resume" in stopped.stderr
    resumed = simreal("train", run, "--resume")
    assert resumed.exit_code == 0, resumed.output
    assert list_checkpoints(run)[-1] == 48

    output = tmp_path / "eval"
    judged = simreal(
        "eval", run, "expert", "--region", "in", "--episodes", 2, "--max-steps", 60, "--workers", 1,
        "--output", output,
    )  # fmt: skip
    assert judged.exit_code == 0, judged.output
    rows = [json.loads(line) for line in (output / "episodes.jsonl").read_text().splitlines()]
    assert sorted((row["name"], row["seed"]) for row in rows) == [
        (name, seed) for name in ("expert", "run") for seed in seeds_for("test", 2)
    ]


def test_a_training_that_diverges_ends_and_keeps_what_was_saved(tmp_path: Path) -> None:
    with pytest.raises(DataError, match="diverged"):
        train_agent(small("algo.learning_rate=1e30"), tmp_path / "run")
    for number in list_checkpoints(tmp_path / "run"):
        assert all(t.isfinite().all() for t in weights(find_checkpoint(tmp_path / "run", number)).values())


@pytest.mark.parametrize("file", ["weights.safetensors", "training.safetensors", "state.json"])
def test_a_damaged_checkpoint_is_named(agent: Path, tmp_path: Path, file: str) -> None:
    shutil.copytree(agent, tmp_path / "run")
    damaged = find_checkpoint(tmp_path / "run") / file
    damaged.write_bytes(damaged.read_bytes()[:100])
    learner = RLLearner(small(), None)
    with pytest.raises(DataError, match="0000048"):
        learner.restore(damaged.parent)
    learner.close()
    if file != "training.safetensors":
        with pytest.raises(DataError, match="0000048"):
            load_agent(tmp_path / "run")


# --- configuration and command line -----------------------------------------------------------------------


def test_a_stored_configuration_is_complete_and_read_as_it_was(agent: Path) -> None:
    values = json.loads((agent / "config.json").read_text())
    values.pop("format_version")
    assert RLConfig.from_dict(values) == small()
    del values["action"]["repeat"]
    with pytest.raises(UsageError, match=r"action\.repeat"):
        RLConfig.from_dict(values)


@pytest.mark.parametrize(
    ("given", "named"),
    [
        (["--algo", "dqn", "--task", "Lift"], ("dqn", "sac, ppo")),
        (["--algo", "sac"], ("--task", "Stack")),
        (["--algo", "sac", "--task", "Lyft"], ("Lyft", "Stack")),
        (["--algo", "sac", "--task", "Lift", "--source", "a", "--obs", "image"], ("--source", "--obs")),
        (["--algo", "sac", "--task", "Lift", "--preset", "cpu", "-m", "uot"], ("--preset", "--method")),
        (["--algo", "sac", "--task", "Lift", "--set", "algo.rho=1"], ("algo.rho", "algo.tau")),
        (["--algo", "ppo", "--task", "Lift", "--set", "algo.tau=1"], ("algo.tau", "algo.n_epochs")),
        (["--algo", "sac", "--task", "Lift", "--set", "world.task=Stack"], ("world.task", "--set")),
        (["--algo", "sac", "--task", "Lift", "--region", "left"], ("left", "ood")),
        (["--algo", "sac", "--task", "Lift", "--shift", "fog"], ("fog", "texture")),
        (["--algo", "sac", "--residual", "nowhere"], ("nowhere",)),
        (["--task", "Lift", "--env-steps", "5"], ("--task", "--env-steps", "--algo")),
    ],
)  # fmt: skip
def test_what_does_not_apply_is_refused_by_name(
    given: list[str], named: tuple[str, ...], tmp_path: Path
) -> None:
    result = simreal("train", tmp_path / "run", *given)
    assert result.exit_code in (1, 2), result.output
    assert all(name in result.stderr for name in named), result.stderr
    assert not (tmp_path / "run").exists()


def test_runs_of_both_kinds_do_not_share_a_folder(agent: Path, base: Path) -> None:
    into_agents = simreal("train", agent, "--source", base.parent / "source", "-m", "source")
    assert into_agents.exit_code == 1
    assert "--algo" in into_agents.stderr
    with pytest.raises(DataError, match="demonstrations"):
        train_agent(small(), base)
    again = simreal("train", agent, "--resume", "--seed", 3)
    assert again.exit_code == 2
    assert "--seed" in again.stderr


# --- acting -------------------------------------------------------------------------------------------------


def test_numbers_change_a_reference_within_the_limits_and_the_action_space() -> None:
    rng, limits = np.random.default_rng(0), ActionConfig(0.03, 0.2, repeat=1, gripper=0.5)
    commands, box = Commands(limits), action_space("pose")
    assert commands.space.shape == (7,)
    for _ in range(50):
        reference, numbers = box.sample().astype(float), rng.uniform(-1, 1, 7)
        reference[3:6] *= np.pi / max(np.pi, np.linalg.norm(reference[3:6]))
        action = commands.action(numbers, reference)
        assert box.contains(action)
        assert (np.abs(action - reference)[[0, 1, 2]] <= 0.03 + 1e-6).all()
        assert abs(action[6] - reference[6]) <= 0.5 + 1e-6
        turn = Rotation.from_rotvec(action[3:6]) * Rotation.from_rotvec(reference[3:6]).inv()
        np.testing.assert_allclose(turn.as_rotvec(), 0.2 * numbers[3:6], atol=1e-5)
        np.testing.assert_allclose(commands.action(np.zeros(7), reference)[:3], reference[:3], atol=1e-6)
    straight = Commands(ActionConfig(0.03, 0.0, repeat=1, gripper=0.0))
    assert straight.space.shape == (3,)
    np.testing.assert_allclose(straight.action(np.ones(3), reference)[3:], reference[3:], atol=1e-6)


def residual(base: Path, *more: str) -> RLConfig:
    return small(f"base.run={base}", "world.shift=texture", "env_steps=16", *more)


@pytest.fixture(scope="module")
def corrected(base: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The run of an agent that corrects the base policy, hardly trained."""
    run = tmp_path_factory.mktemp("corrected") / "run"
    train_agent(residual(base), run)
    return run


@pytest.mark.parametrize("kind", ["agent", "corrected"])
def test_an_agent_acts_in_the_world_as_it_did_in_practice(kind: str, request: pytest.FixtureRequest) -> None:
    actor = load_agent(request.getfixturevalue(kind))
    world = learning_world(actor.config, actor.base)
    practice = PracticeWorld(world.make("in", reward="staged"), actor.config, actor.base, episode=5)
    inputs, done, earned = practice.reset()[0], False, 0.0
    while not done:
        numbers, _ = actor.network.predict(inputs, deterministic=True)
        inputs, reward, terminated, truncated, info = practice.step(numbers)
        earned, done = earned + reward, terminated or truncated
    practice.close()
    env = world.make("in", reward="staged")
    actor.face(env)
    recorder = EpisodeRecorder()
    outcome = run_episode(env, actor, seed=5, recorder=recorder)
    episode = recorder.finish(env, outcome, "agent")  # what it does can be demonstrated to others
    assert {feature.key for feature in actor.spec.features} <= set(episode.observations)
    assert len(episode.actions) == outcome.steps
    assert outcome.total_reward * 10 == pytest.approx(earned, abs=1e-9)
    np.testing.assert_array_equal(outcome.info["sim_state"], info["sim_state"])
    env.close()


def test_an_agent_acts_in_several_worlds_as_in_each(corrected: Path) -> None:
    actor = load_agent(corrected)
    make = partial(learning_world(actor.config, actor.base).make, "in")
    envs = gym.vector.SyncVectorEnv([make, make])
    actor.face(envs)
    observations, _ = envs.reset(seed=3)
    state, singles = None, [None, None]
    for step in range(5):
        actions, state = actor.predict(observations, state, np.array([step == 0, step in (0, 3)]))
        for i in range(2):
            one = {name: values[i] for name, values in observations.items()}
            expected, singles[i] = actor.predict(one, singles[i], np.array([step == 0 or (i and step == 3)]))
            np.testing.assert_allclose(actions[i], expected, atol=1e-5)
        observations = envs.step(actions)[0]
    envs.close()


def test_an_agent_that_corrects_nothing_acts_as_its_base(corrected: Path, base: Path) -> None:
    actor, policy = load_agent(corrected), load_policy(base, device="cpu")
    for name, values in actor.network.state_dict().items():
        if name.startswith("actor.mu."):
            values.zero_()
    env = learning_world(actor.config, actor.base).make("in")
    outcomes = []
    for one in (actor, policy):
        one.face(env)
        outcomes.append(run_episode(env, one, seed=4))
    np.testing.assert_allclose(outcomes[0].info["sim_state"], outcomes[1].info["sim_state"], atol=1e-4)
    env.close()


def test_an_agents_run_keeps_its_base(base: Path, tmp_path: Path) -> None:
    moved = shutil.copytree(base, tmp_path / "base")
    train_agent(residual(moved, "checkpoint_every=8"), tmp_path / "run")
    identity = named_actor(str(tmp_path / "run")).identity()
    shutil.rmtree(moved)
    assert named_actor(str(tmp_path / "run")).identity() == identity
    assert load_agent(tmp_path / "run").base is not None
    stored = next((tmp_path / "run" / "base").rglob("weights.safetensors"))
    other = load_file(stored)
    save_file({name: values + 0.1 for name, values in other.items()}, stored)
    assert named_actor(str(tmp_path / "run")).identity() != identity


def test_a_base_that_does_not_fit_is_refused(base: Path, agent: Path, tmp_path: Path) -> None:
    with pytest.raises(UsageError, match="Stack"):
        train_agent(residual(base, "world.task=Stack"), tmp_path / "run")
    with pytest.raises(DataError, match="by trial"):
        train_agent(residual(agent), tmp_path / "run")
    result = simreal("train", tmp_path / "run", "--algo", "sac", "--residual", agent)
    assert result.exit_code == 1
    assert not (tmp_path / "run").exists()
    served = simreal("serve", agent)
    assert served.exit_code == 1
    assert "by trial" in served.stderr


class FromSeeds(gym.Wrapper[Any, Any, Any, Any]):
    """Resets to the scenes of these seeds, one after another."""

    def __init__(self, env: gym.Env[Any, Any], seeds: range) -> None:
        super().__init__(env)
        self._seeds = iter(seeds)

    def reset(self, **kwargs: Any) -> Any:
        return self.env.reset(**kwargs | {"seed": next(self._seeds, 0)})


@pytest.mark.parametrize("kind", ["expert", "policy", "agent"])
def test_stable_baselines_counts_the_successes_that_we_count(kind: str, base: Path, agent: Path) -> None:
    seeds = seeds_for("test", 4)
    obs = {"expert": "state", "policy": "image", "agent": "state"}[kind]

    def make() -> gym.Env[Any, Any]:
        env = gym.make("simreal/Lift-v0", obs=obs, image_size=(32, 32), region="in", max_episode_steps=38)
        return FromSeeds(env, seeds)

    envs = DummyVecEnv([make])
    world = envs.envs[0]
    loaded = {"policy": lambda: load_policy(base, device="cpu"), "agent": lambda: load_agent(agent)}
    actor = make_expert(world) if kind == "expert" else loaded[kind]()
    if kind != "expert":
        actor.face(world)
    theirs = evaluate_policy(actor, envs, 4, warn=False, return_episode_rewards=True)
    ours = [run_episode(world.env, actor, seed=seed) for seed in seeds]
    assert theirs == ([float(o.success) for o in ours], [o.steps for o in ours])
    if kind == "expert":
        assert len({o.success for o in ours}) == 2  # some episodes are too short for it
    envs.close()


# --- models of Stable-Baselines3 ----------------------------------------------------------------------------


def lift(obs: str = "state", **kwargs: Any) -> gym.Env[Any, Any]:
    return gym.make("simreal/Lift-v0", obs=obs, max_episode_steps=4, **kwargs)


MODELS = {
    "sac": lambda: SAC(
        "MultiInputPolicy", DeltaActions(lift()), buffer_size=9, policy_kwargs={"net_arch": [8]}
    ),
    "ppo": lambda: PPO(
        "MlpPolicy",
        FlattenObservation(lift()),
        n_steps=8,
        batch_size=8,
        policy_kwargs={"net_arch": {"pi": [8], "vf": [4]}, "activation_fn": torch.nn.ELU},
    ),
    "a2c-images": lambda: A2C("MultiInputPolicy", lift("image+state", image_size=(36, 48))),
    "ddpg-history": lambda: DDPG("MultiInputPolicy", lift(history=2), buffer_size=9),
}


@pytest.mark.parametrize("kind", MODELS)
def test_a_model_of_stable_baselines_acts_as_it_does_there(kind: str, tmp_path: Path) -> None:
    model = MODELS[kind]()
    model.save(tmp_path / "model")
    actor = read_model(tmp_path / "model.zip", "Lift")
    env = WorldConfig.showing(actor.spec, max_steps=4).make("all")
    actor.face(env)
    observation, _ = env.reset(seed=0)
    given = {name: observation[name] for name in actor.spec.space}
    theirs: Any = (
        given if isinstance(model.observation_space, spaces.Dict) else np.concatenate([*given.values()])
    )
    expected, _ = model.predict(theirs, deterministic=True)
    np.testing.assert_allclose(actor.predict(observation)[0], expected, atol=1e-6)
    assert run_episode(env, actor, seed=1).steps == 4
    env.close()


def test_the_program_evaluates_a_model_of_stable_baselines(tmp_path: Path) -> None:
    MODELS["sac"]().save(tmp_path / "model")
    given = ("eval", tmp_path / "model.zip", "--output", tmp_path / "eval", "--episodes", 1, "--workers", 1)
    assert "--task" in simreal(*given).stderr
    judged = simreal(*given, "--task", "Lift", "--region", "in", "--max-steps", 5)
    assert judged.exit_code == 0, judged.output
    (row,) = (tmp_path / "eval" / "episodes.jsonl").read_text().splitlines()
    assert json.loads(row)["steps"] == 5


class Trap:
    """Says so when it is unpickled."""

    def __reduce__(self) -> Any:
        return (os.mkdir, (str(self.path),))

    def __init__(self, path: Path) -> None:
        self.path = path


def rewritten(file: Path, **parts: bytes) -> Path:
    """The archive with other parts in place of its own."""
    other = file.with_name("other.zip")
    with zipfile.ZipFile(file) as old, zipfile.ZipFile(other, "w") as new:
        for name in old.namelist():
            new.writestr(name, parts.get(name.replace(".", "_"), old.read(name)))
    return other


def test_a_model_is_read_without_running_what_is_in_it(tmp_path: Path) -> None:
    MODELS["sac"]().save(tmp_path / "model")
    file, trap = tmp_path / "model.zip", Trap(tmp_path / "sprung")
    data = json.loads(zipfile.ZipFile(file).read("data"))
    for value in data.values():
        if isinstance(value, dict) and ":serialized:" in value:
            value[":serialized:"] = base64.b64encode(pickle.dumps(trap)).decode()
    actor = read_model(rewritten(file, data=json.dumps(data).encode()), "Lift")
    assert actor.spec.action_kind == "delta"
    for key, value in (("policy_class", {}), ("policy_kwargs", {"net_arch": {"pi": 3}}), ("action_space", 3)):
        with pytest.raises((DataError, UsageError), match=r"other\.zip"):
            read_model(rewritten(file, data=json.dumps(data | {key: value}).encode()), "Lift")
    data["policy_class"] |= {"__init__": "<function partial.__init__ at 0x0>"}
    with pytest.raises(DataError, match="partial"):
        read_model(rewritten(file, data=json.dumps(data).encode()), "Lift")
    weights = io.BytesIO()
    torch.save({"trap": trap}, weights)
    with pytest.raises(DataError, match=r"other\.zip"):
        read_model(rewritten(file, policy_pth=weights.getvalue()), "Lift")
    assert not trap.path.exists()


class OwnExtractor(BaseFeaturesExtractor):
    def __init__(self, space: spaces.Box) -> None:
        super().__init__(space, 23)

    def forward(self, numbers: torch.Tensor) -> torch.Tensor:
        return numbers


def test_models_that_do_not_fit_are_refused(tmp_path: Path) -> None:
    own = {"features_extractor_class": OwnExtractor}
    PPO("MlpPolicy", FlattenObservation(lift()), policy_kwargs=own).save(tmp_path / "own")
    with pytest.raises(UsageError, match="OwnExtractor"):
        read_model(tmp_path / "own.zip", "Lift")
    MODELS["ppo"]().save(tmp_path / "flat")
    with pytest.raises(DataError, match="Stack"):
        read_model(tmp_path / "flat.zip", "Stack")
    PPO("MlpPolicy", "Pendulum-v1").save(tmp_path / "pendulum")
    with pytest.raises(DataError, match="pose, delta, joint"):
        read_model(tmp_path / "pendulum.zip", "Lift")
    with pytest.raises(UsageError, match="Lyft"):
        read_model(tmp_path / "flat.zip", "Lyft")
    (tmp_path / "text.zip").write_text("no archive")
    with pytest.raises(DataError, match=r"text\.zip"):
        read_model(tmp_path / "text.zip", "Lift")
