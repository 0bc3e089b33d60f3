"""
What carries requests: one interface, and what its two kinds share.

The kinds are lines of our own, and a session of aiohttp: a borrowed one, or our own where lines
cannot be had.  Both raise what aiohttp raises; the transport makes our errors of it.
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
CONNECT_TIMEOUT: Final = 5.0  # seconds, as openai-python: a black hole shows by then
KEEP_ALIVE: Final = 15.0  # seconds; servers close idle connections from about then on
DNS_CACHE: Final = 10  # seconds until a failover is seen
PROXY_LOGIN: Final = 407

RawResponse = tuple[int, "Mapping[str, str]", bytes]
"""Status, headers in aiohttp's multidict, and the whole body, decompressed."""


class Connection(Protocol):
    """
    The connection that one request goes over.

    Attributes:
        was_used: It has carried a request before, so that its end may be old news.
    """

    was_used: bool

    def close(self) -> None:
        """Close the connection, so that nobody gets what is left in it."""


class HttpBackend(Protocol):
    """
    Carries requests to one origin.

    Attributes:
        sends: Requests that were written.
    """

    sends: int

    async def take(self, *, fresh: bool) -> Any:
        """Give a line to send one request on; *fresh*: one that was never used."""

    async def carry(self, request: Request, secret: ApiKey, line: Any) -> RawResponse:
        """Send a request on a line of ``take``, and read its answer."""
        ...

    @property
    def is_lost(self) -> bool:
        """True when somebody else has closed its connections."""
        ...

    @property
    def connections(self) -> Sequence[asyncio.Transport]:
        """Its open connections, to be aborted when they can't be closed."""
        ...

    async def close(self) -> None:
        """Close its connections; requests in flight fail."""


class ProxyLoginError(aiohttp.ClientError):
    """A proxy wants a login; of a plain http request the answer is all that tells so."""

    status = PROXY_LOGIN


def check_head(status: int, headers: Any) -> None:
    """
    Refuse an answer that is not the server's, or that two could read in two ways.

    Raises:
        ProxyLoginError: Only a proxy says 407, and not about the task.
        HttpProcessingError: It has two lengths; aiohttp's parser in Python takes the first.
    """
    if status == PROXY_LOGIN:
        raise ProxyLoginError("407 Proxy Authentication Required")
    if len(headers.getall(hdrs.CONTENT_LENGTH, ())) > 1:
        raise HttpProcessingError(message="two lengths")


async def read_body(stream: Any, request: Request, *, status: int) -> bytes:
    """
    Read a whole body.

    Raises:
        BadResponseError: It is larger than 1 MiB; no more than that is kept of it.
    """
    if stream.is_eof() and stream.total_bytes <= MAX_BODY_BYTES:
        return bytes(stream.read_nowait(-1))
    parts: list[bytes] = []
    room = MAX_BODY_BYTES
    async for part in stream.iter_any():
        room -= len(part)
        if room < 0:
            message = f"the answer is larger than {MAX_BODY_BYTES} bytes"
            raise BadResponseError(
                message, task_id=request.task_id, reason="too_large", status=status
            )
        parts.append(part)
    return b"".join(parts)
