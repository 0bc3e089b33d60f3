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
from math import floor, isfinite
from typing import TYPE_CHECKING, Any, TypeGuard
from urllib.parse import urljoin, urlsplit

from attrs import frozen
from cattrs import Converter
from cattrs.gen import make_dict_structure_fn, override

from ezvideo_async import _dialects as dialects
from ezvideo_async._models import TaskError, TaskStatus, VideoTask, utc
from ezvideo_async._strict_json import decode_json
from ezvideo_async.errors import BadResponseError

if TYPE_CHECKING:
    from collections.abc import Iterable

JSONObject = Mapping[str, Any]

_MILLISECONDS_FROM = 1e11
"""Unix seconds beyond this are the year 5138: it must be a finer unit."""

_DIGITS = re.compile(r"[0-9]{1,19}(?:\.[0-9]{1,19})?\Z")
_PERCENT = re.compile(r"[+-]?[0-9]{1,19}(?:\.[0-9]{1,19})?\Z")
_WEB_URL = re.compile(r"https?://[^\s/?#]\S*\Z", re.IGNORECASE)
_DATA_URL = re.compile(r"data:video/\S*\Z", re.IGNORECASE)


def is_object(value: object) -> TypeGuard[JSONObject]:
    """Tell whether a JSON value is an object."""
    return isinstance(value, Mapping)


def text_or_none(value: object) -> str | None:
    """Read a text: empty and blank ones, and everything else, are None."""
    return value if isinstance(value, str) and value.strip() else None


def scalar_text(value: object) -> str | None:
    """Read a text or a number as text; booleans, empty texts and the rest are None."""
    if isinstance(value, bool):
        return None
    return str(value) if isinstance(value, int | float) else text_or_none(value)


def _first(found: JSONObject, names: Iterable[str]) -> Any:
    return next((found[name] for name in names if found.get(name) is not None), None)


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
    if isinstance(value, bool):
        return None
    if isinstance(value, str):
        text = value.strip()
        seconds = float(text) if _DIGITS.match(text) else _iso_seconds(text)
    elif isinstance(value, int | float):
        seconds = _as_float(value)
    else:
        return None
    return _instant(seconds)


def _as_float(value: float) -> float:
    try:
        return float(value)
    except OverflowError:
        return 0.0


def _iso_seconds(text: str) -> float:
    try:
        at = datetime.fromisoformat(text)
        return (at if at.tzinfo else at.replace(tzinfo=UTC)).timestamp()
    except (ValueError, OverflowError):
        return 0.0


def _instant(seconds: float) -> datetime | None:
    if not isfinite(seconds):
        return None
    while seconds >= _MILLISECONDS_FROM:
        seconds /= 1000.0
    return utc(int(seconds)) if seconds >= 1.0 else None


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
    return dict(value) if is_object(value) else {}


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
        message = next(
            (
                text
                for key in dialects.ERROR_MESSAGE_FIELDS
                if (text := scalar_text(error.get(key)))
            ),
            None,
        )
        return TaskError(code=scalar_text(error.get("code")), message=message)
    if text := text_or_none(error):
        return TaskError(code=scalar_text(found.get("code")), message=text)
    return TaskError()


def _failure(found: JSONObject, error: TaskError, word: str | None) -> TaskError:
    code = error.code or dialects.CODES_OF_WORDS.get(dialects.normalised(word or ""))
    return TaskError(code=code, message=error.message or _failure_reason(found))


def _failure_reason(found: JSONObject) -> str | None:
    reasons = (scalar_text(found.get(name)) for name in dialects.FAILURE_REASON_FIELDS)
    told = next((reason for reason in reasons if reason), None)
    if told is None:
        # new-api's Hailuo channel keeps the failure's text where the url should be.
        told = text_or_none(_at(found, ("metadata", "url")))
        told = None if told is None or read_url(told, base_url=None) else told
    return told


def _word(found: JSONObject) -> str | None:
    value = _first(found, dialects.STATUS_FIELDS)
    if value is None or isinstance(value, str):
        return text_or_none(value)
    return str(value)


def _ids(found: JSONObject) -> list[str]:
    return [text for name in dialects.ID_FIELDS if (text := text_or_none(found.get(name)))]


def _has_fresh_id(found: JSONObject, error: TaskError) -> bool:
    """Tell whether only xAI's ``request_id`` names the task: beside an error it is a trace id."""
    code = scalar_text(found.get("code"))
    return (
        text_or_none(found.get(dialects.TRACE_ID_FIELD)) is not None
        and error == TaskError()
        and code in dialects.NO_ERROR_CODES
    )


def _url(found: JSONObject, status: TaskStatus | None, base_url: str | None) -> str | None:
    places: tuple[tuple[str, ...], ...] = dialects.URL_PLACES
    if status is TaskStatus.COMPLETED:
        places += dialects.URL_PLACES_WHEN_COMPLETED
    candidates = (value for place in places if (value := _at(found, place)))
    return next((url for value in candidates if (url := read_url(value, base_url=base_url))), None)


@frozen
class _Shown:
    """What an answer shows of its status; *status* None: it shows no task at all."""

    word: str | None
    status: TaskStatus | None
    error: TaskError


def _shown(found: JSONObject) -> _Shown:
    word = _word(found)
    error = read_error(found)
    if word is not None:
        return _Shown(word, read_status(word), error)
    if _url(found, None, None):
        return _Shown(None, TaskStatus.COMPLETED, error)
    has_id = bool(_ids(found)) or _has_fresh_id(found, error)
    if not has_id and _numbered(found):
        has_id = error == TaskError()
    if not has_id:
        return _Shown(None, None, error)
    failed = error != TaskError() and error.code not in dialects.NO_ERROR_CODES
    failed = failed or (error.message is not None and error.code is None)
    return _Shown(None, TaskStatus.FAILED if failed else TaskStatus.PENDING, error)


def _numbered(found: JSONObject) -> bool:
    value = found.get("id")
    return isinstance(value, int) and not isinstance(value, bool)


def shows_task(answer: object) -> bool:
    """Tell whether a decoded answer shows a task: a status, an id or a url."""
    return is_object(answer) and _shown(unwrapped(answer)[-1]).status is not None


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
    found = unwrapped(answer)[-1]
    shown = _shown(found)
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
        "created_at": _first(found, dialects.CREATED_AT_FIELDS),
        "completed_at": _first(found, dialects.COMPLETED_AT_FIELDS) if status.is_terminal else None,
        "expires_at": _first(found, dialects.EXPIRES_AT_FIELDS),
        "seconds": next(
            (
                value
                for place in dialects.SECONDS_PLACES
                if (value := _at(found, place)) is not None
            ),
            None,
        ),
        "size": found.get("size"),
        "url": _url(found, status, base_url),
        "error": _task_error(found, shown),
        "metadata": found.get("metadata"),
    }


def _task_error(found: JSONObject, shown: _Shown) -> TaskError | None:
    if shown.status is TaskStatus.FAILED:
        return _failure(found, shown.error, shown.word)
    return None if shown.error.code in dialects.NO_ERROR_CODES else shown.error


def _schema_error(path: str) -> BadResponseError:
    return BadResponseError(f"the answer is not a task: {path}", reason="schema", paths=(path,))


# -- the converter ----------------------------------------------------------------------------


def _exactly(value: Any, kind: Any) -> Any:
    """Let a value pass that is of the field's type already: nothing is coerced."""
    if type(value) is not kind:
        message = f"expected {kind.__name__}, got {type(value).__name__}"
        raise TypeError(message)
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
            raw_status=reader(text_or_none),
            progress=reader(read_progress),
            model=reader(text_or_none),
            created_at=reader(read_instant),
            completed_at=reader(read_instant),
            expires_at=reader(read_instant),
            seconds=reader(scalar_text),
            size=reader(scalar_text),
            url=reader(text_or_none),
            error=reader(lambda error: error),
            metadata=reader(read_metadata),
            request_id=reader(text_or_none),
            _cattrs_use_alias=True,
            _cattrs_detailed_validation=False,
        ),
    )
    return converter


_CONVERTER = _made_converter()
