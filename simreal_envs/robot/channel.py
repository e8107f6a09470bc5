"""Orders from the user's process to the arm's driver, and answers: JSON lines over a socket pair.

Targets and states, of which only the latest counts, go through shared memory instead (``records.py``).
"""

from __future__ import annotations

import json
import socket
from collections.abc import Callable
from contextlib import suppress
from typing import Any

from simreal_envs.errors import SimrealError

Poll = Callable[[], "str | None"]
"""How an order that takes time stands: None while it lasts, then what went wrong, or an empty string."""


class Channel:
    """One end of the pair. Sending waits for nobody: a full socket means that the other end is gone."""

    def __init__(self, connection: socket.socket) -> None:
        self._connection = connection
        self._connection.setblocking(False)
        self._buffer = b""
        self.closed = False
        """Whether the other end has gone."""

    def send(self, message: dict[str, Any]) -> None:
        """Send one message, or find the channel closed."""
        try:
            self._connection.sendall(json.dumps(message).encode() + b"\n")
        except (BlockingIOError, ConnectionError):
            self.closed = True

    def receive(self) -> list[dict[str, Any]]:
        """The messages that have arrived."""
        try:
            while data := self._connection.recv(65536):
                self._buffer += data
            self.closed = True
        except BlockingIOError:
            pass
        except ConnectionError:
            self.closed = True
        *lines, self._buffer = self._buffer.split(b"\n")
        return [json.loads(line) for line in lines]

    def close(self) -> None:
        """Tell the other end that this one is gone, even if a forked process has inherited it."""
        with suppress(OSError):  # closed already, from one side or the other
            self._connection.shutdown(socket.SHUT_RDWR)
        self._connection.close()


class Orders:
    """Has the orders that come over a channel carried out and answers them.

    Args:
        servant: its method ``do_NAME`` carries out order ``NAME``. It returns None when that is done, or a
            :data:`Poll`, or raises a ``SimrealError`` to refuse.
    """

    def __init__(self, channel: Channel, servant: object) -> None:
        self._channel, self._servant = channel, servant
        self._waiting: dict[int, Poll] = {}

    def wait_for(self, number: int, poll: Poll) -> None:
        """Answer order ``number`` once ``poll`` says how it went."""
        self._waiting[number] = poll

    def take(self) -> None:
        """Begin what has been ordered."""
        for order in self._channel.receive():
            try:
                poll = getattr(self._servant, f"do_{order['do']}")(**order["args"])
            except SimrealError as refused:
                self._channel.send({"id": order["id"], "error": str(refused)})
            else:
                self.wait_for(order["id"], poll or _at_once)

    def answer(self) -> None:
        """Tell what has been carried out."""
        for number, poll in list(self._waiting.items()):
            if (result := poll()) is not None:
                del self._waiting[number]
                self._channel.send({"id": number, "error": result})


def _at_once() -> str:
    return ""
