"""
Error mapping from aiohttp's exceptions to ``TransportError`` and its subclasses.

The exception's class decides, never its ``status``: aiohttp reports broken HTTP with status 400,
which the server did not send.
"""

from __future__ import annotations

import errno
import ssl
from typing import TYPE_CHECKING, Any, Final

import aiohttp
from aiohttp.http import HttpProcessingError

from ezvideo_async._domain.redaction import redact_queries
from ezvideo_async._transport.backend import PROXY_LOGIN, ProxyLoginError
from ezvideo_async._transport.session_backend import DisconnectedError
from ezvideo_async.errors import RequestTimeoutError, TLSError, TransportError

if TYPE_CHECKING:
    from ezvideo_async._transport.credentials import ApiKey
    from ezvideo_async.errors import TransportReason

LIBRARY_ERRORS: Final = (
    aiohttp.ClientError,
    HttpProcessingError,
    OSError,
    ValueError,
    RuntimeError,
    EOFError,
)
"""All that aiohttp and the layers below raise because of a server or network."""

_STALL_FACTOR: Final = 1.5  # times the timeout; a timer fires this late only if the loop is blocked
_MAX_DETAIL: Final = 200  # characters of a library's error text


def map_error(
    failure: BaseException,
    *,
    task_id: str,
    host: str,
    api_key: ApiKey,
    elapsed: float,
    timeout: float,
) -> TransportError:
    """
    Make the error for an attempt that failed with one of ``LIBRARY_ERRORS``; it references none.

    Args:
        failure: What was raised; the key is masked where it is quoted.
        task_id: The task that the request was about.
        host: Shown in the message.
        api_key: The key that was sent.
        elapsed: Seconds since the attempt started.
        timeout: Seconds after which it should have ended.
    """
    kind, reason = _classify(failure)
    if reason == "timeout" and elapsed >= _STALL_FACTOR * timeout:
        reason = "local_stall"
    fact, advice = _MESSAGES[reason]
    if isinstance(failure, OSError) and failure.errno == errno.ECONNREFUSED:
        fact = "connection refused"
    detail = _detail(failure, reason, api_key)
    error = kind(
        f"{fact.format(elapsed=elapsed)} ({host}){detail}; {advice}", task_id=task_id, reason=reason
    )
    if getattr(failure, "status", None) == PROXY_LOGIN:
        error.retryable = False
    return error


def _classify(failure: BaseException) -> tuple[type[TransportError], TransportReason]:
    if getattr(failure, "errno", None) in _RESOURCE_ERRNOS:
        return TransportError, "resources"
    if isinstance(getattr(failure, "os_error", None), _CUT_HANDSHAKES):
        return TransportError, "connect"
    for raised, kind, reason in _KINDS:
        if isinstance(failure, raised):
            return kind, reason
    return TransportError, "protocol"


def _detail(failure: BaseException, reason: str, api_key: ApiKey) -> str:
    """Quote the library's text: the key masked, queries cut, escaped, at most 200 characters."""
    text = _text_of(failure, reason).replace("\\\\", "\\")  # aiohttp escapes what it quotes
    quoted = redact_queries(api_key.mask_torn(text))
    return f": {ascii(quoted[:_MAX_DETAIL])[1:-1]}" if quoted else ""


def _text_of(failure: BaseException, reason: str) -> str:
    """Return what was raised in the words of the server or system, not of aiohttp."""
    if isinstance(failure, aiohttp.ClientHttpProxyError):
        return f"{failure.status} {failure.message}"
    if isinstance(failure, aiohttp.ClientConnectorCertificateError):
        return str(failure.certificate_error)
    if isinstance(failure, aiohttp.ClientConnectorError):  # its own text has "ssl:default"
        return str(failure.os_error)
    # For broken HTTP without aiohttp's "400", which the server did not send.
    message = getattr(failure, "message", None) if reason == "protocol" else None
    return str(message or failure)


# For each reason what happened, and what to do.
_MESSAGES: Final[dict[TransportReason, tuple[str, str]]] = {
    "dns": ("host name not found", "check base_url and this machine's DNS"),
    "connect": ("connection failed", "check base_url and whether the server is up"),
    "disconnected": ("server closed the connection before its response", "try again"),
    "protocol": ("invalid HTTP response", "check that base_url leads to the API"),
    "payload": ("response body was truncated", "try again"),
    "proxy": ("proxy failed", "check the proxy"),
    "timeout": (
        "no response within {elapsed:.3g} s",
        "try again, or increase request_timeout if the server is slow",
    ),
    "resources": (
        "this process can open no more connections",
        "raise its limit of open files, or lower max_in_flight",
    ),
    "local_stall": (
        "this process was too busy to read the response in time",
        "keep blocking work out of the event loop",
    ),
    "tls": ("TLS failed", "check the scheme of base_url and the server's certificate"),
}

# A TLS handshake that was cut, not refused: an outage, which passes.
_CUT_HANDSHAKES: Final = (ssl.SSLEOFError, ssl.SSLZeroReturnError, ssl.SSLSyscallError)

_PROXY_ERRORS: Final = (
    aiohttp.ClientHttpProxyError,
    aiohttp.ClientProxyConnectionError,
    ProxyLoginError,
)

_KINDS: Final[tuple[tuple[Any, type[TransportError], TransportReason], ...]] = (
    # the first row that matches counts
    (aiohttp.ServerFingerprintMismatch, TLSError, "tls"),
    (aiohttp.ClientSSLError, TLSError, "tls"),
    (TimeoutError, RequestTimeoutError, "timeout"),
    (aiohttp.ClientConnectorDNSError, TransportError, "dns"),
    (_PROXY_ERRORS, TransportError, "proxy"),
    (aiohttp.ClientConnectorError, TransportError, "connect"),
    (aiohttp.ClientPayloadError, TransportError, "payload"),
    ((aiohttp.ClientResponseError, HttpProcessingError), TransportError, "protocol"),
    ((aiohttp.ClientConnectionError, DisconnectedError, OSError), TransportError, "disconnected"),
)

# This process or machine cannot open a connection: not the server's failure.
_RESOURCE_ERRNOS: Final = (errno.EMFILE, errno.ENFILE, errno.ENOBUFS, errno.ENOMEM)
