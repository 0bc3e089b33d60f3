"""Scheduler under any interleaving of calls, compared with a dict as its model."""

from __future__ import annotations

import json
from math import inf
from typing import TYPE_CHECKING

from attrs import define, field
from hypothesis import strategies as st
from hypothesis.stateful import RuleBasedStateMachine, initialize, invariant, precondition, rule

from ezvideo_async._domain.events import ProgressChanged, StatusChanged
from ezvideo_async._domain.policies import PollPolicy
from ezvideo_async._domain.task import TaskStatus, VideoTask
from ezvideo_async._protocol.messages import Response
from ezvideo_async._scheduling.duration_estimator import DurationEstimator
from ezvideo_async._scheduling.scheduler import Scheduler
from ezvideo_async.errors import (
    BadRequestError,
    BadResponseError,
    RateLimitError,
    RequestTimeoutError,
    ServerError,
    TaskNotFoundError,
)
from tests.support.response_bodies import UNIX_NOW, decode

if TYPE_CHECKING:
    from ezvideo_async._scheduling.tracked_task import TrackedTask

MIN_INTERVAL, RETAIN_ENDED = 1.0, 30.0

ids = st.sampled_from("abcdef")
rands = st.sampled_from([0.0, 0.3, 0.9])
states = st.tuples(st.sampled_from(TaskStatus), st.sampled_from([None, 10, 20]))
hints = st.sampled_from([
    {},
    {},
    {"retry-after": "0.1"},
    {"retry-after": "50"},
    {"retry-after": "999999"},
    {"openai-poll-after-ms": "100"},
    {"openai-poll-after-ms": "50000"},
])  # fmt: skip
failures = st.sampled_from(
    [
        BadRequestError("x", status=400, code="bad"),
        BadRequestError("x", status=400, code="bad", retryable=True, retry_after=2.0),
        RateLimitError("x", status=429, retryable=True),
        RateLimitError("x", status=429, retryable=True, retry_after=40.0),
        RequestTimeoutError("x"),
        ServerError("x", status=503, retryable=True),
        TaskNotFoundError("x", status=404),
        TaskNotFoundError("x", status=410),
    ]
)


@define(eq=False)
class Known:
    """What the model knows of one record."""

    tracked: TrackedTask
    deadline: float
    started: float = -inf
    first_due: float | None = None  # since it was spread
    in_flight: bool = False
    state: tuple[TaskStatus, int | None] | None = None
    ended_at: float | None = None
    kinds: list[str] = field(factory=list)

    @property
    def ended(self):
        """Whether it has had its final event."""
        return self.ended_at is not None

    @property
    def is_idle(self):
        """Whether it waits for its next poll."""
        return not self.ended and not self.in_flight


class SchedulerMachine(RuleBasedStateMachine):
    """The scheduler keeps its promises whatever calls come in whatever order."""

    @initialize(progress=st.booleans(), adaptive=st.booleans())
    def start(self, progress, adaptive):
        """Start with no ids."""
        self.scheduler = Scheduler(
            PollPolicy(min_interval=MIN_INTERVAL, adaptive=adaptive),
            estimator=DurationEstimator() if adaptive else None,
            progress=progress,
            retain_ended=RETAIN_ENDED,
            is_hub=True,  # three ids refused alike end no hub
        )
        self.progress = progress
        self.now = 100.0
        self.model = {}
        self.removed = []  # discarded, restarted or evicted
        self.retained = []  # ended, not evicted

    # -- calls -------------------------------------------------------------------------------

    @rule(
        names=st.lists(ids, min_size=1, max_size=4, unique=True),
        timeout=st.sampled_from([None, None, 0.5, 8.0, 60.0]),
        over=st.sampled_from([0.0, 4.0]),
        rand=rands,
        restart=st.booleans(),
    )
    def add(self, names, timeout, over, rand, restart):
        """Ids are added, some of them known."""
        expected = [
            name for name in names if name not in self.model or (restart and self.model[name].ended)
        ]

        added = self.scheduler.add(
            dict.fromkeys(names),
            now=self.now,
            rand=rand,
            over=over,
            timeout=timeout,
            restart_ended=restart,
        )

        assert [tracked.task_id for tracked in added] == expected
        for tracked in added:
            deadline = inf if timeout is None else self.now + timeout
            earlier = self.model.pop(tracked.task_id, None)
            started = -inf if earlier is None else earlier.started
            latest = max(self.now + over, started + MIN_INTERVAL)
            assert self.now <= tracked.due <= min(latest, deadline)
            if earlier is not None:
                self.removed.append(earlier)
            self.model[tracked.task_id] = Known(tracked, deadline, started)

    @rule(name=ids)
    def discard(self, name):
        """An id is discarded, in whatever phase; an ended one stays known."""
        known = self.model.get(name)
        is_watched = known is not None and not known.ended

        assert self.scheduler.discard(name) is (known.tracked if is_watched else None)

        if is_watched:
            self.removed.append(self.model.pop(name))

    @rule(permits=st.integers(0, 4), over=st.sampled_from([0.0, 0.0, 0.0, 5.0, 20.0]), rand=rands)
    def tick(self, permits, over, rand):
        """Ids expire, are evicted, are polled by the permits, or are spread."""
        idle = [known for known in self.model.values() if known.is_idle]
        due = [k for k in idle if k.tracked.due <= self.now < k.deadline]
        flying = {k.tracked.task_id for k in self.removed if k.ended and k.in_flight}
        blocked = [k for k in due if k.tracked.task_id in flying]
        ready = [k for k in due if k not in blocked]
        ready.sort(key=lambda known: known.tracked.due)
        before = [known.tracked.due for known in ready]
        expired = {known.tracked for known in idle if known.deadline <= self.now}
        evicted = [k for k in self.retained if k.ended_at + RETAIN_ENDED <= self.now]
        calls = []

        def permit():
            calls.append("permit")
            return len(calls) <= permits

        def release(count):
            assert count == len(ready) > 0
            return over

        tick = self.scheduler.tick(
            self.now, unix_now=UNIX_NOW, rand=lambda: rand, permit=permit, release=release
        )

        for known in blocked:  # the poll of an earlier watch is not over
            assert known.tracked.due == min(self.now + MIN_INTERVAL, known.deadline)
        assert set(tick.evicted) == {known.tracked for known in evicted}
        self._evict(evicted)
        assert {tracked for tracked, _ in tick.expired} == expired
        for tracked, event in tick.expired:
            known = self.model[tracked.task_id]
            is_unknown = event.reason == "not_found" and known.state is None
            assert event.reason == "deadline" or is_unknown
            self._publish(known, event, None)
        if over and ready:
            assert (tick.to_poll, tick.ready, calls) == ([], 0, [])
            self._check_spread(ready, before, over, rand)
        else:
            self._check_polled(tick.to_poll, ready, before)
            assert tick.ready == max(0, len(ready) - permits) == len(ready) - len(tick.to_poll)
            assert len(calls) == len(tick.to_poll) + (tick.ready > 0)
        assert tick.next_at == self.scheduler.next_at() >= self.now

    @rule(over=st.sampled_from([0.0, 2.0, 9.0]), rand=rands)
    def spread_again(self, over, rand):
        """The rate is raised: ids that were spread come earlier, in the same order."""
        waiting = [k for k in self.model.values() if k.is_idle and k.tracked.due > self.now]
        waiting.sort(key=lambda known: known.tracked.due)
        before = [known.tracked.due for known in waiting]
        counts = []

        def release(count):
            counts.append(count)
            return over

        self.scheduler.spread_again(self.now, rand=lambda: rand, release=release)

        for known, old in zip(waiting, before, strict=True):
            if known.first_due is None and known.tracked.started >= known.tracked.added:
                assert known.tracked.due == old  # the policy or the server decided
            elif known.tracked.due < old:
                assert counts
                assert (
                    self.now
                    <= known.tracked.due
                    <= max(self.now + over, known.started + MIN_INTERVAL)
                )

    @rule(place=st.integers(0, 9), state=states, headers=hints, rand=rands, is_aged=st.booleans())
    def respond(self, place, state, headers, rand, is_aged):
        """A poll gets a response, if its id is still open."""
        known = self._in_flight(place)
        if known is None or known.ended or known in self.removed:
            return
        task_id = known.tracked.task_id
        body = {"id": task_id, "status": state[0], "progress": state[1]}
        if is_aged:
            body |= {"created_at": int(UNIX_NOW)}
        event = self.scheduler.observe(
            known.tracked,
            Response(status=200, headers=headers, body=json.dumps(body).encode()),
            decode,
            now=self.now,
            unix_now=UNIX_NOW + self.now,
            rand=rand,
        )
        known.in_flight = False
        self._publish(known, event, state)

    @rule(place=st.integers(0, 9), rand=rands)
    def respond_without_a_state(self, place, rand):
        """A response shows no state: its id stays in flight."""
        known = self._in_flight(place)
        if known is None or known.ended or known in self.removed:
            return
        error = BadResponseError("x")
        assert error is self.scheduler.observe(
            known.tracked,
            Response(status=200, body=b"{"),
            lambda *_: error,
            now=self.now,
            unix_now=UNIX_NOW,
            rand=rand,
        )

    @rule(place=st.integers(0, 9), error=failures, rand=rands)
    def fail(self, place, error, rand):
        """A poll fails, also for an id that was discarded or ended meanwhile."""
        known = self._in_flight(place)
        if known is None:
            return
        event = self.scheduler.fail(
            known.tracked, error, url="", now=self.now, unix_now=UNIX_NOW, rand=rand
        )
        known.in_flight = False
        if known.ended or known in self.removed:
            assert event is None
        else:
            assert event is None or event.kind in {"task_lost", "task_stalled"}
            self._publish(known, event, None)

    @rule(name=ids, state=states)
    def apply(self, name, state):
        """A state is learned elsewhere."""
        known = self.model.get(name)
        task = VideoTask(id=name, status=state[0], progress=state[1])

        tracked, event = self.scheduler.apply(task, now=self.now, unix_now=UNIX_NOW)

        if known is None or known.ended:
            assert (tracked, event) == (None, None)
        else:
            assert tracked is known.tracked
            self._publish(known, event, state)

    @rule(name=ids)
    def poll_now(self, name):
        """An id is to be polled soon."""
        known = self.model.get(name)

        is_watched = self.scheduler.poll_now(name, now=self.now)

        assert is_watched is (known is not None and not known.ended)
        if is_watched and not known.in_flight:
            assert known.tracked.due <= max(self.now, known.started + MIN_INTERVAL)

    @rule(seconds=st.sampled_from([0.01, 0.5, 1.0, 5.0, 31.0]))
    def advance(self, seconds):
        """Time passes without a tick."""
        self.now += seconds

    @precondition(lambda self: self.model)
    @rule(permits=st.integers(0, 4))
    def sleep_until_next(self, permits):
        """The dispatcher sleeps until the next tick."""
        at = self.scheduler.next_at()
        if at < inf:
            self.now = max(self.now, at)
            self.tick(permits, 0.0, 0.5)

    # -- promises ----------------------------------------------------------------------------

    @invariant()
    def counts_the_open_ids(self):
        """The length, the open ids and get() agree with the model."""
        open_ids = [name for name, known in self.model.items() if not known.ended]
        assert len(self.scheduler) == len(open_ids)
        assert self.scheduler.open_ids == tuple(open_ids)
        assert all(self.scheduler.get(name) is self.model[name].tracked for name in self.model)

    @invariant()
    def next_tick_is_early_enough(self):
        """No id is due after its deadline, and the next tick misses no due id and no deadline."""
        idle = [known for known in self.model.values() if known.is_idle]
        next_at = self.scheduler.next_at()
        assert all(known.tracked.due <= known.deadline for known in idle)
        assert all(next_at <= known.deadline for known in idle)
        assert all(next_at <= k.tracked.due for k in idle if k.tracked.due > self.now)

    @invariant()
    def ends_once(self):
        """Each record has at most one final event, the last."""
        for known in (*self.model.values(), *self.removed):
            finals = [
                kind in {"task_completed", "task_failed", "task_lost"} for kind in known.kinds
            ]
            assert not any(finals[:-1])
            assert known.ended is any(finals)

    def teardown(self):
        """Every id with a deadline ends by it."""
        if not hasattr(self, "model"):
            return
        while self._in_flight(0):
            self.fail(0, RequestTimeoutError("x"), 0.0)
        self.now += 100.0
        self.tick(0, 0.0, 0.0)
        assert all(known.ended or known.deadline == inf for known in self.model.values())

    # -- helpers -----------------------------------------------------------------------------

    def _evict(self, evicted):
        for known in evicted:
            self.retained.remove(known)
            if self.model.get(known.tracked.task_id) is known:
                self.removed.append(self.model.pop(known.tracked.task_id))

    def _check_polled(self, to_poll, ready, before):
        """Those due longest are polled, each min_interval after its last poll."""
        by_record = {known.tracked: known for known in ready}
        polled = [by_record[tracked] for tracked in to_poll]
        assert len(set(to_poll)) == len(to_poll)
        assert [known.tracked.due for known in polled] == before[: len(polled)]
        for known in polled:
            assert self.now - known.started >= MIN_INTERVAL - 1e-9
            known.in_flight, known.started, known.first_due = True, self.now, None

    def _check_spread(self, ready, before, over, rand):
        """The ids are due evenly, longest due first, but at their deadlines at the latest."""
        evenly = [self.now + over * (place + rand) / len(ready) for place in range(len(ready))]
        due = [known.tracked.due for known in ready]
        assert all(k.tracked.due in (*evenly, k.deadline) for k in ready)
        for known, old in zip(ready, before, strict=True):
            known.first_due = old if known.first_due is None else known.first_due
        changed = [
            (known.first_due, new)
            for known, new in zip(ready, due, strict=True)
            if new < known.deadline
        ]
        assert len({new for _, new in changed}) == len(changed)
        assert all(a[1] < b[1] for a in changed for b in changed if a[0] < b[0])

    def _in_flight(self, place):
        flying = [known for known in (*self.model.values(), *self.removed) if known.in_flight]
        return flying[place % len(flying)] if flying else None

    def _publish(self, known, event, state):
        if state is not None:
            self._check_change(known, event, state)
            known.state = state
        if event is not None:
            known.kinds.append(event.kind)
            assert (known.tracked.final_event is event) is event.is_final
            if event.is_final:
                known.ended_at = self.now
                self.retained.append(known)

    def _check_change(self, known, event, state):
        if state[0].is_terminal:
            assert event.is_final
        elif known.state is None or known.state[0] is not state[0]:
            assert isinstance(event, StatusChanged)
            assert event.previous is (known.state and known.state[0])
            assert event.current is state[0]
        elif known.state[1] != state[1] and self.progress:
            assert isinstance(event, ProgressChanged)
            assert (event.previous, event.current) == (known.state[1], state[1])
        else:
            assert event is None or event.kind == "task_stalled"


TestScheduler = SchedulerMachine.TestCase
