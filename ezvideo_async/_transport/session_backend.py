"""
HTTP backend over an aiohttp session, by public means only; used for borrowed sessions.

Promises:

1. The server sees each request once: aiohttp's hidden second send of a failed GET is off.
2. The API key is set in a middleware, for the API's own origin only, so that no frame, request
   record or exception of aiohttp holds it.
3. Redirects are not followed.  A borrowed session's own key and its ``raise_for_status`` are
   overridden.
"""

from __future__ import annotations

import asyncio
from typing import TYPE_CHECKING, Any, Final
from weakref import WeakKeyDictionary

import aiohttp
from aiohttp import hdrs
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
from ezvideo_async.errors import ClosedError

if TYPE_CHECKING:
    from collections.abc import Callable

    from aiohttp.client_middlewares import ClientHandlerType, ClientMiddlewareType
    from multidict import CIMultiDict

    from ezvideo_async._protocol.messages import Request
    from ezvideo_async._transport.credentials import ApiKey
    from ezvideo_async._transport.proxy import Proxy

_TIMEOUT_WITHOUT_POOL: Final = aiohttp.ClientTimeout(total=None, sock_connect=CONNECT_TIMEOUT)
_TIMEOUT: Final = aiohttp.ClientTimeout(
    total=None, connect=CONNECT_TIMEOUT, sock_connect=CONNECT_TIMEOUT
)


class DisconnectedError(aiohttp.ClientError):
    """Replaces the two errors after which aiohttp would resend."""


class _UsedConnectionError(Exception):
    """The pool gave a used connection that is not acceptable; nothing was sent."""


class SessionConnection:
    """The connection that aiohttp's pool gave to one request."""

    __slots__ = ("must_be_fresh", "protocol", "was_used")

    def __init__(self, *, must_be_fresh: bool) -> None:
        self.must_be_fresh = must_be_fresh
        self.protocol: Any = None
        self.was_used = False

    def close(self) -> None:
        if self.protocol is not None:
            self.protocol.close()

    def limit_interim(self) -> None:
        """Bound the interim responses that aiohttp skips, which nothing else does."""
        protocol, read, count = self.protocol, self.protocol.read, 0

        async def limited_read() -> Any:
            nonlocal count
            message = await read()
            count += check_interim(message[0].code, count)
            return message

        protocol.read = limited_read

    def restore(self) -> None:
        """Undo ``limit_interim``."""
        vars(self.protocol).pop("read", None)


class SessionBackend:
    """
    Sends requests to one origin over an aiohttp session.

    Args:
        base_url: Any url of the origin, the only one that gets the API key.
        headers: Sent with every request.
        session: A borrowed session, never closed here.  None makes one at the first request.
        proxy: An HTTP proxy; None for none, or for that of the session.
        rand: Gives numbers in [0, 1).
    """

    def __init__(
        self,
        *,
        base_url: str,
        headers: CIMultiDict[str],
        session: aiohttp.ClientSession | None,
        proxy: Proxy | None,
        rand: Callable[[], float],
    ) -> None:
        self._origin = URL(base_url).origin()
        self._headers = headers
        self._session = session
        self._owns_session = session is None
        self._proxy = proxy
        self._in_flight = 0
        self._rand = rand
        self._bodies = BodyReader()
        # When each connection that carried a request is too old for another one, loop clock.
        self._used: WeakKeyDictionary[Any, float] = WeakKeyDictionary()
        self.sends = 0

    def take_idle(self) -> SessionConnection:
        """Return a placeholder for the connection that aiohttp's pool will choose, used or new."""
        return SessionConnection(must_be_fresh=False)

    async def connect(self) -> SessionConnection:
        """Return a placeholder for a new connection of aiohttp's pool."""
        return SessionConnection(must_be_fresh=True)

    async def send(
        self, request: Request, api_key: ApiKey, connection: SessionConnection
    ) -> RawResponse:
        async def send_once(
            outgoing: aiohttp.ClientRequest, handler: ClientHandlerType
        ) -> aiohttp.ClientResponse:
            # A borrowed session may have a default key: ours replaces it, on our origin only.
            outgoing.headers.pop(hdrs.AUTHORIZATION, None)
            if outgoing.url.origin() == self._origin:
                outgoing.headers[hdrs.AUTHORIZATION] = api_key.authorization()
            self._record_connection(outgoing, connection)
            while True:
                try:
                    return await handler(outgoing)
                except _UsedConnectionError:
                    continue  # aiohttp has closed it; its pool gives the next one, or opens one
                except (aiohttp.ClientOSError, aiohttp.ServerDisconnectedError) as error:
                    if isinstance(error, aiohttp.ClientConnectorError):
                        raise  # nothing was sent, so aiohttp does not resend
                    text = str(error)
                # aiohttp would resend after these two errors, so they are replaced.
                raise DisconnectedError(text)

        self._in_flight += 1
        try:
            return await self._exchange(request, api_key, send_once, connection)
        finally:
            self._in_flight -= 1

    async def _exchange(
        self,
        request: Request,
        api_key: ApiKey,
        send_once: ClientMiddlewareType,
        connection: SessionConnection,
    ) -> RawResponse:
        session = self._open_session()
        if session._loop is not asyncio.get_running_loop():  # noqa: SLF001 -- not public any more
            raise ClosedError(
                "the borrowed session belongs to another event loop; make one in this loop",
                task_id=request.task_id,
            )
        async with session.request(
            request.method,
            URL(request.url, encoded=True),
            headers=self._headers,
            allow_redirects=False,
            proxy=None if self._proxy is None else self._proxy.url,
            proxy_headers=None if self._proxy is None else self._proxy.headers,
            raise_for_status=False,  # a borrowed session may have it on
            auto_decompress=True,
            timeout=self._timeout(session.connector),
            middlewares=(send_once,),
        ) as response:
            try:
                check_head(response.status, response.headers)
                body = await self._bodies.read(
                    response.content, request, api_key, status=response.status
                )
            except BaseException:
                response.close()
                raise
            finally:
                connection.restore()
        return response.status, response.headers, body

    def _timeout(self, connector: aiohttp.BaseConnector | None) -> aiohttp.ClientTimeout:
        # aiohttp counts waiting for the pool as connecting.  So when a borrowed pool has fewer
        # connections than there are requests in flight, only the attempt's own timeout counts.
        limits = (connector.limit, connector.limit_per_host) if connector is not None else ()
        has_connection = self._in_flight <= min(filter(None, limits), default=self._in_flight)
        return _TIMEOUT if has_connection else _TIMEOUT_WITHOUT_POOL

    def _record_connection(
        self, outgoing: aiohttp.ClientRequest, connection: SessionConnection
    ) -> None:
        """Store the connection that aiohttp gives to the request; refuse a used one if need be."""
        send = outgoing.send

        async def recording_send(given: Any) -> aiohttp.ClientResponse:
            protocol, now = given.protocol, asyncio.get_running_loop().time()
            connection.protocol = protocol
            expires_at = self._used.get(protocol)
            connection.was_used = expires_at is not None
            if expires_at is None:
                self._used[protocol] = now + MAX_AGE + self._rand() * AGE_JITTER
            # Data that arrived before the request is not its response.
            elif connection.must_be_fresh or protocol.should_close or now >= expires_at:
                raise _UsedConnectionError
            connection.limit_interim()
            self.sends += 1
            return await send(given)

        # No public hook gives a request's connection; this one works for borrowed sessions too.
        outgoing.send = recording_send  # type: ignore[assignment,method-assign]

    def _open_session(self) -> aiohttp.ClientSession:
        if self._session is None:
            self._session = aiohttp.ClientSession(
                connector=aiohttp.TCPConnector(
                    limit=0,  # the request budget is the limit
                    keepalive_timeout=KEEP_ALIVE,
                    ttl_dns_cache=DNS_CACHE,
                ),
                cookie_jar=aiohttp.DummyCookieJar(),
                trust_env=False,
            )
        return self._session

    @property
    def is_closed_by_owner(self) -> bool:
        return self._session is not None and self._session.closed

    @property
    def open_transports(self) -> list[asyncio.Transport]:
        used = self._used if self._owns_session else ()
        return [protocol.transport for protocol in used if protocol.transport]

    async def aclose(self) -> None:
        if self._session is not None and self._owns_session:
            await self._session.close()
