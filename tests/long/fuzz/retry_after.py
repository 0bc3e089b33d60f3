"""What servers write into ``Retry-After``: seconds, as an oracle of its own reckons, or absent."""

from __future__ import annotations

from datetime import UTC, datetime, timedelta
from decimal import Decimal
from email.utils import format_datetime, parsedate_to_datetime
from math import isfinite
from typing import TYPE_CHECKING

from ezvideo_async._protocol.retry_after import parse_retry_after
from tests.long.fuzz.subject import Subject, each
from tests.support.response_bodies import UNIX_NOW

if TYPE_CHECKING:
    from collections.abc import Mapping
    from random import Random

_DAYS = ("Monday", "Tuesday", "Wednesday", "Thursday", "Friday", "Saturday", "Sunday")
_MONTHS = ("Jan", "Feb", "Mar", "Apr", "May", "Jun", "Jul", "Aug", "Sep", "Oct", "Nov", "Dec")
_EPOCH = datetime(1970, 1, 1, tzinfo=UTC)
_NOISE = "0123456789.,:;+-eE_ \t\n\x00\x85\u0663\uff15\u00b2GMTjan"
_ODD = [
    *("", " ", "0", "-0", "00", "0.0", "-1", "+5", "1e9", "1_000", "1,000", "120, 5", "5s", "0x10"),
    *("1.", ".5", "1.5.5", "nan", "inf", "Infinity", "1000000000", "9" * 400, "1." + "9" * 400),
    *("PT5S", "2026-01-01T00:00:30Z", "soon", "[5]", '"5"', "\u0663", "\uff15", "null", "True"),
    *("Thu, 01 Jan 2026 00:00:30 UTC", "Thu, 1 Jan 2026 00:00:30 GMT", "Thu Jan  0 00:00:30 2026"),
    *("Wed, 31 Dec 2025 23:59:60 GMT", "Thu, 01 Jan 0000 00:00:00 GMT"),
    "Thursday, 01-Jan-69 00:00:30 GMT",
]

Written = tuple[str, float | None]
"""A text, and the number it stands for when it is of a valid form."""


def imf_fixdate(at: datetime) -> str:
    """Write the form that servers should send."""
    return format_datetime(at, usegmt=True)


def rfc_850(at: datetime) -> str:
    """Write the first old form."""
    day, month = _DAYS[at.weekday()], _MONTHS[at.month - 1]
    return f"{day}, {at.day:02}-{month}-{at.year % 100:02} {at:%H:%M:%S} GMT"


def asctime(at: datetime) -> str:
    """Write the second old form."""
    day, month = _DAYS[at.weekday()][:3], _MONTHS[at.month - 1]
    return f"{day} {month} {at.day:>2} {at:%H:%M:%S} {at.year}"


def _date(rand: Random) -> Written:
    form = rand.choice((imf_fixdate, rfc_850, asctime))
    if form is rfc_850 or rand.random() < 0.9:
        at = datetime(2000, 1, 1, tzinfo=UTC) + timedelta(seconds=rand.randrange(3_155_760_000))
    else:
        at = datetime(1000, 1, 1, tzinfo=UTC) + timedelta(seconds=rand.randrange(283_000_000_000))
    text = form(at)
    if at.second == 59:  # a leap second counts as the one before it
        text = text.replace(f"{at:%H:%M}:59", f"{at:%H:%M}:60")
    return text, (at - _EPOCH).total_seconds()


def _number(rand: Random) -> Written:
    text = str(rand.randrange(10 ** rand.randrange(1, 10)))
    if rand.random() < 0.4:
        text += f".{rand.randrange(10**9):0{rand.randrange(1, 10)}}"[:10]
    return text, float(Decimal(text))


def _near(rand: Random) -> Written:
    text = rand.choice((_date, _number))(rand)[0] if rand.random() < 0.7 else rand.choice(_ODD)
    for _ in range(rand.choice((0, 1, 1, 2))):
        at = rand.randrange(len(text) + 1)
        text = text[:at] + rand.choice(("", rand.choice(_NOISE))) + text[at + rand.randrange(2) :]
    return text, None


def made(rand: Random, _index: int) -> tuple[str, dict[str, str], float | None]:
    """Make a header, those beside it, and what must be read; nan where only sanity is asked."""
    text, waits = rand.choice((_number, _near, _near))(rand)
    if rand.random() < 0.4:
        text, at = _date(rand)
        beside, now = ("", UNIX_NOW) if rand.random() < 0.4 else _date(rand)
        waits = at - now
        headers = {"date": beside} if beside else {}
    else:
        headers = {"date": _near(rand)[0]} if rand.random() < 0.5 else {}
    if rand.random() < 0.2:
        milliseconds, sent = rand.choice((_number, _near))(rand)
        headers["retry-after-ms"] = milliseconds
        waits = None if sent is None else sent / 1000.0
    padding = rand.choice(("", "", " ", "\t "))
    return padding + text + padding, headers, waits


def check_retry_after(text: str, beside: Mapping[str, str], expected: float | None) -> str:
    """Read a header; *expected* is None where the text is no valid form for sure."""
    seconds = parse_retry_after({"retry-after": text, **beside}, unix_now=UNIX_NOW)
    assert seconds is None or (seconds > 0 and isfinite(seconds)), f"no time to wait: {seconds}"
    if expected is not None:
        assert seconds == (expected if expected > 0 else None), f"{seconds}, not {expected}"
        return "absent" if seconds is None else "read"
    if seconds is not None and not beside:
        assert seconds == _by_others(text), f"{seconds}, but others read {_by_others(text)}"
    return "odd, absent" if seconds is None else "odd, read"


def _by_others(text: str) -> float | None:
    """Read by the lenient readers of the standard library, which take more than we do."""
    if text.strip().replace(".", "", 1).isdecimal():
        return float(text)
    at = parsedate_to_datetime(text.strip().replace(":60 ", ":59 "))
    at = at if at.tzinfo else at.replace(tzinfo=UTC)
    is_short = at.year < 2000 and "-" in text
    return (at.replace(year=at.year + 100) if is_short else at).timestamp() - UNIX_NOW


SUBJECT = Subject(
    name="retry-after",
    full=100_000,
    few=8_000,
    run=each("retry-after", made, check_retry_after),
    kinds=frozenset({"read", "absent", "odd, read", "odd, absent"}),
)
