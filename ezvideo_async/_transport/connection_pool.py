"""
Connections of our own to one origin, and what is said on them: below aiohttp's session.

aiohttp opens the connections (names, addresses, TLS) and parses the answers; its session, request
and response objects between the two, which cost twice as much as all the rest of a request, are
left out.  What is used here of aiohttp is not all documented: ``IS_SUPPORTED`` tells whether this
aiohttp has it, and the transport uses a session where it has not.  Rules of this room:

1. A line carries one request at a time; whatever ends badly, a cancellation too, closes it.
2. A line is kept for 15 s.  One on which something arrived meanwhile is closed, not used: a stray
   answer would be taken for the next one.
3. No object here holds the key; it is written, and that is all.
"""

from __future__ import annotations

import asyncio
from collections import deque
from contextlib import suppress
from inspect import signature
from typing import TYPE_CHECKING, Any, Final
from weakref import WeakSet, ref

import aiohttp
from aiohttp.client_proto import ResponseHandler
from yarl import URL

from ezvideo_async._transport.backend import (
    CONNECT_TIMEOUT,
    DNS_CACHE,
    KEEP_ALIVE,
    RawResponse,
    check_head,
    read_body,
)

if TYPE_CHECKING:
    from collections.abc import Callable

    from multidict import CIMultiDict

    from ezvideo_async._protocol.messages import Request
    from ezvideo_async._transport.credentials import ApiKey

_RECEIVE_BYTES: Final = 1 << 16
"""
Read so much at once.  asyncio's 256 KiB are beyond what malloc keeps at hand: with an unlucky heap
each read costs two page faults, a fifth of a request.
"""


def _is_supported() -> bool:
    used = ("read", "should_close", "is_connected", "abort")
    options = {"read_until_eof", "auto_decompress"}
    try:
        signature(aiohttp.ClientRequest).bind("GET", URL(), loop=None)
        return (
            all(hasattr(ResponseHandler, name) for name in used)
            and options <= signature(ResponseHandler.set_response_params).parameters.keys()
            and {"req", "traces", "timeout"}
            <= signature(aiohttp.BaseConnector.connect).parameters.keys()
        )
    except (AttributeError, TypeError, ValueError):
        return False


IS_SUPPORTED: Final = _is_supported()


class PooledConnection:
    """
    The connection that one request goes over.

    Attributes:
        was_used: It has carried a request before, so that its end may be old news.
        kept_until: When it has been idle for too long, loop clock.
    """

    __slots__ = ("__weakref__", "_connection", "_open", "kept_until", "protocol", "was_used")

    def __init__(self, connection: Any, open_lines: WeakSet[PooledConnection]) -> None:
        self._connection = connection
        self._open = open_lines
        self._open.add(self)
        self.protocol: Any = connection.protocol
        self.was_used = False
        self.kept_until = 0.0

    def close(self) -> None:
        """Close the connection, so that nobody gets what is left in it."""
        self._open.discard(self)
        with suppress(RuntimeError):  # its event loop is closed
            self.protocol.abort()  # a peer's goodbye in TLS may not come: 30 s of waiting, unseen
        self._connection.close()

    @property
    def is_clean(self) -> bool:
        """True when it is open, and nothing has come that nobody asked for."""
        return self.protocol.is_connected() and not self.protocol.should_close


class PoolBackend:
    """
    Carries requests to one origin; its connections are opened when they are needed.

    Args:
        base_url: Any url of the origin.
        headers: Sent with every request, the key's aside.

    Attributes:
        sends: Requests that were written.
    """

    def __init__(self, *, base_url: str, headers: CIMultiDict[str]) -> None:
        self._url = URL(base_url)
        self._head = _head(self._url, headers)
        self._timeout = aiohttp.ClientTimeout(total=None, sock_connect=CONNECT_TIMEOUT)
        self._connector: aiohttp.TCPConnector | None = None
        # Weakly, as the timer holds these lines: those of a forgotten client are closed at once,
        # by aiohttp's connection, without the collector of garbage.
        self._open: WeakSet[PooledConnection] = WeakSet()
        self._idle: deque[PooledConnection] = (
            deque()
        )  # the one used last is at the end, and used next
        self._timer: asyncio.TimerHandle | None = None
        self._is_closed = False
        self.sends = 0

    # -- one request ------------------------------------------------------------------------------

    async def carry(self, request: Request, secret: ApiKey, line: PooledConnection) -> RawResponse:
        """Send a request on a line, read its answer, and keep or close the line."""
        try:
            status, headers, stream = await self._ask(request, secret, line)
            check_head(status, headers)
            body = await read_body(stream, request, status=status)
        except BaseException:
            line.close()
            raise
        self._give_back(line)
        return status, headers, body

    async def _ask(
        self, request: Request, secret: ApiKey, line: PooledConnection
    ) -> tuple[int, Any, Any]:
        line.protocol.set_response_params(read_until_eof=True, auto_decompress=True)
        self._write(request, secret, line)
        while True:
            message, stream = await line.protocol.read()
            if not _is_interim(message.code):
                return message.code, message.headers, stream

    def _write(self, request: Request, secret: ApiKey, line: PooledConnection) -> None:
        # No local variable holds the key.
        path = request.url[request.url.index("/", len("https://")) :]
        start = f"{request.method} {path}{self._head}"
        line.protocol.transport.write(f"{start}{secret.authorization()}\r\n\r\n".encode())
        self.sends += 1

    # -- connections ------------------------------------------------------------------------------

    async def take(self, *, fresh: bool) -> PooledConnection:
        """Give a line to send one request on; *fresh*: one that was never used."""
        now = asyncio.get_running_loop().time()
        while self._idle and not fresh:
            line = self._idle.pop()
            if line.is_clean and now < line.kept_until:
                return line
            line.close()
        async with asyncio.timeout(CONNECT_TIMEOUT):  # looking up the name included
            return await self._opened()

    async def _opened(self) -> PooledConnection:
        if self._connector is None:
            self._connector = aiohttp.TCPConnector(limit=0, ttl_dns_cache=DNS_CACHE)
        # Tells the connector where to connect, and is never sent.
        loop = asyncio.get_running_loop()
        destination = aiohttp.ClientRequest("GET", self._url, loop=loop)
        connection = await self._connector.connect(destination, [], self._timeout)
        line = PooledConnection(connection, self._open)
        # Not public; where it is missing, as with TLS, the reads are small already.
        if hasattr(line.protocol.transport, "max_size"):
            line.protocol.transport.max_size = _RECEIVE_BYTES
        return line

    def _give_back(self, line: PooledConnection) -> None:
        """Keep a line for the next request, if it can carry one."""
        if self._is_closed or not line.is_clean:
            line.close()
            return
        # Not public.  A parser left there would take in all that is pushed meanwhile, and keep 24
        # bytes for each; without one, reading stops at 64 KiB.
        line.protocol._parser = None  # noqa: SLF001 -- no other way
        line.was_used = True
        line.kept_until = asyncio.get_running_loop().time() + KEEP_ALIVE
        self._idle.append(line)
        if self._timer is None:
            self._set_timer(line.kept_until)

    def _set_timer(self, at: float) -> None:
        self._timer = asyncio.get_running_loop().call_at(at, _close_old, ref(self), at)

    def close_old(self, due: float) -> None:
        """Close what has been idle for too long by *due*."""
        # Some loops round timers down: what was set for now is due now.
        now = max(due, asyncio.get_running_loop().time())
        self._timer = None
        while self._idle and self._idle[0].kept_until <= now:
            self._idle.popleft().close()
        if self._idle:
            self._set_timer(self._idle[0].kept_until)

    @property
    def is_lost(self) -> bool:
        """False: nobody else can close these connections."""
        return False

    @property
    def connections(self) -> list[asyncio.Transport]:
        """The open lines' transports."""
        return [line.protocol.transport for line in self._open if line.protocol.transport]

    async def close(self) -> None:
        """Close all lines, those in use too."""
        self._is_closed = True
        if self._timer is not None:
            self._timer.cancel()
        try:
            if self._connector is not None:
                await self._connector.close()
        finally:
            for line in tuple(self._open):
                line.close()
            self._idle.clear()


def _close_old(lines: Callable[[], PoolBackend | None], due: float) -> None:
    if (kept := lines()) is not None:
        kept.close_old(due)


def _head(url: URL, headers: CIMultiDict[str]) -> str:
    """Everything between the path and the key, in the order that aiohttp sends it."""
    fixed = "".join(f"{name}: {value}\r\n" for name, value in headers.items())
    return f" HTTP/1.1\r\nHost: {url.host_port_subcomponent}\r\n{fixed}Authorization: "


def _is_interim(status: int) -> bool:
    return 100 <= status < 200 and status != 101  # noqa: PLR2004 -- no answer follows a 101
