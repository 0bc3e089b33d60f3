"""
Decoder from a JSON value of any dialect to a ``VideoTask``.

This module decides on the shape of a response: its envelopes, what identifies a task, and in which
places its fields are.  Unknown keys have no effect.
"""

from __future__ import annotations

from attrs import define

from ezvideo_async._domain.task import ErrorInfo, TaskStatus, VideoTask
from ezvideo_async._protocol import dialects
from ezvideo_async._protocol.fields import (
    JSONObject,
    group_places,
    is_no_error,
    is_object,
    normalize_status,
    read_aliases,
    read_metadata,
    read_places,
    read_progress,
    read_status,
    read_timestamp,
    read_url,
    read_web_url,
    scalar_text,
    text_or_none,
)
from ezvideo_async.errors import BadResponseError

_URL_PLACES = group_places(dialects.URL_PLACES)
_URL_KEYS = frozenset(place[0] for place in dialects.URL_PLACES)
_SECONDS_PLACES = group_places(dialects.SECONDS_PLACES)
_REASON_PLACES = group_places(dialects.MISPLACED_REASON_PLACES)

_NO_ERROR = ErrorInfo()

# -- envelopes ----------------------------------------------------------------------------------


@define
class TaskEnvelope:
    """
    The task's object in a response with the objects around it, before its fields are read.

    Attributes:
        levels: The objects from the outside in; the last one is the task's.
        raw_status: The status value as sent; None when there is none.
        status: The status; None when the response contains no task.
        error: The error in the task's object.
    """

    levels: list[JSONObject]
    raw_status: str | None
    status: TaskStatus | None
    error: ErrorInfo

    def foreign_id(self, task_id: str) -> str | None:
        """Return the first id in the response if none of its ids is *task_id*, else None."""
        task_object = self.levels[-1]
        if task_object.get("id") == task_id:  # in most responses
            return None
        ids = _ids(task_object)
        return ids[0] if ids and task_id not in ids else None


def read_envelope(decoded: JSONObject) -> TaskEnvelope:
    """Return the envelope of a response; without a status value, its url, error and id decide."""
    levels = envelope_levels(decoded)
    task_object = levels[-1]
    raw_status = read_aliases(task_object, dialects.STATUS_FIELDS, _status_text)
    error = read_error(task_object)
    if raw_status is not None:
        status: TaskStatus | None = read_status(raw_status)
    elif _read_task_url(task_object, None, None):
        status = TaskStatus.COMPLETED
    elif not _ids(task_object) and not _has_new_task_id(levels):
        status = None
    else:
        has_failed = error.message is not None if error.code is None else _is_real(error)
        status = TaskStatus.FAILED if has_failed else TaskStatus.PENDING
    return TaskEnvelope(levels, raw_status, status, error)


def envelope_levels(decoded: JSONObject) -> list[JSONObject]:
    """Return the nested objects of a response from the outside in; the last is the task's."""
    levels = [decoded]
    while len(levels) <= dialects.MAX_ENVELOPES:
        level = levels[-1]
        if read_aliases(level, dialects.TASK_MARKS, text_or_none):
            break
        inner = read_aliases(level, dialects.ENVELOPE_FIELDS, _object_or_none)
        if inner is None:
            break
        levels.append(inner)
    return levels


def _object_or_none(value: object) -> JSONObject | None:
    return value if is_object(value) else None


def _status_text(value: object) -> str | None:
    """Return a status value as text: of a value that is no text or number, the type's name."""
    if isinstance(value, str):
        return text_or_none(value)
    return scalar_text(value) or type(value).__name__


def _ids(task_object: JSONObject) -> list[str]:
    return [text for name in dialects.ID_FIELDS if (text := text_or_none(task_object.get(name)))]


def _has_new_task_id(levels: list[JSONObject]) -> bool:
    """Return True if xAI's ``request_id`` is a task's id; beside an error it is a trace id."""
    return text_or_none(levels[-1].get(dialects.TRACE_ID_FIELD)) is not None and all(
        read_error(level) == _NO_ERROR and is_no_error(scalar_text(level.get("code")))
        for level in levels
    )


# -- tasks --------------------------------------------------------------------------------------


def read_task(
    decoded: object,
    *,
    body: bytes = b"",
    task_id: str | None = None,
    base_url: str | None = None,
    request_id: str | None = None,
) -> VideoTask:
    """
    Return the task of a decoded response in any dialect.

    Args:
        decoded: A decoded JSON value.
        body: The bytes that it was decoded from, for ``VideoTask.raw``.
        task_id: None takes the id in the response.
        base_url: The base of relative urls; None leaves them as they are.
        request_id: The request id of the response.

    Raises:
        BadResponseError: *decoded* contains no task; ``paths`` says what was expected where.
    """
    if not is_object(decoded):
        raise _schema_error("expected an object @ $")
    envelope = read_envelope(decoded)
    if envelope.status is None:
        raise _schema_error("expected a status, an id or a url @ $")
    task_object = envelope.levels[-1]
    if task_id is None:
        trace_id = text_or_none(task_object.get(dialects.TRACE_ID_FIELD))
        task_id = next(iter(_ids(task_object)), trace_id)
    if task_id is None:
        raise _schema_error("expected a text @ $.id")
    return decode_envelope(
        envelope, body=body, task_id=task_id, base_url=base_url, request_id=request_id
    )


def decode_envelope(
    envelope: TaskEnvelope,
    *,
    body: bytes,
    task_id: str,
    base_url: str | None,
    request_id: str | None,
) -> VideoTask:
    """Return the task of an envelope that contains one; arguments as of :func:`read_task`."""
    task_object = envelope.levels[-1]
    status = envelope.status or TaskStatus.PENDING
    return VideoTask(
        id=task_id,
        status=status,
        raw_status=envelope.raw_status,
        progress=read_progress(task_object.get("progress")),
        model=text_or_none(task_object.get("model")),
        created_at=read_aliases(task_object, dialects.CREATED_AT_FIELDS, read_timestamp),
        completed_at=read_aliases(task_object, dialects.COMPLETED_AT_FIELDS, read_timestamp)
        if status.is_terminal
        else None,
        expires_at=read_aliases(task_object, dialects.EXPIRES_AT_FIELDS, read_timestamp),
        seconds=read_places(task_object, _SECONDS_PLACES, scalar_text),
        size=scalar_text(task_object.get("size")),
        url=_read_task_url(task_object, status, base_url),
        error=_read_task_error(envelope),
        metadata=read_metadata(task_object.get("metadata")),
        request_id=request_id,
        body=body,
        base_url=base_url,
    )


def _schema_error(path: str) -> BadResponseError:
    return BadResponseError(f"the response is not a task: {path}", reason="schema", paths=(path,))


def _read_task_url(
    task_object: JSONObject, status: TaskStatus | None, base_url: str | None
) -> str | None:
    url = None
    if not _URL_KEYS.isdisjoint(task_object):  # most running tasks have none of these keys
        if isinstance(task_object.get("metadata"), str):
            task_object = {**task_object, "metadata": read_metadata(task_object["metadata"])}
        url = read_places(
            task_object, _URL_PLACES, lambda value: read_url(value, base_url=base_url)
        )
    if url is None and status is TaskStatus.COMPLETED:
        url = read_aliases(task_object, dialects.URL_FIELDS_WHEN_COMPLETED, read_web_url)
    return url


# -- errors -------------------------------------------------------------------------------------


def read_error(level: JSONObject) -> ErrorInfo:
    """Return code and message in ``error``; an error that is a text has its code beside it."""
    error = level.get("error")
    if is_object(error):
        message = read_aliases(error, dialects.ERROR_MESSAGE_FIELDS, scalar_text)
        return ErrorInfo(code=scalar_text(error.get("code")), message=message)
    if text := text_or_none(error):
        return ErrorInfo(code=scalar_text(level.get("code")), message=text)
    return _NO_ERROR


def _is_real(error: ErrorInfo) -> bool:
    return not is_no_error(error.code)


def _read_task_error(envelope: TaskEnvelope) -> ErrorInfo | None:
    error = envelope.error
    if envelope.status is not TaskStatus.FAILED:
        return error if _is_real(error) else None
    status_value = normalize_status(envelope.raw_status or "")
    return ErrorInfo(
        code=error.code or dialects.CODES_OF_STATUS_VALUES.get(status_value),
        message=error.message or _failure_reason(envelope.levels[-1]),
    )


def _failure_reason(task_object: JSONObject) -> str | None:
    reason = read_aliases(task_object, dialects.FAILURE_REASON_FIELDS, scalar_text)
    if reason is not None:
        return reason
    misplaced = read_places(task_object, _REASON_PLACES, text_or_none)
    return misplaced if read_url(misplaced, base_url=None) is None else None
