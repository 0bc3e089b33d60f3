"""Events for the tests of formatting, live view and summary."""

from __future__ import annotations

from ezvideo_async import (
    ErrorInfo,
    StatusChanged,
    TaskCompleted,
    TaskFailed,
    TaskLost,
    TaskNotFoundError,
    TaskStalled,
    TaskStatus,
    VideoTask,
)


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


def completed(task_id: str, url: str | None) -> TaskCompleted:
    """Make the final event of a completed task."""
    task = VideoTask(id=task_id, status=TaskStatus.COMPLETED, url=url)
    return TaskCompleted(task_id=task_id, task=task)


def lost(task_id: str, reason: str) -> TaskLost:
    """Make the final event of a lost task."""
    return TaskLost(task_id=task_id, task=None, error=TaskNotFoundError("refused"), reason=reason)


def stalled(task_id: str) -> TaskStalled:
    """Make the event of a task without a change since the epoch."""
    return TaskStalled(task_id=task_id, task=None, since=0.0)
