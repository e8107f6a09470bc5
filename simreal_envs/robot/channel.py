"""Orders from the user's process to the arm's driver, and answers: JSON lines over a socket pair.

Targets and states, of which only the latest counts, go through shared memory instead (``records.py``).
"""

from __future__ import annotations

import json
import socket
from typing import Any


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
        """Tell the other end that this one is gone."""
        self._connection.close()
