"""
From a JSON value to a ``VideoTask``, whatever dialect it is written in.

No await, no clock, no randomness, no I/O.  Reading is lenient field by field, and never
guesses: what can't be read is None, unknown keys change nothing, and no value is coerced from
another type than the tables name (``null`` never becomes ``"None"``, ``true`` never 1).
"""

from __future__ import annotations

import re
from collections.abc import Mapping
from datetime import UTC, datetime
from functools import lru_cache
from math import floor, isfinite
from typing import TYPE_CHECKING, Any, TypeGuard, TypeVar
from urllib.parse import urljoin, urlsplit

from attrs import frozen
from cattrs import Converter
from cattrs.gen import make_dict_structure_fn, override

from ezvideo_async import _dialects as dialects
from ezvideo_async._models import TaskError, TaskStatus, VideoTask, utc
from ezvideo_async._strict_json import decode_json
from ezvideo_async.errors import BadResponseError

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable, Iterator

_Read = TypeVar("_Read")

JSONObject = Mapping[str, Any]

_MILLISECONDS_FROM = 1e11
"""Unix seconds beyond this are the year 5138: it must be a finer unit."""

_BEYOND_ANY_UNIT = 1e300
"""No time in any unit, and integers not far from here no longer fit a float."""

_SHARED_CHARACTERS = 64
"""Longer texts are not likely to be told twice."""

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


def shared(text: str) -> str:
    """
    Give one text object for all equal short ones.

    Thousands of tasks of one server repeat a handful of models, sizes and words: sharing them
    takes 0.4 KiB off each watched task.
    """
    return text if len(text) > _SHARED_CHARACTERS else _remembered(text)


@lru_cache(maxsize=512)
def _remembered(text: str) -> str:
    return text


def _shared_or_none(read: Callable[[object], str | None]) -> Callable[[object], str | None]:
    def read_shared(value: object) -> str | None:
        text = read(value)
        return None if text is None else shared(text)

    return read_shared


def _first(values: Iterable[object], read: Callable[[Any], _Read | None]) -> _Read | None:
    """Read the first of *values* that can be read."""
    return next((found for value in values if (found := read(value)) is not None), None)


def _named(found: JSONObject, names: Iterable[str]) -> Iterator[Any]:
    return (found.get(name) for name in names)


def _at(found: JSONObject, place: tuple[str, ...]) -> Any:
    value: Any = found
    for name in place:
        if isinstance(value, list):
            value = value[0] if value else None
        value = value.get(name) if is_object(value) else None
    return value


# -- one field each ---------------------------------------------------------------------------


def read_status(word: str) -> TaskStatus:
    """Read a status word: one nobody knows means alive, so that it never ends a wait."""
    return dialects.STATUS_WORDS.get(dialects.normalised(word), TaskStatus.PROCESSING)


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
        try:
            value = decode_json(value.encode("utf-8", "surrogatepass"))
        except ValueError:
            return {}
    return {shared(key): value[key] for key in value} if is_object(value) else {}


# -- the shape of the answer --------------------------------------------------------------------


def unwrapped(answer: JSONObject) -> list[JSONObject]:
    """List the levels of an answer from the outside in; the last one is the task itself."""
    levels = [answer]
    while len(levels) <= dialects.MAX_WRAPPERS:
        inner = levels[-1]
        if any(text_or_none(inner.get(mark)) for mark in dialects.UNWRAPPED_MARKS):
            break
        wrapped = next((inner[key] for key in dialects.WRAPPERS if is_object(inner.get(key))), None)
        if wrapped is None:
            break
        levels.append(wrapped)
    return levels


def read_error(found: JSONObject) -> TaskError:
    """Read code and message of an error, as a gateway or a task tells them."""
    error = found.get("error")
    if is_object(error):
        message = _first(_named(error, dialects.ERROR_MESSAGE_FIELDS), scalar_text)
        return TaskError(code=scalar_text(error.get("code")), message=message)
    if text := text_or_none(error):
        return TaskError(code=scalar_text(found.get("code")), message=text)
    return TaskError()


def _failure(found: JSONObject, error: TaskError, word: str | None) -> TaskError:
    code = error.code or dialects.CODES_OF_WORDS.get(dialects.normalised(word or ""))
    return TaskError(code=code, message=error.message or _failure_reason(found))


def _failure_reason(found: JSONObject) -> str | None:
    told = _first(_named(found, dialects.FAILURE_REASON_FIELDS), scalar_text)
    if told is not None:
        return told
    # new-api's Hailuo channel keeps the failure's text where the url should be.
    misplaced = text_or_none(_at(found, ("metadata", "url")))
    return misplaced if read_url(misplaced, base_url=None) is None else None


def _word(found: JSONObject) -> str | None:
    return _first(_named(found, dialects.STATUS_FIELDS), _word_of)


def _word_of(value: object) -> str | None:
    """Read a status: a number as text; of other things, which nobody knows, only the type."""
    if value is None or isinstance(value, str):
        return text_or_none(value)
    return scalar_text(value) or type(value).__name__


def _ids(found: JSONObject) -> list[str]:
    return [text for name in dialects.ID_FIELDS if (text := text_or_none(found.get(name)))]


def _has_fresh_id(levels: list[JSONObject]) -> bool:
    """Tell whether xAI's ``request_id`` names the task: with an error it is a trace id."""
    return text_or_none(levels[-1].get(dialects.TRACE_ID_FIELD)) is not None and all(
        read_error(level) == TaskError() and dialects.is_no_error(scalar_text(level.get("code")))
        for level in levels
    )


def _url(found: JSONObject, status: TaskStatus | None, base_url: str | None) -> str | None:
    if isinstance(found.get("metadata"), str):
        found = {**found, "metadata": read_metadata(found["metadata"])}
    places = (_at(found, place) for place in dialects.URL_PLACES if place[0] in found)
    url = _first(places, lambda value: read_url(value, base_url=base_url))
    if url is None and status is TaskStatus.COMPLETED:
        url = _first(_named(found, dialects.URL_FIELDS_WHEN_COMPLETED), _web_url)
    return url


def _web_url(value: object) -> str | None:
    url = read_url(value, base_url=None)
    return url if url is not None and _WEB_URL.match(url) else None


@frozen
class _Shown:
    """What an answer shows of its status; *status* None: it shows no task at all."""

    word: str | None
    status: TaskStatus | None
    error: TaskError


def _shown(levels: list[JSONObject]) -> _Shown:
    found = levels[-1]
    word = _word(found)
    error = read_error(found)
    if word is not None:
        return _Shown(word, read_status(word), error)
    if _url(found, None, None):
        return _Shown(None, TaskStatus.COMPLETED, error)
    if not _ids(found) and not _has_fresh_id(levels):
        return _Shown(None, None, error)
    has_failed = error.message is not None if error.code is None else _is_real(error)
    return _Shown(None, TaskStatus.FAILED if has_failed else TaskStatus.PENDING, error)


def _is_real(error: TaskError) -> bool:
    return not dialects.is_no_error(error.code)


def shows_task(answer: object) -> bool:
    """Tell whether a decoded answer shows a task: a status, an id or a url."""
    return is_object(answer) and _shown(unwrapped(answer)).status is not None


def foreign_id(answer: JSONObject, task_id: str) -> str | None:
    """Name the id an answer carries when none of its ids is the asked one, else None."""
    ids = _ids(unwrapped(answer)[-1])
    return ids[0] if ids and task_id not in ids else None


def read_task(
    answer: object,
    *,
    body: bytes = b"",
    task_id: str | None = None,
    base_url: str | None = None,
    request_id: str | None = None,
) -> VideoTask:
    """
    Read a decoded answer of any dialect.

    Args:
        answer: A decoded JSON value.
        body: The bytes it was decoded from, kept for ``VideoTask.raw``.
        task_id: The asked id, which the task gets; None takes the answer's own.
        base_url: Where relative urls belong; None leaves them as they are.
        request_id: The answer's request id.

    Raises:
        BadResponseError: The answer shows no task; ``paths`` says what was expected where.
    """
    if not is_object(answer):
        raise _schema_error("expected an object @ $")
    levels = unwrapped(answer)
    found, shown = levels[-1], _shown(levels)
    if shown.status is None:
        raise _schema_error("expected a status, an id or a url @ $")
    name = task_id or next(iter(_ids(found)), None) or text_or_none(found.get("request_id"))
    if name is None:
        raise _schema_error("expected a text @ $.id")
    wire = {**_fields(found, shown, base_url), "id": name, "body": body, "request_id": request_id}
    return _CONVERTER.structure(wire, VideoTask)


def _fields(found: JSONObject, shown: _Shown, base_url: str | None) -> dict[str, Any]:
    status = shown.status or TaskStatus.PENDING
    return {
        "status": status,
        "raw_status": shown.word,
        "progress": found.get("progress"),
        "model": found.get("model"),
        "created_at": _first(_named(found, dialects.CREATED_AT_FIELDS), read_instant),
        "completed_at": _first(_named(found, dialects.COMPLETED_AT_FIELDS), read_instant)
        if status.is_terminal
        else None,
        "expires_at": _first(_named(found, dialects.EXPIRES_AT_FIELDS), read_instant),
        "seconds": _first((_at(found, place) for place in dialects.SECONDS_PLACES), scalar_text),
        "size": found.get("size"),
        "url": _url(found, status, base_url),
        "error": _task_error(found, shown),
        "metadata": found.get("metadata"),
    }


def _task_error(found: JSONObject, shown: _Shown) -> TaskError | None:
    if shown.status is TaskStatus.FAILED:
        return _failure(found, shown.error, shown.word)
    return shown.error if _is_real(shown.error) else None


def _schema_error(path: str) -> BadResponseError:
    return BadResponseError(f"the answer is not a task: {path}", reason="schema", paths=(path,))


# -- the converter ----------------------------------------------------------------------------


def _exactly(value: Any, kind: Any) -> Any:
    """Let a value pass that is of the field's type already: nothing is coerced."""
    if type(value) is not kind:
        message = f"expected {kind.__name__}, got {type(value).__name__}"
        raise TypeError(message)
    return value


def _as_it_is(value: Any) -> Any:
    return value


def _made_converter() -> Converter:
    """
    Make the one converter: a reader per field, and strict scalars for the rest.

    Plain cattrs structures null as ``"None"``, 5 as ``"5"`` and true as 1.
    """
    converter = Converter(detailed_validation=False)
    for kind in (str, bytes, int, float, bool):
        converter.register_structure_hook(kind, _exactly)

    def reader(read: Any) -> Any:
        return override(struct_hook=lambda value, _kind: read(value))

    converter.register_structure_hook(
        VideoTask,
        make_dict_structure_fn(
            VideoTask,
            converter,
            status=reader(TaskStatus),
            raw_status=reader(_shared_or_none(text_or_none)),
            progress=reader(read_progress),
            model=reader(_shared_or_none(text_or_none)),
            created_at=reader(_as_it_is),
            completed_at=reader(_as_it_is),
            expires_at=reader(_as_it_is),
            seconds=reader(_shared_or_none(text_or_none)),
            size=reader(_shared_or_none(scalar_text)),
            url=reader(_as_it_is),
            error=reader(_as_it_is),
            metadata=reader(read_metadata),
            request_id=reader(text_or_none),
            _cattrs_use_alias=True,
            _cattrs_detailed_validation=False,
        ),
    )
    return converter


_CONVERTER = _made_converter()
