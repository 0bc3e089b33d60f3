"""
HTTP transport to one origin: one attempt per send, and errors of our own.

Promises:

1. The server sees exactly the requests counted in ``sends``.
2. An error references no aiohttp object and holds no API key; it is raised outside ``except``.
3. A body has at most the bytes that its request allows, decompressed; of an error 1 MiB.
4. Cookies are not kept, redirects not followed, netrc and proxies of the environment not used.
"""

from __future__ import annotations

import asyncio
from collections.abc import Iterator, Mapping
from typing import TYPE_CHECKING, Any, Final

import aiohttp
from aiohttp import hdrs
from multidict import CIMultiDict
from yarl import URL

from ezvideo_async._domain.validation import validate_instance
from ezvideo_async._lifetime import wait_finished
from ezvideo_async._protocol.messages import Request, Response
from ezvideo_async._transport import connection_pool
from ezvideo_async._transport.backend import CONNECT_TIMEOUT
from ezvideo_async._transport.error_mapping import LIBRARY_ERRORS, map_error
from ezvideo_async._transport.session_backend import SessionBackend
from ezvideo_async._transport.timeouts import SharedTimeout, Timeout
from ezvideo_async._version import __version__
from ezvideo_async.errors import ClosedError, EzVideoError, TransportError

if TYPE_CHECKING:
    from collections.abc import Callable

    from ezvideo_async._transport.backend import Connection, HttpBackend
    from ezvideo_async._transport.credentials import ApiKey
    from ezvideo_async._transport.proxy import Proxy

_FIXED_HEADERS: Final[dict[str, str]] = {
    hdrs.ACCEPT: "application/json",
    hdrs.ACCEPT_ENCODING: "identity",  # compressing a few hundred bytes costs more than it saves
    hdrs.CACHE_CONTROL: "no-cache",
    hdrs.USER_AGENT: f"ezvideo_async/{__version__}",
}


class Transport:
    """
    Sends requests to one origin.

    Args:
        base_url: Any url of the origin, the only one that gets the API key.
        headers: Sent with every request.
        request_timeout: Seconds for one attempt, from connecting to the last byte.
        session: A borrowed session, never closed here.  None opens connections of our own when
            needed.
        proxy: An HTTP proxy; None for none, or for that of a borrowed session.
        rand: Gives numbers in [0, 1), for the ages of connections.

    Raises:
        ConfigError: *session* is no aiohttp session.
    """

    def __init__(
        self,
        *,
        base_url: str,
        headers: Mapping[str, str],
        request_timeout: float,
        session: aiohttp.ClientSession | None,
        proxy: Proxy | None,
        rand: Callable[[], float],
    ) -> None:
        validate_instance("session", session, aiohttp.ClientSession)
        self._host = URL(base_url).host_port_subcomponent or ""
        self._timeouts = SharedTimeout(request_timeout)
        self._is_closed = False
        all_headers = CIMultiDict(_FIXED_HEADERS)
        all_headers.update(headers)
        if proxy is not None and URL(base_url).scheme == "http":
            all_headers.update(proxy.headers)  # it reads and forwards the request itself
        self._backend: HttpBackend
        if session is None and connection_pool.IS_SUPPORTED:
            self._backend = connection_pool.PoolBackend(
                base_url=base_url, headers=all_headers, proxy=proxy, rand=rand
            )
        else:
            self._backend = SessionBackend(
                base_url=base_url, headers=all_headers, session=session, proxy=proxy, rand=rand
            )

    @property
    def sends(self) -> int:
        return self._backend.sends

    async def send(
        self, request: Request, api_key: ApiKey, *, fresh: bool = False
    ) -> tuple[Response, Connection]:
        """
        Send one request and read the response, whatever its status.

        It is resent once, at once and on a fresh connection, if the server had closed the
        kept-alive connection that it was sent on.

        Args:
            request: What to send.
            api_key: Sent with it.
            fresh: Use a new connection: a response to another request may wait in a used one.

        Returns:
            The response, and the connection, to be closed if it is not to be used again.

        Raises:
            TransportError: There was no response (also ``RequestTimeoutError``, ``TLSError``).
            BadResponseError: The body is larger than the request allows.
            ClosedError: The transport, or the borrowed session, was closed.
        """
        outcome, connection = await self._attempt(request, api_key, fresh=fresh)
        if connection is not None and connection.was_used and _is_stale(outcome):
            outcome, connection = await self._attempt(request, api_key, fresh=True)
        if isinstance(outcome, EzVideoError):
            raise outcome
        assert connection is not None
        return outcome, connection

    async def aclose(self) -> None:
        """
        End running attempts and close the connections that we opened.  Idempotent.

        If cancelled, finish closing first; abort what is not closed within 2 s.
        """
        if self._is_closed:
            return
        self._is_closed = True
        transports = self._backend.open_transports
        closing = asyncio.ensure_future(self._backend.aclose())
        closing.add_done_callback(_ignore_result)
        self._timeouts.expire_all()  # an attempt that connects or reads is not ended by closing
        try:
            await wait_finished(closing)
        finally:
            if not closing.done():  # a peer does not read what is being sent
                for transport in transports:
                    transport.abort()
                await wait_finished(closing)

    async def _attempt(
        self, request: Request, api_key: ApiKey, *, fresh: bool
    ) -> tuple[Response | EzVideoError, Connection | None]:
        if self._is_closed:
            return ClosedError("the client was closed", task_id=request.task_id), None
        connection: Connection | None = None
        timeout = Timeout(self._timeouts)
        try:
            with timeout:
                connection = None if fresh else self._backend.take_idle()
                if connection is None:
                    connection = await self._backend.connect()
                status, headers, (body, decoded) = await self._backend.send(
                    request, api_key, connection
                )
        except EzVideoError as error:
            return error.with_traceback(None), connection
        except LIBRARY_ERRORS as error:
            return self._mapped(error, request, api_key, timeout, connection), connection
        return Response(
            status=status,
            headers=_Headers(headers, api_key),
            body=body,
            decoded=decoded,
        ), connection

    def _mapped(
        self,
        failure: BaseException,
        request: Request,
        api_key: ApiKey,
        timeout: Timeout,
        connection: Connection | None,
    ) -> TransportError | ClosedError:
        if self._is_closed:
            return ClosedError("the client was closed during the request", task_id=request.task_id)
        if self._backend.is_closed_by_owner:
            return ClosedError("the borrowed session was closed", task_id=request.task_id)
        seconds = self._timeouts.seconds
        return map_error(
            failure,
            task_id=request.task_id,
            host=self._host,
            api_key=api_key,
            elapsed=asyncio.get_running_loop().time() - timeout.started,
            timeout=min(CONNECT_TIMEOUT, seconds) if connection is None else seconds,
        )


class _Headers(Mapping[str, str]):
    """Headers by names in lower case, read on access: repeated ones joined, the key masked."""

    __slots__ = ("_api_key", "_headers")

    def __init__(self, headers: Any, api_key: ApiKey) -> None:
        self._headers = headers
        self._api_key = api_key

    def get(self, name: str, default: Any = None) -> Any:
        values = self._headers.getall(name, ())
        return self._api_key.mask(", ".join(values)) if values else default

    def __getitem__(self, name: str) -> str:
        return self._api_key.mask(", ".join(self._headers.getall(name)))

    def __contains__(self, name: object) -> bool:
        return name in self._headers

    def __iter__(self) -> Iterator[str]:
        return iter({self._api_key.mask(name).lower(): None for name in self._headers})

    def __len__(self) -> int:
        return sum(1 for _ in self)

    def __repr__(self) -> str:
        return repr(dict(self))


def _ignore_result(closing: asyncio.Future[None]) -> None:
    """Retrieve the exception of closing, which nobody could act on."""
    if not closing.cancelled():
        closing.exception()


def _is_stale(outcome: object) -> bool:
    return isinstance(outcome, TransportError) and outcome.reason == "disconnected"
