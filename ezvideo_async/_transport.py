"""
The wire itself: the only room that knows aiohttp's client.

Promises:

1. The server sees exactly the requests counted in ``sends``: aiohttp's own hidden second send
   of a failed GET is switched off.  One resend is ours, at once and on a fresh connection, when
   a kept-alive one turns out to have been closed by the server.
2. The key is put on in a middleware, for the API's own origin only, so that no frame, request
   record or exception of aiohttp holds it.
3. What leaves is a ``Response`` or an error of ours, raised after the ``except`` block was left:
   no aiohttp object hangs on it.
4. What lies in a kept connection before a request is sent is never taken for its answer.
5. A body is at most 1 MiB, decompressed; cookies are not kept, redirects not followed, proxies
   and netrc of the environment not used.
"""

from __future__ import annotations

import asyncio
import errno
import ssl
from typing import TYPE_CHECKING, Any, Final
from weakref import WeakSet

import aiohttp
from aiohttp import hdrs
from aiohttp.http import HttpProcessingError
from yarl import URL

from ezvideo_async._cleanup import ended
from ezvideo_async._http import Request, Response
from ezvideo_async._models import without_queries
from ezvideo_async._version import __version__
from ezvideo_async.errors import (
    BadResponseError,
    ClosedError,
    EzVideoError,
    RequestTimeoutError,
    TLSError,
    TransportError,
)

if TYPE_CHECKING:
    from collections.abc import Mapping

    from aiohttp.client_middlewares import ClientHandlerType

    from ezvideo_async._credentials import Secret

MAX_BODY_BYTES: Final = 1 << 20
_CONNECT_TIMEOUT: Final = 5.0  # seconds, as openai-python: a black hole shows by then
_KEEP_ALIVE: Final = 15.0  # seconds; servers close idle connections from about then on
_DNS_CACHE: Final = 10  # seconds until a failover is seen
_LIMITS_IN_QUEUE: Final = aiohttp.ClientTimeout(total=None, sock_connect=_CONNECT_TIMEOUT)
_LIMITS: Final = aiohttp.ClientTimeout(
    total=None, connect=_CONNECT_TIMEOUT, sock_connect=_CONNECT_TIMEOUT
)
_PROXY_LOGIN: Final = 407
_TEXT: Final = 200  # characters of a library's error text

_FAILURES: Final = (
    aiohttp.ClientError,
    HttpProcessingError,
    OSError,
    ValueError,
    RuntimeError,
    EOFError,
)
"""Everything aiohttp and the layers below raise for what a server or network does."""

_FIXED_HEADERS: Final[dict[str, str]] = {
    hdrs.ACCEPT: "application/json",
    hdrs.ACCEPT_ENCODING: "identity",  # a few hundred bytes: packing costs more than it saves
    hdrs.CACHE_CONTROL: "no-cache",
    hdrs.USER_AGENT: f"ezvideo_async/{__version__}",
}


class Line:
    """The connection one request went over."""

    __slots__ = ("protocol", "was_used")

    def __init__(self) -> None:
        self.protocol: Any = None
        self.was_used = False

    def close(self) -> None:
        """Close the connection, so that nobody gets what is left in it."""
        if self.protocol is not None:
            self.protocol.close()


class Transport:
    """
    Sends requests to one origin.

    Args:
        base_url: Says which origin gets the key.
        headers: Sent with every request.
        request_timeout: Seconds for one try, from connecting to the last byte.
        session: A session to borrow; it is never closed here.  None makes one at the first
            request.
    """

    def __init__(
        self,
        *,
        base_url: str,
        headers: Mapping[str, str],
        request_timeout: float,
        session: aiohttp.ClientSession | None,
    ) -> None:
        self._origin = URL(base_url).origin()
        self._headers = {**_FIXED_HEADERS, **headers}
        self._request_timeout = request_timeout
        self._session = session
        self._owns_session = session is None
        self._used: WeakSet[Any] = WeakSet()
        self._under_way = 0
        self._closed = False
        self.sends = 0

    async def send(
        self, request: Request, secret: Secret, *, fresh: bool = False
    ) -> tuple[Response, Line]:
        """
        Send one request and read its answer, whatever its status.

        Args:
            request: What to send.
            secret: The key to put on it.
            fresh: Send on no connection that was used before: a stray answer may wait in it.

        Raises:
            TransportError: No answer came (also ``RequestTimeoutError``, ``TLSError``).
            BadResponseError: The body is larger than 1 MiB.
            ClosedError: The transport, or the borrowed session, was closed.
        """
        line = Line()
        outcome = await self._try(request, secret, line, fresh=fresh)
        if line.was_used and _is_stale(outcome):
            line = Line()
            outcome = await self._try(request, secret, line, fresh=True)
        if isinstance(outcome, EzVideoError):
            raise outcome
        return outcome, line

    async def aclose(self) -> None:
        """
        Close the connections we opened; again is nothing.

        A cancellation does not leave it half done; what is not closed after 2 s is aborted.
        """
        self._closed = True
        session, self._session = self._session, None
        if session is None or not self._owns_session:
            return
        connections = [protocol.transport for protocol in self._used if protocol.transport]
        closing = asyncio.ensure_future(session.close())
        closing.add_done_callback(_ignore)
        try:
            await ended(closing)
        finally:
            if not closing.done():  # a peer does not take what was being sent
                for connection in connections:
                    connection.abort()
                await ended(closing)

    async def _try(
        self, request: Request, secret: Secret, line: Line, *, fresh: bool
    ) -> Response | EzVideoError:
        started = asyncio.get_running_loop().time()
        self._under_way += 1
        try:
            async with asyncio.timeout(self._request_timeout):
                return await self._sent(request, secret, line, fresh=fresh)
        except EzVideoError as error:
            return error.with_traceback(None)
        except _FAILURES as error:
            waited = asyncio.get_running_loop().time() - started
            return self._converted(error, request, secret, waited)
        finally:
            self._under_way -= 1

    async def _sent(self, request: Request, secret: Secret, line: Line, *, fresh: bool) -> Response:
        async def send_once(
            outgoing: aiohttp.ClientRequest, handler: ClientHandlerType
        ) -> aiohttp.ClientResponse:
            # A borrowed session may hold a default key: ours, or none for a foreign origin.
            outgoing.headers.pop(hdrs.AUTHORIZATION, None)
            if outgoing.url.origin() == self._origin:
                outgoing.headers[hdrs.AUTHORIZATION] = secret.authorization()
            self._follow(outgoing, line, fresh=fresh)
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
                raise _DisconnectedError(text)

        session = self._open_session()
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
            if answer.status == _PROXY_LOGIN:  # only a proxy says so, and not about the task
                raise aiohttp.ClientHttpProxyError(answer.request_info, (), status=answer.status)
            _check_length(answer)
            body = await _read_body(answer, request)
        return Response(
            status=answer.status,
            headers=_joined(answer.headers, secret),
            body=secret.scrub_body(body),
        )

    def _limits(self, connector: aiohttp.BaseConnector | None) -> aiohttp.ClientTimeout:
        """
        Limit the connect, from the name look-up on.

        aiohttp counts the wait for a place in the pool too.  So there is no such limit when a
        borrowed pool has fewer places than we have requests under way: the whole try's is enough.
        """
        places = (connector.limit, connector.limit_per_host) if connector is not None else ()
        has_place = self._under_way <= min(filter(None, places), default=self._under_way)
        return _LIMITS if has_place else _LIMITS_IN_QUEUE

    def _follow(self, outgoing: aiohttp.ClientRequest, line: Line, *, fresh: bool) -> None:
        """Note the connection that the request is given, and whether it was used before."""
        send = outgoing.send

        async def noted_send(connection: Any) -> aiohttp.ClientResponse:
            line.protocol = connection.protocol
            line.was_used = line.protocol in self._used
            # What lies in a connection before we have asked is no answer to us.
            if line.was_used and (fresh or line.protocol.should_close):
                raise _UsedLineError
            self._used.add(line.protocol)
            self.sends += 1
            return await send(connection)

        # No public hook tells a request's connection; this holds for borrowed sessions too.
        outgoing.send = noted_send  # type: ignore[assignment,method-assign]

    def _open_session(self) -> aiohttp.ClientSession:
        if self._closed:
            raise ClosedError("the client was closed")
        if self._session is None:
            self._session = aiohttp.ClientSession(
                connector=aiohttp.TCPConnector(
                    limit=0,  # the budget's gate is the limit
                    keepalive_timeout=_KEEP_ALIVE,
                    ttl_dns_cache=_DNS_CACHE,
                ),
                cookie_jar=aiohttp.DummyCookieJar(),
                trust_env=False,
            )
        return self._session

    def _converted(
        self, failure: BaseException, request: Request, secret: Secret, waited: float
    ) -> TransportError | ClosedError:
        """Make our own error from what was raised below: by kind, never by its ``status``."""
        if self._closed:
            return ClosedError("the client was closed during the request", task_id=request.task_id)
        if self._session is not None and self._session.closed:
            return ClosedError("the borrowed session was closed", task_id=request.task_id)
        kind, reason = _judged(failure)
        if reason == "timeout" and waited >= 1.5 * self._request_timeout:
            reason = "local_stall"  # the loop was blocked: the server is not to blame
        # The message of broken HTTP without aiohttp's "400", which the server never sent.
        told = getattr(failure, "message", None) if reason == "protocol" else None
        # It quotes the answer, and cuts what it quotes: maybe within an echoed key.
        quoting = without_queries(secret.scrub_torn(str(told or failure)))
        text = _plain(quoting) or type(failure).__name__
        host = self._origin.host_port_subcomponent
        error = kind(f"{_PHRASES[reason]} ({host}): {text}", task_id=request.task_id, reason=reason)
        if getattr(failure, "status", None) == _PROXY_LOGIN:
            error.retryable = False
        return error


class _DisconnectedError(aiohttp.ClientError):
    """Stands in for the two errors on which aiohttp would resend."""


class _UsedLineError(Exception):
    """The pool gave a used connection that will not do; nothing was sent."""


_PHRASES: Final = {
    "dns": "the host name was not found",
    "connect": "no connection",
    "disconnected": "the server closed the connection",
    "protocol": "the answer is not HTTP",
    "payload": "the answer broke off",
    "proxy": "the proxy refused",
    "timeout": "no answer in time",
    "resources": "this process can open no more connections",
    "local_stall": "this process was too busy to read the answer in time",
    "tls": "TLS failed",
}

_BROKEN_HANDSHAKES: Final = (ssl.SSLEOFError, ssl.SSLZeroReturnError, ssl.SSLSyscallError)
"""A handshake that was cut, not refused: an outage, which passes."""

_KINDS: Final[tuple[tuple[Any, type[TransportError], str], ...]] = (
    # the first row that fits counts
    (aiohttp.ServerFingerprintMismatch, TLSError, "tls"),
    (aiohttp.ClientConnectorCertificateError, TLSError, "tls"),
    (aiohttp.ClientSSLError, TLSError, "tls"),
    (TimeoutError, RequestTimeoutError, "timeout"),
    (aiohttp.ClientConnectorDNSError, TransportError, "dns"),
    ((aiohttp.ClientHttpProxyError, aiohttp.ClientProxyConnectionError), TransportError, "proxy"),
    (aiohttp.ClientConnectorError, TransportError, "connect"),
    (aiohttp.ClientPayloadError, TransportError, "payload"),
    ((aiohttp.ClientResponseError, HttpProcessingError), TransportError, "protocol"),
    ((aiohttp.ClientConnectionError, _DisconnectedError, OSError), TransportError, "disconnected"),
)


_RESOURCES: Final = (errno.EMFILE, errno.ENFILE, errno.ENOBUFS, errno.ENOMEM)
"""What this process or machine lacks for a connection: the server is not to blame."""


def _ignore(closing: asyncio.Future[None]) -> None:
    """Take note of how closing ended: nobody could act on it."""
    if not closing.cancelled():
        closing.exception()


def _judged(failure: BaseException) -> tuple[type[TransportError], str]:
    if getattr(failure, "errno", None) in _RESOURCES:
        return TransportError, "resources"
    if isinstance(getattr(failure, "os_error", None), _BROKEN_HANDSHAKES):
        return TransportError, "connect"
    return next(
        ((kind, reason) for raised, kind, reason in _KINDS if isinstance(failure, raised)),
        (TransportError, "protocol"),
    )


def _is_stale(outcome: object) -> bool:
    return isinstance(outcome, TransportError) and outcome.reason == "disconnected"


def _check_length(answer: aiohttp.ClientResponse) -> None:
    """Refuse two lengths, as aiohttp's parser in C does; its parser in Python takes the first."""
    if len(answer.headers.getall(hdrs.CONTENT_LENGTH, ())) > 1:
        answer.close()
        raise HttpProcessingError(message="two lengths")


async def _read_body(answer: aiohttp.ClientResponse, request: Request) -> bytes:
    """Read the whole body, or give up as soon as it passes the cap."""
    declared = answer.content_length
    if declared is not None and declared <= MAX_BODY_BYTES and not _is_packed(answer):
        return await answer.read()
    parts: list[bytes] = []
    room = MAX_BODY_BYTES
    async for part in answer.content.iter_any():
        room -= len(part)
        if room < 0:
            answer.close()
            message = f"the answer is larger than {MAX_BODY_BYTES} bytes"
            raise BadResponseError(
                message, task_id=request.task_id, reason="too_large", status=answer.status
            )
        parts.append(part)
    return b"".join(parts)


def _is_packed(answer: aiohttp.ClientResponse) -> bool:
    return hdrs.CONTENT_ENCODING in answer.headers


def _joined(headers: Any, secret: Secret) -> dict[str, str]:
    found: dict[str, str] = {}
    pairs = [*headers.items()]
    whole = "\n".join(f"{name}: {value}" for name, value in pairs)
    if secret.scrub(whole) != whole:  # one search for all of them: hardly ever is there an echo
        pairs = [(secret.scrub(name), secret.scrub(value)) for name, value in pairs]
    for name, value in pairs:
        key = name.lower()
        found[key] = f"{found[key]}, {value}" if key in found else value
    return found


def _plain(text: str) -> str:
    return ascii(text[:_TEXT])[1:-1]
