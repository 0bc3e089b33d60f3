"""
From a JSON value to a ``VideoTask``, whatever dialect it is written in.

No await, no clock, no randomness, no I/O.  Here is the shape of answers: wrappers, what shows
a task, which places hold what.  Unknown keys change nothing.
"""

from __future__ import annotations

from typing import Any

from attrs import define
from cattrs import Converter
from cattrs.gen import make_dict_structure_fn, override

from ezvideo_async._domain.task import ErrorInfo, TaskStatus, VideoTask
from ezvideo_async._protocol import dialects
from ezvideo_async._protocol.fields import (
    JSONObject,
    first_named,
    first_placed,
    is_object,
    places_by_key,
    read_instant,
    read_metadata,
    read_progress,
    read_status,
    read_url,
    read_web_url,
    scalar_text,
    text_or_none,
)
from ezvideo_async.errors import BadResponseError

_URL_PLACES = places_by_key(dialects.URL_PLACES)
_SECONDS_PLACES = places_by_key(dialects.SECONDS_PLACES)
_REASON_PLACES = places_by_key(dialects.MISPLACED_REASON_PLACES)

# -- the shape of the answer --------------------------------------------------------------------


def envelope_levels(answer: JSONObject) -> list[JSONObject]:
    """List the levels of an answer from the outside in; the last one is the task itself."""
    levels = [answer]
    while len(levels) <= dialects.MAX_ENVELOPES:
        inner = levels[-1]
        if first_named(inner, dialects.UNWRAPPED_MARKS, text_or_none):
            break
        wrapped = first_named(inner, dialects.ENVELOPE_FIELDS, _object_or_none)
        if wrapped is None:
            break
        levels.append(wrapped)
    return levels


def _object_or_none(value: object) -> JSONObject | None:
    return value if is_object(value) else None


def read_error(found: JSONObject) -> ErrorInfo:
    """Read code and message of an error, as a gateway or a task tells them."""
    error = found.get("error")
    if is_object(error):
        message = first_named(error, dialects.ERROR_MESSAGE_FIELDS, scalar_text)
        return ErrorInfo(code=scalar_text(error.get("code")), message=message)
    if text := text_or_none(error):
        return ErrorInfo(code=scalar_text(found.get("code")), message=text)
    return _NO_ERROR


_NO_ERROR = ErrorInfo()


def _failure(found: JSONObject, error: ErrorInfo, word: str | None) -> ErrorInfo:
    code = error.code or dialects.CODES_OF_STATUS_VALUES.get(dialects.normalize_status(word or ""))
    return ErrorInfo(code=code, message=error.message or _failure_reason(found))


def _failure_reason(found: JSONObject) -> str | None:
    told = first_named(found, dialects.FAILURE_REASON_FIELDS, scalar_text)
    if told is not None:
        return told
    misplaced = first_placed(found, _REASON_PLACES, text_or_none)
    return misplaced if read_url(misplaced, base_url=None) is None else None


def _word(found: JSONObject) -> str | None:
    return first_named(found, dialects.STATUS_FIELDS, _word_of)


def _word_of(value: object) -> str | None:
    """Read a status: a number as text; of other things, which nobody knows, only the type."""
    if isinstance(value, str):
        return text_or_none(value)
    return scalar_text(value) or type(value).__name__


def _ids(found: JSONObject) -> list[str]:
    return [text for name in dialects.ID_FIELDS if (text := text_or_none(found.get(name)))]


def _has_fresh_id(levels: list[JSONObject]) -> bool:
    """Tell whether xAI's ``request_id`` names the task: with an error it is a trace id."""
    return text_or_none(levels[-1].get(dialects.TRACE_ID_FIELD)) is not None and all(
        read_error(level) == ErrorInfo() and dialects.is_no_error(scalar_text(level.get("code")))
        for level in levels
    )


def _url(found: JSONObject, status: TaskStatus | None, base_url: str | None) -> str | None:
    if isinstance(found.get("metadata"), str):
        found = {**found, "metadata": read_metadata(found["metadata"])}
    url = first_placed(found, _URL_PLACES, lambda value: read_url(value, base_url=base_url))
    if url is None and status is TaskStatus.COMPLETED:
        url = first_named(found, dialects.URL_FIELDS_WHEN_COMPLETED, read_web_url)
    return url


@define
class TaskEnvelope:
    """
    What an answer shows, before its fields are read.

    Attributes:
        levels: The answer's levels, from the outside in.
        word: The status word; None when there is none.
        status: The status; None: it shows no task at all.
        error: The error beside it.
    """

    levels: list[JSONObject]
    word: str | None
    status: TaskStatus | None
    error: ErrorInfo

    def foreign_id(self, task_id: str) -> str | None:
        """Name the id that the answer carries when none of its ids is the asked one, else None."""
        found = self.levels[-1]
        if found.get("id") == task_id:  # nearly all answers
            return None
        ids = _ids(found)
        return ids[0] if ids and task_id not in ids else None


def read_envelope(answer: JSONObject) -> TaskEnvelope:
    """See what a decoded answer shows: by its status, its url, or its id alone."""
    levels = envelope_levels(answer)
    found = levels[-1]
    word = _word(found)
    error = read_error(found)
    if word is not None:
        return TaskEnvelope(levels, word, read_status(word), error)
    if _url(found, None, None):
        return TaskEnvelope(levels, None, TaskStatus.COMPLETED, error)
    if not _ids(found) and not _has_fresh_id(levels):
        return TaskEnvelope(levels, None, None, error)
    has_failed = error.message is not None if error.code is None else _is_real(error)
    return TaskEnvelope(
        levels, None, TaskStatus.FAILED if has_failed else TaskStatus.PENDING, error
    )


def _is_real(error: ErrorInfo) -> bool:
    return not dialects.is_no_error(error.code)


def foreign_id(answer: JSONObject, task_id: str) -> str | None:
    """Name the id an answer carries when none of its ids is the asked one, else None."""
    return read_envelope(answer).foreign_id(task_id)


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
    shown = read_envelope(answer)
    if shown.status is None:
        raise _schema_error("expected a status, an id or a url @ $")
    found = shown.levels[-1]
    name = task_id or next(iter(_ids(found)), None) or text_or_none(found.get("request_id"))
    if name is None:
        raise _schema_error("expected a text @ $.id")
    return decode_envelope(shown, body=body, task_id=name, base_url=base_url, request_id=request_id)


def decode_envelope(
    shown: TaskEnvelope, *, body: bytes, task_id: str, base_url: str | None, request_id: str | None
) -> VideoTask:
    """Read the task of an answer that shows one; arguments as of ``read_task``."""
    found = shown.levels[-1]
    status = shown.status or TaskStatus.PENDING
    wire = {
        "id": task_id,
        "body": body,
        "base_url": base_url,
        "request_id": request_id,
        "status": status,
        "raw_status": shown.word,
        "progress": found.get("progress"),
        "model": found.get("model"),
        "created_at": first_named(found, dialects.CREATED_AT_FIELDS, read_instant),
        "completed_at": first_named(found, dialects.COMPLETED_AT_FIELDS, read_instant)
        if status.is_terminal
        else None,
        "expires_at": first_named(found, dialects.EXPIRES_AT_FIELDS, read_instant),
        "seconds": first_placed(found, _SECONDS_PLACES, scalar_text),
        "size": found.get("size"),
        "url": _url(found, status, base_url),
        "error": _task_error(found, shown),
        "metadata": found.get("metadata"),
    }
    return _CONVERTER.structure(wire, VideoTask)


def _task_error(found: JSONObject, shown: TaskEnvelope) -> ErrorInfo | None:
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

    as_it_is = override(struct_hook=lambda value, _kind: value)
    converter.register_structure_hook(
        VideoTask,
        make_dict_structure_fn(
            VideoTask,
            converter,
            status=as_it_is,
            raw_status=as_it_is,
            progress=reader(read_progress),
            model=reader(text_or_none),
            created_at=as_it_is,
            completed_at=as_it_is,
            expires_at=as_it_is,
            seconds=as_it_is,
            size=reader(scalar_text),
            url=as_it_is,
            error=as_it_is,
            metadata=reader(read_metadata),
            request_id=reader(text_or_none),
            _base_url=as_it_is,
            _cattrs_use_alias=True,
            _cattrs_detailed_validation=False,
        ),
    )
    return converter


_CONVERTER = _made_converter()
