"""
Formatting of tasks and events as lines of text.

Everything that a server sent passes ``clean()`` here before it reaches a terminal.
"""

from __future__ import annotations

import unicodedata
from datetime import UTC, datetime
from typing import TYPE_CHECKING

from ezvideo_async import APIStatusError, TaskLost, TaskStalled, TaskStatus, WaitTimeoutError

if TYPE_CHECKING:
    from ezvideo_async import ErrorInfo, Event, EzVideoError, VideoTask

_MAX_REASON = 500  # characters of a server's text
_MINUTE, _HOUR = 60, 3600
_TIME_LENGTH = len("09:15:00")

_NO_URL = "no url; try GET /videos/ID/content"
"""OpenAI's own API, and many gateways of its shape, send no url."""

_STILL_PENDING = ", still reported as pending"
"""xAI's API reports pending until a task finishes."""

_INVISIBLE = frozenset(
    "\u034f\u115f\u1160\u17b4\u17b5\u180b\u180c\u180d\u180f\u3164\uffa0"
    + "".join(map(chr, range(0xE0100, 0xE01F0)))
)
"""Letters and marks without a glyph, which ``str.isprintable()`` accepts."""


def clean(text: str) -> str:
    r"""
    Escape characters that a terminal would execute or hide, as ``\x1b`` or ``\u202e``.

    Escaped are C0, C1 and DEL, bidi and other format characters, line separators, lone
    surrogates, private and unassigned code points, and letters without a glyph.  All else is
    kept: CJK, emoji, combining marks, spaces of any width.
    """
    if text.isascii() and text.isprintable():
        return text
    return "".join(map(_escape_unless_visible, text))


def _escape_unless_visible(character: str) -> str:
    is_visible = character.isprintable() or unicodedata.category(character) == "Zs"
    if is_visible and character not in _INVISIBLE:
        return character
    # ascii() also escapes what str.isprintable() accepts, because none of it is ASCII.
    return ascii(character)[1:-1]


def event_line(event: Event, *, with_date: bool = True) -> str:
    """Format an event as ``2026-01-31 09:15:00 vid_1 processing 42%``, in local time."""
    at = _local_time(event.at)
    time = at if with_date else at[-_TIME_LENGTH:]
    return _join(time, clean(event.task_id), state_of(event), event_detail(event))


def task_line(task: VideoTask) -> str:
    """Format a task as ``vid_1 processing 42%``."""
    return _join(clean(task.id), str(task.status), task_detail(task))


def lost_line(event: TaskLost) -> str:
    """Format a lost task as ``vid_1 lost not_found: no such task``."""
    return _join(clean(event.task_id), state_of(event), event_detail(event))


def _join(*parts: str) -> str:
    return " ".join(part for part in parts if part)


def _local_time(unix_time: float) -> str:
    return f"{datetime.fromtimestamp(unix_time, UTC).astimezone():%Y-%m-%d %H:%M:%S}"


def state_of(event: Event) -> str:
    """Return the task's status value, ``lost`` or ``stalled``."""
    if isinstance(event, TaskLost):
        return "lost"
    if isinstance(event, TaskStalled) or event.task is None:
        return "stalled"
    return str(event.task.status)


def event_detail(event: Event) -> str:
    """Return the video's url, the reason why there is none, or the progress."""
    if isinstance(event, TaskLost):
        return f"{event.reason}: {loss_reason(event)}"
    if isinstance(event, TaskStalled):
        return f"no change since {_local_time(event.since)}"
    return "" if event.task is None else task_detail(event.task)


def task_detail(task: VideoTask) -> str:
    """Return the video's url, the reason of the failure, or the progress."""
    if task.status is TaskStatus.COMPLETED:
        return clean(task.url or "") or _NO_URL
    if task.status is TaskStatus.FAILED:
        return failure_reason(task)
    if task.progress is None:
        return ""
    is_odd = task.status is TaskStatus.PENDING and task.progress > 0
    return f"{task.progress}%{_STILL_PENDING if is_odd else ''}"


def failure_reason(task: VideoTask) -> str:
    """Return the error code and message of a failed task."""
    return _server_reason(task.error) or "the server gave no reason"


def _server_reason(error: ErrorInfo | APIStatusError | None) -> str:
    parts = (error.code, error.message) if error is not None else ()
    # Some servers send the code as the message too.
    return _clean_start(": ".join(part for part in dict.fromkeys(parts) if part))


def loss_reason(event: TaskLost) -> str:
    """Return the reason why a task is no longer polled, with what the server wrote about it."""
    error = event.error
    if isinstance(error, WaitTimeoutError):
        reason, detail = "not finished before the timeout", str(error.last_error or "")
        return reason + (detail and f"; last error: {_clean_start(detail)}")
    if event.reason == "vanished" and isinstance(error, APIStatusError):
        reason, detail = "the server no longer has this task", _server_reason(error)
        return reason + (detail and f": {detail}")
    return _clean_start(str(error))


def error_record(error: EzVideoError) -> dict[str, str]:
    """Return an error as plain data, in the shape that events have."""
    return {"type": type(error).__name__, "message": str(error)}


def _clean_start(text: str) -> str:
    """Clean and truncate a server's text, without cleaning megabytes that are not shown."""
    return truncate(clean(text[: _MAX_REASON + 1]), _MAX_REASON)


def truncate(text: str, max_length: int) -> str:
    """Shorten *text* to *max_length* characters, of which the last is then ``…``."""
    return text if len(text) <= max_length else text[: max_length - 1] + "…"


def duration_text(seconds: float) -> str:
    """Format seconds as ``0:07`` or ``1:02:03``."""
    whole = int(seconds)
    minutes, rest = whole // _MINUTE, whole % _MINUTE
    if whole < _HOUR:
        return f"{minutes}:{rest:02}"
    return f"{minutes // _MINUTE}:{minutes % _MINUTE:02}:{rest:02}"


def count_text(number: int, noun: str) -> str:
    """Format ``1 task``, ``2 tasks``, ``3,000 tasks``."""
    return f"{number:,} {noun}{'' if number == 1 else 's'}"
