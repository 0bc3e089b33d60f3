"""Events for the tests of formatting, live view and summary."""

from __future__ import annotations

from typing import TYPE_CHECKING

from ezvideo_async import (
    ErrorInfo,
    EzVideoError,
    StatusChanged,
    TaskCompleted,
    TaskFailed,
    TaskLost,
    TaskNotFoundError,
    TaskStalled,
    TaskStatus,
    TransportError,
    VideoTask,
    WaitTimeoutError,
)

if TYPE_CHECKING:
    from ezvideo_async._domain.events import LossReason


def failed(task_id: str, message: str | None, *, at: float = 0.0) -> TaskFailed:
    """Make the final event of a failed task."""
    error = ErrorInfo(message=message)
    task = VideoTask(id=task_id, status=TaskStatus.FAILED, error=error)
    return TaskFailed(task_id=task_id, task=task, at=at)


def processing(task_id: str, *, progress: int | None) -> StatusChanged:
    """Make the event of a task that runs."""
    status = TaskStatus.PROCESSING
    task = VideoTask(id=task_id, status=status, progress=progress)
    return StatusChanged(task_id=task_id, task=task, previous=None, current=status)


def pending(task_id: str, *, progress: int | None) -> StatusChanged:
    """Make the event of a task that the server reports as pending."""
    status = TaskStatus.PENDING
    task = VideoTask(id=task_id, status=status, progress=progress)
    return StatusChanged(task_id=task_id, task=task, previous=None, current=status)


def completed(task_id: str, url: str | None) -> TaskCompleted:
    """Make the final event of a completed task."""
    task = VideoTask(id=task_id, status=TaskStatus.COMPLETED, url=url)
    return TaskCompleted(task_id=task_id, task=task)


def lost(task_id: str, reason: LossReason, *, task: VideoTask | None = None) -> TaskLost:
    """Make the final event of a lost task, whose last state was *task*."""
    error: EzVideoError = TaskNotFoundError(
        f"HTTP 404: no {task_id}", server_message=f"no {task_id}"
    )
    if reason == "deadline":
        error = WaitTimeoutError("", last_error=TransportError("cannot connect"))
    return TaskLost(task_id=task_id, task=task, error=error, reason=reason)


def stalled(task_id: str) -> TaskStalled:
    """Make the event of a task without a change since the epoch."""
    return TaskStalled(task_id=task_id, task=None, since=0.0)
