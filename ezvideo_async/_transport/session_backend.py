"""
Requests over a session of aiohttp, by its public means alone: the way of a borrowed session.

Promises:

1. The server sees each request once: aiohttp's own hidden second send of a failed GET is off.
2. The key is put on in a middleware, for the API's own origin only, so that no frame, request
   record or exception of aiohttp holds it.
3. Redirects are not followed; what a borrowed session would add (its own key, raising for a
   status) is taken back.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any, Final
from weakref import WeakSet

import aiohttp
from aiohttp import hdrs
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
    import asyncio

    from aiohttp.client_middlewares import ClientHandlerType, ClientMiddlewareType
    from multidict import CIMultiDict

    from ezvideo_async._protocol.messages import Request
    from ezvideo_async._transport.credentials import ApiKey


_LIMITS_IN_QUEUE: Final = aiohttp.ClientTimeout(total=None, sock_connect=CONNECT_TIMEOUT)
_LIMITS: Final = aiohttp.ClientTimeout(
    total=None, connect=CONNECT_TIMEOUT, sock_connect=CONNECT_TIMEOUT
)


class DisconnectedError(aiohttp.ClientError):
    """Stands in for the two errors on which aiohttp would resend."""


class _UsedLineError(Exception):
    """The pool gave a used connection that will not do; nothing was sent."""


class SessionConnection:
    """The connection that aiohttp's pool gave to one request."""

    __slots__ = ("is_to_be_fresh", "protocol", "was_used")

    def __init__(self, *, is_to_be_fresh: bool) -> None:
        self.is_to_be_fresh = is_to_be_fresh
        self.protocol: Any = None
        self.was_used = False

    def close(self) -> None:
        """Close the connection, so that nobody gets what is left in it."""
        if self.protocol is not None:
            self.protocol.close()


class SessionBackend:
    """
    Carries requests to one origin over a session.

    Args:
        base_url: Says which origin gets the key.
        headers: Sent with every request.
        session: A session to borrow; it is never closed here.  None makes one at the first
            request.

    Attributes:
        sends: Requests that were written.
    """

    def __init__(
        self,
        *,
        base_url: str,
        headers: CIMultiDict[str],
        session: aiohttp.ClientSession | None,
    ) -> None:
        self._origin = URL(base_url).origin()
        self._headers = headers
        self._session = session
        self._owns_session = session is None
        self._under_way = 0
        self._used: WeakSet[Any] = WeakSet()
        self.sends = 0

    async def take(self, *, fresh: bool) -> SessionConnection:
        """Give a line to send one request on; *fresh*: one that was never used."""
        return SessionConnection(is_to_be_fresh=fresh)

    async def carry(self, request: Request, secret: ApiKey, line: SessionConnection) -> RawResponse:
        """Send a request, and read its answer; aiohttp's pool has the connections."""

        async def send_once(
            outgoing: aiohttp.ClientRequest, handler: ClientHandlerType
        ) -> aiohttp.ClientResponse:
            # A borrowed session may hold a default key: ours, or none for a foreign origin.
            outgoing.headers.pop(hdrs.AUTHORIZATION, None)
            if outgoing.url.origin() == self._origin:
                outgoing.headers[hdrs.AUTHORIZATION] = secret.authorization()
            self._follow(outgoing, line)
            while True:
                try:
                    return await handler(outgoing)
                except _UsedLineError:
                    continue  # aiohttp has closed it; the pool gives another one, or none
                except (aiohttp.ClientOSError, aiohttp.ServerDisconnectedError) as error:
                    if isinstance(error, aiohttp.ClientConnectorError):
                        raise  # never sent, never resent
                    text = str(error)
                # Of these two alone aiohttp would send the request again: hide them from it.
                raise DisconnectedError(text)

        self._under_way += 1
        try:
            return await self._ask(request, send_once)
        finally:
            self._under_way -= 1

    async def _ask(self, request: Request, send_once: ClientMiddlewareType) -> RawResponse:
        session = self._opened()
        async with session.request(
            request.method,
            URL(request.url, encoded=True),
            headers=self._headers,
            allow_redirects=False,
            raise_for_status=False,  # a borrowed session may say otherwise
            auto_decompress=True,
            timeout=self._limits(session.connector),
            middlewares=(send_once,),
        ) as answer:
            try:
                check_head(answer.status, answer.headers)
                body = await read_body(answer.content, request, status=answer.status)
            except BaseException:
                answer.close()
                raise
        return answer.status, answer.headers, body

    def _limits(self, connector: aiohttp.BaseConnector | None) -> aiohttp.ClientTimeout:
        """
        Limit the connect, from the name look-up on.

        aiohttp counts the wait for a place in the pool too.  So there is no such limit when a
        borrowed pool has fewer places than we have requests under way: the whole try's is enough.
        """
        places = (connector.limit, connector.limit_per_host) if connector is not None else ()
        has_place = self._under_way <= min(filter(None, places), default=self._under_way)
        return _LIMITS if has_place else _LIMITS_IN_QUEUE

    def _follow(self, outgoing: aiohttp.ClientRequest, line: SessionConnection) -> None:
        """Note the connection that the request is given, and whether it was used before."""
        send = outgoing.send

        async def noted_send(connection: Any) -> aiohttp.ClientResponse:
            line.protocol = connection.protocol
            line.was_used = line.protocol in self._used
            # What lies in a connection before we have asked is no answer to us.
            if line.was_used and (line.is_to_be_fresh or line.protocol.should_close):
                raise _UsedLineError
            self._used.add(line.protocol)
            self.sends += 1
            return await send(connection)

        # No public hook tells a request's connection; this holds for borrowed sessions too.
        outgoing.send = noted_send  # type: ignore[assignment,method-assign]

    def _opened(self) -> aiohttp.ClientSession:
        if self._session is None:
            self._session = aiohttp.ClientSession(
                connector=aiohttp.TCPConnector(
                    limit=0,  # the budget's gate is the limit
                    keepalive_timeout=KEEP_ALIVE,
                    ttl_dns_cache=DNS_CACHE,
                ),
                cookie_jar=aiohttp.DummyCookieJar(),
                trust_env=False,
            )
        return self._session

    @property
    def is_lost(self) -> bool:
        """True when the session was closed by its owner."""
        return self._session is not None and self._session.closed

    @property
    def connections(self) -> list[asyncio.Transport]:
        """The transports of a session of our own."""
        used = self._used if self._owns_session else ()
        return [protocol.transport for protocol in used if protocol.transport]

    async def close(self) -> None:
        """Close a session of our own."""
        if self._session is not None and self._owns_session:
            await self._session.close()
