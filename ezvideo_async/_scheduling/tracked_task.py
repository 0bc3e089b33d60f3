"""
One watched id: its stored response, its schedule, and the events that a new response causes.

When the id is polled is decided by the scheduler.
"""

from __future__ import annotations

from copy import copy
from enum import Enum, auto
from math import inf
from typing import TYPE_CHECKING, Any

from attrs import Factory, define, field

from ezvideo_async._domain.events import (
    FinalEvent,
    ProgressChanged,
    StatusChanged,
    TaskCompleted,
    TaskFailed,
    TaskLost,
    TaskStalled,
)
from ezvideo_async._protocol.stored_response import StoredResponse
from ezvideo_async._scheduling.verdicts import FailedPoll, FailureStreak, judge
from ezvideo_async.errors import EzVideoError, WaitTimeoutError

if TYPE_CHECKING:
    from collections.abc import Callable

    from ezvideo_async._domain.events import AnyFinalEvent, Event, LossReason
    from ezvideo_async._domain.task import TaskStatus, VideoTask
    from ezvideo_async._protocol.messages import Evidence, Response
    from ezvideo_async._protocol.stored_response import FinalBodies, StoredState
    from ezvideo_async._scheduling.server_history import ServerHistory
    from ezvideo_async._scheduling.verdicts import Verdict

    # Takes the response, the task's id, and what else is known of the response.
    Decode = Callable[[Response, str, Evidence], VideoTask | EzVideoError]


class Phase(Enum):
    """The place of an id in its cycle."""

    WAITING = auto()  # in the due queue
    READY = auto()  # due, in the ready queue
    EXPIRED = auto()  # its deadline has passed
    IN_FLIGHT = auto()
    ENDED = auto()


_IN_FLIGHT, _ENDED = Phase.IN_FLIGHT, Phase.ENDED  # a lookup of the members costs more


@define(eq=False, weakref_slot=False)
class TrackedTask(StoredResponse):
    """
    The record of one watched id, from ``add`` until it is evicted.

    Attributes:
        added: When it was added, loop clock.
        deadline: When it is lost, loop clock.
        due: When it is polled next, while it waits; when it is evicted, once it has ended.
        started: When the last request was sent, loop clock.
        seen_at: When the last response came, Unix seconds.
        changed: When status or progress last changed, or it was added, loop clock; ``inf`` once
            ``TaskStalled`` was delivered since.
        streak: The failures since the last valid response; None for none.
        was_not_found: Whether the server responded "not found" after it had shown a state.
        is_claimed: Whether anybody has waited for it, or subscribed to it by its id.
    """

    added: float = field(kw_only=True)
    deadline: float = field(kw_only=True, default=inf)
    tag: Any = field(kw_only=True, default=None)
    phase: Phase = field(init=False, default=Phase.WAITING)
    due: float = field(init=False, default=-inf)
    started: float = field(init=False, default=-inf)
    seen_at: float = field(init=False, default=0.0)
    changed: float = field(init=False, default=Factory(lambda self: self.added, takes_self=True))
    streak: FailureStreak | None = field(init=False, default=None)
    was_not_found: bool = field(init=False, default=False)
    is_claimed: bool = field(init=False, default=False)

    @property
    def is_open(self) -> bool:
        return self.phase is not _ENDED

    @property
    def final_event(self) -> AnyFinalEvent | None:
        return self.content if isinstance(self.content, FinalEvent) else None

    @property
    def failures(self) -> int:
        """Failures in a row that count for the backoff."""
        return 0 if self.streak is None else self.streak.errors

    @property
    def last_error(self) -> EzVideoError | None:
        return None if self.streak is None else self.streak.last_error

    def start_poll(self, now: float) -> None:
        self.phase, self.started = _IN_FLIGHT, now

    def restore(self, task: VideoTask | None, *, changed: float, seen_at: float) -> None:
        """Store the state that a store has kept; the other arguments are as the attributes."""
        if task is not None:
            self.store(task)
            self.compact()
        self.changed, self.seen_at = changed, seen_at

    def limit(self, deadline: float) -> None:
        """Replace the deadline."""
        self.deadline = deadline

    def claim(self) -> None:
        """Record that somebody waits for this id, or subscribed to it."""
        self.is_claimed = True

    # -- what a response changes ------------------------------------------------------------------

    def observe(
        self,
        response: Response,
        decode: Decode,
        evidence: Evidence,
        *,
        now: float,
        unix_now: float,
        progress: bool,
        stalled_after: float | None,
        finals: FinalBodies,
    ) -> Event | EzVideoError | None:
        """
        Compare a response with the stored one, decode and store what changed.

        With *progress*, a change of progress alone is an event.  ``TaskStalled`` comes after
        *stalled_after* seconds without any change; None means never.  Large final bodies are
        counted in *finals*.

        Returns:
            The event; None when nothing changed; an error when the response shows no state of
            this task, which then stays as it is.
        """
        if self.is_repeated_by(response):
            return self._record_repeat(now, unix_now, stalled_after)
        percent = self.progress_change_in(response)
        if percent is None:
            task = decode(response, self.task_id, evidence)
            if isinstance(task, EzVideoError):
                return task
            event = self.record(
                task, now=now, unix_now=unix_now, progress=progress, stalled_after=stalled_after
            )
            self.compact()
            return event if event is None else self.keep(event, finals)
        previous = self.progress
        self.store_progress(percent, response)
        self._record_change(now, unix_now)
        return self._progress_changed(previous, self.stored_state, unix_now) if progress else None

    def record(
        self,
        task: VideoTask,
        *,
        now: float,
        unix_now: float,
        progress: bool,
        stalled_after: float | None,
    ) -> Event | None:
        """Store a decoded state; return what changed.  Arguments as of :meth:`observe`."""
        previous_status, previous_progress = self.status, self.progress
        self.store(task)
        if previous_status is not task.status:
            self._record_change(now, unix_now)
            if task.is_terminal:
                return self.finished(task, unix_now)
            return self._status_changed(previous_status, task, unix_now)
        if previous_progress == task.progress:
            return self._record_repeat(now, unix_now, stalled_after)
        self._record_change(now, unix_now)
        return self._progress_changed(previous_progress, task, unix_now) if progress else None

    def _record_change(self, now: float, unix_now: float) -> None:
        self.seen_at, self.changed, self.streak = unix_now, now, None

    def _record_repeat(
        self, now: float, unix_now: float, stalled_after: float | None
    ) -> TaskStalled | None:
        self.seen_at, self.streak = unix_now, None
        if stalled_after is None or now - self.changed < stalled_after:
            return None
        return self._stalled(now, unix_now, None)

    def stall(
        self, error: EzVideoError, *, now: float, unix_now: float, stalled_after: float | None
    ) -> TaskStalled | None:
        """Return the event if a failed poll finds no change for *stalled_after* seconds, once."""
        if stalled_after is None or now - self.changed < stalled_after:
            return None
        return self._stalled(now, unix_now, error)

    def _stalled(self, now: float, unix_now: float, error: EzVideoError | None) -> TaskStalled:
        since, self.changed = unix_now - (now - self.changed), inf
        return TaskStalled(
            task_id=self.task_id,
            task=self.stored_state,
            at=unix_now,
            tag=self.tag,
            since=since,
            error=error,
        )

    def _progress_changed(
        self, previous: int | None, state: VideoTask | StoredState, unix_now: float
    ) -> ProgressChanged:
        return ProgressChanged(
            task_id=self.task_id,
            task=state,
            at=unix_now,
            tag=self.tag,
            previous=previous,
            current=self.progress,
        )

    def _status_changed(
        self, previous: TaskStatus | None, state: VideoTask | StoredState, unix_now: float
    ) -> StatusChanged:
        assert self.status is not None, "a state has been stored"
        return StatusChanged(
            task_id=self.task_id,
            task=state,
            at=unix_now,
            tag=self.tag,
            previous=previous,
            current=self.status,
        )

    def current_state(self) -> StatusChanged:
        """Return the last state as an event for a reader that knows none; one must be stored."""
        return self._status_changed(None, self.stored_state, self.seen_at)

    # -- how it ends ------------------------------------------------------------------------------

    def failure_streak(self) -> FailureStreak:
        if self.streak is None:
            self.streak = FailureStreak(self.was_not_found)
        return self.streak

    def fail(
        self,
        error: EzVideoError,
        history: ServerHistory,
        *,
        url: str,
        is_in_grace: bool,
        is_in_hub: bool,
        now: float,
    ) -> Verdict:
        """Record a failed poll of *url*; return what it ends."""
        streak, is_seen = self.failure_streak(), self.status is not None
        poll = FailedPoll(error, self.task_id, url, is_seen, is_in_grace, is_in_hub, now)
        verdict = judge(poll, streak, history)
        self.was_not_found = self.was_not_found or (is_seen and streak.is_not_found)
        return verdict

    def finished(self, task: VideoTask, unix_now: float) -> TaskCompleted | TaskFailed:
        """Make the final event of a final state."""
        kind = TaskCompleted if task.succeeded else TaskFailed
        return kind(task_id=self.task_id, task=task, at=unix_now, tag=self.tag)

    def end(self, event: AnyFinalEvent) -> None:
        """Store the final event in place of the last response."""
        self.phase = _ENDED
        self.store_final(event)

    def lost(self, reason: LossReason, *, now: float, unix_now: float) -> TaskLost:
        """Make the final event of an id that is no longer polled."""
        error = self.last_error
        if reason == "deadline" or error is None:
            error = self.timeout_error(waited=now - self.added)
            if self._not_found_only is not None:
                reason = "not_found"
        return TaskLost(
            task_id=self.task_id,
            task=self.stored_state,
            at=unix_now,
            tag=self.tag,
            error=error,
            reason=reason,
        )

    @property
    def _not_found_only(self) -> EzVideoError | None:
        """The last "not found", if the server said nothing else about an id never seen."""
        if self.status is not None or self.streak is None or not self.streak.is_not_found:
            return None
        return self.streak.decisive

    def timeout_error(self, *, waited: float) -> EzVideoError:
        """Make the error of a wait that has ended; "not found" if the server said nothing else."""
        not_found = self._not_found_only
        if not_found is not None:
            return copy(not_found)  # each caller raises one of its own
        cause = "" if self.last_error is None else f" (last error: {self.last_error})"
        seen = "it may still complete and be billed"
        unseen = "no response has shown a state of it"
        return WaitTimeoutError(
            f"task {self.task_id!a} did not finish within {waited:.0f} s{cause}; "
            f"{unseen if self.status is None else seen}; call wait() again to continue",
            task_id=self.task_id,
            task=self.task,
            last_error=self.last_error,
            waited=waited,
        )
