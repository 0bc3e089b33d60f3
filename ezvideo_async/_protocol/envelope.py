"""
Envelope of a response: the task's object with those around it, and whose status it shows.

Rules:

1. Beside no id, the values of JSend and numbers are the status of the call.
2. A body that may be about another task, or about the call only, shows no final state: a list, an
   error beside a url, an object inside whose own status is not final.
"""

from __future__ import annotations

from sys import maxsize

from attrs import define

from ezvideo_async._domain.task import ErrorInfo, TaskStatus
from ezvideo_async._protocol import dialects
from ezvideo_async._protocol.error_body import (
    has_call_error,
    is_real,
    is_success,
    read_error,
    read_error_body,
    says_failed,
)
from ezvideo_async._protocol.fields import (
    JSONObject,
    is_known_status,
    is_object,
    normalize_status,
    read_aliases,
    read_status,
    text_or_none,
)
from ezvideo_async._protocol.task_object import (
    ids_of,
    is_call_success,
    is_like_a_task,
    nested_objects,
    objects_in_texts,
    own_status,
    read_task_url,
    task_levels,
    unreadable_status,
)

_ANY = maxsize  # items of a list
_NEUTRAL_FIELDS = frozenset({*dialects.STATUS_FIELDS, *dialects.ID_FIELDS, "request_id", "object"})
"""Fields that both a task and a call may have."""


@define
class TaskEnvelope:
    """
    The task's object in a response with the objects around it, before its fields are read.

    Attributes:
        levels: The objects from the outside in; the last one is the task's.
        ids: The ids of the innermost object that has one.
        raw_status: The status value as sent; None when there is none.
        status: The status; None when the response contains no task.
        error: The error in the task's object.
    """

    levels: list[JSONObject]
    ids: list[str]
    raw_status: str | None
    status: TaskStatus | None
    error: ErrorInfo

    @property
    def is_url_only(self) -> bool:
        """True if the response names neither an id nor a status."""
        return not self.ids and self.raw_status is None and self.status is TaskStatus.COMPLETED

    def foreign_id(self, task_id: str) -> str | None:
        """Return the first id in the response if none of its ids is *task_id*, else None."""
        return self.ids[0] if self.ids and task_id not in self.ids else None


def read_envelope(decoded: JSONObject, task_id: str | None = None) -> TaskEnvelope:
    """
    Return the envelope of a response; without a status value, its url, error and id decide.

    *task_id* is the asked id; None when none was asked, as for a webhook.
    """
    if task_id is not None and decoded.get("id") == task_id:
        raw_status = own_status(decoded)
        if raw_status is not None:  # most responses
            status = _status_of(decoded, raw_status)
            return TaskEnvelope([decoded], [task_id], raw_status, status, read_error(decoded))
    levels = task_levels(decoded, task_id)
    ids = next((ids for level in reversed(levels) if (ids := ids_of(level, task_id))), [])
    task_object = levels[-1]
    raw_status = own_status(task_object)
    if raw_status is None and ids:
        raw_status = read_aliases(task_object, dialects.STATUS_FIELDS, unreadable_status)
    envelope = TaskEnvelope(levels, ids, raw_status, None, read_error(task_object))
    if any(level.get("object") == "list" for level in levels):
        return envelope
    if raw_status is None:
        envelope.status = _status_by_other_fields(envelope, task_id)
    elif ids or _is_own_status(envelope, raw_status, task_id):
        envelope.status = _status_of(task_object, raw_status)
    return envelope


def _status_of(level: JSONObject, raw_status: str) -> TaskStatus:
    status = dialects.STATUS_VALUES.get(raw_status)
    if status is not None:  # most values are in the table as they were sent
        return status
    is_ready = normalize_status(raw_status) in dialects.STATUS_VALUES_BESIDE_A_URL
    if is_ready and read_task_url(level, None, None):
        return TaskStatus.COMPLETED
    return read_status(raw_status)


def _has_new_task_id(levels: list[JSONObject]) -> bool:
    """Return True if xAI's ``request_id`` is a task's id; beside an error it is a trace id."""
    return text_or_none(levels[-1].get(dialects.TRACE_ID_FIELD)) is not None and not any(
        map(has_call_error, levels)
    )


# -- whose status it is ---------------------------------------------------------------------------


def _is_own_status(envelope: TaskEnvelope, raw_status: str, task_id: str | None) -> bool:
    """Return True if a status beside no id is the task's, not that of the call."""
    levels = envelope.levels
    if normalize_status(raw_status) in dialects.CALL_ERROR_VALUES:
        return False
    status, has_url = _status_of(levels[-1], raw_status), read_task_url(levels[-1], None, None)
    if not has_url and (
        is_call_success(levels[-1], raw_status)
        or (status is TaskStatus.COMPLETED and _may_be_a_call(levels[-1]))
    ):
        return False
    if not status.is_terminal:
        return True
    if _code(levels) in dialects.CALL_CODES or any(map(says_failed, levels)):
        return False
    return not _may_be_another(envelope, task_id)


def _may_be_a_call(level: JSONObject) -> bool:
    """Return True if an object has other data, or fields and none that tasks have."""
    if any(is_object(level.get(name)) for name in dialects.ENVELOPE_FIELDS):
        return True
    return dialects.TASK_FIELDS.isdisjoint(level) and not level.keys() <= _NEUTRAL_FIELDS


def _code(levels: list[JSONObject]) -> str:
    return (read_error_body(levels).code or "").lower()


def _status_by_other_fields(envelope: TaskEnvelope, task_id: str | None) -> TaskStatus | None:
    """Return the status of a task without a status value; None if it is no task."""
    levels, is_named = envelope.levels, bool(envelope.ids)
    url = read_task_url(levels[-1], None, None)
    if url is not None and (is_named or not url.startswith("/")):
        if any(map(has_call_error, levels)):
            return None
        if is_named:
            is_open = _may_be_another(envelope, task_id)
            return TaskStatus.PENDING if is_open else TaskStatus.COMPLETED
        if _may_be_another(envelope, task_id) or not is_success(read_error_body(levels).message):
            return None
        return TaskStatus.COMPLETED
    if is_named:
        return _status_by_error(envelope)
    return TaskStatus.PENDING if _has_new_task_id(levels) else None


def _status_by_error(envelope: TaskEnvelope) -> TaskStatus | None:
    """Return "failed" for a task with an error; None if the error is the call's."""
    code = _code(envelope.levels)
    if code in dialects.CALL_CODES or any(map(has_call_error, envelope.levels[:-1])):
        return None
    own = envelope.levels[-1]
    if says_failed(own) or is_real(envelope.error):
        return TaskStatus.FAILED
    return None if has_call_error(own) else TaskStatus.PENDING


def _may_be_another(envelope: TaskEnvelope, task_id: str | None) -> bool:
    """Return True if an object inside contradicts a final state, or may be another task."""
    if envelope.ids:
        return any(map(_is_open, nested_objects(envelope.levels[-1], max_items=_ANY)))
    for level in envelope.levels:
        if _is_list_of_tasks(level, task_id):
            return True
        inside = nested_objects(level, max_items=_ANY)
        for each in (*inside, *objects_in_texts([level, *inside])):
            is_alone = envelope.raw_status is None
            has_own = ids_of(each, task_id) or (
                is_alone and (not each or own_status(each) is not None)
            )
            is_another = has_own and (is_alone or is_like_a_task(each))
            if is_another or _contradicts(each, envelope.raw_status) or has_call_error(each):
                return True
    return False


def _contradicts(level: JSONObject, raw_status: str | None) -> bool:
    """Return True if an object has a status of its own that is not that of *raw_status*."""
    status = own_status(level)
    if status is None or not is_known_status(status):
        return False
    return raw_status is None or read_status(status) is not read_status(raw_status)


def _is_open(level: JSONObject) -> bool:
    status = own_status(level)
    return status is not None and is_known_status(status) and not read_status(status).is_terminal


def _is_list_of_tasks(level: JSONObject, task_id: str | None) -> bool:
    lists = [
        items for name in dialects.ENVELOPE_FIELDS if isinstance(items := level.get(name), list)
    ]
    data = level.get("data")
    return (isinstance(data, list) and len(data) > 1) or any(
        is_object(item) and ids_of(item, task_id) for items in lists for item in items
    )
