"""A policy that a server runs on another computer, as an actor here: neither torch nor a GPU is needed.

The server holds no state of an episode. It is asked for whole chunks, which are carried out here like those
of a policy in this process (:class:`~simreal_agents.policies.acting.ChunkActor`).
"""

from __future__ import annotations

import os
import time
import weakref
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any
from urllib.parse import parse_qs, urlsplit

import gymnasium as gym
import numpy as np
from websockets.exceptions import InvalidHandshake, InvalidStatus, WebSocketException
from websockets.protocol import State
from websockets.sync.client import ClientConnection, connect

from simreal_agents.actors.wire import LOG, MAX_BYTES, PROTOCOL, TOKEN_VARIABLE, packed, unpacked
from simreal_agents.policies.acting import DEFAULT_ACTING, Acting, Actions, ChunkActor
from simreal_agents.policies.facing import Sight, check_world, sights_of
from simreal_envs import __version__
from simreal_envs.errors import ActorError, DataError, UsageError
from simreal_envs.features import WorldSpec
from simreal_envs.loop import Observation
from simreal_envs.spec import action_space
from simreal_envs.stack import members
from simreal_envs.table_world import table_world

SCHEMES = ("ws", "wss")
TIMEOUT_S = 5.0
"""How long an answer may take; ``ws://host:port?timeout_s=1`` says otherwise."""
PATIENCE_S = 10.0
"""How long a lost server is waited for when the next episode begins."""


@dataclass(frozen=True)
class Address:
    """Where a policy server is. The token is in the environment (``SIMREAL_TOKEN``), so that no log shows it.

    Attributes:
        url: without the query.
        timeout_s: how long connecting and every answer may take.
    """

    url: str
    timeout_s: float = TIMEOUT_S

    @classmethod
    def parse(cls, text: str) -> Address:
        """Read ``ws://host:port`` or ``ws://host:port?timeout_s=1``.

        Raises:
            UsageError: it is nothing of the kind.
        """
        usage = (
            f"{text!r} is no address of a policy server. Valid: ws://HOST:PORT, ws://HOST:PORT?timeout_s=2"
        )
        try:
            parts = urlsplit(text)
            query = parse_qs(parts.query, strict_parsing=True) if parts.query else {}
            timeout_s = float(query.pop("timeout_s", [str(TIMEOUT_S)])[-1])
            port = parts.port
        except ValueError as error:
            raise UsageError(f"{usage} ({error}).") from error
        plain = parts.username is None and parts.path in ("", "/") and not parts.fragment and not query
        if parts.scheme not in SCHEMES or not parts.hostname or port is None or not plain:
            raise UsageError(f"{usage}; the token is taken from {TOKEN_VARIABLE}.")
        if not 0 < timeout_s < 3600:
            raise UsageError(f"timeout_s is {timeout_s}; it must be more than 0 s and less than an hour.")
        return cls(f"{parts.scheme}://{parts.netloc}", timeout_s)


@dataclass(frozen=True)
class Hello:
    """What a server says of its policy: identity, worlds, actions predicted at once and actions executed."""

    identity: str
    world: WorldSpec
    predict: int
    execute: int


class Connection:
    """A connection to a policy server, after its ``hello``.

    Raises:
        ActorError: names what is wrong: nobody answers, it wants another token, it is no policy server, or
            one of another protocol.
    """

    def __init__(self, address: Address) -> None:
        self.address = address
        token = os.environ.get(TOKEN_VARIABLE)
        try:
            self._socket: ClientConnection = connect(
                address.url,
                additional_headers={"Authorization": f"Bearer {token}"} if token else None,
                open_timeout=address.timeout_s,
                close_timeout=1.0,
                max_size=MAX_BYTES,
                compression=None,  # images would be late by it
                proxy=None,  # a robot's network is its own
                logger=LOG,
            )
        except InvalidStatus as error:
            raise self.error(_refusal(error.response.status_code, token)) from error
        except (OSError, TimeoutError) as error:
            cause = getattr(error, "strerror", None) or str(error) or "no answer"
            raise self.error(
                f"nobody answers ({cause}). Start `simreal serve RUN`, or check the address and the tunnel"
            ) from error
        except (InvalidHandshake, WebSocketException, ValueError) as error:
            raise self.error(f"what answers there is no policy server ({error})") from error
        weakref.finalize(self, self._socket.close)
        self.hello = self._read_hello()

    @property
    def is_open(self) -> bool:
        """Whether the server has not hung up, as far as this computer knows."""
        return self._socket.state is State.OPEN

    def ask(self, message: dict[str, Any], wanted: str) -> dict[str, Any]:
        """Send a message and return the answer, of type ``wanted``.

        Raises:
            UsageError, DataError: the server refuses the message, with the message of its error.
            ActorError: there is no such answer in time; the connection is closed.
        """
        try:
            self._socket.send(packed(message))
            return self._receive(wanted)
        except ActorError:
            self._socket.close()  # an answer that comes later would be taken for that of another question
            raise
        except (OSError, WebSocketException) as error:
            raise self.error(f"the connection was lost ({error})") from error

    def _receive(self, wanted: str) -> dict[str, Any]:
        try:
            answer = unpacked(self._socket.recv(timeout=self.address.timeout_s))
        except TimeoutError as error:
            raise self.error(f"no answer within {self.address.timeout_s:g} s") from error
        except DataError as error:
            raise self.error(f"its answer cannot be read: {error}") from error
        if answer["type"] == "error":
            kind = {"UsageError": UsageError, "DataError": DataError}.get(answer.get("kind", ""))
            message = str(answer.get("message"))
            raise self.error(message) if kind is None else kind(message)
        if answer["type"] != wanted:
            raise self.error(f"its answer is {answer['type']!r:.40} instead of {wanted!r}")
        return answer

    def _read_hello(self) -> Hello:
        try:
            answer = self._receive("hello")
            if answer.get("protocol") != PROTOCOL:
                theirs, version = answer.get("protocol"), answer.get("simreal")
                raise self.error(
                    f"it speaks protocol {theirs!r:.20} (simreal {version!r:.20}), and simreal {__version__} "
                    f"here speaks {PROTOCOL}: install the same version on both"
                )
            numbers = answer["predict"], answer["execute"]
            if not isinstance(answer["identity"], str) or not all(type(n) is int and n > 0 for n in numbers):
                raise DataError("its policy is not described")
            return Hello(answer["identity"], WorldSpec.from_json(answer["world"]), *numbers)
        except (DataError, UsageError, KeyError, TypeError, WebSocketException) as error:
            self._socket.close()
            raise self.error(f"what answers there is no policy server ({error})") from error
        except ActorError:
            self._socket.close()
            raise

    def error(self, cause: str) -> ActorError:
        """The error of this server, with its cause in a few words."""
        return ActorError(f"Policy server {self.address.url}: {cause}.")


def _refusal(status: int, token: str | None) -> str:
    if status != 401:
        return f"what answers there is no policy server (HTTP {status})"
    if token:
        return f"it refuses the token of {TOKEN_VARIABLE}"
    return f"it wants a token: set {TOKEN_VARIABLE} to that of the server"


class RemotePolicy(ChunkActor):
    """The actor of a policy that a server runs.

    A server that is lost or slow ends the episode (:class:`ActorError`); the next episode connects again, and
    refuses a server that has another policy by now.

    Args:
        address: of the server.
        hello: what the server has to say of its policy.
        acting: how chunks are carried out.

    Raises:
        ActorError: see :class:`Connection`.
        DataError: the server has another policy.
    """

    def __init__(self, address: Address, hello: Hello, acting: Acting = DEFAULT_ACTING) -> None:
        super().__init__(hello.world, hello.predict, hello.execute, acting)
        self._address, self._hello = address, hello
        self._sights: Sequence[Sight] = ()
        self._shape = (hello.predict, *action_space(self.spec.action_kind).shape)
        self._connection = self._connect()

    def face(self, env: gym.Env[Any, Any]) -> None:
        """Let the server's policy prepare for the images of a world.

        Raises:
            DataError, UsageError: see :meth:`simreal_agents.policies.policy.Policy.face`.
            ActorError: the server is lost.
        """
        check_world(self.spec, env)
        self._sights, self.real_time = sights_of(env), table_world(members(env)[0]).real_time
        self._tell_sights()

    def predict(
        self,
        observation: Observation,
        state: Any = None,
        episode_start: Any = None,
        deterministic: bool = True,
    ) -> tuple[Actions, Any]:
        """See :meth:`ChunkActor.predict`.

        Raises:
            ActorError: the server is lost or slow.
        """
        if not self._connection.is_open and (state is None or np.any(episode_start)):
            self._connection = self._connect_again()
            self._tell_sights()
        return super().predict(observation, state, episode_start, deterministic)

    def chunks(self, observations: Observation, deterministic: bool = True) -> Actions:
        """Chunks (B, H, A), computed by the server."""
        question = {"type": "predict", "observation": observations, "deterministic": deterministic}
        actions = self._connection.ask(question, "chunks").get("actions")
        wanted = (len(next(iter(observations.values()))), *self._shape)
        if not isinstance(actions, np.ndarray) or actions.shape != wanted or not np.isfinite(actions).all():
            raise self._connection.error(f"its chunks are no finite actions of shape {wanted}")
        return actions

    def _tell_sights(self) -> None:
        self._connection.ask({"type": "face", "sights": [s.to_json() for s in self._sights]}, "ready")

    def _connect(self) -> Connection:
        connection = Connection(self._address)
        if connection.hello != self._hello:
            raise DataError(
                f"Policy server {self._address.url} serves {connection.hello.identity}, and "
                f"{self._hello.identity} before: evaluate each by a command of its own."
            )
        return connection

    def _connect_again(self) -> Connection:
        """Wait a while for a lost server."""
        give_up_s = time.monotonic() + PATIENCE_S
        while True:
            try:
                return self._connect()
            except ActorError:
                if time.monotonic() > give_up_s:
                    raise
                time.sleep(0.5)


@dataclass(frozen=True)
class ServedPolicy:
    """The factory of the actor of a policy server. Its identity is that of the policy, wherever it runs."""

    address: Address
    hello: Hello
    acting: Acting = DEFAULT_ACTING

    @classmethod
    def at(cls, url: str, acting: Acting = DEFAULT_ACTING) -> ServedPolicy:
        """The factory for the policy that is served there now.

        Raises:
            UsageError: the address is not one.
            ActorError: there is no policy server, or it refuses us.
        """
        address = Address.parse(url)
        return cls(address, Connection(address).hello, acting)

    def world(self) -> WorldSpec:
        """The worlds that the policy was trained for, and the arrays that it reads."""
        return self.hello.world

    def identity(self) -> str:
        """As of the same checkpoint in a run folder."""
        return f"{self.hello.identity} {self.acting}".rstrip()

    def make(self, env: gym.Env[Any, Any]) -> RemotePolicy:
        """An actor with a connection of its own."""
        policy = RemotePolicy(self.address, self.hello, self.acting)
        policy.face(env)
        return policy
