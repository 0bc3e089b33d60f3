"""
One watched id: what is known of it, and what an answer or a failure makes of that.

No await, no clock, no randomness, no I/O.  When it is asked for is the scheduler's business.
"""

from __future__ import annotations

from enum import Enum, auto
from functools import partial
from math import inf
from typing import TYPE_CHECKING, Any

from attrs import define, field

from ezvideo_async._domain.events import (
    FinalEvent,
    ProgressChanged,
    StatusChanged,
    TaskCompleted,
    TaskFailed,
    TaskLost,
    TaskStalled,
    progress_changed,
)
from ezvideo_async._domain.task import VideoTask, source_of
from ezvideo_async._protocol.stored_response import decode_stored
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
    from ezvideo_async._domain.events import Event, Final
    from ezvideo_async._domain.task import TaskStatus
    from ezvideo_async._protocol.progress_only import ProgressUpdate
    from ezvideo_async._protocol.stored_response import StoredState

_LOOKS_AFTER_VANISHING = 2
"""A task that was seen and is not found: stale replicas deserve two more looks."""

_GONE = 410
_NOT_IMPLEMENTED = 501


class Phase(Enum):
    """Where an id is on its way round."""

    WAITING = auto()
    READY = auto()
    OVERDUE = auto()  # ready, and spread before
    EXPIRED = auto()  # its deadline has passed, its end is to be told
    IN_FLIGHT = auto()
    ENDED = auto()


@define(eq=False, weakref_slot=False)
class FailureStreak:
    """
    What has gone wrong with an id since its last answer.

    Attributes:
        errors: Failures in a row.
        misses: "Not found" in a row, after the task was seen.
        last: The last failure.
    """

    errors: int = 0
    misses: int = 0
    last: EzVideoError | None = None


@define(eq=False, weakref_slot=False)
class TrackedTask:
    """
    What is known of one watched id, from ``add`` to its final event and a while after.

    Attributes:
        task_id: The id as it was added.
        tag: Handed back with every event.
        added: When it was added, loop clock.
        deadline: When it is given up, loop clock.
        due: When it is asked for next, while it waits; when it is forgotten, once it has ended.
        started: When the last request was sent.
        known: The last state seen: the answer's bytes, or a task that came without; in the end
            the final event.
        base_url: Where relative urls of those bytes belong.
        request_id: The request id of that answer.
        status: The last status seen; None before the first answer.
        progress: The progress seen with it.
        seen_at: When that was, Unix seconds.
        changed: When status or progress last changed, loop clock; ``inf`` once ``TaskStalled`` was
            told since.
        trouble: What has gone wrong since the last answer; None for nothing.
        is_claimed: Somebody waited for it, or subscribed to it by its id, even if they have left.
    """

    # A watcher has a hundred thousand of these: what is rare, or told by the rest, has no slot.

    task_id: str
    added: float = field(kw_only=True)
    deadline: float = field(kw_only=True, default=inf)
    tag: Any = field(kw_only=True, default=None)
    state: Phase = field(init=False, default=Phase.WAITING)
    due: float = field(init=False, default=-inf)
    started: float = field(init=False, default=-inf)
    known: bytes | VideoTask | Final | None = field(init=False, default=None)
    base_url: str | None = field(init=False, default=None)
    request_id: str | None = field(init=False, default=None)
    status: TaskStatus | None = field(init=False, default=None)
    progress: int | None = field(init=False, default=None)
    seen_at: float = field(init=False, default=0.0)
    changed: float = field(init=False, default=inf)
    trouble: FailureStreak | None = field(init=False, default=None)
    is_claimed: bool = field(init=False, default=False)

    @property
    def is_open(self) -> bool:
        """True until the final event."""
        return self.state is not Phase.ENDED

    @property
    def task(self) -> VideoTask | None:
        """The last state seen, read again from the answer's bytes; None before the first."""
        return decode_stored(*self.reading)

    @property
    def reading(self) -> StoredState:
        """What :func:`decode_stored` takes: the last state seen, whatever becomes of the watch."""
        return self.known, self.task_id, self.base_url, self.request_id

    @property
    def body(self) -> bytes:
        """The bytes of the answer that showed the last state; empty when it came otherwise."""
        return self.known if isinstance(self.known, bytes) else b""

    @property
    def final(self) -> Final | None:
        """The final event; None while there is none."""
        return self.known if isinstance(self.known, FinalEvent) else None

    @property
    def errors(self) -> int:
        """Failures in a row."""
        return 0 if self.trouble is None else self.trouble.errors

    @property
    def last_error(self) -> EzVideoError | None:
        """The last failure since the last answer."""
        return None if self.trouble is None else self.trouble.last

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
        status, percent = self.status, self.progress
        self.known, self.status, self.progress = task, task.status, task.progress
        if status is not task.status:
            return self._status_seen(status, task, now, unix_now)
        if percent == task.progress:
            return self.seen_again(now=now, unix_now=unix_now, stalled_after=stalled_after)
        self._note_change(now, unix_now)
        if not progress:
            return None
        return ProgressChanged(
            task_id=self.task_id,
            task=task,
            at=unix_now,
            tag=self.tag,
            previous=percent,
            current=task.progress,
        )

    def _status_seen(
        self, previous: TaskStatus | None, task: VideoTask, now: float, unix_now: float
    ) -> Event:
        self._note_change(now, unix_now)
        if task.is_terminal:
            kind = TaskCompleted if task.succeeded else TaskFailed
            return kind(task_id=self.task_id, task=task, at=unix_now, tag=self.tag)
        return self._status_changed(previous, task, unix_now)

    def _note_change(self, now: float, unix_now: float) -> None:
        self.seen_at, self.changed, self.trouble = unix_now, now, None

    def progressed(
        self, answer: ProgressUpdate, *, now: float, unix_now: float, progress: bool
    ) -> ProgressChanged | None:
        """Take in that only the progress has changed; arguments as of :meth:`seen`."""
        previous = self.progress
        self.known, self.progress = answer.body, answer.progress
        self.request_id = answer.request_id
        self._note_change(now, unix_now)
        if not progress:
            return None
        return progress_changed(
            partial(decode_stored, *self.reading),
            task_id=self.task_id,
            at=unix_now,
            tag=self.tag,
            previous=previous,
            current=answer.progress,
        )

    def task_in(self, answer: ProgressUpdate) -> VideoTask:
        """Read the whole state that an answer shows."""
        task = decode_stored(answer.body, self.task_id, self.base_url, answer.request_id)
        assert task is not None, "the answer before showed one"
        return task

    def seen_again(
        self, *, now: float, unix_now: float, stalled_after: float | None
    ) -> TaskStalled | None:
        """Take in that nothing has changed; arguments as of :meth:`seen`."""
        self.seen_at, self.trouble = unix_now, None
        if stalled_after is None or now - self.changed < stalled_after:
            return None
        return self._task_stalled(now, unix_now)

    def keep_bytes(self) -> None:
        """
        Keep of a state that an answer showed only its bytes.

        What was read from them takes 240 bytes more; most states are never asked for.
        """
        if isinstance(self.known, VideoTask) and (source := source_of(self.known)) is not None:
            self.known, self.base_url, self.request_id = source

    def state_told(self) -> StatusChanged:
        """Tell the last state as news, to one who knows nothing yet; there must be one."""
        task = self.task
        assert task is not None, "only what was seen can be told"
        return self._status_changed(None, task, self.seen_at)

    def _status_changed(
        self, previous: TaskStatus | None, task: VideoTask, unix_now: float
    ) -> StatusChanged:
        return StatusChanged(
            task_id=self.task_id,
            task=task,
            at=unix_now,
            tag=self.tag,
            previous=previous,
            current=task.status,
        )

    def _task_stalled(self, now: float, unix_now: float) -> TaskStalled:
        since, self.changed = unix_now - (now - self.changed), inf
        return TaskStalled(
            task_id=self.task_id, task=self.task, at=unix_now, tag=self.tag, since=since
        )

    # -- what a failure means ---------------------------------------------------------------------

    def count_error(self) -> int:
        """Count a failure that was noted as one of its own; how many those are in a row."""
        trouble = self.trouble = self.trouble or FailureStreak()
        trouble.errors += 1
        return trouble.errors

    def loss_by(self, error: EzVideoError, *, now: float, not_found_grace: float) -> str | None:
        """Note this failure; name why it ends the watch, None if it does not."""
        trouble = self.trouble = self.trouble or FailureStreak()
        trouble.last = error
        if isinstance(error, TaskNotFoundError):
            return self._loss_of_missing(error, trouble, now, not_found_grace)
        if isinstance(error, BadRequestError):
            return None if error.retryable and trouble.errors == 0 else "refused"
        if isinstance(error, ServerError) and error.status == _NOT_IMPLEMENTED and error.message:
            return "refused"  # new-api: about the task's channel; a proxy's page is about nobody
        return None

    def _loss_of_missing(
        self, error: TaskNotFoundError, trouble: FailureStreak, now: float, not_found_grace: float
    ) -> str | None:
        if self.status is None:
            in_grace = now - self.added < not_found_grace and error.status != _GONE
            return None if in_grace else "not_found"
        trouble.misses += 1
        is_gone = error.status == _GONE or trouble.misses > _LOOKS_AFTER_VANISHING
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


def timed_out(watch: TrackedTask, *, waited: float) -> WaitTimeoutError:
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
