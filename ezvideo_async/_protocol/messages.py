"""
One request and one answer of HTTP as plain values.

No await, no clock, no randomness, no I/O.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

from attrs import field, frozen

from ezvideo_async._domain.redaction import redact_queries
from ezvideo_async._protocol.fields import text_or_none

if TYPE_CHECKING:
    from collections.abc import Mapping

EXCERPT_CHARACTERS = 500


@frozen(kw_only=True)
class Request:
    """One request to send: an absolute url, percent-encoded already."""

    url: str
    task_id: str
    method: str = "GET"


@frozen(kw_only=True)
class Response:
    """
    One answer as it came.

    Attributes:
        status: The HTTP status.
        headers: Names in lower case; a header sent twice has its values joined with ``, ``.
        body: Decompressed, whole.
    """

    status: int
    headers: Mapping[str, str] = field(factory=dict)
    body: bytes = field(default=b"", repr=False)

    @property
    def request_id(self) -> str | None:
        """The id under which the server's operator finds this request."""
        return text_or_none(self.headers.get("x-request-id")) or text_or_none(
            self.headers.get("x-oneapi-request-id")
        )


@frozen(kw_only=True)
class PollHint:
    """
    When the server wants to be asked again.

    Attributes:
        retry_after: Seconds, of any status; None when the server did not say.
        poll_after: Seconds, from ``openai-poll-after-ms``; None when the server did not say.
    """

    retry_after: float | None = None
    poll_after: float | None = None


NO_HINT = PollHint()


def is_html(response: Response) -> bool:
    """Tell a web page, by its type or its first character, from anything an API says."""
    start = response.body[:256].lstrip(b"\xef\xbb\xbf \t\r\n")
    if start[:1] in {b"{", b"["}:
        return False
    return "text/html" in response.headers.get("content-type", "").lower() or start[:1] == b"<"


def excerpt_of(body: bytes) -> str:
    """Show the first 500 characters of a body, whatever bytes it holds, but no url's query."""
    start = body[: 4 * EXCERPT_CHARACTERS].decode("utf-8", "replace")
    return redact_queries(start)[:EXCERPT_CHARACTERS]
