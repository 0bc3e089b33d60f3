"""
Scheduler that decides who is polled when, what changed, and when an id is lost.

``now`` is the loop clock in seconds, ``unix_now`` the wall clock, ``rand`` a number in [0, 1).

1. An id is waiting (in the due queue), ready (due, waiting for a slot), in flight, or ended.  It
   is never in flight twice, and two of its polls never start within ``min_interval``, also when
   it is restarted after its end.  One that was discarded and is added again is a new one.
2. Ready ids are polled in the order in which they came due, so that a lack of slots or rate
   stretches the interval of all alike.
3. A failed poll is due later.  Only a final state, the deadline, or a verdict on the id ends it,
   once, with one final event.
4. The due queue holds the ids that wait, and those that ended, until they are evicted.
"""

from __future__ import annotations

from math import inf
from operator import attrgetter
from typing import TYPE_CHECKING, Any, NamedTuple

from ezvideo_async._domain.events import FinalEvent, TaskLost
from ezvideo_async._protocol.messages import FRESH
from ezvideo_async._protocol.responses import poll_hint
from ezvideo_async._protocol.stored_response import FinalBodies, Snapshot
from ezvideo_async._scheduling.due_queue import DueQueue
from ezvideo_async._scheduling.pacing import AdaptivePacer, Pacer
from ezvideo_async._scheduling.ready_queue import ReadyQueue
from ezvideo_async._scheduling.server_history import ServerHistory
from ezvideo_async._scheduling.tracked_task import Phase, TrackedTask
from ezvideo_async.errors import EzVideoError

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence

    from ezvideo_async._domain.events import (
        AnyFinalEvent,
        Event,
        LossReason,
        TaskStalled,
    )
    from ezvideo_async._domain.policies import PollPolicy
    from ezvideo_async._domain.task import VideoTask
    from ezvideo_async._protocol.messages import Evidence, Response
    from ezvideo_async._scheduling.duration_estimator import DurationEstimator
    from ezvideo_async._scheduling.tracked_task import Decode

# A lookup of an enum's member costs more than one of a module's name.
_WAITING, _READY, _EXPIRED, _IN_FLIGHT, _ENDED = Phase

_due_of = attrgetter("due")

_FRESH_POLL_MAX = 60.0  # seconds for which a stored final event waits for its fresh poll
_STALL = 0.1  # seconds by which a tick may be late before what came due is spread
_STALL_SPREAD = 10.0  # what came due in a stall is spread over this many times its length


class Tick(NamedTuple):
    """
    What is to be done at one instant.

    Attributes:
        expired: The ids whose deadline has passed, with their final events.
        evicted: The ended ids that are no longer retained.
        to_poll: The ids to poll now, longest due first; each is in flight.
        ready: How many due ids are left, for want of a permit.
        next_at: When the next tick is due, loop clock; ``inf`` for never.
    """

    expired: Sequence[tuple[TrackedTask, AnyFinalEvent]]
    evicted: Sequence[TrackedTask]
    to_poll: list[TrackedTask]
    ready: int
    next_at: float


class Scheduler:
    """
    The schedule of any number of ids.

    Args:
        history: What the client has seen of its server; None for a new one.
        estimator: Predicts the end of tasks; None for a policy that is not adaptive.
        not_found_grace: Seconds after ``add`` in which "not found" means "not yet".
        retain_ended: Seconds for which an ended id stays known.
        progress: Whether a change of progress alone is an event.
        final_bodies: The client's account of large final bodies; None for one of its own.
        is_hub: Whether ids may come from visitors: one of them alone never ends the watch.
    """

    def __init__(
        self,
        policy: PollPolicy,
        *,
        history: ServerHistory | None = None,
        estimator: DurationEstimator | None = None,
        not_found_grace: float = 10.0,
        retain_ended: float = 300.0,
        progress: bool = False,
        final_bodies: FinalBodies | None = None,
        is_hub: bool = False,
    ) -> None:
        self.policy = policy
        self._history = ServerHistory() if history is None else history
        self._pacer = Pacer(policy) if estimator is None else AdaptivePacer(policy, estimator)
        self._not_found_grace = not_found_grace
        self._retain_ended = retain_ended
        self._progress = progress
        self._final_bodies = FinalBodies() if final_bodies is None else final_bodies
        self._is_hub = is_hub
        self._tracked: dict[str, TrackedTask] = {}
        self._due = DueQueue()
        self._ready = ReadyQueue()
        self._poll_again: set[TrackedTask] = set()  # poll_now() came while a poll was in flight
        self._ended_in_flight: dict[str, TrackedTask] = {}  # by apply(); their polls are not over
        self._stored_finals: dict[TrackedTask, AnyFinalEvent] = {}  # that wait for a fresh poll
        self._open = 0
        self._first_polls_until = -inf  # loop clock: ids wait until then for their first poll
        self._restored = -inf  # loop clock: the grace of the ids of a store begins then

    def __len__(self) -> int:
        """Return the number of ids that have not ended."""
        return self._open

    def __iter__(self) -> Iterator[TrackedTask]:
        """Iterate over all known ids, ended ones included, in the order they were added."""
        return iter(self._tracked.values())

    def get(self, task_id: str) -> TrackedTask | None:
        return self._tracked.get(task_id)

    @property
    def open_ids(self) -> tuple[str, ...]:
        return tuple(tracked.task_id for tracked in self if tracked.is_open)

    def snapshot(self) -> Mapping[str, VideoTask | None]:
        """Return the last state of every known id; None before the first response."""
        return Snapshot({tracked.task_id: tracked.stored_state for tracked in self})

    def want_progress(self, wanted: bool) -> None:  # noqa: FBT001 -- a plain setter
        self._progress = wanted

    # -- which ids are watched --------------------------------------------------------------------

    def add(
        self,
        tags: Mapping[str, Any],
        *,
        now: float,
        rand: float,
        over: float = 0.0,
        timeout: float | None = None,
        restart_ended: bool = False,
    ) -> list[TrackedTask]:
        """
        Watch ids; a known one is left alone, unless it has ended and is to be restarted.

        The keys of *tags* are valid ids.  The first polls are spread evenly over *over* seconds,
        shifted by *rand*.  An id is lost after *timeout* seconds; None means no limit.

        Returns:
            The new records.
        """
        deadline = inf if timeout is None else now + timeout
        added = [
            TrackedTask(task_id, added=now, deadline=deadline, tag=tag)
            for task_id, tag in tags.items()
            if self._is_new(task_id, restart_ended=restart_ended)
        ]
        for place, tracked in enumerate(added):
            first_poll = now + over * (place + rand) / len(added)
            earlier = self._tracked.pop(tracked.task_id, None)
            if earlier is not None:
                tracked.started = earlier.started
                first_poll = self._pacer.earliest(tracked, first_poll)
            self._tracked[tracked.task_id] = tracked
            self._wait(tracked, first_poll)
        self._open += len(added)
        self._first_polls_until = max(self._first_polls_until, now + over)
        return added

    def restore(
        self,
        restored: Sequence[TrackedTask],
        stored_finals: Mapping[TrackedTask, AnyFinalEvent],
        *,
        now: float,
        rand: float,
        over: float,
    ) -> None:
        """
        Watch ids that a store has kept; their first polls are spread as by ``add``.

        An id with a stored final event has one fresh poll, because its url was not stored.  A
        final state of the same kind, or any final state of a lost id, replaces the stored event;
        in every other case, and after 60 s, the stored one is delivered.
        """
        for place, tracked in enumerate(restored):
            first_poll = now + over * (place + rand) / len(restored)
            if tracked in stored_finals:
                tracked.limit(first_poll + _FRESH_POLL_MAX)
            self._tracked[tracked.task_id] = tracked
            self._wait(tracked, first_poll)
        self._stored_finals.update(stored_finals)
        self._open += len(restored)
        self._restored = now
        self._first_polls_until = max(self._first_polls_until, now + over)

    def _is_new(self, task_id: str, *, restart_ended: bool) -> bool:
        tracked = self._tracked.get(task_id)
        return tracked is None or (restart_ended and not tracked.is_open)

    def discard(self, task_id: str) -> TrackedTask | None:
        """Stop watching and forget an id; return its record, None if it is not watched."""
        tracked = self._open_one(task_id)
        if tracked is not None:
            del self._tracked[task_id]
            self._take_out(tracked)
            tracked.phase = _ENDED
            self._pacer.forget(tracked)
        return tracked

    def poll_now(self, task_id: str, *, now: float) -> bool:
        """Make an id due as soon as ``min_interval`` allows; False when it is not watched."""
        tracked = self._open_one(task_id)
        if tracked is None:
            return False
        if tracked.phase is _IN_FLIGHT:
            self._poll_again.add(tracked)
        elif tracked.phase is _WAITING:
            self._due.remove(tracked)
            self._wait(tracked, self._pacer.earliest(tracked, now))
        return True

    def apply(
        self, task: VideoTask, *, now: float, unix_now: float
    ) -> tuple[TrackedTask | None, Event | None]:
        """
        Record a state learned elsewhere; the schedule stays, unless the state is final.

        Returns:
            The record, None when the task is not watched, and what changed.
        """
        tracked = self._open_one(task.id)
        if tracked is None:
            return None, None
        if self._stored_finals and tracked in self._stored_finals:
            final = self._confirmed(tracked, task, unix_now) if task.is_terminal else None
            if final is not None:
                self._end_by_apply(tracked, final, now, unix_now)
            return tracked, final
        event = tracked.record(
            task,
            now=now,
            unix_now=unix_now,
            progress=self._progress,
            stalled_after=self.policy.stalled_after,
        )
        if isinstance(event, FinalEvent):
            self._end_by_apply(tracked, event, now, unix_now)
        else:
            self._pacer.observe(tracked, now=now, unix_now=unix_now)
        return tracked, event

    def _end_by_apply(
        self, tracked: TrackedTask, event: AnyFinalEvent, now: float, unix_now: float
    ) -> None:
        """End an id; a restart of it waits until a poll in flight is over."""
        if tracked.phase is _IN_FLIGHT:
            self._ended_in_flight[tracked.task_id] = tracked
        self._end(tracked, event, now, unix_now)

    def finish_poll(self, tracked: TrackedTask) -> None:
        """Record that the poll of an id is over which had ended meanwhile."""
        if self._ended_in_flight.get(tracked.task_id) is tracked:
            del self._ended_in_flight[tracked.task_id]

    def _open_one(self, task_id: str) -> TrackedTask | None:
        tracked = self._tracked.get(task_id)
        return tracked if tracked is not None and tracked.is_open else None

    # -- who is polled ----------------------------------------------------------------------------

    def tick(
        self,
        now: float,
        *,
        unix_now: float,
        rand: Callable[[], float],
        permit: Callable[[], bool],
        release: Callable[[int], float],
        stall: float = 0.0,
    ) -> Tick:
        """
        Decide what is to be done now; the caller does it.

        *permit* returns True if one more poll may start, and counts it; it is called once per id
        to poll, and once more when it returns False.  *release* returns the seconds over which
        this number of ready ids comes back after a pause, 0 to poll them now; it is called only
        when ids are ready, and *rand* only when they are spread.  What came due in a *stall*, the
        seconds by which this tick is late, is spread if they are 0.1 or more.
        """
        expired, evicted = self._advance(now, unix_now)
        ready = len(self._ready)
        if ready and stall >= _STALL:
            over = min(_STALL_SPREAD * stall, self.policy.interval)
            ready = self._spread(now, over, rand(), again=False)
        if ready and (over := release(ready)):
            ready = self._spread(now, over, rand(), again=True)
        to_poll: list[TrackedTask] = []
        while ready and permit():
            tracked = self._ready.popleft()
            tracked.start_poll(now)
            to_poll.append(tracked)
            ready -= 1
        return Tick(expired, evicted, to_poll, ready, self.next_at())

    def next_at(self) -> float:
        """Return when the next tick is due: an id, or a deadline; ``inf`` for never."""
        return min(self._due.next_at(), self._ready.deadline)

    def _advance(
        self, now: float, unix_now: float
    ) -> tuple[Sequence[tuple[TrackedTask, AnyFinalEvent]], Sequence[TrackedTask]]:
        """Queue the ids that are due; return those that expired and those to evict."""
        due = self._due.pop_due(now)
        if not due and now < self._ready.deadline:
            return (), ()
        evicted: list[TrackedTask] = []
        expired = self._ready.pop_expired(now)
        for tracked in due:
            if tracked.phase is _ENDED:
                evicted.append(tracked)
                if self._tracked.get(tracked.task_id) is tracked:
                    del self._tracked[tracked.task_id]
            elif tracked.deadline <= now:
                expired.append(tracked)
            elif self._ended_in_flight and tracked.task_id in self._ended_in_flight:
                self._wait(tracked, now + self.policy.min_interval)
            else:
                tracked.phase = _READY
                self._ready.append(tracked)
        for tracked in expired:
            tracked.phase = _EXPIRED
        ended = [(tracked, self._expire(tracked, now, unix_now)) for tracked in expired]
        return ended, evicted

    def _expire(self, tracked: TrackedTask, now: float, unix_now: float) -> AnyFinalEvent:
        stored = self._stored_finals.get(tracked) if self._stored_finals else None
        if stored is None:
            return self._lose(tracked, "deadline", now, unix_now)
        self._end(tracked, stored, now, unix_now)
        return stored

    def _spread(self, now: float, over: float, rand: float, *, again: bool) -> int:
        """Reschedule ready ids evenly over *over* seconds; return how many stay ready."""
        ready = self._ready.pop_to_spread(again=again)
        for place, tracked in enumerate(ready):
            self._wait(tracked, now + over * (place + rand) / len(ready))
        return len(self._ready)

    def spread_again(
        self, now: float, *, rand: Callable[[], float], release: Callable[[int], float]
    ) -> None:
        """
        Reschedule the ids that were spread, over a time that has become shorter.

        From *now* on they come in the same order, none later than before.  *release* returns the
        seconds for this number of ids; it and *rand* are called only when there are any.
        """
        spread: Iterable[TrackedTask] = self._ready.spread_ids()
        if now < self._first_polls_until:
            spread = {*spread, *(each for each in self if each.started < each.added)}
        waiting = [tracked for tracked in spread if tracked.phase is _WAITING]
        if not waiting:
            return
        over, shift = release(len(waiting)), rand()
        for place, tracked in enumerate(sorted(waiting, key=_due_of)):
            due = self._pacer.earliest(tracked, now + over * (place + shift) / len(waiting))
            if due < tracked.due:
                self._due.remove(tracked)
                self._wait(tracked, due)

    def _wait(self, tracked: TrackedTask, due: float) -> None:
        """Schedule the next poll, or the end of an id that would be due after its deadline."""
        tracked.phase = _WAITING
        if due > tracked.deadline:  # noqa: PLR1730 -- ``min`` costs more
            due = tracked.deadline
        self._due.push(tracked, due)

    # -- what a poll brings -----------------------------------------------------------------------

    def observe(
        self,
        tracked: TrackedTask,
        response: Response,
        decode: Decode,
        evidence: Evidence = FRESH,
        *,
        now: float,
        unix_now: float,
        rand: float,
    ) -> Event | EzVideoError | None:
        """
        Record the response to the poll of an id in flight, and schedule the next one.

        Returns:
            What changed; None when nothing did; an error when the response shows no state of
            this task: then it is still in flight.
        """
        found = tracked.observe(
            response,
            decode,
            evidence,
            now=now,
            unix_now=unix_now,
            progress=self._progress,
            stalled_after=self.policy.stalled_after,
            finals=self._final_bodies,
        )
        if isinstance(found, EzVideoError):
            return found
        if self._stored_finals and tracked in self._stored_finals:
            found = self._confirmed(tracked, tracked.task, unix_now)
        if isinstance(found, FinalEvent):
            self._end(tracked, found, now, unix_now)
            return found
        hint = poll_hint(response, unix_now=unix_now)
        due = now + self._pacer.after_response(tracked, hint, now=now, unix_now=unix_now, rand=rand)
        if self._poll_again and self._take_poll_again(tracked) and hint.retry_after is None:
            due = self._pacer.earliest(tracked, now)
        self._wait(tracked, due)
        return found

    def _confirmed(
        self, tracked: TrackedTask, task: VideoTask | None, unix_now: float
    ) -> AnyFinalEvent:
        """Return the final event after the fresh poll of an id that has a stored one."""
        stored = self._stored_finals[tracked]
        if task is None or not task.is_terminal:
            return stored
        fresh = tracked.finished(task, unix_now)
        return fresh if isinstance(stored, TaskLost) or stored.kind == fresh.kind else stored

    def fail(
        self,
        tracked: TrackedTask,
        error: EzVideoError,
        *,
        url: str,
        now: float,
        unix_now: float,
        rand: float,
    ) -> AnyFinalEvent | TaskStalled | None:
        """
        Record a failed poll of *url* and schedule the next one.

        Returns:
            The final event when the failure ends the id (``TaskLost``, or a stored one),
            ``TaskStalled`` when nothing has changed for a long time; None for neither, or when
            the id has ended.

        Raises:
            EzVideoError: The failure ends the watch; the id is still in flight.
        """
        if tracked.phase is not _IN_FLIGHT:
            self.finish_poll(tracked)
            return None
        if self._stored_finals and (stored := self._stored_finals.get(tracked)) is not None:
            self._end(tracked, stored, now, unix_now)
            return stored
        verdict = tracked.fail(
            error,
            self._history,
            url=url,
            is_in_grace=now - max(tracked.added, self._restored) < self._not_found_grace,
            is_in_hub=self._is_hub,
            now=now,
        )
        if isinstance(verdict, EzVideoError):
            raise verdict
        if verdict is not None:
            return self._lose(tracked, verdict, now, unix_now)
        delay = self._pacer.after_failure(tracked, error, rand=rand)
        retry_after = getattr(error, "retry_after", None)
        if self._take_poll_again(tracked) and retry_after is None:
            delay = 0.0
        obeyed = min(retry_after or 0.0, self.policy.retry_after_max)
        if now + obeyed >= tracked.deadline:
            return self._lose(tracked, "deadline", now, unix_now)
        self._wait(tracked, self._pacer.earliest(tracked, now + delay))
        stalled_after = self.policy.stalled_after
        return tracked.stall(error, now=now, unix_now=unix_now, stalled_after=stalled_after)

    def _take_poll_again(self, tracked: TrackedTask) -> bool:
        """Return True, once, if ``poll_now`` came while the poll was in flight."""
        is_wanted = tracked in self._poll_again
        self._poll_again.discard(tracked)
        return is_wanted

    def _lose(
        self, tracked: TrackedTask, reason: LossReason, now: float, unix_now: float
    ) -> TaskLost:
        event = tracked.lost(reason, now=now, unix_now=unix_now)
        self._end(tracked, event, now, unix_now)
        return event

    def _end(self, tracked: TrackedTask, event: AnyFinalEvent, now: float, unix_now: float) -> None:
        self._take_out(tracked)
        tracked.end(event)
        self._pacer.end(tracked, now=now, unix_now=unix_now)
        self._due.push(tracked, now + self._retain_ended)

    def _take_out(self, tracked: TrackedTask) -> None:
        """Remove an open id from the queues."""
        if tracked.phase is _WAITING:
            self._due.remove(tracked)
        elif tracked.phase is _READY:
            self._ready.remove(tracked)
        self._ready.forget(tracked)
        self._poll_again.discard(tracked)
        self._stored_finals.pop(tracked, None)
        self._open -= 1
