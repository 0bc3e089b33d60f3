"""
Decoder from a JSON value of any dialect to a ``VideoTask``.

This module decides in which places of a task's object its fields are.  Unknown keys have no effect.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

from ezvideo_async._domain.task import ErrorInfo, TaskStatus, VideoTask
from ezvideo_async._protocol import dialects
from ezvideo_async._protocol.envelope import read_envelope
from ezvideo_async._protocol.error_body import (
    error_info,
    is_real,
    is_success,
    read_flat_error,
)
from ezvideo_async._protocol.fields import (
    group_places,
    is_no_error,
    is_object,
    normalize_status,
    read_aliases,
    read_metadata,
    read_places,
    read_progress,
    read_timestamp,
    read_url,
    scalar_text,
    text_or_none,
)
from ezvideo_async._protocol.task_object import read_task_url
from ezvideo_async.errors import BadResponseError

if TYPE_CHECKING:
    from ezvideo_async._protocol.envelope import TaskEnvelope
    from ezvideo_async._protocol.fields import JSONObject

_SECONDS_PLACES = group_places(dialects.SECONDS_PLACES)
_REASON_PLACES = group_places(dialects.MISPLACED_REASON_PLACES)


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
    envelope = read_envelope(decoded, task_id)
    if envelope.status is None:
        raise _schema_error("expected a status, an id or a url @ $")
    if task_id is None:
        trace_id = text_or_none(envelope.levels[-1].get(dialects.TRACE_ID_FIELD))
        task_id = next(iter(envelope.ids), trace_id)
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
        url=read_task_url(task_object, status, base_url),
        error=_read_task_error(envelope),
        metadata=read_metadata(task_object.get("metadata")),
        request_id=request_id,
        body=body,
        base_url=base_url,
    )


def _schema_error(path: str) -> BadResponseError:
    return BadResponseError(f"the response is not a task: {path}", reason="schema", paths=(path,))


# -- errors -------------------------------------------------------------------------------------


def _read_task_error(envelope: TaskEnvelope) -> ErrorInfo | None:
    error = envelope.error
    if envelope.status is not TaskStatus.FAILED:
        return error if is_real(error) else None
    flat = read_flat_error(envelope.levels[-1])
    code = error.code or (None if is_no_error(flat.code) else flat.code)
    if code is None:
        code = dialects.CODES_OF_STATUS_VALUES.get(normalize_status(envelope.raw_status or ""))
    return error_info(code, error.message or _failure_reason(envelope.levels[-1], flat))


def _failure_reason(task_object: JSONObject, flat: ErrorInfo) -> str | None:
    reason = read_aliases(task_object, dialects.FAILURE_REASON_FIELDS, scalar_text)
    if reason is not None:
        return reason
    if flat.message is not None and not is_success(flat.message):
        return flat.message
    return read_places(task_object, _REASON_PLACES, _text_that_is_no_url)


def _text_that_is_no_url(value: object) -> str | None:
    return text_or_none(value) if read_url(value, base_url=None) is None else None
