"""Scheduler: who is polled when, what changed, and when an id is lost, in exact seconds."""

from __future__ import annotations

import json
from math import inf

import pytest

from ezvideo_async._domain.events import TaskCompleted, TaskFailed
from ezvideo_async._domain.policies import PollPolicy
from ezvideo_async._domain.task import TaskStatus, VideoTask
from ezvideo_async._protocol.messages import Response
from ezvideo_async._scheduling.duration_estimator import DurationEstimator
from ezvideo_async._scheduling.scheduler import Scheduler, Tick
from ezvideo_async.errors import (
    AuthenticationError,
    BadResponseError,
    RateLimitError,
    ServerError,
    TaskNotFoundError,
    WaitTimeoutError,
)
from tests.support.response_bodies import UNIX_NOW, decode

PENDING, PROCESSING = TaskStatus.PENDING, TaskStatus.PROCESSING
COMPLETED, FAILED = TaskStatus.COMPLETED, TaskStatus.FAILED
OUTAGE = ServerError("HTTP 503", status=503, retryable=True)
OUTAGE_30_S = ServerError("HTTP 503", status=503, retryable=True, retry_after=30.0)
NOT_FOUND = TaskNotFoundError("no such task", status=404)
URL = "https://api.example.test/v1/videos/a"


def response_with(status, *, task_id="a", headers=None, **fields):
    """A response that shows a task."""
    body = json.dumps({"id": task_id, "status": status, **fields}).encode()
    return Response(status=200, headers=headers or {}, body=body)


class Driver:
    """Drives a scheduler by plain calls; chance is always 0.5."""

    def __init__(self, *task_ids, timeout=None, policy=None, **options):
        self.scheduler = Scheduler(policy or PollPolicy(), **options)
        self.polled = {}
        self.calls = []
        self.add(*task_ids, timeout=timeout)

    def add(self, *task_ids, now=0.0, **options):
        """Add ids without a tag."""
        return self.scheduler.add(dict.fromkeys(task_ids), now=now, rand=0.5, **options)

    def tick(self, now, *, permits=100, over=0.0, stall=0.0):
        """Tick with that many permits, and spread ready ids over *over* seconds."""
        left = permits

        def permit():
            nonlocal left
            left -= 1
            self.calls.append("permit")
            return left >= 0

        tick = self.scheduler.tick(
            now,
            unix_now=UNIX_NOW + now,
            rand=lambda: self.calls.append("rand") or 0.5,
            permit=permit,
            release=lambda ready: self.calls.append(f"release {ready}") or over,
            stall=stall,
        )
        self.polled |= {tracked.task_id: tracked for tracked in tick.to_poll}
        return tick

    def spread_again(self, now, *, over):
        """Raise the rate."""
        self.scheduler.spread_again(
            now,
            rand=lambda: self.calls.append("rand") or 0.5,
            release=lambda count: self.calls.append(f"release {count}") or over,
        )

    def due(self, now, **options):
        """The ids that are polled at this instant."""
        return names(self.tick(now, **options).to_poll)

    def respond(self, status, *, now, task_id="a", headers=None, **fields):
        """Observe a response to the poll of an id."""
        return self.scheduler.observe(
            self.polled[task_id],
            response_with(status, task_id=task_id, headers=headers, **fields),
            decode,
            now=now,
            unix_now=UNIX_NOW + now,
            rand=0.5,
        )

    def fail(self, error, *, now, task_id="a"):
        """Record a failed poll."""
        return self.scheduler.fail(
            self.polled[task_id], error, url=URL, now=now, unix_now=UNIX_NOW + now, rand=0.5
        )

    def apply(self, status, *, now, task_id="a", **fields):
        """Apply a state learned elsewhere."""
        task = VideoTask(id=task_id, status=status, **fields)
        return self.scheduler.apply(task, now=now, unix_now=UNIX_NOW + now)

    def poll(self, outcome, *, now, **options):
        """Poll the one id that is due at *now*, with this outcome."""
        assert self.due(now) == ["a"]
        if isinstance(outcome, TaskStatus):
            return self.respond(outcome, now=now, **options)
        return self.fail(outcome, now=now, **options)

    @property
    def next_at(self):
        """When the next tick is due."""
        return self.scheduler.next_at()


def names(ids):
    """Give the ids of some records."""
    return [tracked.task_id for tracked in ids]


# -- which ids are watched ----------------------------------------------------------------------


def test_new_id_is_due_at_once():
    """Polls come first, delays after."""
    driver = Driver("a", "b")
    assert driver.next_at == 0.0

    tick = driver.tick(0.0)

    assert (names(tick.to_poll), tick.next_at) == (["a", "b"], inf)
    assert driver.tick(0.0) == Tick((), (), [], 0, inf)


def test_first_polls_are_spread_evenly():
    """Over the given time, shifted by chance, in the given order."""
    added = Driver().add("a", "b", "c", "d", now=100.0, over=8.0)

    assert [tracked.due for tracked in added] == [101.0, 103.0, 105.0, 107.0]


def test_watched_id_is_left_alone():
    """Its tag and deadline stay what they were."""
    scheduler = Driver().scheduler
    first = scheduler.add({"a": "x", "b": "y"}, now=0.0, rand=0.5, timeout=9.0)

    second = scheduler.add(
        {"b": "z", "c": None}, now=1.0, rand=0.5, timeout=99.0, restart_ended=True
    )

    assert (names(first), names(second)) == (["a", "b"], ["c"])
    assert [tracked.tag for tracked in scheduler] == ["x", "y", None]
    assert scheduler.get("b").deadline == 9.0
    assert (scheduler.open_ids, len(scheduler)) == (("a", "b", "c"), 3)


@pytest.mark.fault("C6")
def test_ended_id_is_restarted_only_on_demand():
    """A new record, not polled within min_interval; the eviction of the old one leaves it."""
    driver = Driver("a", retain_ended=10.0)
    driver.poll(COMPLETED, now=0.25)
    old = driver.scheduler.get("a")
    assert driver.add("a", now=0.5) == []

    (new,) = driver.add("a", now=0.5, restart_ended=True)

    assert new is driver.scheduler.get("a") is not old
    assert (driver.next_at, len(driver.scheduler)) == (1.25, 1)
    assert driver.poll(PENDING, now=1.25).previous is None
    tick = driver.tick(20.0)
    assert (names(tick.to_poll), tick.evicted) == (["a"], [old])
    assert driver.scheduler.get("a") is new


def test_discarded_id_is_forgotten():
    """In whatever phase it is; an ended one stays known."""
    driver = Driver("waiting", "ready", "in flight", "ended", "unseen")
    driver.tick(0.0, permits=4)
    driver.respond(PENDING, task_id="waiting", now=0.0)
    driver.respond(PENDING, task_id="ready", now=0.0, headers={"openai-poll-after-ms": "1000"})
    driver.respond(COMPLETED, task_id="ended", now=0.0)
    assert driver.tick(1.0, permits=0).ready == 2
    scheduler = driver.scheduler
    scheduler.poll_now("in flight", now=1.0)
    ids = {tracked.task_id: tracked for tracked in scheduler}

    assert {task_id: scheduler.discard(task_id) for task_id in ids} == ids | {"ended": None}
    assert scheduler.discard("waiting") is None
    assert (len(scheduler), scheduler.open_ids, names(scheduler)) == (0, (), ["ended"])
    assert not any(tracked.is_open for tracked in ids.values())
    assert scheduler._poll_again == set()
    assert driver.fail(NOT_FOUND, task_id="in flight", now=1.0) is None
    tick = driver.tick(1000.0)
    assert (tick.to_poll, tick.expired, tick.next_at) == ([], [], inf)


def test_known_ids_are_iterated_in_the_order_they_were_added():
    """Ended ones included."""
    driver = Driver("a", "b")
    driver.tick(0.0)
    event = driver.respond(COMPLETED, now=0.0)

    assert names(driver.scheduler) == ["a", "b"]
    assert driver.scheduler.snapshot() == {"a": event.task, "b": None}
    assert driver.scheduler.get("c") is None


def test_ended_id_stays_known_for_retain_ended_seconds():
    """Then it is evicted, once."""
    driver = Driver("a", retain_ended=300.0)
    driver.poll(COMPLETED, now=5.0)
    assert driver.next_at == 305.0

    assert not driver.tick(304.9).evicted
    assert driver.scheduler.get("a") is not None
    assert names(driver.tick(305.0).evicted) == ["a"]
    assert driver.scheduler.get("a") is None
    assert (driver.tick(305.0).evicted, driver.next_at) == ((), inf)


# -- who is polled ------------------------------------------------------------------------------


def test_ready_ids_are_polled_in_the_order_they_came_due():
    """A lack of permits stretches the interval of all alike."""
    driver, order = Driver("a", "b", "c"), []

    for now in range(12):
        order += (due := driver.due(float(now), permits=1))
        for task_id in due:
            headers = {"openai-poll-after-ms": "1000"}
            driver.respond(PENDING, task_id=task_id, now=float(now), headers=headers)

    assert order == ["a", "b", "c"] * 4


def test_ready_ids_are_spread_on_demand():
    """Evenly over the given time, longest due first; ids that are not due stay as they are."""
    driver = Driver("a", "b", "c", "d", "later")
    driver.tick(0.0)
    for place, task_id in enumerate("cadb"):
        headers = {"retry-after": str(place + 1)}
        driver.respond(PENDING, task_id=task_id, now=0.0, headers=headers)
    driver.respond(PENDING, task_id="later", now=0.0)
    driver.tick(3.0, permits=0)
    driver.calls.clear()

    tick = driver.tick(4.0, over=8.0)

    assert (tick.to_poll, tick.ready, tick.next_at) == ([], 0, 5.0)
    assert driver.calls == ["release 4", "rand"]
    due = {tracked.task_id: tracked.due for tracked in driver.scheduler}
    assert due == {"c": 5.0, "a": 7.0, "d": 9.0, "b": 11.0, "later": 5.0}
    assert driver.due(7.0) == ["later", "c", "a"]


def test_spread_ids_are_spread_again_when_the_rate_is_raised():
    """In the same order, none later than before; other ids stay as they are."""
    driver = Driver("a", "b", "c", "d", "later")
    assert driver.tick(0.0, permits=1).ready == 4
    driver.respond(PENDING, now=0.0)
    driver.tick(1.0, over=400.0)
    driver.calls.clear()
    assert driver.due(51.0) == ["a", "b"]

    driver.spread_again(100.0, over=30.0)

    due = {tracked.task_id: tracked.due for tracked in driver.scheduler if tracked.due > 100.0}
    assert due == {"c": 105.0, "d": 115.0, "later": 125.0}
    driver.spread_again(104.0, over=30.0)
    assert [tracked.due for tracked in driver.scheduler][2:] == [105.0, 115.0, 125.0]
    assert driver.due(125.0) == ["c", "d", "later"]
    driver.calls.clear()
    driver.spread_again(126.0, over=30.0)
    assert driver.calls == []


def test_first_polls_are_spread_again_when_the_rate_is_raised():
    """But not before min_interval has passed for a restarted id."""
    driver = Driver("a", "b")
    driver.tick(0.0)
    driver.respond(COMPLETED, task_id="b", now=0.5)
    driver.respond(PENDING, now=0.5, headers={"retry-after": "50"})
    driver.add("b", "c", "d", now=0.5, over=60.0, restart_ended=True)

    driver.spread_again(0.5, over=3.0)

    assert [tracked.due for tracked in driver.scheduler] == [50.5, 1.0, 2.0, 3.0]


def test_polls_missed_in_a_stall_are_spread():
    """Over ten times the stall, at most one interval, and once; less than 0.1 s is no stall."""
    driver = Driver("a", "b", policy=PollPolicy(jitter=0.0))

    assert driver.tick(1.0, stall=1.0).next_at == 2.25
    assert [tracked.due for tracked in driver.scheduler] == [2.25, 4.75]
    assert driver.due(5.0, stall=1.0) == ["a", "b"]
    assert Driver("c").due(1.0, stall=0.09) == ["c"]


def test_spread_id_is_due_at_its_deadline_at_the_latest():
    """It is lost then, and was not polled."""
    driver = Driver("a", timeout=3.0)

    assert driver.tick(0.0, over=10.0).next_at == 3.0
    assert [event.reason for _, event in driver.tick(3.0).expired] == ["deadline"]


@pytest.mark.parametrize(
    ("headers", "due"),
    [
        ({}, 15.0),
        ({"openai-poll-after-ms": "2500"}, 12.5),
        ({"retry-after": "20"}, 30.0),
    ],
)
def test_hints_of_the_server_win_over_the_interval(headers, due):
    """They are read from every response, repeated ones too."""
    driver = Driver("a")

    for start in (0.0, 1000.0):
        driver.poll(PENDING, now=start + 10.0, headers=headers)
        assert driver.next_at == start + due


def test_failed_poll_keeps_min_interval():
    """It counts from the start of the request."""
    driver = Driver("a", policy=PollPolicy(min_interval=3.0, interval=3.0, jitter=0.0))
    driver.tick(0.0)
    driver.scheduler.poll_now("a", now=0.1)

    driver.fail(OUTAGE, now=0.5)

    assert driver.next_at == 3.0


# -- poll_now -----------------------------------------------------------------------------------


def test_poll_now_makes_a_waiting_id_due():
    """At once, but not within min_interval of its last request."""
    driver = Driver("a")
    driver.poll(PENDING, now=10.0, headers={"retry-after": "500"})

    assert driver.scheduler.poll_now("a", now=10.25)
    assert driver.next_at == 11.0
    driver.poll(PENDING, now=20.0)
    assert driver.scheduler.poll_now("a", now=23.0)
    assert driver.due(23.0) == ["a"]


@pytest.mark.parametrize(
    ("outcome", "headers", "due"),
    [
        (PENDING, {"openai-poll-after-ms": "30000"}, 11.0),
        (PENDING, {"retry-after": "60"}, 70.2),
        (OUTAGE, None, 11.0),
        (OUTAGE_30_S, None, 40.2),
    ],
    ids=["response", "Retry-After", "failure", "failure with Retry-After"],
)
def test_poll_now_in_flight_makes_the_id_due_after_that_poll(outcome, headers, due):
    """Its response may be older than the news; a Retry-After of the server is obeyed."""
    driver = Driver("a")
    driver.tick(10.0)

    assert driver.scheduler.poll_now("a", now=10.1)
    if outcome is PENDING:
        driver.respond(outcome, now=10.2, headers=headers)
    else:
        driver.fail(outcome, now=10.2)

    assert driver.next_at == due
    driver.poll(PENDING, now=100.0)
    assert driver.next_at == 105.0


# -- what changed -------------------------------------------------------------------------------


def test_change_of_progress_is_an_event_from_the_moment_it_is_wanted():
    """And no longer when it is not."""
    driver = Driver("a", progress=False)
    driver.poll(PROCESSING, now=0.0, progress=10)
    assert driver.poll(PROCESSING, now=5.0, progress=20) is None

    driver.scheduler.want_progress(wanted=True)
    event = driver.poll(PROCESSING, now=10.0, progress=15)

    assert (event.previous, event.current) == (20, 15)
    driver.scheduler.want_progress(wanted=False)
    assert driver.poll(PROCESSING, now=15.0, progress=20) is None


@pytest.mark.parametrize(("status", "kind"), [(COMPLETED, TaskCompleted), (FAILED, TaskFailed)])
def test_final_state_ends_an_id(status, kind):
    """Once, and nothing follows: no poll, failure, deadline or applied state."""
    driver = Driver("a", timeout=50.0)

    event = driver.poll(status, now=0.0)

    assert isinstance(event, kind)
    tracked = driver.scheduler.get("a")
    assert (tracked.final_event, tracked.is_open, len(driver.scheduler)) == (event, False, 0)
    assert not driver.scheduler.poll_now("a", now=1.0)
    assert driver.fail(NOT_FOUND, now=1.0) is None
    assert driver.apply(FAILED, now=1.0) == (None, None)
    assert driver.tick(100.0)[:4] == ((), (), [], 0)


def test_response_without_a_state_leaves_the_id_in_flight():
    """The caller may send the request again, and then records the failure."""
    driver = Driver("a")
    driver.tick(0.0)
    driver.scheduler.poll_now("a", now=0.1)

    error = driver.respond(PENDING, now=0.2, id="another")

    assert isinstance(error, BadResponseError)
    assert (driver.due(9.0), driver.next_at) == ([], inf)
    assert driver.fail(error, now=9.0) is None
    assert driver.next_at == 9.0


def test_stall_is_found_by_the_policy():
    """stalled_after is the policy's."""
    driver = Driver("a", policy=PollPolicy(stalled_after=100.0))
    driver.poll(PROCESSING, now=0.0)

    assert driver.poll(PROCESSING, now=99.0) is None
    assert driver.poll(PROCESSING, now=104.0).kind == "task_stalled"
    assert Driver("a", policy=PollPolicy(stalled_after=None)).apply(PENDING, now=0.0)[1]


def test_applied_state_is_an_event_and_keeps_the_schedule():
    """A response in flight still counts."""
    driver = Driver("a")
    driver.poll(PENDING, now=0.0)

    tracked, event = driver.apply(PROCESSING, now=1.0)
    assert (tracked, event.previous, event.current) == (
        driver.scheduler.get("a"),
        PENDING,
        PROCESSING,
    )
    assert driver.apply(PROCESSING, now=1.5) == (tracked, None)
    assert driver.next_at == 5.0
    driver.tick(5.0)
    assert driver.apply(PENDING, now=5.1)[1].current is PENDING
    assert driver.respond(PROCESSING, now=5.2).previous is PENDING


def test_applied_final_state_ends_an_id():
    """Whether it waits, is ready or in flight; a late failure is ignored."""
    driver = Driver("in flight", "ready", "waiting")
    driver.tick(0.0, permits=1)
    driver.add("waiting 2", now=1.0)

    for task_id in driver.scheduler.open_ids:
        tracked, event = driver.apply(COMPLETED, now=0.0, task_id=task_id)
        assert tracked.final_event is event
    assert driver.fail(OUTAGE, task_id="in flight", now=0.1) is None
    assert driver.tick(10.0)[:4] == ((), (), [], 0)
    assert driver.apply(COMPLETED, now=0.0, task_id="unknown") == (None, None)


# -- when an id is lost -------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("grace", "now", "is_lost"),
    [(10.0, 9.9, False), (10.0, 10.0, True), (0.0, 0.0, True)],
)
def test_unseen_id_is_lost_when_not_found_after_its_grace(grace, now, is_lost):
    """The grace counts from add(); the next poll comes after the usual interval."""
    driver = Driver("a", not_found_grace=grace)

    event = driver.poll(NOT_FOUND, now=now)

    if is_lost:
        assert (event.reason, event.task, event.at) == ("not_found", None, UNIX_NOW + now)
        assert (event.error, len(driver.scheduler)) == (NOT_FOUND, 0)
    else:
        assert (event, driver.next_at) == (None, now + 5.0)


@pytest.mark.fault("Q1")
def test_fatal_failure_is_raised_and_leaves_the_id_in_flight():
    """It ends the watch, with this id among the open ones."""
    driver = Driver("a")
    error = AuthenticationError("HTTP 401", status=401)

    with pytest.raises(AuthenticationError):
        driver.poll(error, now=0.0)

    assert driver.scheduler.open_ids == ("a",)
    assert driver.next_at == inf


@pytest.mark.fault("Q15")
def test_failed_polls_are_a_stall_of_the_policy():
    """The id is polled on."""
    driver = Driver("a", policy=PollPolicy(stalled_after=100.0))

    assert driver.poll(OUTAGE, now=99.0) is None
    event = driver.poll(OUTAGE, now=driver.next_at)

    assert (event.kind, event.error) == ("task_stalled", OUTAGE)
    assert driver.next_at > 106.5


def test_id_is_lost_at_its_deadline():
    """Neither before nor after it, whatever its next poll would be."""
    driver = Driver("a", timeout=12.0)
    driver.poll(PENDING, now=0.0)
    driver.poll(OUTAGE, now=5.0)
    assert driver.next_at == 12.0

    assert not driver.tick(11.9).expired
    tick = driver.tick(12.0)

    ((tracked, event),) = tick.expired
    assert (tracked.final_event, tick.to_poll) == (event, [])
    assert (event.reason, event.task.status, event.at) == ("deadline", PENDING, UNIX_NOW + 12.0)
    assert isinstance(event.error, WaitTimeoutError)
    assert (event.error.waited, event.error.last_error) == (12.0, OUTAGE)
    assert not driver.tick(13.0).expired


def test_ready_id_is_lost_at_its_deadline():
    """While it waits for a permit; the others keep their order."""
    driver = Driver("a", timeout=10.0)
    driver.add("b", "c")
    driver.add("d", timeout=20.0)
    assert driver.tick(0.0, permits=0).next_at == 10.0
    assert driver.scheduler.poll_now("d", now=0.0)

    tick = driver.tick(10.0, permits=0)

    assert [tracked.task_id for tracked, _ in tick.expired] == ["a"]
    assert (tick.ready, tick.next_at) == (3, 20.0)
    assert driver.due(10.0) == ["b", "c", "d"]


def test_id_in_flight_at_its_deadline_ends_with_its_poll():
    """A failure is the deadline; a state counts, and if it is not final the deadline follows."""
    failing, running, ended = (Driver("a", timeout=10.0) for _ in range(3))
    for driver in (failing, running, ended):
        driver.tick(9.0)
        assert not driver.tick(11.0).expired

    assert failing.fail(OUTAGE, now=11.0).reason == "deadline"
    assert running.respond(PENDING, now=11.0).current is PENDING
    assert running.next_at == 10.0
    assert [event.reason for _, event in running.tick(11.0).expired] == ["deadline"]
    assert ended.respond(COMPLETED, now=11.0).is_final


@pytest.mark.fault("H16")
@pytest.mark.parametrize(("retry_after", "is_lost"), [(29.0, False), (30.0, True)])
def test_id_is_lost_when_retry_after_reaches_its_deadline(retry_after, is_lost):
    """It could not be polled before; without a deadline it is not lost."""
    error = RateLimitError("x", retry_after=retry_after)

    event = Driver("a", timeout=30.0).poll(error, now=0.0)

    assert (event is not None) is is_lost
    assert not is_lost or (event.reason, event.error.waited) == ("deadline", 0.0)
    assert Driver("a").poll(RateLimitError("x", retry_after=1e9), now=0.0) is None


# -- adaptive polling ---------------------------------------------------------------------------


def test_estimator_changes_the_next_poll():
    """It learns from responses and applied states; ids that left without an end are forgotten."""
    created = {"model": "m", "created_at": int(UNIX_NOW)}
    fifty = [f"vid_{number:02}" for number in range(50)]
    adaptive = {"policy": PollPolicy(adaptive=True), "estimator": DurationEstimator()}
    driver = Driver(*fifty, "discarded", **adaptive)
    driver.add("lost", timeout=62.0)
    for now in (0.0, 60.0):
        driver.tick(now)
        for task_id in (*fifty, "discarded", "lost"):
            driver.respond(PROCESSING, now=now, task_id=task_id, **created)
    task = driver.scheduler.get("discarded").task
    driver.tick(65.0)
    driver.scheduler.discard("discarded")

    for task_id in fifty[:25]:
        driver.respond(COMPLETED, now=65.0, task_id=task_id, **created)
    for task_id in fifty[25:]:
        driver.apply(COMPLETED, now=65.0, task_id=task_id)

    assert driver.scheduler._pacer._observations == {}
    young = Driver("discarded", **adaptive)
    young.scheduler.apply(task, now=1.0, unix_now=UNIX_NOW + 1.0)
    (observation,) = young.scheduler._pacer._observations.values()
    assert observation.last_age == 1.0
    young.tick(1.0)
    young.respond(PROCESSING, now=1.0, task_id="discarded", **created)
    assert young.next_at == 16.0


def test_restarted_id_waits_until_its_earlier_poll_is_over():
    """It was ended by ``apply()`` while that poll was in flight."""
    driver = Driver("a")
    driver.tick(0.0)
    earlier = driver.polled["a"]
    done = VideoTask(id="a", status=TaskStatus.COMPLETED)
    driver.scheduler.apply(done, now=1.0, unix_now=UNIX_NOW)
    driver.add("a", now=2.0, restart_ended=True)

    assert (driver.due(2.0), driver.due(3.0)) == ([], [])
    driver.scheduler.finish_poll(earlier)
    assert driver.due(4.0) == ["a"]
