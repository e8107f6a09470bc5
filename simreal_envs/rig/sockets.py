"""The rig's TCP sockets, looked at once a tick and never waited for."""

from __future__ import annotations

import select
import socket
import struct
import sys
from collections.abc import Callable
from typing import Protocol

SEND_TIMEOUT_S = 0.5
"""A client that does not read its answers for so long is dropped."""

LARGEST_MESSAGE = 4096
"""Bytes of a request; the longest, thresholds of collisions, has 428."""


class HasFileNumber(Protocol):
    """What can be polled."""

    def fileno(self) -> int: ...


class Poller:
    """Calls each ready socket's handler."""

    def __init__(self) -> None:
        self._poll = select.poll()
        self._handlers: dict[int, Callable[[], None]] = {}

    def add(self, source: HasFileNumber, handler: Callable[[], None]) -> None:
        """Call ``handler`` whenever ``source`` can be read."""
        self._handlers[source.fileno()] = handler
        self._poll.register(source.fileno(), select.POLLIN)

    def remove(self, source: HasFileNumber) -> None:
        """Stop polling a socket; call this before the socket is closed."""
        self._poll.unregister(source.fileno())
        del self._handlers[source.fileno()]

    def poll(self) -> None:
        """Handle what is ready now."""
        for number, _ in self._poll.poll(0):
            if number in self._handlers:  # an earlier handler may have closed it
                self._handlers[number]()


def listen(host: str, port: int) -> socket.socket:
    """A listening TCP socket.

    Raises:
        OSError: the address is taken, or not this machine's.
    """
    return socket.create_server((host, port), backlog=8)


def take_message(buffer: bytearray, header: struct.Struct) -> tuple[int, int, bytes] | None:
    """Command, number and body of the first message in the buffer; None while it is not complete.

    Raises:
        ValueError: its size is impossible.
    """
    if len(buffer) < header.size:
        return None
    command, number, size = header.unpack_from(buffer)
    if not header.size <= size <= LARGEST_MESSAGE:
        raise ValueError(f"a message of {size} bytes")
    return (command, number, bytes(buffer[header.size : size])) if len(buffer) >= size else None


class Connection:
    """One client: bytes come in, ``on_data`` takes whole messages off the front of the buffer.

    A client that sends what makes no sense (``ValueError`` or ``struct.error`` of ``on_data``) is hung up on.

    Args:
        on_data: called with what has been received and not yet consumed; returns how many bytes it consumed.
        on_close: called once when the client has gone.
    """

    def __init__(
        self,
        poller: Poller,
        accepted: socket.socket,
        on_data: Callable[[bytearray], int],
        on_close: Callable[[], None],
    ) -> None:
        accepted.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
        accepted.settimeout(SEND_TIMEOUT_S)
        self._poller, self._socket = poller, accepted
        self._on_data, self._on_close = on_data, on_close
        self._buffer = bytearray()
        self.peer: str = accepted.getpeername()[0]
        self.open = True
        poller.add(accepted, self._receive)

    def send(self, data: bytes) -> None:
        """Send, or close the connection if the client is gone."""
        try:
            self._socket.sendall(data)
        except OSError:
            self.close()

    def close_if_gone(self) -> None:
        """Notice that the client has hung up, before another one is refused because of it."""
        if not select.select([self._socket], [], [], 0)[0]:
            return
        try:
            gone = not self._socket.recv(1, socket.MSG_PEEK)
        except OSError:
            gone = True
        if gone:
            self.close()

    def close(self) -> None:
        """Hang up."""
        if self.open:
            self.open = False
            self._poller.remove(self._socket)
            self._socket.close()
            self._on_close()

    def _receive(self) -> None:
        try:
            data = self._socket.recv(65536)
        except OSError:
            data = b""
        if not data:
            self.close()
            return
        self._buffer += data
        try:
            while self.open and (consumed := self._on_data(self._buffer)):
                del self._buffer[:consumed]
        except (ValueError, struct.error) as error:
            print(f"The rig hangs up on {self.peer}, which sent {error}.", file=sys.stderr, flush=True)
            self.close()
