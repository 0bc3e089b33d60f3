"""Any interleaving of what can happen to a scheduler, against a dict as its model."""

from __future__ import annotations

from datetime import UTC, datetime
from math import inf
from typing import TYPE_CHECKING

from attrs import define, field
from hypothesis import strategies as st
from hypothesis.stateful import RuleBasedStateMachine, initialize, invariant, precondition, rule

from ezvideo_async._domain.events import ProgressChanged, StatusChanged
from ezvideo_async._domain.policies import PollPolicy
from ezvideo_async._domain.task import TaskStatus, VideoTask
from ezvideo_async._scheduling.scheduler import Scheduler
from ezvideo_async.errors import (
    BadRequestError,
    RateLimitError,
    RequestTimeoutError,
    ServerError,
    TaskNotFoundError,
)

if TYPE_CHECKING:
    from ezvideo_async._scheduling.tracked_task import TrackedTask

WALL = 1_767_225_600.0
CREATED = datetime.fromtimestamp(WALL, UTC)
MIN_INTERVAL = 1.0

ids = st.sampled_from("abcdef")
rands = st.sampled_from([0.0, 0.3, 0.9])
states = st.tuples(st.sampled_from(TaskStatus), st.sampled_from([None, 10, 20]))
hints = st.sampled_from([None, None, 0.1, 3.0, 50.0, 1e6])
troubles = st.sampled_from(
    [
        BadRequestError("x", status=400),
        BadRequestError("x", status=400, retryable=True, retry_after=2.0),
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
    """What the model knows of one watch."""

    watch: TrackedTask
    deadline: float
    started: float = -inf
    in_flight: bool = False
    is_spread: bool = False
    state: tuple[TaskStatus, int | None] | None = None
    ended: bool = False
    kinds: list[str] = field(factory=list)

    @property
    def turn(self):
        """What was spread comes before what came due after it."""
        return (not self.is_spread, self.watch.due)


class SchedulerMachine(RuleBasedStateMachine):
    """The scheduler keeps its promises whatever is done to it in whatever order."""

    @initialize(progress=st.booleans(), adaptive=st.booleans())
    def begin(self, progress, adaptive):
        """Start with nothing watched."""
        policy = PollPolicy(min_interval=MIN_INTERVAL, adaptive=adaptive)
        self.scheduler = Scheduler(policy, progress=progress, retain_ended=30.0)
        self.now = 100.0
        self.model = {}
        self.dropped = []

    # -- what may happen ---------------------------------------------------------------------

    @rule(
        names=st.lists(ids, min_size=1, max_size=4),
        timeout=st.sampled_from([None, None, 0.5, 8.0, 60.0]),
        over=st.sampled_from([0.0, 4.0]),
        rand=rands,
    )
    def add(self, names, timeout, over, rand):
        """Ids are added, some of them again."""
        expected = [
            name
            for name in dict.fromkeys(names)
            if name not in self.model or self.model[name].ended
        ]

        fresh = self.scheduler.add(names, now=self.now, rand=rand, over=over, timeout=timeout)

        assert [watch.task_id for watch in fresh] == expected
        for watch in fresh:
            deadline = inf if timeout is None else self.now + timeout
            earlier = self.model.pop(watch.task_id, None)
            started = -inf if earlier is None else earlier.started
            latest = max(self.now + over, started + MIN_INTERVAL)
            assert self.now <= watch.due <= min(latest, deadline)
            if earlier is not None:
                self.dropped.append(earlier)
            self.model[watch.task_id] = Known(watch, deadline, started)

    @rule(name=ids)
    def discard(self, name):
        """An id is dropped, in whatever state; one that has ended stays known."""
        known = self.model.get(name)

        was_open = self.scheduler.discard(name)

        assert was_open is (known is not None and not known.ended)
        if was_open:
            self.dropped.append(self.model.pop(name))

    @rule(limit=st.integers(0, 4))
    def take(self, limit):
        """Slots are free: those due longest get them, and none is left out."""
        due = [known for known in self.model.values() if self._is_due(known)]

        taken = self.scheduler.take_due(self.now, limit=limit)

        assert len(taken) == min(limit, len(due))
        by_watch = {id(known.watch): known for known in due}
        turns = []
        for watch in taken:
            known = by_watch.pop(id(watch))
            assert self.now - known.started >= MIN_INTERVAL - 1e-9
            turns.append(known.turn)
            known.in_flight, known.is_spread, known.started = True, False, self.now
        assert turns == sorted(turns)
        if taken:
            assert all(known.turn >= turns[-1] for known in by_watch.values())

    @rule(place=st.integers(0, 9), state=states, retry=hints, poll=hints, rand=rands)
    def answer(self, place, state, retry, poll, rand):
        """A request is answered, also for an id that was dropped or ended meanwhile."""
        known = self._flying(place)
        if known is None:
            return
        event = self.scheduler.answered(
            known.watch,
            _task(known.watch.task_id, state),
            now=self.now,
            unix_now=WALL,
            rand=rand,
            retry_after=retry,
            poll_after=poll,
        )
        self._landed(known, event, state)

    @rule(place=st.integers(0, 9), error=troubles, rand=rands)
    def fail(self, place, error, rand):
        """A request fails."""
        known = self._flying(place)
        if known is None:
            return
        event = self.scheduler.failed(known.watch, error, now=self.now, unix_now=WALL, rand=rand)
        assert event is None or event.kind == "task_lost"
        self._landed(known, event, None)

    @rule(name=ids, state=states)
    def feed(self, name, state):
        """A state is learned elsewhere."""
        known = self.model.get(name)
        task = _task(name, state)

        event = self.scheduler.fed(task, now=self.now, unix_now=WALL)

        if known is None or known.ended:
            assert event is None
        else:
            self._told(known, event, state)

    @rule(name=ids)
    def refresh(self, name):
        """Somebody wants to know soon."""
        known = self.model.get(name)

        is_watched = self.scheduler.refresh(name, now=self.now)

        assert is_watched is (known is not None and not known.ended)
        if is_watched and not known.in_flight:
            floor = max(self.now, known.started + MIN_INTERVAL)
            assert known.watch.due <= floor

    @rule(over=st.sampled_from([0.0, 5.0, 20.0]), rand=rands)
    def spread(self, over, rand):
        """A pause is over."""
        overdue = [known for known in self.model.values() if self._is_due(known)]

        self.scheduler.spread(now=self.now, over=over, rand=rand)

        for known in overdue:
            known.is_spread = True
        assert all(
            self.now <= known.watch.due <= min(self.now + over, known.deadline) for known in overdue
        )

    @rule(seconds=st.sampled_from([0.01, 0.5, 1.0, 5.0, 31.0]))
    def advance(self, seconds):
        """Time goes by, and what expired is told."""
        self.now += seconds
        self._expire()
        self.scheduler.forgotten()
        self.model = {
            name: known
            for name, known in self.model.items()
            if not known.ended or name in self.scheduler
        }

    @precondition(lambda self: self.model)
    @rule()
    def sleep_until_next(self):
        """The driver sleeps as long as it is told."""
        at = self.scheduler.next_at()
        if self.now < at < inf:
            self.now = at
            self._expire()

    # -- what must hold ----------------------------------------------------------------------

    @invariant()
    def counts_the_open_ids(self):
        """The length, the list of open ids and the look-up agree with the model."""
        open_ids = [name for name, known in self.model.items() if not known.ended]
        assert len(self.scheduler) == len(open_ids)
        assert self.scheduler.open_ids == tuple(open_ids)
        assert all(self.scheduler.get(name) is self.model[name].watch for name in open_ids)

    @invariant()
    def knows_who_is_ready(self):
        """The number of ready ids is the number of those due and not in flight."""
        due = [known for known in self.model.values() if self._is_due(known)]
        assert self.scheduler.count_ready(self.now) == len(due)

    @invariant()
    def has_sane_times(self):
        """Nothing is due after its deadline, and the next look misses no id that waits."""
        waiting = [
            known
            for known in self.model.values()
            if not known.ended and not known.in_flight and known.watch.due > self.now
        ]
        assert all(known.watch.due <= known.deadline for known in waiting)
        next_at = self.scheduler.next_at()
        assert all(next_at <= known.watch.due for known in waiting)

    @invariant()
    def tells_one_end_and_nothing_after(self):
        """Per watch at most one final event, the last."""
        for known in (*self.model.values(), *self.dropped):
            finals = [
                kind in {"task_completed", "task_failed", "task_lost"} for kind in known.kinds
            ]
            assert not any(finals[:-1])
            assert known.ended is any(finals)

    def teardown(self):
        """Every id with a deadline ends by it."""
        if not hasattr(self, "model"):
            return
        for known in (*self.model.values(), *self.dropped):
            if known.in_flight:
                self._landed(known, self._timed_out(known), None)
        self.now += 100.0
        self._expire()
        assert all(known.ended or known.deadline == inf for known in self.model.values())

    # -- helpers -----------------------------------------------------------------------------

    def _is_due(self, known):
        is_idle = not known.ended and not known.in_flight
        return is_idle and known.watch.due <= self.now < known.deadline

    def _flying(self, place):
        flying = [known for known in (*self.model.values(), *self.dropped) if known.in_flight]
        return flying[place % len(flying)] if flying else None

    def _timed_out(self, known):
        error = RequestTimeoutError("x")
        return self.scheduler.failed(known.watch, error, now=self.now, unix_now=WALL, rand=0.0)

    def _landed(self, known, event, state):
        known.in_flight = False
        if known in self.dropped or known.ended:
            assert event is None
        else:
            self._told(known, event, state)
            self._expire()

    def _told(self, known, event, state):
        if state is not None and not known.ended:
            self._check_change(known, event, state)
            known.state = state
        if event is not None:
            known.kinds.append(event.kind)
            known.ended = event.is_final
            assert (known.watch.final is event) is event.is_final

    def _check_change(self, known, event, state):
        if state[0].is_terminal:
            assert event.is_final
        elif known.state is None or known.state[0] is not state[0]:
            assert isinstance(event, StatusChanged)
            assert event.previous is (known.state and known.state[0])
            assert event.current is state[0]
        elif known.state[1] != state[1] and self.scheduler.progress:
            assert isinstance(event, ProgressChanged)
            assert (event.previous, event.current) == (known.state[1], state[1])
        else:
            assert event is None or event.kind == "task_stalled"

    def _expire(self):
        for watch, event in self.scheduler.expired(self.now, unix_now=WALL):
            known = self.model[watch.task_id]
            assert known.watch is watch
            assert known.deadline <= self.now
            assert event.reason == "deadline"
            self._told(known, event, None)
        assert all(
            known.ended or known.in_flight or known.deadline > self.now
            for known in self.model.values()
        )


def _task(task_id, state):
    return VideoTask(id=task_id, status=state[0], progress=state[1], created_at=CREATED)


TestScheduler = SchedulerMachine.TestCase
