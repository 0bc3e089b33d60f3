"""Rows of the store: their columns and checksum, and the redaction of what is written."""

from __future__ import annotations

import json
import re
import time
import zlib
from typing import TYPE_CHECKING, Any

from ezvideo_async._domain.redaction import redact_query
from ezvideo_async._domain.stored_task import StoredTask
from ezvideo_async._domain.strict_json import decode_json
from ezvideo_async._domain.task import TaskStatus

if TYPE_CHECKING:
    from collections.abc import Sequence

COLUMNS = (
    "task_id",
    "tag",
    "added_at",
    "deadline_at",
    "status",
    "changed_at",
    "body",
    "base_url",
    "request_id",
    "final_kind",
    "loss",
)
"""The columns of a row before its checksum; the first one is its key."""

_BODY_MAX = 64 << 10  # bytes after redaction; a longer body is not stored
_ACKNOWLEDGED_FOR = 7 * 86_400.0  # seconds

_SEPARATOR = re.compile(r"([\s\"'<>]+)")
_RELATIVE = re.compile(r"\?[^?]*=")  # the query of a url without a slash
_MARKS = re.compile(rb"[?#@\\]|data:", re.IGNORECASE)
"""Without one of these, JSON has nothing to redact."""


Row = tuple[Any, ...]


class DamagedRowError(Exception):
    """The checksum of a row does not match its values."""


def to_row(task: StoredTask) -> Row:
    """Return the values of a row and their checksum, without anything secret."""
    values = (
        task.task_id,
        task.tag,
        task.added_at,
        task.deadline_at,
        None if task.status is None else task.status.value,
        task.changed_at,
        _storable(task.body),
        task.base_url,
        None if task.request_id is None else _redacted_text(_encodable(task.request_id)),
        task.final_kind,
        None if task.loss is None else _redacted_json(task.loss.encode()).decode(),
    )
    return (*values, checksum(values))


def from_row(row: Sequence[Any]) -> StoredTask:
    """Return the task of a row; raise DamagedRowError if it was altered."""
    *values, expected = row
    if checksum(values) != expected:
        raise DamagedRowError
    fields = dict(zip(COLUMNS, values, strict=True))
    status = fields.pop("status")
    return StoredTask(status=None if status is None else TaskStatus(status), **fields)


def checksum(values: Sequence[Any]) -> int:
    """Return the CRC-32 of values that SQLite gives back as they were written."""
    return zlib.crc32(repr(tuple(values)).encode("utf-8", "surrogatepass"))


def forget_before() -> float:
    """Return the time, Unix seconds, before which acknowledged ids are forgotten."""
    return time.time() - _ACKNOWLEDGED_FOR


# -- redaction ----------------------------------------------------------------------------------


def _storable(body: bytes | None) -> bytes | None:
    if body is None:
        return None
    try:
        redacted = _redacted_json(body)
    except ValueError:
        return None
    return redacted if len(redacted) <= _BODY_MAX else None


def _redacted_json(body: bytes) -> bytes:
    """Return a JSON value without the query of any url, and its data urls cut."""
    if not _MARKS.search(body):
        return body
    redacted = _redacted(decode_json(body))
    try:
        return json.dumps(redacted, ensure_ascii=False, separators=(",", ":")).encode()
    except UnicodeEncodeError:  # a lone surrogate
        return json.dumps(redacted, separators=(",", ":")).encode()


def _encodable(text: str) -> str:
    """Replace what is no Unicode, such as an odd byte of a header."""
    return text.encode("utf-8", "replace").decode()


def _redacted(value: Any) -> Any:
    if isinstance(value, str):
        return _redacted_text(value)
    if isinstance(value, list):
        return [_redacted(item) for item in value]
    if isinstance(value, dict):
        return {_redacted_text(key): _redacted(item) for key, item in value.items()}
    return value


def _redacted_text(text: str) -> str:
    if not any(mark in text for mark in "?#@:"):
        return text
    return "".join(map(_redacted_word, _SEPARATOR.split(text)))


def _redacted_word(word: str) -> str:
    is_url = "/" in word or word[:5].lower() == "data:" or _RELATIVE.search(word)
    redacted = redact_query(word) if is_url else word
    assert redacted is not None
    return redacted
