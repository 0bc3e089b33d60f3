"""
One field of an answer at a time: from a JSON value to what it means, or None.

No await, no clock, no randomness, no I/O.  Reading is lenient and never guesses: what can't be
read is None, and no value is coerced from another type than the tables name (``null`` never
becomes ``"None"``, ``true`` never 1).
"""

from __future__ import annotations

import re
from collections.abc import Mapping
from datetime import UTC, datetime
from itertools import groupby
from math import floor, isfinite
from operator import itemgetter
from typing import TYPE_CHECKING, Any, TypeGuard, TypeVar
from urllib.parse import urljoin, urlsplit

from ezvideo_async._domain.strict_json import MAX_DEPTH, decode_json
from ezvideo_async._domain.task import TaskStatus, utc
from ezvideo_async._protocol import dialects

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable

_Read = TypeVar("_Read")

JSONObject = Mapping[str, Any]

_MILLISECONDS_FROM = 1e11
"""Unix seconds beyond this are the year 5138: it must be a finer unit."""

_BEYOND_ANY_UNIT = 1e300
"""No time in any unit, and integers not far from here no longer fit a float."""

_DIGITS = re.compile(r"[0-9]{1,19}(?:\.[0-9]{1,19})?\Z")
_PERCENT = re.compile(r"[+-]?(?:[0-9]{1,19}(?:\.[0-9]{0,19})?|\.[0-9]{1,19})\Z")
_WEB_URL = re.compile(r"https?://[^\s/?#]\S*\Z", re.IGNORECASE)
_DATA_URL = re.compile(r"data:video/\S*\Z", re.IGNORECASE)


def is_object(value: object) -> TypeGuard[JSONObject]:
    """Tell whether a JSON value is an object."""
    return isinstance(value, dict)  # decoded JSON has no other; a test for Mapping is slow


def text_or_none(value: object) -> str | None:
    """Read a text: empty and blank ones, and everything else, are None."""
    return value if isinstance(value, str) and value.strip() else None


def scalar_text(value: object) -> str | None:
    """Read a text or a number as text; booleans, empty texts and the rest are None."""
    if isinstance(value, bool):
        return None
    return str(value) if isinstance(value, int | float) else text_or_none(value)


def first_named(
    found: JSONObject, names: Iterable[str], read: Callable[[Any], _Read | None]
) -> _Read | None:
    """Read the value of the first of some keys that is there and can be read; null never can."""
    for name in names:
        value = found.get(name)
        if value is not None and (readable := read(value)) is not None:
            return readable
    return None


Places = tuple[tuple[str, tuple[str | None, ...]], ...]
"""Keys of an answer, and for each the keys within its value; None is the value itself."""


def places_by_key(places: Iterable[tuple[str, ...]]) -> Places:
    """
    Group places of one or two keys by the first one; their order stays.

    A url is looked for at 29 places, of which nearly all answers have one key or two.
    """
    return tuple(
        (key, tuple(place[1] if len(place) > 1 else None for place in group))
        for key, group in groupby(places, key=itemgetter(0))
    )


def first_placed(
    found: JSONObject, places: Places, read: Callable[[Any], _Read | None]
) -> _Read | None:
    """Read the first value that can be read at some places; of a list, the first item has keys."""
    for key, names in places:
        value = found.get(key)
        if value is None:
            continue
        holder = value[0] if isinstance(value, list) and value else value
        inner = holder if is_object(holder) else {}
        for name in names:
            placed = value if name is None else inner.get(name)
            if placed is not None and (readable := read(placed)) is not None:
                return readable
    return None


# -- one field each ---------------------------------------------------------------------------


def read_status(word: str) -> TaskStatus:
    """Read a status word: one nobody knows means alive, so that it never ends a wait."""
    known = dialects.STATUS_VALUES
    return known.get(word) or known.get(dialects.normalize_status(word), TaskStatus.PROCESSING)


def read_progress(value: object) -> int | None:
    """
    Read a percentage, rounded half up and clamped to 0-100.

    A fraction in (0, 1], that is a float or a text with a point and no percent sign, is a
    share of one; the integer 1 is one percent.
    """
    if isinstance(value, bool):
        return None
    if isinstance(value, str):
        return _progress_of_text(value.strip())
    if isinstance(value, int):
        return min(max(value, 0), 100)
    return _percent(value, fraction=True) if isinstance(value, float) else None


def _progress_of_text(text: str) -> int | None:
    number = text.removesuffix("%").strip()
    if not _PERCENT.match(number):
        return None
    return _percent(float(number), fraction="." in number and not text.endswith("%"))


def _percent(number: float, *, fraction: bool) -> int | None:
    if not isfinite(number):
        return None
    if fraction and 0.0 < number <= 1.0:
        number *= 100.0
    return floor(min(max(number, 0.0), 100.0) + 0.5)


def read_instant(value: object) -> datetime | None:
    """
    Read Unix seconds, milli-, micro- or nanoseconds, digits in a text, or ISO 8601.

    Zero, negative and unreadable values, and Go's year 1, are None; a time without a zone is UTC.
    """
    if isinstance(value, str):
        text = value.strip()
        seconds = _scaled(float(text)) if _DIGITS.match(text) else _iso_seconds(text)
    elif isinstance(value, int | float) and not isinstance(value, bool):
        seconds = _scaled(value)
    else:
        return None
    return utc(int(seconds)) if 1.0 <= seconds < _MILLISECONDS_FROM else None


def _scaled(number: float) -> float:
    while _MILLISECONDS_FROM <= number < _BEYOND_ANY_UNIT:
        number /= 1000
    return number


def _iso_seconds(text: str) -> float:
    try:
        at = datetime.fromisoformat(text)
    except ValueError:
        return 0.0
    return (at if at.tzinfo else at.replace(tzinfo=UTC)).timestamp()


def read_url(value: object, *, base_url: str | None) -> str | None:
    """
    Read a candidate for the url: of a list its first item, of an object its ``url``.

    Returns:
        An ``http(s)`` url with a host and without blanks, a ``data:video/`` url, or a path
        beginning with one slash, resolved against the origin of *base_url*; None for all else.
    """
    if isinstance(value, list):
        value = value[0] if value else None
    if is_object(value):
        value = value.get("url")
        value = value[0] if isinstance(value, list) and value else value
    if not isinstance(value, str):
        return None
    url = value.strip()
    if _WEB_URL.match(url) or _DATA_URL.match(url):
        return url if _is_splittable(url) else None
    if url.startswith("/") and not url.startswith("//") and not re.search(r"\s|\\", url):
        return url if base_url is None else urljoin(base_url, url)
    return None


def read_web_url(value: object) -> str | None:
    """Read a candidate that counts only as an ``http(s)`` url."""
    url = read_url(value, base_url=None)
    return url if url is not None and _WEB_URL.match(url) else None


def _is_splittable(url: str) -> bool:
    try:
        parts = urlsplit(url)
        _ = parts.port
    except ValueError:
        return False
    return parts.scheme == "data" or bool(parts.hostname)


def read_metadata(value: object) -> JSONObject:
    """Read an object, or an object written as JSON in a text; all else is empty."""
    if isinstance(value, str):
        body = value.encode("utf-8", "surrogatepass")
        try:
            value = decode_json(body, max_depth=MAX_DEPTH - 1)  # ``to_dict`` puts a level around it
        except ValueError:
            return {}
    return dict(value) if is_object(value) else {}
