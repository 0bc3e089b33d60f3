"""
The wire itself: one try after another on a carrier, and our errors of what goes wrong.

Promises:

1. The server sees exactly the requests counted in ``sends``.  One resend is ours, at once and on
   a fresh connection, when a kept-alive one turns out to have been closed by the server.
2. What leaves is a ``Response`` or an error of ours, raised after the ``except`` block was left:
   no aiohttp object hangs on it, and none holds the key.
3. A body is at most 1 MiB, decompressed; cookies are not kept, redirects not followed, proxies
   and netrc of the environment not used.
"""

from __future__ import annotations

import asyncio
import errno
import ssl
from collections.abc import Iterator, Mapping
from math import inf
from typing import TYPE_CHECKING, Any, Final

import aiohttp
from aiohttp import hdrs
from aiohttp.http import HttpProcessingError
from multidict import CIMultiDict
from yarl import URL

from ezvideo_async._domain.redaction import redact_queries
from ezvideo_async._lifetime import wait_finished
from ezvideo_async._protocol.messages import Request, Response
from ezvideo_async._transport import connection_pool as _line
from ezvideo_async._transport.backend import CONNECT_TIMEOUT, PROXY_LOGIN, ProxyLoginError
from ezvideo_async._transport.session_backend import DisconnectedError, SessionBackend
from ezvideo_async._transport.timeouts import SharedTimeout
from ezvideo_async._version import __version__
from ezvideo_async.errors import (
    ClosedError,
    EzVideoError,
    RequestTimeoutError,
    TLSError,
    TransportError,
)

if TYPE_CHECKING:
    from ezvideo_async._transport.backend import Connection, HttpBackend
    from ezvideo_async._transport.credentials import ApiKey

_STALLED: Final = 1.5  # times what was allowed; no timer is that late unless the loop is
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


class Transport:
    """
    Sends requests to one origin.

    Args:
        base_url: Says which origin gets the key.
        headers: Sent with every request.
        request_timeout: Seconds for one try, from connecting to the last byte.
        session: A session to borrow; it is never closed here.  None opens connections of our
            own when they are needed.
    """

    def __init__(
        self,
        *,
        base_url: str,
        headers: Mapping[str, str],
        request_timeout: float,
        session: aiohttp.ClientSession | None,
    ) -> None:
        self._host = URL(base_url).host_port_subcomponent
        self._patience = SharedTimeout(request_timeout)
        self._is_closed = False
        all_headers = CIMultiDict(_FIXED_HEADERS)
        all_headers.update(headers)
        self._carrier: HttpBackend
        if session is None and _line.IS_SUPPORTED:
            self._carrier = _line.PoolBackend(base_url=base_url, headers=all_headers)
        else:
            self._carrier = SessionBackend(base_url=base_url, headers=all_headers, session=session)

    @property
    def sends(self) -> int:
        """Requests that were put on the wire."""
        return self._carrier.sends

    async def send(
        self, request: Request, secret: ApiKey, *, fresh: bool = False
    ) -> tuple[Response, Connection]:
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
        outcome, line = await self._try(request, secret, fresh=fresh)
        if line is not None and line.was_used and _is_stale(outcome):
            outcome, line = await self._try(request, secret, fresh=True)
        if isinstance(outcome, EzVideoError):
            raise outcome
        assert line is not None
        return outcome, line

    async def aclose(self) -> None:
        """
        End the tries that run, and close the connections we opened; again is nothing.

        A cancellation does not leave it half done; what is not closed after 2 s is aborted.
        """
        if self._is_closed:
            return
        self._is_closed = True
        connections = self._carrier.connections
        closing = asyncio.ensure_future(self._carrier.close())
        closing.add_done_callback(_ignore)
        self._patience.end_all()  # closing tells no try that connects, or reads a body
        try:
            await wait_finished(closing)
        finally:
            if not closing.done():  # a peer does not take what was being sent
                for connection in connections:
                    connection.abort()
                await wait_finished(closing)

    async def _try(
        self, request: Request, secret: ApiKey, *, fresh: bool
    ) -> tuple[Response | EzVideoError, Connection | None]:
        if self._is_closed:
            return ClosedError("the client was closed", task_id=request.task_id), None
        line: Connection | None = None
        limit = self._patience.limit()
        try:
            with limit:
                line = await self._carrier.take(fresh=fresh)
                status, headers, body = await self._carrier.carry(request, secret, line)
        except EzVideoError as error:
            return error.with_traceback(None), line
        except _FAILURES as error:
            waited = asyncio.get_running_loop().time() - limit.began
            allowed = inf if line is not None else CONNECT_TIMEOUT  # it is still to be connected
            lateness = waited / min(allowed, self._patience.seconds)
            return self._converted(error, request, secret, lateness), line
        return Response(
            status=status, headers=_Headers(headers, secret), body=secret.scrub_body(body)
        ), line

    def _converted(
        self, failure: BaseException, request: Request, secret: ApiKey, lateness: float
    ) -> TransportError | ClosedError:
        """
        Make our own error from what was raised below: by kind, never by its ``status``.

        The *lateness* is how often the try has taken the time that it was allowed.
        """
        if self._is_closed:
            return ClosedError("the client was closed during the request", task_id=request.task_id)
        if self._carrier.is_lost:
            return ClosedError("the borrowed session was closed", task_id=request.task_id)
        kind, reason = _judged(failure)
        if reason == "timeout" and lateness >= _STALLED:
            reason = "local_stall"  # the loop was blocked: the server is not to blame
        # The message of broken HTTP without aiohttp's "400", which the server never sent.
        told = getattr(failure, "message", None) if reason == "protocol" else None
        # It quotes the answer, and cuts what it quotes: maybe within an echoed key.
        quoting = redact_queries(secret.scrub_torn(str(told or failure)))
        text = _plain(quoting) or type(failure).__name__
        message = f"{_PHRASES[reason]} ({self._host}): {text}"
        error = kind(message, task_id=request.task_id, reason=reason)
        if getattr(failure, "status", None) == PROXY_LOGIN:
            error.retryable = False
        return error


class _Headers(Mapping[str, str]):
    """
    The headers of one answer, by names in lower case, read when they are asked for.

    A header sent twice has its values joined; the key is masked wherever a server echoes it.
    """

    __slots__ = ("_headers", "_secret")

    def __init__(self, headers: Any, secret: ApiKey) -> None:
        self._headers = headers
        self._secret = secret

    def get(self, name: str, default: Any = None) -> Any:
        values = self._headers.getall(name, ())
        return self._secret.scrub(", ".join(values)) if values else default

    def __getitem__(self, name: str) -> str:
        return self._secret.scrub(", ".join(self._headers.getall(name)))

    def __contains__(self, name: object) -> bool:
        return name in self._headers

    def __iter__(self) -> Iterator[str]:
        return iter({self._secret.scrub(name).lower(): None for name in self._headers})

    def __len__(self) -> int:
        return sum(1 for _ in self)

    def __repr__(self) -> str:
        return repr(dict(self))


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

_PROXYS: Final = (
    aiohttp.ClientHttpProxyError,
    aiohttp.ClientProxyConnectionError,
    ProxyLoginError,
)

_KINDS: Final[tuple[tuple[Any, type[TransportError], str], ...]] = (
    # the first row that fits counts
    (aiohttp.ServerFingerprintMismatch, TLSError, "tls"),
    (aiohttp.ClientConnectorCertificateError, TLSError, "tls"),
    (aiohttp.ClientSSLError, TLSError, "tls"),
    (TimeoutError, RequestTimeoutError, "timeout"),
    (aiohttp.ClientConnectorDNSError, TransportError, "dns"),
    (_PROXYS, TransportError, "proxy"),
    (aiohttp.ClientConnectorError, TransportError, "connect"),
    (aiohttp.ClientPayloadError, TransportError, "payload"),
    ((aiohttp.ClientResponseError, HttpProcessingError), TransportError, "protocol"),
    ((aiohttp.ClientConnectionError, DisconnectedError, OSError), TransportError, "disconnected"),
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


def _plain(text: str) -> str:
    return ascii(text[:_TEXT])[1:-1]
