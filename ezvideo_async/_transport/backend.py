"""
HTTP backend interface, and the checks that its two implementations share.

The implementations are a connection pool of our own, and an aiohttp session.  Both raise the
exceptions of aiohttp; the transport maps them to ours.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any, Final, Protocol

import aiohttp
from aiohttp import hdrs
from aiohttp.http import HttpProcessingError

from ezvideo_async.errors import BadResponseError

if TYPE_CHECKING:
    import asyncio
    from collections.abc import Mapping, Sequence

    from ezvideo_async._protocol.messages import Request
    from ezvideo_async._transport.credentials import ApiKey

MAX_BODY_BYTES: Final = 1 << 20
CONNECT_TIMEOUT: Final = 5.0  # seconds, as openai-python; a host that drops packets shows by then
KEEP_ALIVE: Final = 15.0  # seconds; servers close idle connections from about then on
DNS_CACHE: Final = 10  # seconds until a failover is noticed
PROXY_LOGIN: Final = 407

RawResponse = tuple[int, "Mapping[str, str]", bytes]
"""Status, headers in aiohttp's multidict, and the whole body, decompressed."""


class Connection(Protocol):
    """
    The connection that one request is sent on.

    Attributes:
        was_used: True if it has served a request before; the server may have closed it since.
    """

    was_used: bool

    def close(self) -> None:
        """Close the connection, so that no later request reads what is left in it."""


class HttpBackend(Protocol):
    """
    Sends requests to one origin.

    Attributes:
        sends: Number of requests written.
    """

    sends: int

    def take_idle(self) -> Any:
        """Return a connection that was used before; None if there is none."""

    async def connect(self) -> Any:
        """Return a new connection."""

    async def send(self, request: Request, api_key: ApiKey, connection: Any) -> RawResponse:
        """Send a request on such a connection and read the response."""
        ...

    @property
    def is_closed_by_owner(self) -> bool:
        """True if the owner of a borrowed session has closed it."""
        ...

    @property
    def open_transports(self) -> Sequence[asyncio.Transport]:
        """The transports to abort when they cannot be closed."""
        ...

    async def aclose(self) -> None:
        """Close the backend's own connections; requests in flight fail."""


class ProxyLoginError(aiohttp.ClientError):
    """Response 407 to a plain http request, which aiohttp does not report as an error."""

    status = PROXY_LOGIN


def check_head(status: int, headers: Any) -> None:
    """
    Refuse a response that comes from a proxy or has an ambiguous length.

    Raises:
        ProxyLoginError: The status is 407, which only a proxy sends.
        HttpProcessingError: There are two lengths; aiohttp's Python parser accepts the first.
    """
    if status == PROXY_LOGIN:
        raise ProxyLoginError("407 Proxy Authentication Required")
    if len(headers.getall(hdrs.CONTENT_LENGTH, ())) > 1:
        raise HttpProcessingError(message="two lengths")


async def read_body(stream: Any, request: Request, *, status: int) -> bytes:
    """
    Read a whole body.

    Raises:
        BadResponseError: It is larger than 1 MiB; the rest is not read.
    """
    if stream.is_eof() and stream.total_bytes <= MAX_BODY_BYTES:
        return bytes(stream.read_nowait(-1))
    parts: list[bytes] = []
    remaining = MAX_BODY_BYTES
    async for part in stream.iter_any():
        remaining -= len(part)
        if remaining < 0:
            message = f"the response body is larger than {MAX_BODY_BYTES} bytes"
            raise BadResponseError(
                message, task_id=request.task_id, reason="too_large", status=status
            )
        parts.append(part)
    return b"".join(parts)
