"""
HTTP backend interface, and the checks that its two implementations share.

Both raise the exceptions of aiohttp; the transport maps them to ours.
"""

from __future__ import annotations

import asyncio
from typing import TYPE_CHECKING, Any, Final, Protocol

import aiohttp
from aiohttp import hdrs
from aiohttp.http import HttpProcessingError

from ezvideo_async._domain.strict_json import decode_json
from ezvideo_async._lifetime import wait_finished
from ezvideo_async._protocol.messages import MAX_BODY_BYTES, NOT_DECODED, is_success
from ezvideo_async.errors import BadResponseError

if TYPE_CHECKING:
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

RawResponse = tuple[int, "Mapping[str, str]", tuple[bytes, object]]
"""Status, headers in aiohttp's multidict, and what ``BodyReader.read`` returned."""


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


class BodyReader:
    """
    Reads the bodies of one client's responses, those of more than 1 MiB one after another.

    Such a body is also decoded here, in a thread, before the next one is read: it can be a whole
    video, and would hold the event loop and memory.
    """

    def __init__(self) -> None:
        self._large = asyncio.Lock()

    async def read(
        self, stream: Any, request: Request, api_key: ApiKey, *, status: int
    ) -> tuple[bytes, object]:
        """
        Return a whole body with the key masked, and what it is as JSON if it was decoded.

        Raises:
            BadResponseError: It exceeds the limit of the request; it is read no further.
            HttpProcessingError: It comes in too many pieces.
        """
        size = stream.total_bytes
        is_small = size <= MAX_BODY_BYTES and size <= (request.max_bytes or MAX_BODY_BYTES)
        if is_small and stream.is_eof():
            body = bytes(stream.read_nowait(-1))
            return api_key.mask_body(body, task_id=request.task_id), NOT_DECODED
        parts = _Parts(request, status)
        async for part, _ in stream.iter_chunks():
            parts.add(part)
            if parts.received > MAX_BODY_BYTES:
                break
        else:
            return api_key.mask_body(parts.joined(), task_id=request.task_id), NOT_DECODED
        async with self._large:
            async for part, _ in stream.iter_chunks():
                parts.add(part)
            loop = asyncio.get_running_loop()
            decoding = loop.run_in_executor(None, _mask_and_decode, parts, api_key, request.task_id)
            try:
                return await asyncio.shield(decoding)
            except asyncio.CancelledError:
                await wait_finished(decoding)  # a thread cannot be cancelled
                raise


class _Parts:
    """What was read of one body."""

    def __init__(self, request: Request, status: int) -> None:
        self._request, self._status = request, status
        self._limit = _limit(request, status)
        self._parts: list[bytes] = []
        self.received = 0

    def add(self, part: bytes) -> None:
        self._parts.append(part)
        self.received += len(part)
        if self.received > self._limit:
            raise _too_large(self._request, self._status, self._limit)
        pieces = len(self._parts)
        if pieces > FREE_PIECES + self.received // PIECE_BYTES:
            message = f"{pieces} pieces for {self.received} bytes of a body"
            raise HttpProcessingError(message=message)

    def joined(self) -> bytes:
        return b"".join(self._parts)


def _mask_and_decode(parts: _Parts, api_key: ApiKey, task_id: str) -> tuple[bytes, object]:
    body = api_key.mask_body(parts.joined(), task_id=task_id)
    try:
        return body, decode_json(body)
    except ValueError as error:
        return body, error.with_traceback(None)


def _limit(request: Request, status: int) -> int:
    return (request.max_bytes if is_success(status) else None) or MAX_BODY_BYTES


def _too_large(request: Request, status: int, limit: int) -> BadResponseError:
    fact = f"the response body is larger than {limit} bytes"
    is_option = is_success(status) and request.max_bytes is not None
    return BadResponseError(
        f"{fact}; raise max_response_bytes to read it" if is_option else fact,
        task_id=request.task_id,
        reason="too_large",
        status=status,
    )
