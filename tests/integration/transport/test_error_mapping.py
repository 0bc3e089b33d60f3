"""Error mapping: the class, reason and message for each exception of aiohttp."""

from __future__ import annotations

import errno
import ssl
from types import SimpleNamespace
from typing import Any

import aiohttp
import pytest
from aiohttp.http import HttpProcessingError

from ezvideo_async import RequestTimeoutError, TLSError, TransportError
from ezvideo_async._transport.backend import ProxyLoginError
from ezvideo_async._transport.credentials import ApiKey
from ezvideo_async._transport.error_mapping import LIBRARY_ERRORS, map_error
from tests.support.key_leaks import assert_clean
from tests.support.raw_server import KEY

TARGET: Any = SimpleNamespace(host="api.test", port=443, ssl=True, is_ssl=True)


def mapped(failure: BaseException, *, elapsed: float = 15.0) -> TransportError:
    """Map a failure of an attempt with a timeout of 15 s."""
    return map_error(
        failure, task_id="t", host="api.test", api_key=ApiKey(KEY), elapsed=elapsed, timeout=15.0
    )


def connector_error(number: int) -> aiohttp.ClientConnectorError:
    """A failed connect with an ``errno``."""
    return aiohttp.ClientConnectorError(TARGET, OSError(number, "x"))


FAILURES: list[tuple[BaseException, type[TransportError], str, str]] = [
    (TimeoutError(), RequestTimeoutError, "timeout", "no response within 15 s (api.test); try"),
    (connector_error(errno.ECONNREFUSED), TransportError, "connect", "connection refused (api"),
    (connector_error(errno.ENETUNREACH), TransportError, "connect", "connection failed (api.test"),
    (connector_error(errno.EMFILE), TransportError, "resources", "can open no more connections"),
    (
        aiohttp.ClientConnectorDNSError(TARGET, OSError(-2, "unknown")),
        TransportError,
        "dns",
        "host name not found (api.test): ",
    ),
    (
        aiohttp.ClientConnectorSSLError(TARGET, ssl.SSLEOFError(8, "cut")),
        TransportError,
        "connect",
        "connection failed",
    ),
    (aiohttp.ClientConnectorSSLError(TARGET, ssl.SSLError(1, "x")), TLSError, "tls", "TLS failed"),
    (aiohttp.ServerDisconnectedError(), TransportError, "disconnected", "server closed the conn"),
    (ConnectionResetError(), TransportError, "disconnected", "server closed the connection"),
    (aiohttp.ClientPayloadError(), TransportError, "payload", "response body was truncated"),
    (HttpProcessingError(message="x"), TransportError, "protocol", "response (api.test): x; "),
    (ValueError("x"), TransportError, "protocol", "invalid HTTP response (api.test): x; check"),
    (ProxyLoginError("407"), TransportError, "proxy", "proxy failed (api.test): 407; check the"),
]


@pytest.mark.parametrize(("failure", "kind", "reason", "message"), FAILURES)
def test_failure_is_mapped(
    failure: BaseException, kind: type[TransportError], reason: str, message: str
) -> None:
    """The error says what happened, with which host, and what to do."""
    error = mapped(failure)

    assert isinstance(failure, LIBRARY_ERRORS)
    assert type(error) is kind
    assert (error.reason, error.task_id) == (reason, "t")
    assert message in str(error)
    assert error.retryable is (kind is not TLSError and reason != "proxy")
    assert_clean(error, key=KEY)


@pytest.mark.parametrize(("elapsed", "reason"), [(22.4, "timeout"), (22.5, "local_stall")])
def test_timeout_after_one_and_a_half_times_its_seconds_is_a_local_stall(
    elapsed: float, reason: str
) -> None:
    """A timer fires this late only if the event loop is blocked."""
    assert mapped(TimeoutError(), elapsed=elapsed).reason == reason


@pytest.mark.fault("X21", "X22")
def test_quoted_text_is_masked_cut_and_escaped() -> None:
    """An error quotes at most 200 printable characters, without the key and signed urls."""
    keys = f"{KEY} \\\\u0073{KEY[1:]} {KEY[:12]}"
    message = str(mapped(ValueError(f"\x1b[31m https://cdn.test/v?sig=S {keys} {'x' * 500}")))

    assert r": \x1b[31m https://cdn.test/v?… *** *** *** xxx" in message.replace("\\u2026", "…")
    assert message.isascii()
    assert message.isprintable()
    assert len(message) < 300


@pytest.mark.parametrize(
    ("failure", "quoted"),
    [
        (connector_error(errno.ENETUNREACH), ": [Errno 101] x; "),
        (
            aiohttp.ClientConnectorCertificateError(TARGET, ssl.CertificateError(1, "expired")),
            ": expired; ",
        ),
        (
            aiohttp.ClientHttpProxyError(TARGET, (), status=502, message="Bad Gateway"),
            ": 502 Bad Gateway; ",
        ),
    ],
)
def test_text_of_the_system_is_quoted_without_that_of_aiohttp(
    failure: BaseException, quoted: str
) -> None:
    """No ``ssl:default`` and no request stands in the message."""
    message = str(mapped(failure))

    assert quoted in message
    assert "ssl:" not in message
    assert "url=" not in message
