"""
Readers of single JSON values: status, progress, timestamp, url, metadata.

Rules:

1. A value that cannot be read is None; nothing is guessed.
2. No value is coerced from another type than the docstrings name: ``null`` never becomes
   ``"None"``, and ``true`` never 1.
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
from ezvideo_async._domain.task import TaskStatus, utc_datetime
from ezvideo_async._protocol import dialects

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable

T = TypeVar("T")

JSONObject = Mapping[str, Any]

_MILLISECONDS_FROM = 1e11
"""A time of this size or more is not in seconds, which would be the year 5138."""

_BEYOND_ANY_UNIT = 1e300
"""A time of this size or more is invalid in any unit, and may not fit a float."""

_MAX_PATH = 8_192  # characters: a megabyte of "../" takes 100 ms to resolve

_DIGITS = re.compile(r"[0-9]{1,19}(?:\.[0-9]{1,19})?\Z")
_PERCENT = re.compile(r"[+-]?(?:[0-9]{1,19}(?:\.[0-9]{0,19})?|\.[0-9]{1,19})\Z")
_WEB_URL = re.compile(r"https?://[^\s/?#]\S*\Z", re.IGNORECASE)
_DATA_URL = re.compile(r"data:video/\S*\Z", re.IGNORECASE)


def is_object(value: object) -> TypeGuard[JSONObject]:
    """Return True if a decoded JSON value is an object."""
    return isinstance(value, dict)  # an isinstance test for Mapping is slow


def text_or_none(value: object) -> str | None:
    """Return a text that is not blank; None for every other value."""
    return value if isinstance(value, str) and value.strip() else None


def short_text(text: str, limit: int) -> str:
    """Return a text, or the first *limit* characters after its blanks."""
    return text if len(text) <= limit else text.strip()[:limit]


def scalar_text(value: object) -> str | None:
    """Return a text that is not blank, or a number as text; None for every other value."""
    if isinstance(value, bool):
        return None
    return str(value) if isinstance(value, int | float) else text_or_none(value)


def read_aliases(
    json_object: JSONObject, names: Iterable[str], read: Callable[[Any], T | None]
) -> T | None:
    """Return the first value under *names* that *read* accepts; None if there is none."""
    for name in names:
        value = json_object.get(name)
        if value is not None and (readable := read(value)) is not None:
            return readable
    return None


Places = tuple[tuple[str, tuple[str | None, ...]], ...]
"""Keys of an object, each with the keys inside its value; None stands for the value itself."""


def group_places(places: Iterable[tuple[str, ...]]) -> Places:
    """Group places of one or two keys by their first key, of which most responses have few."""
    return tuple(
        (key, tuple(place[1] if len(place) > 1 else None for place in group))
        for key, group in groupby(places, key=itemgetter(0))
    )


def read_places(
    json_object: JSONObject, places: Places, read: Callable[[Any], T | None]
) -> T | None:
    """
    Return the first value at *places* that *read* accepts; None if there is none.

    The second key of a place is looked up in an object, or in the first item of a list.
    """
    for key, names in places:
        value = json_object.get(key)
        if value is None:
            continue
        holder = value[0] if isinstance(value, list) and value else value
        inner = holder if is_object(holder) else {}
        for name in names:
            placed = value if name is None else inner.get(name)
            if placed is not None and (readable := read(placed)) is not None:
                return readable
    return None


# -- status values and codes ------------------------------------------------------------------

_BLANKS_AND_HYPHENS = re.compile(r"[\s-]+")


_ENUM_PREFIX = re.compile(r".*(?:status|state)[_.]")  # MEDIA_GENERATION_STATUS_, TaskState.


def normalize_status(value: str) -> str:
    """Return a status value in the form of the keys of ``dialects.STATUS_VALUES``."""
    return _ENUM_PREFIX.sub("", _BLANKS_AND_HYPHENS.sub("_", value.strip().lower()), count=1)


def is_known_status(value: str) -> bool:
    """Return True if a status value, as sent, is in the table."""
    table = dialects.STATUS_VALUES
    return value in table or normalize_status(value) in table


def read_status(value: str) -> TaskStatus:
    """Return the status of a status value; an unknown one is ``processing``."""
    table = dialects.STATUS_VALUES
    return table.get(value) or table.get(normalize_status(value), TaskStatus.PROCESSING)


def is_no_error(code: str | None) -> bool:
    """Return True if a code, or its absence, means "no error"."""
    return code is None or code.lower() in dialects.NO_ERROR_CODES


# -- other fields -----------------------------------------------------------------------------


def read_progress(value: object) -> int | None:
    """
    Return a percentage rounded half up and clamped to 0-100.

    A float in (0, 1], or a text of one without a percent sign, is a fraction of 1; the integer 1
    is one percent.
    """
    if isinstance(value, bool):
        return None
    if isinstance(value, str):
        return _text_progress(value.strip())
    if isinstance(value, int):
        return min(max(value, 0), 100)
    return _percent(value, fraction=True) if isinstance(value, float) else None


def _text_progress(text: str) -> int | None:
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


def read_timestamp(value: object) -> datetime | None:
    """
    Return the time of Unix seconds, milli-, micro- or nanoseconds, or of ISO 8601.

    Numbers may be written as text.  A time without a zone is UTC.  Zero and negative values, and
    Go's year 1, are None.
    """
    if isinstance(value, str):
        text = value.strip()
        seconds = _scaled(float(text)) if _DIGITS.match(text) else _iso_seconds(text)
    elif isinstance(value, int | float) and not isinstance(value, bool):
        seconds = _scaled(value)
    else:
        return None
    return utc_datetime(int(seconds)) if 1.0 <= seconds < _MILLISECONDS_FROM else None


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
    Return the url in a value: in the first item of a list, in the ``url`` of an object.

    It is an ``http(s)`` url with a host and without blanks, a ``data:video/`` url, or a path that
    begins with one slash and has at most 8,192 characters, resolved against the origin of
    *base_url*; None for other values.
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
    is_path = url.startswith("/") and not url.startswith("//") and len(url) <= _MAX_PATH
    if is_path and not re.search(r"\s|\\", url):
        return url if base_url is None else urljoin(base_url, url)
    return None


def read_web_url(value: object) -> str | None:
    """Return the ``http(s)`` url in a value; None if there is none."""
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
    """Return an object, or the object in a text of JSON; empty for other values."""
    if isinstance(value, str):
        body = value.encode("utf-8", "surrogatepass")
        try:
            value = decode_json(body, max_depth=MAX_DEPTH - 1)  # ``to_dict`` adds a level
        except ValueError:
            return {}
    return dict(value) if is_object(value) else {}
