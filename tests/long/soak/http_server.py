"""
HTTP server for load: one function gives the reply to each request, and requests are counted.

It keeps connections, and can close and open again on the same port.
"""

from __future__ import annotations

import asyncio
import socket
import struct
from enum import Enum, auto
from typing import TYPE_CHECKING, Any, Self
from urllib.parse import unquote

from attrs import frozen

if TYPE_CHECKING:
    from collections.abc import Callable

_RST = struct.pack("ii", 1, 0)  # SO_LINGER on, 0 seconds


class Then(Enum):
    """
    What happens to the connection after a reply.

    ``CLOSE`` sends FIN and continues to read: a request that crosses it is counted, not answered.
    """

    KEEP = auto()
    CLOSE = auto()
    RESET = auto()


@frozen
class Reply:
    """Bytes, what happens to the connection then, and a delay in seconds."""

    data: bytes
    then: Then = Then.KEEP
    delay: float = 0.0


HANG = Reply(b"")
"""No reply at all."""


class FastServer:
    """
    Serves on the loopback interface between ``open`` and ``close``, which may be repeated.

    Args:
        reply_to: Returns the reply to the request for an id.

    Attributes:
        requests: Number of whole requests that were read.
        port: The same after every ``open``.
        is_closed: True after ``close``.
    """

    def __init__(self, reply_to: Callable[[str], Reply]) -> None:
        self.reply_to = reply_to
        self.requests = 0
        self.port = 0
        self.is_closed = False
        self.connections: set[_Connection] = set()
        self._listener: asyncio.Server | None = None

    @property
    def base_url(self) -> str:
        return f"http://127.0.0.1:{self.port}/v1"

    async def __aenter__(self) -> Self:
        await self.open()
        return self

    async def __aexit__(self, *_: object) -> None:
        await self.close()

    async def open(self) -> None:
        """Start to listen."""
        self.is_closed = False
        loop = asyncio.get_running_loop()
        self._listener = await loop.create_server(
            lambda: _Connection(self), "127.0.0.1", self.port, backlog=1000
        )
        self.port = self._listener.sockets[0].getsockname()[1]

    def refuse(self) -> None:
        """
        Refuse new connections until ``open``; open ones stay.

        The kernel resets connections that the loop has not accepted yet: a request on one of
        them is never counted.
        """
        if self._listener is not None:
            self._listener.close()
            self._listener = None

    async def close(self) -> None:
        """Refuse new connections, and drop the open ones."""
        self.refuse()
        self.is_closed = True
        for connection in tuple(self.connections):
            connection.drop()
        for _round in range(3):  # transports close their sockets in the next rounds
            await asyncio.sleep(0)


class _Connection(asyncio.Protocol):
    """One connection; clients send one request at a time, without a body."""

    def __init__(self, server: FastServer) -> None:
        self._server = server
        self._received = b""
        self._transport: Any = None
        self._has_sent_fin = False

    def connection_made(self, transport: Any) -> None:
        self._transport = transport
        if self._server.is_closed:  # accepted while closing
            transport.abort()
        self._server.connections.add(self)

    def connection_lost(self, exc: Exception | None) -> None:
        self._server.connections.discard(self)

    def data_received(self, data: bytes) -> None:
        self._received += data
        while b"\r\n\r\n" in self._received:
            head, _, self._received = self._received.partition(b"\r\n\r\n")
            self._requested(unquote(head.split(b" ", 2)[1].rpartition(b"/")[2].decode()))

    def _requested(self, task_id: str) -> None:
        self._server.requests += 1
        reply = HANG if self._has_sent_fin else self._server.reply_to(task_id)
        if reply is HANG:
            return
        if reply.delay:
            asyncio.get_running_loop().call_later(reply.delay, self._send, reply)
        else:
            self._send(reply)

    def _send(self, reply: Reply) -> None:
        if self._transport.is_closing():
            return
        self._transport.write(reply.data)
        if reply.then is Then.CLOSE:
            self._has_sent_fin = True
            self._transport.write_eof()
        elif reply.then is Then.RESET:
            sock = self._transport.get_extra_info("socket")
            sock.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, _RST)
            self._transport.abort()

    def drop(self) -> None:
        self._transport.abort()
