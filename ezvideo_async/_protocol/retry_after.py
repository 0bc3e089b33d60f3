"""
Read ``Retry-After``: seconds, or one of HTTP's three date forms.

No await, no clock, no randomness, no I/O.  What does not fit the grammar exactly counts as
absent: ``120, 5``, ``-1``, ``1e9``, Arabic digits, a date that is not GMT.
"""

from __future__ import annotations

import re
from datetime import UTC, datetime
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from collections.abc import Mapping

_SECONDS = re.compile(r"[0-9]{1,9}(?:\.[0-9]{1,9})?\Z")

_MONTHS = ("Jan", "Feb", "Mar", "Apr", "May", "Jun", "Jul", "Aug", "Sep", "Oct", "Nov", "Dec")
_MONTH = "(?P<month>" + "|".join(_MONTHS) + ")"
_DAY = "(?:Mon|Tue|Wed|Thu|Fri|Sat|Sun)"
_DAY_NAME = "(?:Monday|Tuesday|Wednesday|Thursday|Friday|Saturday|Sunday)"
_CLOCK = r"(?P<hour>[0-9]{2}):(?P<minute>[0-9]{2}):(?P<second>[0-9]{2})"
_DATES = (
    # RFC 9110 5.6.7: IMF-fixdate, RFC 850, asctime; compiled when the first date comes
    rf"{_DAY}, (?P<day>[0-9]{{2}}) {_MONTH} (?P<year>[0-9]{{4}}) {_CLOCK} GMT\Z",
    rf"{_DAY_NAME}, (?P<day>[0-9]{{2}})-{_MONTH}-(?P<year>[0-9]{{2}}) {_CLOCK} GMT\Z",
    rf"{_DAY} {_MONTH} (?P<day>[0-9 ][0-9]) {_CLOCK} (?P<year>[0-9]{{4}})\Z",
)
_CENTURY = 2000
"""Two-digit years of RFC 850 dates are of this century: nobody asks to wait for the past."""


def parse_retry_after(headers: Mapping[str, str], *, unix_now: float) -> float | None:
    """
    Read how long the server asks to wait.

    ``retry-after-ms`` wins over ``retry-after``; a date counts from the answer's own ``Date``,
    so that a server's wrong clock does no harm, else from *unix_now*.

    Returns:
        Seconds, more than 0; None when nothing usable was sent, or 0.
    """
    milliseconds = headers.get("retry-after-ms", "").strip()
    if _SECONDS.match(milliseconds):
        return float(milliseconds) / 1000.0 or None
    text = headers.get("retry-after", "").strip()
    if _SECONDS.match(text):
        return float(text) or None
    at = parse_http_date(text)
    if at is None:
        return None
    now = parse_http_date(headers.get("date", "").strip())
    wait = at - (unix_now if now is None else now)
    return wait if wait > 0 else None


def parse_http_date(text: str) -> float | None:
    """Read an HTTP date as Unix seconds; None when it is none."""
    found = next((match for form in _DATES if (match := re.match(form, text))), None)
    if found is None:
        return None
    year, second = found["year"], found["second"]
    try:
        at = datetime(
            int(year) if len(year) > len("yy") else _CENTURY + int(year),
            _MONTHS.index(found["month"]) + 1,
            int(found["day"]),
            int(found["hour"]),
            int(found["minute"]),
            59 if second == "60" else int(second),  # a leap second
            tzinfo=UTC,
        )
    except ValueError:
        return None
    return at.timestamp()
