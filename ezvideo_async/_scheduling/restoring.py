"""Conversion between the record of a watched id and its row in a store."""

from __future__ import annotations

import json
from math import inf
from typing import TYPE_CHECKING, Any

from ezvideo_async import errors
from ezvideo_async._domain.events import TaskCompleted, TaskFailed, TaskLost
from ezvideo_async._domain.stored_task import StoredTask
from ezvideo_async._domain.strict_json import decode_json
from ezvideo_async._domain.task import VideoTask, source_of
from ezvideo_async._protocol.task_decoder import read_task
from ezvideo_async._scheduling.tracked_task import TrackedTask

if TYPE_CHECKING:
    from ezvideo_async._domain.events import AnyFinalEvent

_DEADLINE_MIN = 60.0  # seconds from the restart: an id is polled before it is lost


def tag_to_json(tag: Any) -> str | None:
    """Return a tag as JSON, None for none; raise TypeError or ValueError for what is no JSON."""
    return None if tag is None else _ascii_json(tag)


def _ascii_json(value: Any) -> str:
    """Return JSON that any store can write: a text may hold lone surrogates."""
    return json.dumps(value, allow_nan=False)


def tag_from_json(text: str | None) -> Any:
    return None if text is None else json.loads(text)


def to_stored(tracked: TrackedTask, *, epoch: float) -> StoredTask:
    """
    Return what a store keeps of an id.

    Args:
        tracked: Its record.
        epoch: The wall clock less the loop clock, in seconds.
    """
    final = tracked.final_event
    state = None if final is None else final.task  # a later poll may have shown another one
    body, base_url, request_id = _source(tracked)
    return StoredTask(
        task_id=tracked.task_id,
        tag=tag_to_json(tracked.tag),
        added_at=tracked.added + epoch,
        deadline_at=None if tracked.deadline == inf else tracked.deadline + epoch,
        status=tracked.status if state is None else state.status,
        changed_at=None if tracked.changed == inf else tracked.changed + epoch,
        body=body,
        base_url=base_url,
        request_id=request_id,
        final_kind=None if final is None else final.kind,
        loss=_loss(final) if isinstance(final, TaskLost) else None,
    )


def _source(tracked: TrackedTask) -> tuple[bytes | None, str | None, str | None]:
    """Return the bytes of the last state with what is needed to decode them again."""
    content, _, base_url, request_id = tracked.stored_state
    if isinstance(content, bytes):
        return content, base_url, request_id
    task = tracked.task
    if task is None:
        return None, None, None
    source = source_of(task)
    if source is not None:
        return source
    return _ascii_json(task.to_dict()).encode(), None, None


def _loss(event: TaskLost) -> str:
    loss = {
        "reason": event.reason,
        "error": type(event.error).__name__,
        "message": str(event.error),
    }
    return _ascii_json(loss)


def from_stored(stored: StoredTask, *, epoch: float, now: float) -> TrackedTask:
    """
    Return the record of a stored id, with its state and its original deadline.

    The deadline is at least 60 s away, and at most the whole timeout, whatever the clock says.
    """
    added, deadline = _times(stored, epoch=epoch, now=now)
    tag = tag_from_json(stored.tag)
    tracked = TrackedTask(stored.task_id, added=added, deadline=deadline, tag=tag)
    changed = inf if stored.changed_at is None else min(stored.changed_at - epoch, now)
    seen_at = stored.changed_at or stored.added_at
    tracked.restore(_task_of(stored), changed=changed, seen_at=seen_at)
    return tracked


def _times(stored: StoredTask, *, epoch: float, now: float) -> tuple[float, float]:
    """
    Return when it was added and when it is lost, loop clock.

    Where the deadline is moved, the other one is too, so that the timeout between them stays what
    it was, however often the clock is wrong.
    """
    added = min(stored.added_at - epoch, now)
    if stored.deadline_at is None:
        return added, inf
    deadline, timeout = stored.deadline_at - epoch, stored.deadline_at - stored.added_at
    limited = min(max(deadline, now + _DEADLINE_MIN), now + timeout)
    return added if limited == deadline else limited - timeout, limited


def _task_of(stored: StoredTask) -> VideoTask | None:
    """Return the stored state; without a readable body, one that has a status only."""
    if stored.status is None:
        return None
    if stored.body is not None:
        try:
            task = read_task(
                decode_json(stored.body),
                body=stored.body,
                task_id=stored.task_id,
                base_url=stored.base_url,
                request_id=stored.request_id,
            )
        except (ValueError, errors.BadResponseError):
            task = None
        if task is not None and task.status is stored.status:
            return task
    return VideoTask(id=stored.task_id, status=stored.status)


def stored_final_event(stored: StoredTask, tracked: TrackedTask) -> AnyFinalEvent | None:
    """Return the final event that was not acknowledged; None while the id is open."""
    if stored.final_kind is None:
        return None
    at = stored.changed_at or stored.added_at
    common: dict[str, Any] = {"task_id": stored.task_id, "at": at, "tag": tracked.tag}
    task = tracked.task
    if stored.final_kind == "task_lost":
        loss: dict[str, Any] = {"reason": "deadline", "error": "EzVideoError", "message": ""}
        loss |= json.loads(stored.loss or "{}")
        kind = getattr(errors, loss["error"], errors.EzVideoError)
        error = kind(loss["message"], task_id=stored.task_id)
        return TaskLost(task=task, error=error, reason=loss["reason"], **common)
    if task is None:
        return None
    kind = TaskCompleted if stored.final_kind == "task_completed" else TaskFailed
    return kind(task=task, **common)
