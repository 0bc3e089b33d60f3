"""HTTP request, response and polling hint as plain values."""

from __future__ import annotations

from types import MappingProxyType
from typing import TYPE_CHECKING, Any, Final, NamedTuple

from ezvideo_async._domain.redaction import redact_queries
from ezvideo_async._domain.strict_json import decode_json
from ezvideo_async._protocol import dialects
from ezvideo_async._protocol.fields import text_or_none

if TYPE_CHECKING:
    from collections.abc import Mapping

_EXCERPT_CHARACTERS = 500
_SUCCESS = frozenset(range(200, 300)) - {204, 205}


NOT_DECODED: Final = object()
"""The body of a response was not decoded yet."""

MAX_BODY_BYTES: Final = 1 << 20
"""Bytes of a body, decompressed, unless the request has a limit of its own."""


class Request(NamedTuple):
    """
    One HTTP request about a task.

    Attributes:
        url: Absolute and percent-encoded.
        max_bytes: Bytes of the body of a success, decompressed, as ``max_response_bytes`` sets
            them; None means 1 MiB, which is also the limit of every error.
    """

    url: str
    task_id: str
    method: str = "GET"
    max_bytes: int | None = None


class Response(NamedTuple):
    """
    One HTTP response.

    Attributes:
        headers: Names in lower case; the values of a repeated header are joined with ``, ``.
        body: The whole body, decompressed.
        decoded: The body as JSON, or the ValueError of decoding it, if that was done before:
            in a thread, for a body of more than 1 MiB.
    """

    status: int
    headers: Mapping[str, str] = MappingProxyType({})
    body: bytes = b""
    decoded: object = NOT_DECODED

    def json(self) -> Any:
        """Return the body as JSON; raise ValueError if it is none."""
        if self.decoded is NOT_DECODED:
            return decode_json(self.body)
        if isinstance(self.decoded, ValueError):
            raise self.decoded.with_traceback(None)
        return self.decoded

    def __repr__(self) -> str:
        return f"Response(status={self.status}, headers={self.headers!r})"

    @property
    def is_success(self) -> bool:
        """True if the status is a success with a body."""
        return is_success(self.status)

    @property
    def request_id(self) -> str | None:
        """The server's id of this request, for its support; None if it sent none."""
        for name in dialects.REQUEST_ID_HEADERS:
            if name in self.headers and (text := text_or_none(self.headers.get(name))):
                return text
        return None


class Evidence(NamedTuple):
    """
    What is known, beside its bytes, of the task that a response is about.

    Attributes:
        aliases: Other ids that this server has used for the task.
        is_fresh: Whether it came on a connection that carried no request before, so that it
            cannot be the response to another one.
        is_confirmed: Whether an earlier response has shown the same url, and no id or status.
    """

    aliases: tuple[str, ...] = ()
    is_fresh: bool = False
    is_confirmed: bool = False


FRESH = Evidence(is_fresh=True)


def is_success(status: int) -> bool:
    """Return True if an HTTP status is a success with a body."""
    return status in _SUCCESS


class PollHint(NamedTuple):
    """The ``Retry-After`` and ``openai-poll-after-ms`` of a response, seconds; None if not sent."""

    retry_after: float | None = None
    poll_after: float | None = None


NO_HINT = PollHint()


def is_html(response: Response) -> bool:
    """Return True if a response is a web page by its type or its first character."""
    start = response.body[:256].lstrip(b"\xef\xbb\xbf \t\r\n")
    if start[:1] in {b"{", b"["}:
        return False
    return "text/html" in response.headers.get("content-type", "").lower() or start[:1] == b"<"


def body_excerpt(body: bytes) -> str:
    """Return the first 500 characters of a body of any bytes, with queries of urls redacted."""
    start = body[: 4 * _EXCERPT_CHARACTERS].decode("utf-8", "replace")
    return redact_queries(start)[:_EXCERPT_CHARACTERS]
