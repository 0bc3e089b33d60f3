"""
Objects of a response: their ids, status values and urls, and which of them is the task.

Rules:

1. An object with the asked id is the task; without one, the innermost object with an id or a
   status is, in the fields where gateways nest the task.
2. A status beside no id, around an object that has one, is the call's.
"""

from __future__ import annotations

from itertools import islice
from typing import TYPE_CHECKING, Any

from ezvideo_async._domain.strict_json import decode_json
from ezvideo_async._domain.task import TaskStatus
from ezvideo_async._protocol import dialects
from ezvideo_async._protocol.error_body import has_call_error
from ezvideo_async._protocol.fields import (
    JSONObject,
    group_places,
    is_object,
    normalize_status,
    read_aliases,
    read_metadata,
    read_places,
    read_url,
    read_web_url,
    scalar_text,
    short_text,
    text_or_none,
)

if TYPE_CHECKING:
    from collections.abc import Iterable

_MAX_ID = 2_048  # characters, as of the ids that may be asked
_MAX_STATUS = 200  # characters of a status value that are kept: a server may send a megabyte

_URL_PLACES = group_places(dialects.URL_PLACES)
_URL_KEYS = frozenset(place[0] for place in dialects.URL_PLACES)


def own_status(level: JSONObject) -> str | None:
    """Return the status value of an object: a text, or one in an object."""
    return read_aliases(level, dialects.STATUS_FIELDS, _status_text)


def _status_text(value: object) -> str | None:
    if isinstance(value, str):
        if not value.strip():
            return None
        return value if len(value) <= _MAX_STATUS else short_text(value, _MAX_STATUS)
    if is_object(value):
        return read_aliases(value, dialects.STATUS_FIELDS, text_or_none)
    return None


def unreadable_status(value: object) -> str | None:
    """Return a status value of another type: a number as text, else the name of its type."""
    return None if isinstance(value, str) else scalar_text(value) or type(value).__name__


def ids_of(level: JSONObject, task_id: str | None) -> list[str]:
    """Return the ids of an object; an event's own id is not that of a task."""
    if _is_event(level):
        return []
    texts = map(text_or_none, map(level.get, dialects.ID_FIELDS))
    ids = [short_text(text, _MAX_ID) for text in texts if text is not None]
    if task_id is not None and level.get(dialects.TRACE_ID_FIELD) == task_id:
        is_trace = own_status(level) is None and has_call_error(level)
        ids += () if is_trace else (task_id,)
    return ids


def _is_event(level: JSONObject) -> bool:
    if level.get("object") == "event":
        return True
    kind = read_aliases(level, dialects.EVENT_TYPE_FIELDS, text_or_none)
    is_kind = kind is not None and "." in kind
    return is_kind and is_object(level.get("data")) and own_status(level) is None


# -- which object is the task ---------------------------------------------------------------------


def task_levels(decoded: JSONObject, task_id: str | None) -> list[JSONObject]:
    """Return the nested objects of a response from the outside in; the last is the task's."""
    levels = [decoded]
    while len(levels) <= dialects.MAX_ENVELOPES:
        inner = _inner_object(levels[-1], task_id)
        if inner is None:
            break
        levels.append(inner)
    if task_id is not None and not any(ids_of(level, task_id) for level in levels):
        levels.extend(_objects_with_the_id(levels[-1], task_id))
    return levels


def _inner_object(level: JSONObject, task_id: str | None) -> JSONObject | None:
    """Return the object in an envelope field of *level* that is more the task than it is itself."""
    inner = _enveloped_objects(level, task_id)
    if not inner:
        return None
    ids, status = ids_of(level, task_id), own_status(level)
    if ids:
        if task_id is not None and task_id not in ids:
            for each in inner:
                if task_id in ids_of(each, task_id):
                    return each
        return None if status else next(filter(own_status, inner), None)
    for each in inner:
        if own_status(each) or ids_of(each, task_id):
            return each
    if status and not is_call_success(level, status):
        return None
    with_url = next((each for each in inner if read_task_url(each, None, None)), None)
    if with_url is None and read_task_url(level, None, None):
        return None
    return with_url or inner[0]


def _enveloped_objects(level: JSONObject, task_id: str | None) -> list[JSONObject]:
    """Return the objects in the envelope fields; one in a list must have the asked id."""
    found = []
    for name in dialects.ENVELOPE_FIELDS:
        value: Any = level.get(name)
        if isinstance(value, str) and value.startswith("{"):
            value = _json_object(value)
        elif isinstance(value, list) and len(value) == 1 and is_object(value[0]):
            value = value[0] if task_id in ids_of(value[0], task_id) else None
        if is_object(value):
            found.append(value)
    return found


def _json_object(text: str) -> object:
    try:
        return decode_json(text.encode("utf-8", "surrogatepass"))
    except ValueError:
        return None


def _objects_with_the_id(level: JSONObject, task_id: str) -> Iterable[JSONObject]:
    """Return the object with the asked id from fields of any name, at most one."""
    is_finished = own_status(level) is not None and read_task_url(level, None, None) is not None
    found = (
        each
        for each in nested_objects(level, max_items=1)
        if task_id in ids_of(each, task_id) and (is_like_a_task(each) or not is_finished)
    )
    return islice(found, 1)


def nested_objects(level: JSONObject, *, max_items: int) -> list[JSONObject]:
    """Return the objects inside an object, outermost first; those of longer lists are left out."""
    found: list[JSONObject] = []
    objects: Iterable[JSONObject] = (level,)
    for _ in range(dialects.MAX_ENVELOPES + 1):
        objects = [
            item
            for each in objects
            for name, value in each.items()
            if name not in dialects.NO_TASK_FIELDS
            for item in (value if isinstance(value, list) else (value,))
            if is_object(item) and not (isinstance(value, list) and len(value) > max_items)
        ]
        found += objects
    return found[: dialects.MAX_NESTED]


def objects_in_texts(levels: Iterable[JSONObject]) -> list[JSONObject]:
    """Return the objects in those values of some objects that are texts of JSON, and in theirs."""
    found: list[JSONObject] = []
    for _ in range(dialects.MAX_ENVELOPES):
        texts = [value for level in levels for value in level.values() if isinstance(value, str)]
        inner = {
            str(n): _json_object(text) for n, text in enumerate(texts) if text[:1] in {"{", "["}
        }
        levels = nested_objects(inner, max_items=dialects.MAX_NESTED)
        found += levels
    return found


def is_like_a_task(level: JSONObject) -> bool:
    """Return True if an object has a field that tasks have, but files and requests have not."""
    return not dialects.TASK_FIELDS.isdisjoint(level) or own_status(level) is not None


def is_call_success(level: JSONObject, raw_status: str) -> bool:
    """Return True for JSend's "success" beside no field of a task."""
    is_success_value = normalize_status(raw_status) in dialects.CALL_SUCCESS_VALUES
    return is_success_value and dialects.TASK_FIELDS.isdisjoint(level)


# -- the url --------------------------------------------------------------------------------------


def read_task_url(
    task_object: JSONObject, status: TaskStatus | None, base_url: str | None
) -> str | None:
    """Return the url in a task's object; some fields hold one only in a completed task."""
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
