"""
Connection pool for one origin, on aiohttp's connector and parser, without its session.

aiohttp opens the connections (names, addresses, TLS) and parses the responses; its session,
request and response objects would take two thirds of a request's CPU time.  Some of what is used
of aiohttp is not documented: where ``IS_SUPPORTED`` is False, the transport uses a session.

1. A connection serves one request at a time.  An error or a cancellation closes it.
2. An idle connection is kept for 15 s, and none is used after 300 to 330 s.  If data arrives
   while it is idle, it is closed: the data would be read as the next response.
3. No object here holds the API key.
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
    AGE_JITTER,
    CONNECT_TIMEOUT,
    DNS_CACHE,
    KEEP_ALIVE,
    MAX_AGE,
    BodyReader,
    RawResponse,
    check_head,
    check_interim,
)

if TYPE_CHECKING:
    from collections.abc import Callable

    from multidict import CIMultiDict

    from ezvideo_async._protocol.messages import Request
    from ezvideo_async._transport.credentials import ApiKey
    from ezvideo_async._transport.proxy import Proxy

# Bytes per read.  asyncio's 256 KiB exceed what malloc keeps for reuse: page faults.
_RECEIVE_BYTES: Final = 1 << 16

_FINAL: Final = 200  # responses with a lower status are interim, but for 101


def _is_supported() -> bool:
    used = ("read", "should_close", "is_connected", "abort")
    try:
        signature(aiohttp.ClientRequest).bind(
            "GET", URL(), loop=None, proxy=None, proxy_headers=None
        )
        options = signature(ResponseHandler.set_response_params).parameters
        arguments = signature(aiohttp.BaseConnector.connect).parameters
        return (
            all(hasattr(ResponseHandler, name) for name in used)
            and {"read_until_eof", "auto_decompress"} <= options.keys()
            and {"req", "traces", "timeout"} <= arguments.keys()
        )
    except (AttributeError, TypeError, ValueError):
        return False


IS_SUPPORTED: Final = _is_supported()


def _has_more(parser: Any) -> bool:
    """Return True if the beginning of another response came with the last one."""
    try:
        # The second is that of aiohttp's parser in Python.
        return parser.feed_eof() is not None or bool(getattr(parser, "_lines", ()))
    except aiohttp.http.HttpProcessingError:
        return True


class PooledConnection:
    """
    One connection of the pool.

    Attributes:
        expires_at: When it is too old to carry another request, loop clock.
        kept_until: While idle, when it is closed, loop clock.
    """

    __slots__ = (
        "__weakref__",
        "_connection",
        "_open",
        "expires_at",
        "kept_until",
        "protocol",
        "was_used",
    )

    def __init__(
        self, connection: Any, open_connections: WeakSet[PooledConnection], *, expires_at: float
    ) -> None:
        self._connection = connection
        self._open = open_connections
        self._open.add(self)
        self.protocol: Any = connection.protocol
        self.was_used = False
        self.expires_at = expires_at
        self.kept_until = 0.0

    def close(self) -> None:
        self._open.discard(self)
        with suppress(RuntimeError):  # its event loop is closed
            self.protocol.abort()  # asyncio waits up to 30 s for the peer to end TLS
        self._connection.close()

    @property
    def is_reusable(self) -> bool:
        # The second is True after unsolicited data, too.
        return self.protocol.is_connected() and not self.protocol.should_close


class PoolBackend:
    """
    Sends requests to one origin on pooled connections, opened when needed.

    Args:
        base_url: Any url of the origin.
        headers: Sent with every request, besides ``Host`` and ``Authorization``.
        proxy: An HTTP proxy; None for none.
        rand: Gives numbers in [0, 1).
    """

    is_closed_by_owner = False

    def __init__(
        self,
        *,
        base_url: str,
        headers: CIMultiDict[str],
        proxy: Proxy | None,
        rand: Callable[[], float],
    ) -> None:
        self._url = URL(base_url)
        self._proxy = proxy
        self._rand = rand
        self._bodies = BodyReader()
        # A proxy forwards plain http by the whole url; TLS goes through a tunnel.
        is_forwarded = proxy is not None and self._url.scheme == "http"
        path_start = base_url.find("/", len("https://"))  # the shortest host has one character
        origin_end = len(base_url) if path_start < 0 else path_start
        self._target_start = 0 if is_forwarded else origin_end
        lines = "".join(f"{name}: {value}\r\n" for name, value in headers.items())
        # Everything between the path and the API key, in the order of aiohttp.
        self._head = (
            f" HTTP/1.1\r\nHost: {self._url.host_port_subcomponent}\r\n{lines}Authorization: "
        )
        self._timeout = aiohttp.ClientTimeout(total=None, sock_connect=CONNECT_TIMEOUT)
        self._connector: aiohttp.TCPConnector | None = None
        # Weak, as is the timer's reference to the pool: the connections of a client that was not
        # closed are closed by aiohttp as soon as the client is freed, without garbage collection.
        self._open: WeakSet[PooledConnection] = WeakSet()
        self._idle: deque[PooledConnection] = deque()  # reused from the end, the last used first
        self._timer: asyncio.TimerHandle | None = None
        self._is_closed = False
        self.sends = 0

    # -- one request ------------------------------------------------------------------------------

    async def send(
        self, request: Request, api_key: ApiKey, connection: PooledConnection
    ) -> RawResponse:
        """Send a request, read the response, and release or close the connection."""
        try:
            connection.protocol.set_response_params(
                read_until_eof=True,
                auto_decompress=True,
            )
            self._write(request, api_key, connection)
            message, stream = await connection.protocol.read()
            interim = 0
            while message.code < _FINAL and check_interim(message.code, interim):
                interim += 1
                message, stream = await connection.protocol.read()
            check_head(message.code, message.headers)
            body = await self._bodies.read(stream, request, api_key, status=message.code)
        except BaseException:
            connection.close()
            raise
        self._release(connection)
        return message.code, message.headers, body

    def _write(self, request: Request, api_key: ApiKey, connection: PooledConnection) -> None:
        # No local variable holds the API key.
        start = f"{request.method} {request.url[self._target_start :]}{self._head}"
        connection.protocol.transport.write(f"{start}{api_key.authorization()}\r\n\r\n".encode())
        self.sends += 1

    # -- connections ------------------------------------------------------------------------------

    def take_idle(self) -> PooledConnection | None:
        """Return the connection that was used last; None if there is none."""
        while self._idle:
            connection = self._idle.pop()
            if connection.is_reusable and asyncio.get_running_loop().time() < connection.kept_until:
                connection.was_used = True
                return connection
            connection.close()
        return None

    async def connect(self) -> PooledConnection:
        """Open a connection."""
        if self._connector is None:
            self._connector = aiohttp.TCPConnector(limit=0, ttl_dns_cache=DNS_CACHE)
        # Names the host to the connector; it is never sent.
        loop = asyncio.get_running_loop()
        destination = aiohttp.ClientRequest(
            "GET",
            self._url,
            loop=loop,
            proxy=None if self._proxy is None else self._proxy.url,
            proxy_headers=None if self._proxy is None else self._proxy.headers,
        )
        async with asyncio.timeout(CONNECT_TIMEOUT):  # includes the DNS lookup
            opened = await self._connector.connect(destination, [], self._timeout)
        expires_at = loop.time() + MAX_AGE + self._rand() * AGE_JITTER
        connection = PooledConnection(opened, self._open, expires_at=expires_at)
        # Not public; where it is missing, as with TLS, the reads are small already.
        if hasattr(connection.protocol.transport, "max_size"):
            connection.protocol.transport.max_size = _RECEIVE_BYTES
        return connection

    def _release(self, connection: PooledConnection) -> None:
        now = asyncio.get_running_loop().time()
        if self._is_closed or not connection.is_reusable or now >= connection.expires_at:
            connection.close()
            return
        if _has_more(connection.protocol._parser):  # noqa: SLF001 -- as below
            connection.close()
            return
        # Not public.  With a parser, everything that a server sends unasked would be parsed and
        # kept; without one, reading stops at 64 KiB.
        connection.protocol._parser = None  # noqa: SLF001 -- no other way
        connection.kept_until = now + KEEP_ALIVE
        if connection.kept_until > connection.expires_at:  # noqa: PLR1730 -- ``min`` costs more
            connection.kept_until = connection.expires_at
        self._idle.append(connection)
        if self._timer is None:
            self._set_timer(connection.kept_until)

    def _set_timer(self, at: float) -> None:
        self._timer = asyncio.get_running_loop().call_at(at, _close_expired, ref(self), at)

    def close_expired(self, due: float) -> None:
        """Close the connections that have been idle for too long by *due*."""
        # Some loops call timers early, as they round times down: what was set for *due* is due.
        now = max(due, asyncio.get_running_loop().time())
        self._timer = None
        while self._idle and self._idle[0].kept_until <= now:
            self._idle.popleft().close()
        if self._idle:
            self._set_timer(self._idle[0].kept_until)

    @property
    def open_transports(self) -> list[asyncio.Transport]:
        """The transports to abort when closing takes too long."""
        return [each.protocol.transport for each in self._open if each.protocol.transport]

    async def aclose(self) -> None:
        """Close all connections, including those in use."""
        self._is_closed = True
        if self._timer is not None:
            self._timer.cancel()
        try:
            if self._connector is not None:
                await self._connector.close()
        finally:
            for connection in tuple(self._open):
                connection.close()
            self._idle.clear()


def _close_expired(pool: Callable[[], PoolBackend | None], due: float) -> None:
    if (alive := pool()) is not None:
        alive.close_expired(due)
