"""The policy server: computes chunks for clients that have neither torch nor a GPU, over websockets.

Messages are those of :mod:`simreal_agents.actors.wire`, the client is :mod:`simreal_agents.actors.served`.
Each client has a thread and a copy of the policy that knows the client's world; the network is shared and
computes for one client at a time.
"""

from __future__ import annotations

import copy
import hmac
import ipaddress
import logging
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from http import HTTPStatus
from typing import Any

import numpy as np
import torch
from websockets.exceptions import ConnectionClosed
from websockets.http11 import Request, Response
from websockets.sync.server import Server, ServerConnection, serve

from simreal_agents.actors.wire import LOG, MAX_BYTES, PROTOCOL, TOKEN_VARIABLE, packed, unpacked
from simreal_agents.policies.facing import Sight
from simreal_agents.policies.policy import Policy
from simreal_envs import __version__
from simreal_envs.errors import DataError, SimrealError, UsageError
from simreal_envs.spec import check_observation

log = logging.getLogger("simreal.serving")


class PolicyServer:
    """Serves a policy until it is closed.

    Args:
        policy: what is served.
        identity: of the policy, see :class:`simreal_agents.actors.factories.TrainedPolicy`.
        token: what clients have to show; None: nothing.
    """

    def __init__(self, policy: Policy, identity: str, token: str | None = None) -> None:
        self._policy, self._token = policy, token
        self._computing = threading.Lock()
        self._clients: set[ServerConnection] = set()
        self._hello = packed(
            {
                "type": "hello",
                "protocol": PROTOCOL,
                "simreal": __version__,
                "identity": identity,
                "world": policy.spec.to_json(),
                "predict": policy.config.head.predict,
                "execute": policy.config.head.execute,
            }
        )
        if policy.device.type == "cpu":
            torch.set_num_threads(1)  # batches are small, which more threads slow down
        self._warm_up()

    @contextmanager
    def listening(self, host: str, port: int) -> Iterator[Server]:
        """Listen there inside the block; ``serve_forever`` of what is yielded answers clients.

        Raises:
            UsageError: see :func:`check_exposure`; or the address is in use, or not one of this machine.
        """
        check_exposure(host, self._token)
        try:
            listening = serve(
                self._converse,
                host,
                port,
                process_request=self._admit,
                origins=[None],  # no web page: a browser would let any page talk to this machine
                compression=None,  # images would be late by it
                max_size=MAX_BYTES,
                server_header=None,
                close_timeout=1.0,
                logger=LOG,
            )
        except OSError as error:
            raise UsageError(f"Cannot listen at {host}:{port}: {error.strerror or error}.") from error
        with listening as server:
            try:
                yield server
            finally:
                for client in list(self._clients):
                    client.close(1001)

    def _warm_up(self) -> None:
        """Compute one chunk, so that no client waits for what torch does first."""
        spaces = self._policy.spec.space.spaces
        self._policy.chunks(
            {name: np.ones((1, *(box.shape or ())), box.dtype) for name, box in spaces.items()}
        )

    def _admit(self, connection: ServerConnection, request: Request) -> Response | None:
        """Refuse a client that does not show the token."""
        if self._token is None:
            return None
        shown = request.headers.get_all("Authorization")
        wanted = f"Bearer {self._token}"
        # Header values that are not UTF-8 come with surrogates.
        given = shown[0].encode(errors="surrogateescape") if len(shown) == 1 else b""
        if hmac.compare_digest(given, wanted.encode(errors="surrogateescape")):
            return None
        log.warning("Refused a client without the token: %s", connection.remote_address[0])
        return connection.respond(HTTPStatus.UNAUTHORIZED, "This policy server wants a token.\n")

    def _converse(self, connection: ServerConnection) -> None:
        """Answer one client until it leaves."""
        client = _Client(copy.copy(self._policy), self._computing)
        self._clients.add(connection)
        try:
            connection.send(self._hello)
            for data in connection:
                connection.send(packed(client.answer(data)))
        except ConnectionClosed as closed:
            log.info("Client %s left: %s", connection.remote_address[0], closed)
        finally:
            self._clients.discard(connection)


class _Client:
    """Answers the messages of one client."""

    def __init__(self, policy: Policy, computing: threading.Lock) -> None:
        self._policy, self._computing = policy, computing
        self._has_faced = False

    def answer(self, data: bytes | str) -> dict[str, Any]:
        try:
            return self._answer(_understood(data))
        except SimrealError as error:
            return {"type": "error", "kind": type(error).__name__, "message": str(error)}
        except Exception as error:  # of one client's question; the others go on
            log.exception("A question of a client could not be answered")
            message = f"the server failed ({type(error).__name__}: {error})"
            return {"type": "error", "kind": "ActorError", "message": message}

    def _answer(self, message: dict[str, Any]) -> dict[str, Any]:
        if message["type"] == "face":
            self._face(message.get("sights"))
            return {"type": "ready"}
        if message["type"] == "predict":
            return {"type": "chunks", "actions": self._chunks(message)}
        raise DataError(f"Message type {message['type']!r:.40} is unknown. Valid: face, predict.")

    def _face(self, sights: Any) -> None:
        if not isinstance(sights, list) or not sights or not all(isinstance(s, dict) for s in sights):
            raise DataError(f"sights are {sights!r:.40}; they have to be a list of at least one map.")
        try:
            seen = [Sight.from_json(sight) for sight in sights]
        except DataError as error:
            raise DataError(f"A sight cannot be read: {error}.") from error
        self._policy.meet(seen)
        self._has_faced = True

    def _chunks(self, message: dict[str, Any]) -> np.ndarray:
        if not self._has_faced:
            raise DataError("The policy has to face a world first (message type face).")
        observation = message.get("observation")
        if check_observation(observation, self._policy.spec.space) is None:
            raise UsageError("Observations have to have a leading batch axis.")
        assert isinstance(observation, dict)
        with self._computing:
            return self._policy.chunks(observation, message.get("deterministic") is not False)


def _understood(data: bytes | str) -> dict[str, Any]:
    try:
        return unpacked(data)
    except DataError as error:
        raise DataError(f"The message cannot be read: {error}.") from error


def check_exposure(host: str, token: str | None) -> None:
    """Refuse an address that other computers can reach, unless clients have to show a token.

    Raises:
        UsageError: names the address and what makes it possible.
    """
    try:
        is_loopback = host == "localhost" or ipaddress.ip_address(host).is_loopback
    except ValueError:
        is_loopback = False
    if not is_loopback and not token:
        raise UsageError(
            f"Other computers can reach {host!r}, so clients have to show a token: set {TOKEN_VARIABLE} or "
            "give --token. Or listen at 127.0.0.1 and let clients come through an ssh tunnel."
        )
