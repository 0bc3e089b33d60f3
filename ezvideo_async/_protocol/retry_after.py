"""Parser of ``Retry-After``: seconds, or a date as in HTTP."""

from __future__ import annotations

import re
from datetime import UTC
from email.utils import parsedate_to_datetime
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from collections.abc import Mapping

LITELLM_RETRY_AFTER = "llm_provider-retry-after"

_SECONDS = re.compile(r"[0-9]{1,9}(?:\.[0-9]{1,9})?\Z")
"""``float`` alone would also accept ``1e9``, ``1_000``, ``nan`` and Arabic digits."""

_DATE = re.compile(r"[A-Z][a-z]+,? (?!.* 0[0-9]{3}\b)[A-Za-z0-9 :+-]{10,40}\Z")
"""
A day's name first, and no year below 1000.

``email.utils`` alone would accept a date in any text, and read the year 0000 as 2000.
"""


def parse_retry_after(headers: Mapping[str, str], *, unix_now: float) -> float | None:
    """
    Return the seconds to wait by the first usable header.

    In this order: ``retry-after-ms``, ``retry-after``, and the latter as LiteLLM renames it.

    A date counts from the ``Date`` of the same response, so that a wrong clock of the server has
    no effect; *unix_now* is used if there is none.  None means: nothing usable, 0, or a past date.
    """
    milliseconds = headers.get("retry-after-ms", "").strip()
    if _SECONDS.match(milliseconds):
        return float(milliseconds) / 1000.0 or None
    for name in ("retry-after", LITELLM_RETRY_AFTER):
        text = headers.get(name, "").strip()
        if _SECONDS.match(text):
            return float(text) or None
        at = parse_http_date(text)
        if at is not None:
            now = parse_http_date(headers.get("date", "").strip())
            wait = at - (unix_now if now is None else now)
            return wait if wait > 0 else None
    return None


def parse_http_date(text: str) -> float | None:
    """Return an HTTP date as Unix seconds, UTC if it has no zone; None if it is invalid."""
    if not _DATE.match(text):
        return None
    try:
        at = parsedate_to_datetime(text.replace(":60 ", ":59 "))  # a leap second
        return (at if at.tzinfo else at.replace(tzinfo=UTC)).timestamp()
    except (ValueError, OverflowError):
        return None
