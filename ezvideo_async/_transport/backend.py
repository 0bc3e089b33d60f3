"""
HTTP backend interface, and the checks that its two implementations share.

Both raise the exceptions of aiohttp; the transport maps them to ours.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any, Final, Protocol

import aiohttp
from aiohttp import hdrs
from aiohttp.http import HttpProcessingError

from ezvideo_async._protocol.messages import MAX_BODY_BYTES, is_success
from ezvideo_async.errors import BadResponseError

if TYPE_CHECKING:
    import asyncio
    from collections.abc import Mapping, Sequence

    from ezvideo_async._protocol.messages import Request
    from ezvideo_async._transport.credentials import ApiKey

CONNECT_TIMEOUT: Final = 5.0  # seconds, as openai-python; a host that drops packets shows by then
KEEP_ALIVE: Final = 15.0  # seconds; servers close idle connections from about then on
DNS_CACHE: Final = 10  # seconds until a failover is noticed
MAX_AGE: Final = 300.0  # seconds; where a name leads to is looked up again by then
AGE_JITTER: Final = 30.0  # seconds; connections that were opened together do not end together
PROXY_LOGIN: Final = 407
MAX_INTERIM: Final = 1000  # responses 1xx before one response, 10 ms of CPU; real are one or two
FREE_PIECES: Final = 4096  # chunks or reads of one body, whatever their size
PIECE_BYTES: Final = 128  # on average, in those above FREE_PIECES: else they cost more than data

RawResponse = tuple[int, "Mapping[str, str]", bytes]
"""Status, headers in aiohttp's multidict, and the whole body, decompressed."""


class Connection(Protocol):
    """The connection that one request is sent on."""

    was_used: bool  # by a request before this one; the server may have closed it since

    def close(self) -> None: ...


class HttpBackend(Protocol):
    """Sends requests to one origin, on connections of its own or of a borrowed session."""

    sends: int  # requests written

    def take_idle(self) -> Any: ...
    async def connect(self) -> Any: ...
    async def send(self, request: Request, api_key: ApiKey, connection: Any) -> RawResponse: ...
    async def aclose(self) -> None: ...

    @property
    def is_closed_by_owner(self) -> bool: ...

    @property
    def open_transports(self) -> Sequence[asyncio.Transport]: ...


class ProxyLoginError(aiohttp.ClientError):
    """Response 407 to a plain http request, which aiohttp does not report as an error."""

    status = PROXY_LOGIN


def check_head(status: int, headers: Any) -> None:
    """Refuse a response that comes from a proxy or has an ambiguous length."""
    if status == PROXY_LOGIN:  # only a proxy sends it
        raise ProxyLoginError("407 Proxy Authentication Required")
    if len(headers.getall(hdrs.CONTENT_LENGTH, ())) > 1:  # aiohttp's Python parser takes the first
        raise HttpProcessingError(message="two lengths")


def check_interim(status: int, count: int) -> bool:
    """Return True for an interim response (1xx), but refuse it if *count* came before it."""
    if not 100 <= status < 200 or status == 101:  # noqa: PLR2004 -- no response follows a 101
        return False
    if count >= MAX_INTERIM:
        raise HttpProcessingError(message=f"more than {MAX_INTERIM} interim responses")
    return True


async def read_body(stream: Any, request: Request, *, status: int) -> bytes:
    """Read a whole body; raise BadResponseError, and read no further, if it is too large."""
    limit = (request.max_bytes if is_success(status) else None) or MAX_BODY_BYTES
    if stream.is_eof() and stream.total_bytes <= limit:
        return bytes(stream.read_nowait(-1))
    parts: list[bytes] = []
    received = 0
    async for part, _ in stream.iter_chunks():
        received += len(part)
        if received > limit:
            raise _too_large(request, status, limit)
        parts.append(part)
        if len(parts) > FREE_PIECES + received // PIECE_BYTES:
            raise HttpProcessingError(message=f"{len(parts)} pieces for {received} bytes of a body")
    return b"".join(parts)


def _too_large(request: Request, status: int, limit: int) -> BadResponseError:
    fact = f"the response body is larger than {limit} bytes"
    is_option = is_success(status) and request.max_bytes is not None
    return BadResponseError(
        f"{fact}; raise max_response_bytes to read it" if is_option else fact,
        task_id=request.task_id,
        reason="too_large",
        status=status,
    )
