"""
Who is due, what changed, when to ask next, when to give up: the one place that decides.

No await, no clock, no randomness of its own: ``now`` is the loop clock in seconds, ``unix_now``
the wall clock, ``rand`` a number in [0, 1).  Rules:

1. An id is waiting (in the calendar), ready (due, waiting for a slot), in flight, or ended.  It
   is never in flight twice, and never started twice within ``min_interval``, also when it is added
   again after its end.  One that was discarded and is added again is a new one.
2. Ready ids are served in the order they came due, so that a lack of slots or rate stretches
   the interval of all alike.
3. A failed request is simply due later.  Only an answer, the deadline, or a server that does
   not know the id ends a watch, each watch once, with one final event.
4. In the calendar are those that wait, and those that ended, until they are forgotten.
"""

from __future__ import annotations

from math import inf
from typing import TYPE_CHECKING, Any

from ezvideo_async._domain.events import FinalEvent
from ezvideo_async._protocol.progress_only import ProgressUpdate
from ezvideo_async._protocol.stored_response import Snapshot
from ezvideo_async._scheduling.due_queue import DueQueue
from ezvideo_async._scheduling.pacing import Pacer
from ezvideo_async._scheduling.ready_queue import ReadyQueue
from ezvideo_async._scheduling.tracked_task import Phase, TrackedTask

if TYPE_CHECKING:
    from collections.abc import Iterator, Mapping, Sequence

    from ezvideo_async._domain.events import Event, Final
    from ezvideo_async._domain.policies import PollPolicy
    from ezvideo_async._domain.task import VideoTask
    from ezvideo_async.errors import EzVideoError

# Looking up a member of an enum takes longer than looking up its name (CPython 3.11: 0.1 us).
_WAITING, _EXPIRED = Phase.WAITING, Phase.EXPIRED
_IN_FLIGHT, _ENDED = Phase.IN_FLIGHT, Phase.ENDED


class Scheduler:
    """
    The schedule of any number of ids.

    Args:
        policy: When to ask again.
        not_found_grace: Seconds after ``add`` in which "not found" is taken for "not yet".
        retain_ended: Seconds for which an ended id stays known.
        progress: Whether a change of progress alone is an event; may be set at any time.
    """

    def __init__(
        self,
        policy: PollPolicy,
        *,
        not_found_grace: float = 10.0,
        retain_ended: float = 300.0,
        progress: bool = False,
    ) -> None:
        self.pace: Pacer = Pacer(policy)
        self._not_found_grace = not_found_grace
        self._retain_ended = retain_ended
        self.progress = progress
        self._watches: dict[str, TrackedTask] = {}
        self._calendar: DueQueue[TrackedTask] = DueQueue()
        self._ready = ReadyQueue()
        self._hurried: set[TrackedTask] = set()  # refresh() came while a request was in flight
        self._expired: list[TrackedTask] = []
        self._forgotten: list[TrackedTask] = []
        self._open = 0

    def __len__(self) -> int:
        """How many ids have not ended."""
        return self._open

    def __contains__(self, task_id: object) -> bool:
        return task_id in self._watches

    def __iter__(self) -> Iterator[TrackedTask]:
        """All known watches, ended ones included, in the order they were added."""
        return iter(self._watches.values())

    @property
    def policy(self) -> PollPolicy:
        """When to ask again."""
        return self.pace.policy

    def get(self, task_id: str) -> TrackedTask | None:
        """The watch of an id; None when it is not known (any more)."""
        return self._watches.get(task_id)

    @property
    def open_ids(self) -> tuple[str, ...]:
        """The ids that have not ended, in the order they were added."""
        return tuple(watch.task_id for watch in self if watch.is_open)

    def snapshot(self) -> Mapping[str, VideoTask | None]:
        """The last state seen of every known id; None before the first answer."""
        return Snapshot({watch.task_id: watch.reading for watch in self})

    # -- who is watched -------------------------------------------------------------------------

    def add(
        self,
        task_ids: Sequence[str],
        *,
        now: float,
        rand: float,
        over: float = 0.0,
        timeout: float | None = None,
        tag: Any = None,
    ) -> list[TrackedTask]:
        """
        Watch ids; an id being watched is left as it is, an ended one starts anew.

        Args:
            task_ids: Usable ids; repeated ones count once.
            now: The loop clock.
            rand: A number in [0, 1), which shifts the first looks.
            over: Seconds over which the first looks are spread evenly.
            timeout: Seconds until an id is given up; None for never.
            tag: Handed back with every event.

        Returns:
            The new watches.
        """
        deadline = inf if timeout is None else now + timeout
        fresh = [task_id for task_id in dict.fromkeys(task_ids) if not self._is_watched(task_id)]
        watches = [TrackedTask(task_id, added=now, deadline=deadline, tag=tag) for task_id in fresh]
        for place, watch in enumerate(watches):
            first_look = now + over * (place + rand) / len(watches)
            earlier = self._watches.pop(watch.task_id, None)
            if earlier is not None:
                watch.started = earlier.started
                first_look = self.pace.earliest(watch, first_look)
            self._watches[watch.task_id] = watch
            self._wait(watch, first_look)
        self._open += len(watches)
        return watches

    def _is_watched(self, task_id: str) -> bool:
        watch = self._watches.get(task_id)
        return watch is not None and watch.is_open

    def discard(self, task_id: str) -> bool:
        """Stop watching and forget an id; False when it was not being watched."""
        watch = self._watches.get(task_id)
        if watch is None or not watch.is_open:
            return False
        del self._watches[task_id]
        self._close(watch)
        return True

    def refresh(self, task_id: str, *, now: float) -> bool:
        """Make an id due as soon as ``min_interval`` allows; False when it is not watched."""
        watch = self._watches.get(task_id)
        if watch is None or not watch.is_open:
            return False
        if watch.state is _IN_FLIGHT:
            self._hurried.add(watch)
        elif watch.state is _WAITING:
            self._calendar.remove(watch)
            self._wait(watch, self.pace.earliest(watch, now))
        return True

    def spread(self, *, now: float, over: float, rand: float, again: bool = True) -> None:
        """
        Lay the ready ids evenly over the next *over* seconds, those first that wait longest.

        Args:
            now: The loop clock.
            over: Seconds.
            rand: A number in [0, 1), which shifts them all.
            again: False leaves alone what was spread before and not sent since.
        """
        self._advance(now)
        waiting = self._ready.take_to_spread(again=again)
        for place, watch in enumerate(waiting):
            self._wait(watch, now + over * (place + rand) / len(waiting))

    # -- who is due -----------------------------------------------------------------------------

    def next_at(self) -> float:
        """When the schedule needs to be looked at: a due id or a deadline; ``inf`` for never."""
        earliest = min(self._calendar.next_at(), self._ready.deadline)
        return min(earliest, self._expired[0].deadline) if self._expired else earliest

    @property
    def ready(self) -> int:
        """How many ids waited for a slot, when the schedule was last looked at."""
        return len(self._ready)

    def count_ready(self, now: float) -> int:
        """How many ids are due by *now* and wait for a slot."""
        self._advance(now)
        return len(self._ready)

    def take_due(self, now: float, *, limit: int) -> list[TrackedTask]:
        """
        Hand out due ids, longest due first; each is in flight until it is answered or failed.

        Args:
            now: The loop clock.
            limit: How many slots are free, 0 or more.
        """
        self._advance(now)
        taken = self._ready.take(limit)
        for watch in taken:
            watch.state = _IN_FLIGHT
            watch.started = now
        return taken

    def expired(self, now: float, *, unix_now: float) -> list[tuple[TrackedTask, Event]]:
        """Give up the ids whose deadline has passed: their final events."""
        self._advance(now)
        expired, self._expired = self._expired, []
        return [
            (watch, self._lose(watch, "deadline", now, unix_now))
            for watch in expired
            if watch.is_open
        ]

    def forgotten(self) -> list[TrackedTask]:
        """Hand out, once, the watches whose time of retention is over."""
        forgotten, self._forgotten = self._forgotten, []
        return forgotten

    def _advance(self, now: float) -> None:
        for watch in self._calendar.take(now):
            if watch.state is _ENDED:
                self._forget(watch)
            elif watch.deadline <= now:
                self._expire(watch)
            else:
                self._ready.append(watch)
        for watch in self._ready.take_expired(now):
            self._expire(watch)

    def _expire(self, watch: TrackedTask) -> None:
        watch.state = _EXPIRED
        self._expired.append(watch)

    def _forget(self, watch: TrackedTask) -> None:
        if self._watches.get(watch.task_id) is watch:
            del self._watches[watch.task_id]
        self._forgotten.append(watch)

    def _wait(self, watch: TrackedTask, due: float) -> None:
        """Enter an id into the calendar; one that would come due after its deadline ends then."""
        watch.state = _WAITING
        if due > watch.deadline:  # noqa: PLR1730 -- ``min`` takes 0.1 us more
            due = watch.deadline
        self._calendar.put(watch, due)

    def _is_hurried(self, watch: TrackedTask) -> bool:
        """Tell, once, whether it is to be asked for again as soon as may be."""
        is_hurried = watch in self._hurried
        self._hurried.discard(watch)
        return is_hurried

    # -- what came of it --------------------------------------------------------------------------

    def answered(
        self,
        watch: TrackedTask,
        task: VideoTask | ProgressUpdate | None,
        *,
        now: float,
        unix_now: float,
        rand: float,
        retry_after: float | None = None,
        poll_after: float | None = None,
    ) -> Event | None:
        """
        Take in a task's state and decide when to ask again.

        Args:
            watch: Who was asked for.
            task: The state; None when the answer was the last one, byte for byte; its progress
                when nothing else has changed.
            now: The loop clock.
            unix_now: The wall clock.
            rand: A number in [0, 1).
            retry_after: Seconds, if the server said so.
            poll_after: Seconds, its polling hint.

        Returns:
            What changed; None when nothing did, or the watch ended or was dropped meanwhile.
        """
        if watch.state is not _IN_FLIGHT:
            return None
        if task is None:
            event = self._seen_again(watch, now, unix_now)
        elif isinstance(task, ProgressUpdate):
            event = self._progressed(watch, task, now, unix_now)
        else:
            event = self._seen(watch, task, now, unix_now)
            watch.keep_bytes()
        if watch.state is _IN_FLIGHT:
            due = now + self.pace.after_answer(
                watch, now=now, rand=rand, retry_after=retry_after, poll_after=poll_after
            )
            if self._hurried and self._is_hurried(watch) and retry_after is None:
                due = self.pace.earliest(watch, now)
            self._wait(watch, due)
        return event

    def fed(self, task: VideoTask, *, now: float, unix_now: float) -> Event | None:
        """Take in a state learned elsewhere; the schedule stays, unless it is the end."""
        watch = self._watches.get(task.id)
        if watch is None or not watch.is_open:
            return None
        return self._seen(watch, task, now, unix_now)

    def failed(
        self, watch: TrackedTask, error: EzVideoError, *, now: float, unix_now: float, rand: float
    ) -> Event | None:
        """
        Take in a failed request and decide whether and when to ask again.

        Returns:
            ``TaskLost`` when it ends the watch, else None.
        """
        if watch.state is not _IN_FLIGHT:
            return None
        reason = watch.loss_by(error, now=now, not_found_grace=self._not_found_grace)
        if reason is not None:
            return self._lose(watch, reason, now, unix_now)
        delay = self.pace.after_failure(watch, error, rand=rand)
        asked = getattr(error, "retry_after", None)
        if self._is_hurried(watch) and asked is None:
            delay = 0.0
        longest = self.policy.retry_after_max
        if now >= watch.deadline or (
            asked is not None and now + min(asked, longest) >= watch.deadline
        ):
            return self._lose(watch, "deadline", now, unix_now)
        self._wait(watch, self.pace.earliest(watch, now + delay))
        return None

    def _seen(
        self, watch: TrackedTask, task: VideoTask, now: float, unix_now: float
    ) -> Event | None:
        policy = self.pace.policy
        if policy.adaptive:
            self.pace.note(watch, task, now=now, unix_now=unix_now)
        event = watch.seen(
            task,
            now=now,
            unix_now=unix_now,
            progress=self.progress,
            stalled_after=policy.stalled_after,
        )
        return self._end(watch, event, now) if isinstance(event, FinalEvent) else event

    def _progressed(
        self, watch: TrackedTask, answer: ProgressUpdate, now: float, unix_now: float
    ) -> Event | None:
        if not watch.body:  # an observer has fed another state since the answer was compared
            event = self._seen(watch, watch.task_in(answer), now, unix_now)
            watch.keep_bytes()
            return event
        event = watch.progressed(answer, now=now, unix_now=unix_now, progress=self.progress)
        if self.pace.policy.adaptive:
            self.pace.note(watch, None, now=now, unix_now=unix_now)
        return event

    def _seen_again(self, watch: TrackedTask, now: float, unix_now: float) -> Event | None:
        policy = self.pace.policy
        if policy.adaptive:
            self.pace.note(watch, None, now=now, unix_now=unix_now)
        return watch.seen_again(now=now, unix_now=unix_now, stalled_after=policy.stalled_after)

    def _lose(self, watch: TrackedTask, reason: str, now: float, unix_now: float) -> Event:
        return self._end(watch, watch.lost(reason, now=now, unix_now=unix_now), now)

    def _end(self, watch: TrackedTask, final: Final, now: float) -> Final:
        self._close(watch)
        watch.known = final
        self._calendar.put(watch, now + self._retain_ended)
        return final

    def _close(self, watch: TrackedTask) -> None:
        if watch.state is _WAITING:
            self._calendar.remove(watch)
        self._ready.drop(watch)
        watch.state = _ENDED
        self._hurried.discard(watch)
        self.pace.forget(watch)
        self._open -= 1
