"""
One watched id: what is known of it, and what an answer or a failure makes of that.

No await, no clock, no randomness, no I/O.  When it is asked for is the scheduler's business.
"""

from __future__ import annotations

from enum import Enum, auto
from math import inf
from typing import TYPE_CHECKING, Any

from attrs import define, field

from ezvideo_async._events import (
    ProgressChanged,
    StatusChanged,
    TaskCompleted,
    TaskFailed,
    TaskLost,
    TaskStalled,
)
from ezvideo_async.errors import (
    AuthenticationError,
    BadRequestError,
    ConfigError,
    EzVideoError,
    PermissionDeniedError,
    ServerError,
    TaskNotFoundError,
    TLSError,
    TransportError,
    WaitTimeoutError,
)

if TYPE_CHECKING:
    from ezvideo_async._events import Event
    from ezvideo_async._learned import Look
    from ezvideo_async._models import VideoTask

_LOOKS_AFTER_VANISHING = 2
"""A task that was seen and is not found: stale replicas deserve two more looks."""

_GONE = 410
_NOT_IMPLEMENTED = 501


class State(Enum):
    """Where an id is on its way round."""

    WAITING = auto()
    READY = auto()
    IN_FLIGHT = auto()
    ENDED = auto()


@define(eq=False, weakref_slot=False)
class Watch:
    """
    What is known of one watched id, from ``add`` to its final event and a while after.

    Attributes:
        task_id: The id as it was added.
        tag: Handed back with every event.
        added: When it was added, loop clock.
        deadline: When it is given up, loop clock.
        due: When it is asked for next, while it waits; when it is forgotten, once it has ended.
        waiting_since: When it first came due since it was last sent; ``inf`` when it has not.
        started: When the last request was sent.
        again: ``refresh()`` came while a request was in flight.
        task: The last state seen.
        seen_at: When that was, Unix seconds.
        changed: When status or progress last changed, loop clock.
        stalled: ``TaskStalled`` was told since.
        errors: Failures in a row.
        misses: "Not found" in a row, after the task was seen.
        last_error: The last failure, until the next answer.
        final: The final event.
        is_claimed: Somebody waited for it, or subscribed to it by its id, even if they have left.
        look: What an adaptive policy has seen of it while it runs.
    """

    task_id: str
    added: float = field(kw_only=True)
    deadline: float = field(kw_only=True, default=inf)
    tag: Any = field(kw_only=True, default=None)
    state: State = field(init=False, default=State.WAITING)
    due: float = field(init=False, default=-inf)
    waiting_since: float = field(init=False, default=inf)
    started: float = field(init=False, default=-inf)
    again: bool = field(init=False, default=False)
    task: VideoTask | None = field(init=False, default=None)
    seen_at: float = field(init=False, default=0.0)
    changed: float = field(init=False)
    stalled: bool = field(init=False, default=False)
    errors: int = field(init=False, default=0)
    misses: int = field(init=False, default=0)
    last_error: EzVideoError | None = field(init=False, default=None)
    final: Event | None = field(init=False, default=None)
    is_claimed: bool = field(init=False, default=False)
    look: Look | None = field(init=False, default=None)

    def __attrs_post_init__(self) -> None:
        self.changed = self.added

    @property
    def is_open(self) -> bool:
        """True until the final event."""
        return self.state is not State.ENDED

    # -- what an answer changes -------------------------------------------------------------------

    def seen(
        self,
        task: VideoTask,
        *,
        now: float,
        unix_now: float,
        progress: bool,
        stalled_after: float | None,
    ) -> Event | None:
        """
        Take in a state of the task; what changed, if anything.

        Args:
            task: The state.
            now: The loop clock.
            unix_now: The wall clock.
            progress: Whether a change of progress alone is an event.
            stalled_after: Seconds without any change until ``TaskStalled``; None for never.
        """
        previous, self.task = self.task, task
        self.seen_at = unix_now
        self.errors = self.misses = 0
        self.last_error = None
        if task.is_terminal:
            kind = TaskCompleted if task.succeeded else TaskFailed
            return kind(task_id=self.task_id, task=task, at=unix_now, tag=self.tag)
        if previous is None or previous.status is not task.status:
            self.changed, self.stalled = now, False
            return self._status_changed(previous, task, unix_now)
        if previous.progress != task.progress:
            self.changed, self.stalled = now, False
            return self._progress_changed(previous, task, unix_now) if progress else None
        if stalled_after is None or self.stalled or now - self.changed < stalled_after:
            return None
        self.stalled = True
        return self._task_stalled(task, now, unix_now)

    def _status_changed(
        self, previous: VideoTask | None, task: VideoTask, unix_now: float
    ) -> StatusChanged:
        return StatusChanged(
            task_id=self.task_id,
            task=task,
            at=unix_now,
            tag=self.tag,
            previous=None if previous is None else previous.status,
            current=task.status,
        )

    def _progress_changed(
        self, previous: VideoTask, task: VideoTask, unix_now: float
    ) -> ProgressChanged:
        return ProgressChanged(
            task_id=self.task_id,
            task=task,
            at=unix_now,
            tag=self.tag,
            previous=previous.progress,
            current=task.progress,
        )

    def _task_stalled(self, task: VideoTask, now: float, unix_now: float) -> TaskStalled:
        return TaskStalled(
            task_id=self.task_id,
            task=task,
            at=unix_now,
            tag=self.tag,
            since=unix_now - (now - self.changed),
        )

    # -- what a failure means ---------------------------------------------------------------------

    def loss_by(self, error: EzVideoError, *, now: float, not_found_grace: float) -> str | None:
        """Count this failure if it is a miss; name why it ends the watch, None if it does not."""
        if isinstance(error, TaskNotFoundError):
            return self._loss_of_missing(error, now, not_found_grace)
        if isinstance(error, BadRequestError):
            return None if error.retryable and self.errors == 0 else "refused"
        if isinstance(error, ServerError) and error.status == _NOT_IMPLEMENTED and error.message:
            return "refused"  # new-api: about the task's channel; a proxy's page is about nobody
        return None

    def _loss_of_missing(
        self, error: TaskNotFoundError, now: float, not_found_grace: float
    ) -> str | None:
        if self.task is None:
            in_grace = now - self.added < not_found_grace and error.status != _GONE
            return None if in_grace else "not_found"
        self.misses += 1
        is_gone = error.status == _GONE or self.misses > _LOOKS_AFTER_VANISHING
        return "vanished" if is_gone else None

    def lost(self, reason: str, *, now: float, unix_now: float) -> TaskLost:
        """Make the final event of a watch that is given up."""
        error = self.last_error
        if reason == "deadline" or error is None:
            error = timed_out(self, waited=now - self.added)
        return TaskLost(
            task_id=self.task_id,
            task=self.task,
            at=unix_now,
            tag=self.tag,
            error=error,
            reason=reason,
        )


def timed_out(watch: Watch, *, waited: float) -> WaitTimeoutError:
    """Make the error of a watch whose time is up."""
    return WaitTimeoutError(
        f"task {watch.task_id!a} had not ended after {waited:.0f} s; it may still end, and be "
        "billed: wait for it again",
        task_id=watch.task_id,
        task=watch.task,
        last_error=watch.last_error,
        waited=waited,
    )


def is_fatal(error: EzVideoError) -> bool:
    """Tell trouble with our key or set-up, which ends a whole watch, from trouble that passes."""
    refused = (AuthenticationError, PermissionDeniedError, ConfigError, TLSError)
    if isinstance(error, TransportError) and error.reason == "proxy":
        return not error.retryable
    return isinstance(error, refused) and not error.retryable


def is_local_stall(error: EzVideoError) -> bool:
    """Tell a time-out that is our own doing: the loop was blocked while the answer lay there."""
    return isinstance(error, TransportError) and error.reason == "local_stall"
