"""
Tasks and events as lines for people.

No await, no clock, no randomness, no I/O.  Everything a server said is cleaned here.
"""

from __future__ import annotations

from datetime import UTC, datetime
from typing import TYPE_CHECKING

from ezvideo_async import TaskLost, TaskStalled, TaskStatus
from ezvideo_async.cli.clean import clean

if TYPE_CHECKING:
    from ezvideo_async import Event, VideoTask

_LONGEST = 500  # characters of what a server says
_MINUTE, _HOUR = 60, 3600
_TIME = len("09:15:00")

_LOST = {
    "not_found": "the server does not know this task",
    "vanished": "the server no longer knows this task",
    "deadline": "it had not ended when the time was up",
}
"""By ``TaskLost.reason``; for other reasons the error itself says it best."""


def event_line(event: Event, *, with_date: bool = True) -> str:
    """Write an event as ``2026-01-31 09:15:00 vid_1 processing 42%``, in local time."""
    at = f"{datetime.fromtimestamp(event.at, UTC).astimezone():%Y-%m-%d %H:%M:%S}"
    when = at if with_date else at[-_TIME:]
    return _joined(when, clean(event.task_id), word_of(event), detail_of(event))


def task_line(task: VideoTask) -> str:
    """Write a task as ``vid_1 processing 42%``."""
    return _joined(clean(task.id), str(task.status), detail_of_task(task))


def _joined(*parts: str) -> str:
    return " ".join(part for part in parts if part)


def word_of(event: Event) -> str:
    """Give one word for what an event tells."""
    if isinstance(event, TaskLost):
        return "lost"
    if isinstance(event, TaskStalled) or event.task is None:
        return "stalled"
    return str(event.task.status)


def detail_of(event: Event) -> str:
    """Tell the rest of an event: where the video is, why there is none, or how far it is."""
    if isinstance(event, TaskLost):
        return f"{event.reason}: {lost_because(event)}"
    if isinstance(event, TaskStalled):
        since = datetime.fromtimestamp(event.since, UTC).astimezone()
        return f"no change since {since:%Y-%m-%d %H:%M:%S}"
    return "" if event.task is None else detail_of_task(event.task)


def detail_of_task(task: VideoTask) -> str:
    """Tell where a video is, why there is none, or how far it is."""
    if task.status is TaskStatus.COMPLETED:
        return clean(task.url or "")
    if task.status is TaskStatus.FAILED:
        return failed_because(task)
    return "" if task.progress is None else f"{task.progress}%"


def failed_because(task: VideoTask) -> str:
    """Say why a task failed, as far as the server did."""
    error = task.error
    told = ": ".join(part for part in (error.code, error.message) if part) if error else ""
    return _short(told) or "the server does not say why"


def lost_because(event: TaskLost) -> str:
    """Say why a task is looked for no more."""
    return _LOST.get(event.reason) or _short(str(event.error))


def _short(told: str) -> str:
    """Clean and cut what a server said; of a megabyte only as much as is shown is cleaned."""
    return cut(clean(told[: _LONGEST + 1]), _LONGEST)


def cut(text: str, longest: int) -> str:
    """Cut to *longest* characters, the last of which then is ``…``."""
    return text if len(text) <= longest else text[: longest - 1] + "…"


def duration(seconds: float) -> str:
    """Write seconds as ``0:07`` or ``1:02:03``."""
    whole = int(seconds)
    minutes, rest = whole // _MINUTE, whole % _MINUTE
    if whole < _HOUR:
        return f"{minutes}:{rest:02}"
    return f"{minutes // _MINUTE}:{minutes % _MINUTE:02}:{rest:02}"


def counted(number: int, noun: str) -> str:
    """Write ``1 task``, ``2 tasks``, ``3,000 tasks``."""
    return f"{number:,} {noun}{'' if number == 1 else 's'}"
