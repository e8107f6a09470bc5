"""A policy on another computer: the same actions, the same refusals, and every fault by its name."""

from __future__ import annotations

import json
import os
import re
import signal
import socket
import subprocess
import sys
import threading
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager, suppress
from dataclasses import replace
from pathlib import Path
from typing import Any

import gymnasium as gym
import msgpack
import numpy as np
import pytest
from demonstrations import random_episode, write_dataset
from hypothesis import given
from hypothesis import strategies as st
from typer.testing import CliRunner
from websockets.exceptions import ConnectionClosed
from websockets.sync.client import connect
from websockets.sync.server import serve

from simreal_agents.actors import served
from simreal_agents.actors.factories import TrainedPolicy, named_actor
from simreal_agents.actors.served import Address, Connection, RemotePolicy, ServedPolicy
from simreal_agents.actors.wire import MAX_BYTES, PROTOCOL, TOKEN_VARIABLE, packed, unpacked
from simreal_agents.evaluation.play import evaluate
from simreal_agents.policies.acting import Acting
from simreal_agents.policies.config import load_config
from simreal_agents.policies.facing import sights_of
from simreal_agents.policies.policy import load_policy
from simreal_agents.serving.server import PolicyServer
from simreal_agents.training.train import train
from simreal_cli.main import app
from simreal_envs.errors import ActorError, DataError, UsageError
from simreal_envs.loop import run_episode
from simreal_envs.seeds import seeds_for
from simreal_envs.world_config import WorldConfig

SIMREAL = str(Path(sys.executable).with_name("simreal"))
WORLD = WorldConfig("Lift", image_size=(32, 32), max_steps=12)
SEEDS = seeds_for("selection", 3)
WITHOUT_TORCH = """
import sys

class NoTorch:
    def find_spec(self, name, path=None, target=None):
        if name.split(".")[0] == "torch":
            raise ImportError("this computer has no torch")

sys.meta_path.insert(0, NoTorch())
from simreal_cli.main import main
main()
"""


@pytest.fixture(scope="module")
def run(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A policy that has learnt next to nothing, of a source and a target."""
    folder = tmp_path_factory.mktemp("policy")
    data = [
        f"data.{name}={write_dataset(folder / name, 3, seed)}"
        for name, seed in (("source", 0), ("target", 1))
    ]
    small = ["optim.updates=2", "batch.size=16", "batch.alignment_size=8", "head.kind=flow", "threads=1"]
    train(load_config("cpu-image", "cotrain", [*data, *small]), folder / "run")
    return folder / "run"


@pytest.fixture(scope="module")
def url(run: Path) -> Iterator[str]:
    """Address of a server in this process."""
    with served_here(run) as address:
        yield address


@pytest.fixture(scope="module")
def env() -> Iterator[gym.Env[Any, Any]]:
    made = WORLD.make("all")
    yield made
    made.close()


@contextmanager
def served_here(run: Path, token: str | None = None) -> Iterator[str]:
    server = PolicyServer(load_policy(run, device="cpu"), TrainedPolicy.at(run).identity(), token)
    with server.listening("127.0.0.1", 0) as listening:
        thread = threading.Thread(target=listening.serve_forever)
        thread.start()
        yield f"ws://127.0.0.1:{listening.socket.getsockname()[1]}"
        listening.shutdown()
        thread.join()


@contextmanager
def server_process(run: Path, port: int = 0) -> Iterator[tuple[subprocess.Popen[str], str]]:
    """The real program, and its address."""
    process = subprocess.Popen(
        [SIMREAL, "serve", str(run), "--port", str(port), "--device", "cpu"],
        stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True, env=os.environ | {"COLUMNS": "200"},
    )  # fmt: skip
    try:
        assert process.stdout is not None
        found = re.search(r"ws://127\.0\.0\.1:\d+", process.stdout.readline())
        assert found, process.communicate()
        yield process, found[0]
    finally:
        process.kill()
        process.communicate()


@contextmanager
def answering(handler: Callable[[Any], None]) -> Iterator[str]:
    """Address of a websocket server that is no policy server of ours."""
    with serve(handler, "127.0.0.1", 0) as server:
        threading.Thread(target=server.serve_forever).start()
        yield f"ws://127.0.0.1:{server.socket.getsockname()[1]}?timeout_s=1"


def observations(count: int, seed: int = 0) -> list[dict[str, np.ndarray]]:
    episode = random_episode(np.random.default_rng(seed), count)
    return [{name: values[i] for name, values in episode.observations.items()} for i in range(count)]


# --- messages ------------------------------------------------------------------------------------------


@given(
    shape=st.lists(st.integers(0, 4), max_size=4),
    dtype=st.sampled_from([np.uint8, np.float32]),
    contiguous=st.booleans(),
)
def test_arrays_arrive_as_they_were_sent(shape: list[int], dtype: type, contiguous: bool) -> None:
    array = np.random.default_rng(0).uniform(0, 255, shape).astype(dtype)
    array = array if contiguous else array.T
    arrived = unpacked(packed({"type": "x", "array": array}))["array"]
    assert arrived.dtype == array.dtype
    assert arrived.flags.writeable
    assert np.array_equal(arrived, array)


@given(st.binary(max_size=60))
def test_of_any_bytes_comes_a_message_or_an_error(data: bytes) -> None:
    with suppress(DataError):
        assert "type" in unpacked(data)


@pytest.mark.parametrize(
    "array",
    [
        msgpack.ExtType(1, msgpack.packb(("object", [1], b"12345678"))),
        msgpack.ExtType(1, msgpack.packb(("float32", [3], b"1234"))),
        msgpack.ExtType(1, msgpack.packb(("float32", [-1], b"1234"))),
        msgpack.ExtType(1, msgpack.packb(("float32", [1.0], b"1234"))),
        msgpack.ExtType(1, msgpack.packb(([], [1], b"1234"))),
        msgpack.ExtType(1, b"\xc1"),
        msgpack.ExtType(7, b""),
    ],
)
def test_arrays_of_objects_and_damaged_ones_are_refused(array: msgpack.ExtType) -> None:
    with pytest.raises(DataError):
        unpacked(msgpack.packb({"type": "x", "array": array}))
    with pytest.raises(TypeError):
        packed({"type": "x", "array": np.array([{}], dtype=object)})


@pytest.mark.parametrize(
    "text",
    ["ws://", "ws://host", "ws://host:x", "ws://host:99999", "http://host:1", "ws://token@host:1", "ws://host:1/x",
     "ws://host:1?timeout=1", "ws://host:1?timeout_s=-1", "ws://host:1?timeout_s=soon"],
)  # fmt: skip
def test_what_is_no_address_is_refused(text: str) -> None:
    with pytest.raises(UsageError):
        Address.parse(text)
    assert Address.parse("ws://[::1]:8765?timeout_s=0.5") == Address("ws://[::1]:8765", 0.5)


# --- the same policy -----------------------------------------------------------------------------------


@pytest.mark.parametrize("acting", [Acting(), Acting(2, "ensemble")], ids=str)
def test_a_served_policy_acts_like_the_one_in_this_process(
    run: Path, url: str, env: gym.Env[Any, Any], acting: Acting
) -> None:
    local, remote = TrainedPolicy.at(run, acting=acting), named_actor(url, acting=acting)
    assert isinstance(remote, ServedPolicy)
    assert remote.identity() == local.identity()
    assert remote.world() == local.world()
    ways: list[list[np.ndarray]] = []
    for factory in (local, remote):
        ways.append([])
        run_episode(env, factory.make(env), seed=3, recorder=lambda step: ways[-1].append(step.action))
    assert len(ways[0]) == 12
    assert np.array_equal(*ways)


def test_a_batch_of_environments_is_one_question(run: Path, url: str, env: gym.Env[Any, Any]) -> None:
    local, remote = TrainedPolicy.at(run).make(env), named_actor(url).make(env)
    batch = {name: np.stack([o[name] for o in observations(3)]) for name in observations(1)[0]}
    for start in (None, np.array([True, False, True])):
        ours, theirs = (actor.predict(batch, None, start)[0] for actor in (local, remote))
        assert np.array_equal(ours, theirs)


def test_several_clients_at_once_have_worlds_of_their_own(run: Path, env: gym.Env[Any, Any]) -> None:
    """Half of them see the source, the others the target, to which the policy's map of the view belongs."""
    seen, (sight,) = observations(6), sights_of(env)
    looks = {"source": ["sim none"], "target": ["sim texture"]}
    faced = [replace(sight, look=look) for (look,) in looks.values()] * 3
    policy = load_policy(run, device="cpu")
    policy.looks = looks
    policy.network.encoder["agentview_image"].view.change.fill_(0.02)  # type: ignore[union-attr, operator]
    wanted = []
    for one in faced:
        policy.meet([one])
        wanted.append([policy.predict_batch([observation]) for observation in seen])
    assert not np.array_equal(wanted[0], wanted[1])
    found: dict[int, Any] = {}

    def act(i: int, url: str) -> None:
        factory = ServedPolicy.at(url)
        client = RemotePolicy(factory.address, factory.hello)
        client._sights = [faced[i]]
        client._tell_sights()
        found[i] = [client.predict_batch([observation]) for observation in seen]

    server = PolicyServer(policy, "copy")
    with server.listening("127.0.0.1", 0) as listening:
        threading.Thread(target=listening.serve_forever).start()
        url = f"ws://127.0.0.1:{listening.socket.getsockname()[1]}"
        threads = [threading.Thread(target=act, args=(i, url)) for i in range(len(faced))]
        for thread in threads:
            thread.start()
        for thread in threads:
            thread.join()
    for i, chunks in enumerate(wanted):
        assert np.array_equal(found[i], chunks)


def test_another_world_is_refused_in_the_same_words(run: Path, url: str) -> None:
    other = replace(WORLD, image_size=(24, 40), obs="image+depth").make("all")
    refusals = []
    for factory in (TrainedPolicy.at(run), named_actor(url)):
        with pytest.raises(DataError, match=r"agentview_image uint8 \(24, 40, 3\) instead of") as refusal:
            factory.make(other)
        refusals.append(str(refusal.value))
    sights = {"type": "face", "sights": [sight.to_json() for sight in sights_of(other)]}
    with pytest.raises(DataError) as refusal:  # a client that does not look by itself
        Connection(Address.parse(url)).ask(sights, "ready")
    assert refusals == [str(refusal.value)] * 2
    other.close()


# --- the command line ----------------------------------------------------------------------------------


@pytest.mark.slow
def test_a_computer_without_torch_evaluates_a_served_policy_and_ctrl_c_ends_the_server(
    run: Path, tmp_path: Path
) -> None:
    where = ["--region", "in", "--max-steps", "12", "--seed", "selection", "--workers", "1"]
    with server_process(run) as (server, url), connect(url):  # an idle client beside
        command = ["eval", url, "--episodes", "1", "--output", str(tmp_path / "remote"), *where]
        result = subprocess.run(
            [sys.executable, "-c", WITHOUT_TORCH, *command], capture_output=True, text=True, timeout=120
        )
        assert result.returncode == 0, result.stderr
        server.send_signal(signal.SIGINT)
        output, _ = server.communicate(timeout=20)
        assert server.returncode == 0, output
        assert "Traceback" not in output
    local = evaluate({"run": TrainedPolicy.at(run)}, WORLD, ["in"], SEEDS[:1], tmp_path / "local")
    remote = json.loads((tmp_path / "remote" / "episodes.jsonl").read_text())
    for key in ("actor", "seed", "steps", "stages_reached", "success"):
        assert remote[key] == getattr(local[0], key)


def test_what_cannot_be_is_one_line_and_an_exit_code(run: Path, url: str, tmp_path: Path) -> None:
    output = ["--output", str(tmp_path / "eval")]
    nobody = "ws://127.0.0.1:9"
    for command, code, message in (
        (["eval", nobody, *output], 1, "Connection refused"),
        (["eval", "ws://127.0.0.1", *output], 2, "no address of a policy server"),
        (["eval", url, "--checkpoint", "2", *output], 2, "Checkpoint 2 is for a run folder"),
        (["eval", url, "--set", "head.steps=2", *output], 2, "head.steps=2 is for a run folder"),
        (["eval", url, "--ahead", "5", *output], 2, "0 to 4"),
        (["collect", str(tmp_path / "d"), "--task", "Lift", "--by", nobody], 1, "Connection refused"),
        (["serve", str(tmp_path)], 1, "no checkpoints"),
        (["serve", str(run), "--host", "0.0.0.0"], 2, "set SIMREAL_TOKEN"),
        (["serve", str(run), "--host", "robot.example.org"], 2, "set SIMREAL_TOKEN"),
        (["serve", str(run), "--port", url.rpartition(":")[2]], 2, "Cannot listen"),
    ):
        result = CliRunner().invoke(app, command)
        assert result.exit_code == code, result.output
        assert message in result.stderr
        assert len(result.stderr.splitlines()) == 1
    assert (
        not (tmp_path / "eval" / "episodes.jsonl").exists()
        or not (tmp_path / "eval" / "episodes.jsonl").read_text()
    )


# --- faults --------------------------------------------------------------------------------------------


def test_a_token_is_wanted_and_shown_to_nobody(
    run: Path, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    caplog.set_level("DEBUG")
    with served_here(run, token="a-long-secret") as url:
        for shown, complaint in ((None, "wants a token"), ("another", "refuses the token"), ("ä", "refuses")):
            if shown is None:
                monkeypatch.delenv(TOKEN_VARIABLE, raising=False)
            else:
                monkeypatch.setenv(TOKEN_VARIABLE, shown)
            with pytest.raises(ActorError, match=complaint) as refusal:
                ServedPolicy.at(url)
            assert "another" not in str(refusal.value)
        monkeypatch.setenv(TOKEN_VARIABLE, "a-long-secret")
        assert ServedPolicy.at(url).identity() == TrainedPolicy.at(run).identity()
    assert "without the token" in caplog.text
    assert "secret" not in caplog.text


def test_no_web_page_is_answered(url: str) -> None:
    with pytest.raises(Exception, match="403"):
        connect(url, origin="https://example.org")  # type: ignore[arg-type]


def hello_of(url: str, **changes: Any) -> bytes:
    with connect(url) as client:
        return packed(unpacked(client.recv()) | changes)


def test_servers_of_another_kind_are_named(url: str) -> None:
    other = hello_of(url, protocol=PROTOCOL + 1, simreal="9.0")
    for first, complaint in (
        (other, rf"speaks protocol {PROTOCOL + 1} \(simreal '9\.0'\), and simreal .* speaks {PROTOCOL}"),
        ("Welcome!", "text, not msgpack"),
        (b"\xc1\xc1", "not msgpack"),
        (packed({"type": "weather"}), "'weather' instead of 'hello'"),
        (hello_of(url, world={"task": "Lift"}), "no policy server"),
        (hello_of(url, predict="many"), "no policy server"),
    ):
        with (
            answering(lambda client, first=first: client.send(first)) as there,
            pytest.raises(ActorError, match=complaint),
        ):
            ServedPolicy.at(there)
    with socket.create_server(("127.0.0.1", 0)) as silent:
        began_s = time.monotonic()
        with pytest.raises(ActorError, match="nobody answers"):
            ServedPolicy.at(f"ws://127.0.0.1:{silent.getsockname()[1]}?timeout_s=0.3")
        assert time.monotonic() - began_s < 3


@pytest.mark.parametrize(
    ("answer", "complaint"),
    [
        (None, "no answer within 1 s"),
        (b"junk", "cannot be read"),
        (packed({"type": "chunks"}), "no finite actions"),
        (packed({"type": "chunks", "actions": np.zeros((1, 8, 8), np.float32)}), "no finite actions"),
        (packed({"type": "chunks", "actions": np.full((1, 8, 7), np.nan, np.float32)}), "no finite actions"),
        (packed({"type": "error", "kind": "SystemExit", "message": "it burns"}), "it burns"),
        (b"0" * (MAX_BYTES + 1), "too big"),
    ],
)
def test_a_slow_or_mad_server_interrupts_the_episode(
    url: str, env: gym.Env[Any, Any], answer: bytes | None, complaint: str
) -> None:
    hello, asked = hello_of(url), []

    def go_mad(client: Any) -> None:
        client.send(hello)
        good = packed(
            {"type": "chunks", "actions": np.full((1, 8, 7), [0.5, 0, 0.2, 3, 0, 0, 1], np.float32)}
        )
        with suppress(ConnectionClosed):
            for data in client:
                asked.append(unpacked(data)["type"])
                if asked.count("predict") < 2:
                    client.send(packed({"type": "ready"}) if asked[-1] == "face" else good)
                elif answer is not None:
                    client.send(answer)

    with answering(go_mad) as there:
        outcome = run_episode(env, named_actor(there).make(env), seed=3)
    assert outcome.steps == 4
    assert not outcome.success
    assert re.search(f"^Policy server ws://.*{complaint}", outcome.interrupted)


def test_a_client_that_talks_nonsense_or_leaves_disturbs_nobody(run: Path, url: str) -> None:
    seen = {name: value[None] for name, value in observations(1)[0].items()}
    mad = {name: np.zeros_like(value) for name, value in seen.items()}  # its quaternion is none
    with connect(url, max_size=MAX_BYTES) as client:
        client.recv()
        for data, complaint in (
            ("hello", "text"),
            (b"\xc1", "not msgpack"),
            (packed({"type": "fly"}), "Valid: face, predict"),
            (packed({"type": "face", "sights": [{"look": 3}]}), "world"),
            (packed({"type": "face", "sights": None}), "list"),
            (packed({"type": "predict", "observation": seen}), "face a world first"),
        ):
            client.send(data)
            answer = unpacked(client.recv(timeout=5))
            assert answer["type"] == "error"
            assert complaint in answer["message"]
        client.send(b"0" * (MAX_BYTES + 1))
        with pytest.raises(ConnectionClosed, match="1009"):
            client.recv(timeout=10)
    actor = named_actor(url).make(WORLD.make("all"))
    with pytest.raises(UsageError, match="agentview_image has shape"):
        actor._connection.ask(
            {"type": "predict", "observation": seen | {"agentview_image": mad["robot0_eef_pos"]}}, "chunks"
        )
    with pytest.raises(ActorError, match="the server failed"):
        actor._connection.ask({"type": "predict", "observation": mad}, "chunks")
    gone = connect(url)
    gone.send(packed({"type": "predict", "observation": seen}))
    gone.socket.close()
    assert named_actor(url).identity() == TrainedPolicy.at(run).identity()


class LoseServer(gym.Wrapper[Any, Any, Any, Any]):
    """Kills the server after so many steps of all episodes together."""

    def __init__(self, env: gym.Env[Any, Any], server: subprocess.Popen[str], after: int) -> None:
        super().__init__(env)
        self._server, self._left = server, after

    def step(self, action: Any) -> Any:
        self._left -= 1
        if self._left == 0:
            self._server.kill()
            self._server.wait()
        return super().step(action)


@pytest.mark.slow
def test_a_lost_server_ends_the_episode_by_name_and_the_next_one_connects_again(
    run: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(served, "PATIENCE_S", 1.0)
    with server_process(run) as (server, url), server_process(run) as (spare, _):
        actors, port = {"served": named_actor(url)}, int(url.rpartition(":")[2])
        spare.kill()
        losing = LoseServer(WORLD.make("in"), server, after=12 + 6)
        world = losing.unwrapped
        stops = []
        monkeypatch.setattr(world, "stop", lambda: stops.append(1))
        with pytest.raises(ActorError, match="nobody answers"):
            evaluate(actors, WORLD, ["in"], SEEDS, tmp_path, attend=lambda env, trial: losing)
    lines = [json.loads(line) for line in (tmp_path / "episodes.jsonl").read_text().splitlines()]
    assert [(line["steps"], bool(line["interrupted"])) for line in lines] == [(12, False), (8, True)]
    assert re.match(r"Policy server ws://127\.0\.0\.1:\d+: the connection was lost", lines[1]["interrupted"])
    assert len(stops) == 3
    with server_process(run, port):
        results = evaluate(actors, WORLD, ["in"], SEEDS, tmp_path, redo_interrupted=True)
    assert [result.steps for result in results] == [12, 12, 12]
    assert not any(result.interrupted for result in results)


def test_a_client_connects_again_but_not_to_another_policy(
    run: Path, env: gym.Env[Any, Any], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(served, "PATIENCE_S", 0.5)
    with served_here(run) as url:
        actor = named_actor(url).make(env)
        first = run_episode(env, actor, seed=3)
        actor._connection._socket.close()
        assert run_episode(env, actor, seed=3).steps == first.steps == 12
    with pytest.raises(ActorError, match="nobody answers"):
        run_episode(env, actor, seed=3)
    changed = replace(actor._hello, identity="0000001-other")
    with served_here(run) as url, pytest.raises(DataError, match="0000001-other before"):
        RemotePolicy(Address.parse(url), changed)


@pytest.mark.alone
@pytest.mark.slow
def test_on_the_rig_a_lost_server_leaves_the_arm_at_rest(
    run: Path, rig_camera: None, patient_limits: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    with server_process(run) as (server, url):
        world = replace(WORLD, env="rig", limits=str(patient_limits), max_steps=100)
        rig = world.make("in")
        try:
            actor = named_actor(url, acting=Acting(ahead=2)).make(rig)
            assert isinstance(actor, RemotePolicy)
            assert actor.real_time
            outcome = run_episode(LoseServer(rig, server, after=10), actor, seed=0)
            assert "Policy server" in outcome.interrupted
            assert 10 <= outcome.steps < 20
            arm: Any = rig.unwrapped
            assert arm.arm.state().mode in ("idle", "stopped")
        finally:
            rig.close()
