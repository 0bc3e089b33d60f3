"""Who is due, what changed, when to ask next, when to give up: every rule, in exact seconds."""

from __future__ import annotations

from datetime import UTC, datetime
from math import inf

import pytest

from ezvideo_async._domain.events import (
    ProgressChanged,
    StatusChanged,
    TaskCompleted,
    TaskFailed,
    TaskLost,
    TaskStalled,
)
from ezvideo_async._domain.policies import PollPolicy
from ezvideo_async._domain.task import TaskStatus, VideoTask
from ezvideo_async._scheduling.scheduler import Scheduler
from ezvideo_async._scheduling.tracked_task import is_fatal
from ezvideo_async.errors import (
    AuthenticationError,
    BadRequestError,
    BadResponseError,
    ConfigError,
    PermissionDeniedError,
    RateLimitError,
    RequestTimeoutError,
    ServerError,
    TaskNotFoundError,
    TLSError,
    TransportError,
    WaitTimeoutError,
)

PENDING, PROCESSING = TaskStatus.PENDING, TaskStatus.PROCESSING
COMPLETED, FAILED = TaskStatus.COMPLETED, TaskStatus.FAILED
WALL = 1_767_225_600.0
OUT = ServerError("HTTP 503", status=503, retryable=True)


def missing(status=404, retry_after=None):
    return TaskNotFoundError("no such task", status=status, retry_after=retry_after)


def task(status, task_id="a", progress=None):
    return VideoTask(id=task_id, status=status, progress=progress)


class Driver:
    """Drives a scheduler for ids by plain calls, with the middle of every chance."""

    def __init__(self, *task_ids, timeout=None, **options):
        policy = options.pop("policy", PollPolicy())
        self.scheduler = Scheduler(policy, **options)
        self.scheduler.add(task_ids, now=0.0, rand=0.5, timeout=timeout)

    def take(self, now, limit=100):
        self.taken = {each.task_id: each for each in self.scheduler.take_due(now, limit=limit)}
        return list(self.taken)

    def answer(self, status, *, now, task_id="a", progress=None, **hints):
        return self.scheduler.answered(
            self.scheduler.get(task_id) or self.taken[task_id],
            task(status, task_id, progress),
            now=now,
            unix_now=WALL + now,
            rand=0.5,
            **hints,
        )

    def fail(self, error, *, now, task_id="a", rand=0.5):
        return self.scheduler.failed(
            self.taken[task_id], error, now=now, unix_now=WALL + now, rand=rand
        )

    def poll(self, outcome, *, now, **hints):
        """Take the id that is due at *now* and answer or fail it at once."""
        assert self.take(now) == ["a"]
        if isinstance(outcome, TaskStatus):
            return self.answer(outcome, now=now, **hints)
        return self.fail(outcome, now=now, **hints)

    @property
    def next_at(self):
        return self.scheduler.next_at()


def aged(status, task_id="a", *, progress=None):
    """A task created at the beginning."""
    created = datetime.fromtimestamp(WALL, UTC)
    return VideoTask(id=task_id, status=status, progress=progress, model="m", created_at=created)


class Learner(Driver):
    """Drives a scheduler that learns, of tasks created at 0."""

    def __init__(self, *task_ids, **options):
        policy = PollPolicy(adaptive=True)
        super().__init__(*task_ids, **{"policy": policy, **options})

    def answer(self, status, *, now, task_id="a", progress=None, **hints):
        return self.scheduler.answered(
            self.taken[task_id],
            aged(status, task_id, progress=progress),
            now=now,
            unix_now=WALL + now,
            rand=0.5,
            **hints,
        )

    def outlook(self):
        """What is told of a task of this model that is 1 s old."""
        learned = self.scheduler.pace.learned
        look = learned.seen(None, aged(PROCESSING), now=1.0, unix_now=WALL + 1.0)
        return learned.outlook(look, now=1.0)


# -- who is watched -------------------------------------------------------------------------


def test_a_new_id_is_due_at_once():
    """It looks first and sleeps after."""
    driver = Driver("a", "b")

    assert driver.next_at == 0.0
    assert driver.take(0.0) == ["a", "b"]
    assert driver.next_at == inf


def test_first_looks_are_spread_evenly():
    """Over the time given, shifted by chance, in the order given."""
    scheduler = Scheduler(PollPolicy())

    watches = scheduler.add(["a", "b", "c", "d"], now=100.0, rand=0.5, over=8.0)

    assert [watch.due for watch in watches] == [101.0, 103.0, 105.0, 107.0]


def test_an_id_is_watched_once():
    """Given twice, or being watched already: its tag and deadline stay what they were."""
    scheduler = Scheduler(PollPolicy())
    first = scheduler.add(["a", "b", "a"], now=0.0, rand=0.5, tag="x", timeout=9.0)

    again = scheduler.add(["b", "c"], now=1.0, rand=0.5, tag="y", timeout=99.0)

    assert [watch.task_id for watch in first] == ["a", "b"]
    assert [watch.task_id for watch in again] == ["c"]
    assert scheduler.get("b").tag == "x"
    assert scheduler.get("b").deadline == 9.0
    assert scheduler.open_ids == ("a", "b", "c")
    assert len(scheduler) == 3


def test_an_ended_id_starts_anew():
    """A new watch, told from the start; the old one's retention does not end the new one."""
    driver = Driver("a", retain_ended=10.0)
    driver.poll(COMPLETED, now=0.0)
    old = driver.scheduler.get("a")

    (new,) = driver.scheduler.add(["a"], now=1.0, rand=0.5)

    assert new is not old
    assert driver.poll(PENDING, now=1.0).previous is None
    assert driver.take(20.0) == ["a"]
    assert driver.scheduler.forgotten() == [old]
    assert driver.scheduler.get("a") is new


def test_a_discarded_id_is_forgotten():
    """Nothing more is asked or told about it, in whatever state it was."""
    driver = Driver("waiting", "ready", "in flight", "ended")
    driver.take(0.0)
    for task_id in ("waiting", "ready"):
        driver.answer(PENDING, task_id=task_id, now=0.0)
    driver.scheduler.refresh("ready", now=0.0)
    driver.answer(COMPLETED, task_id="ended", now=0.0)
    assert driver.scheduler.count_ready(1.0) == 1
    in_flight = driver.scheduler.get("in flight")

    discarded = [driver.scheduler.discard(each.task_id) for each in list(driver.scheduler)]

    assert discarded == [True, True, True, False]
    assert driver.scheduler.discard("waiting") is False
    assert driver.scheduler.count_ready(1.0) == 0
    assert (len(driver.scheduler), driver.scheduler.open_ids) == (0, ())
    assert driver.take(1000.0) == []
    late = {"now": 1.0, "unix_now": WALL, "rand": 0.5}
    assert driver.scheduler.answered(in_flight, task(COMPLETED), **late) is None
    assert driver.scheduler.failed(in_flight, missing(), **late) is None
    assert in_flight.final is None
    assert driver.next_at == inf


def test_known_ids_can_be_looked_up():
    """In the order they were added, ended ones included."""
    driver = Driver("a", "b")
    driver.take(0.0)
    driver.answer(COMPLETED, now=0.0)

    assert "a" in driver.scheduler
    assert "c" not in driver.scheduler
    assert [watch.task_id for watch in driver.scheduler] == ["a", "b"]
    assert driver.scheduler.snapshot() == {"a": task(COMPLETED), "b": None}
    assert driver.scheduler.get("c") is None


def test_an_ended_id_stays_known_for_a_while():
    """Then it is handed out once, to be forgotten elsewhere too."""
    driver = Driver("a", retain_ended=300.0)
    driver.poll(COMPLETED, now=5.0)

    assert driver.next_at == 305.0
    driver.take(304.9)
    assert driver.scheduler.forgotten() == []
    assert "a" in driver.scheduler
    driver.take(305.0)
    assert [watch.task_id for watch in driver.scheduler.forgotten()] == ["a"]
    assert driver.scheduler.forgotten() == []
    assert "a" not in driver.scheduler


# -- when to ask next -----------------------------------------------------------------------


@pytest.mark.parametrize(
    ("hints", "due"),
    [
        ({}, 15.0),
        ({"poll_after": 2.5}, 12.5),
        ({"poll_after": 0.0}, 11.0),
        ({"poll_after": 1e6}, 70.0),
        ({"retry_after": 20.0}, 30.0),
        ({"retry_after": 3.0, "poll_after": 40.0}, 13.0),
        ({"retry_after": 1e9}, 610.0),
    ],
)
def test_an_answer_is_followed_by_the_next_look(hints, due):
    """Server hints win over the interval, and are clamped."""
    driver = Driver("a")
    driver.take(10.0)

    driver.answer(PENDING, now=10.0, **hints)

    assert due == driver.next_at


def test_two_starts_are_never_closer_than_the_floor():
    """Counted from the start of the last request, however quick the answer."""
    driver = Driver("a", policy=PollPolicy(min_interval=3.0))
    driver.take(10.0)

    driver.answer(PENDING, now=10.5, poll_after=0.0)

    assert driver.next_at == 13.5


def test_an_id_in_flight_is_not_handed_out_again():
    """However long it takes."""
    driver = Driver("a")
    driver.take(0.0)

    assert driver.take(1000.0) == []
    assert driver.scheduler.count_ready(1000.0) == 0


def test_ready_ids_wait_for_slots_in_the_order_they_came_due():
    """Longest due first; a lack of slots stretches the interval of all alike."""
    driver = Driver("a", "b", "c")

    order = []
    for now in range(12):
        order += driver.take(float(now), limit=1)
        for task_id in driver.taken:
            driver.answer(PENDING, task_id=task_id, now=float(now), poll_after=1.0)

    assert order == ["a", "b", "c"] * 4
    assert driver.take(12.0, limit=0) == []


def test_the_number_of_ready_ids_is_told():
    """Without those that were discarded or ended while they waited for a slot."""
    driver = Driver("a", "b", "c", "d")
    assert driver.scheduler.count_ready(0.0) == 4

    driver.scheduler.discard("a")
    driver.scheduler.fed(task(COMPLETED, "b"), now=0.0, unix_now=WALL)

    assert driver.scheduler.count_ready(0.0) == 2
    assert driver.take(0.0, limit=1) == ["c"]


def test_failures_push_the_next_look_back():
    """Failure k: U(interval, min(60, interval * 2^k)); an answer resets it."""
    driver, now, pauses = Driver("a"), 0.0, []

    for _ in range(6):
        assert driver.poll(OUT, now=now) is None
        pauses.append(driver.next_at - now)
        now = driver.next_at
    driver.poll(PENDING, now=now)
    now = driver.next_at
    driver.poll(OUT, now=now)

    assert pauses == [7.5, 12.5, 22.5, 32.5, 32.5, 32.5]
    assert driver.next_at - now == 7.5
    assert driver.scheduler.get("a").last_error is OUT


@pytest.mark.parametrize(
    "error",
    [
        OUT,
        BadResponseError("x"),
        TransportError("x"),
        RequestTimeoutError("x"),
        AuthenticationError("x", status=401),
        ConfigError("x"),
        RateLimitError("x", status=429),
        ServerError("x", status=501),
    ],
    ids=lambda error: type(error).__name__ + str(getattr(error, "status", "")),
)
def test_trouble_ends_no_watch(error):
    """It passes, or is for the watcher to raise: the id is simply due later."""
    driver = Driver("a")

    for _ in range(20):
        assert driver.poll(error, now=driver.next_at) is None
    assert len(driver.scheduler) == 1


@pytest.mark.parametrize(
    ("error", "rand", "due"),
    [
        (ServerError("x", retryable=True, retry_after=20.0), 0.5, 20.0),
        (ServerError("x", retryable=True, retry_after=2.0), 0.5, 7.5),
        (BadResponseError("x", retry_after=30.0), 0.5, 30.0),
        (RateLimitError("x", retry_after=20.0), 0.0, 20.0),
        (RateLimitError("x", retry_after=20.0), 0.5, 25.0),
        (RateLimitError("x", retry_after=86_400.0), 0.5, 605.0),
        (RateLimitError("x"), 0.0, 5.0),
        (RateLimitError("x"), 0.9, 9.5),
        (missing(retry_after=8.0), 0.5, 8.0),
    ],
)
def test_a_failed_look_obeys_retry_after(error, rand, due):
    """Whatever the status; after a 429 the ids of a cool-down come back spread, not at once."""
    driver = Driver("a")

    driver.poll(error, now=0.0, rand=rand)

    assert due == driver.next_at


# -- refresh, spread, release ---------------------------------------------------------------


def test_refresh_makes_an_id_due():
    """At once, but never closer to the last request than the floor."""
    driver = Driver("a")
    driver.poll(PENDING, now=10.0, retry_after=500.0)

    assert driver.scheduler.refresh("a", now=10.25)
    assert driver.next_at == 11.0
    assert driver.poll(PENDING, now=20.0) is None
    assert driver.scheduler.refresh("a", now=23.0)
    assert driver.take(23.0) == ["a"]


def test_refresh_of_an_id_in_flight_comes_with_its_answer():
    """The answer may be older than the news: asked again soon, unless the server names a time."""
    driver = Driver("a")
    driver.take(10.0)

    assert driver.scheduler.refresh("a", now=10.1)
    driver.answer(PENDING, now=10.2, poll_after=30.0)
    assert driver.next_at == 11.0
    driver.take(11.0)
    driver.scheduler.refresh("a", now=11.1)
    driver.answer(PENDING, now=11.2, retry_after=60.0)
    assert driver.next_at == 71.2


def test_an_ended_id_added_again_is_not_asked_for_at_once():
    """The floor between two requests for an id outlives its watch."""
    driver = Driver("a")
    driver.poll(COMPLETED, now=10.0)

    driver.scheduler.add(["a"], now=10.25, rand=0.5)

    assert driver.next_at == 11.0


def test_refresh_of_an_id_in_flight_outlives_a_failure():
    """The news is still news: asked again soon, unless the server named a time."""
    driver = Driver("a")
    driver.take(10.0)
    driver.scheduler.refresh("a", now=10.1)
    driver.fail(ServerError("x", status=500, retryable=True), now=10.2)
    assert driver.next_at == 11.0

    driver.take(11.0)
    driver.scheduler.refresh("a", now=11.1)
    driver.fail(ServerError("x", status=503, retryable=True, retry_after=30.0), now=11.2)
    assert driver.next_at == 41.2


@pytest.mark.fault("C21")
def test_a_blocked_loop_is_not_held_against_the_server():
    """A time-out of our own doing does not back off."""
    driver = Driver("a")
    for now in (0.0, 5.0, 10.0):
        driver.poll(RequestTimeoutError("x", reason="local_stall"), now=now)

    assert driver.next_at == 15.0


def test_refresh_of_a_ready_id_keeps_its_place():
    """It is already due."""
    driver = Driver("a", "b")
    driver.scheduler.count_ready(0.0)

    assert driver.scheduler.refresh("b", now=0.0)
    assert driver.take(0.0) == ["a", "b"]


def test_refresh_of_an_id_that_is_not_watched_is_nothing():
    """Neither of an unknown nor of an ended one."""
    driver = Driver("a")
    driver.poll(COMPLETED, now=0.0)

    assert not driver.scheduler.refresh("a", now=1.0)
    assert not driver.scheduler.refresh("b", now=1.0)
    assert driver.take(1.0) == []


def test_overdue_ids_are_spread():
    """After a pause all that came due are laid evenly over the time given, in their order."""
    driver = Driver("a", "b", "c", "d", "later")
    driver.take(0.0)
    for place, task_id in enumerate(driver.taken):
        driver.answer(PENDING, task_id=task_id, now=0.0, retry_after=1.0 + place)

    driver.scheduler.spread(now=4.0, over=8.0, rand=0.5)

    due = {watch.task_id: watch.due for watch in driver.scheduler}
    assert due == {"a": 5.0, "b": 7.0, "c": 9.0, "d": 11.0, "later": 5.0}
    assert driver.scheduler.count_ready(4.0) == 0
    driver.scheduler.spread(now=4.0, over=8.0, rand=0.5)
    assert due == {watch.task_id: watch.due for watch in driver.scheduler}


# -- what changed ---------------------------------------------------------------------------


def test_the_first_state_is_told():
    """With nothing before it, the wall clock's time and the tag."""
    scheduler = Scheduler(PollPolicy())
    scheduler.add(["a"], now=0.0, rand=0.5, tag="t")
    (watch,) = scheduler.take_due(0.0, limit=1)

    event = scheduler.answered(watch, task(PENDING), now=0.5, unix_now=WALL, rand=0.5)

    assert event == StatusChanged(
        task_id="a", task=task(PENDING), at=WALL, tag="t", previous=None, current=PENDING
    )
    assert (watch.seen_at, watch.task) == (WALL, task(PENDING))


def test_the_same_state_twice_is_no_event():
    """Also when other fields of the answer differ."""
    driver = Driver("a")
    driver.poll(PENDING, now=0.0, progress=5)

    assert driver.poll(PENDING, now=5.0, progress=5) is None
    assert driver.poll(PENDING, now=10.0, progress=6) is None
    assert driver.scheduler.get("a").task.progress == 6


def test_a_change_of_status_is_told_in_both_directions():
    """A task may be requeued."""
    driver = Driver("a")

    events = [
        driver.poll(status, now=5.0 * n) for n, status in enumerate([PENDING, PROCESSING, PENDING])
    ]

    assert [(each.previous, each.current) for each in events] == [
        (None, PENDING),
        (PENDING, PROCESSING),
        (PROCESSING, PENDING),
    ]


def test_a_change_of_progress_is_told_to_those_who_ask():
    """From the moment somebody asks."""
    driver = Driver("a")
    driver.poll(PROCESSING, now=0.0, progress=10)
    assert driver.poll(PROCESSING, now=5.0, progress=20) is None

    driver.scheduler.progress = True
    event = driver.poll(PROCESSING, now=10.0, progress=15)

    assert event == ProgressChanged(
        task_id="a", task=task(PROCESSING, progress=15), at=WALL + 10, previous=20, current=15
    )
    assert driver.poll(PROCESSING, now=15.0, progress=15) is None
    assert driver.poll(PROCESSING, now=20.0, progress=None).current is None


@pytest.mark.parametrize(("status", "kind"), [(COMPLETED, TaskCompleted), (FAILED, TaskFailed)])
def test_an_end_is_told_once_and_is_the_last(status, kind):
    """Nothing is asked or told after it, whatever comes."""
    driver = Driver("a")

    event = driver.poll(status, now=0.0)

    assert event == kind(task_id="a", task=task(status), at=WALL)
    watch = driver.scheduler.get("a")
    assert (watch.final, watch.is_open, len(driver.scheduler)) == (event, False, 0)
    assert driver.answer(COMPLETED, now=1.0) is None
    assert driver.fail(missing(), now=1.0) is None
    assert driver.scheduler.fed(task(FAILED), now=1.0, unix_now=WALL) is None
    assert driver.take(100.0) == []


def test_a_stall_is_told_once():
    """When neither status nor progress changed for long; a change starts the time anew."""
    driver = Driver("a", policy=PollPolicy(stalled_after=100.0))
    driver.poll(PROCESSING, now=10.0, progress=50)

    assert driver.poll(PROCESSING, now=109.0, progress=50) is None
    event = driver.poll(PROCESSING, now=120.0, progress=50)
    assert event == TaskStalled(
        task_id="a", task=task(PROCESSING, progress=50), at=WALL + 120, since=WALL + 10
    )
    assert driver.poll(PROCESSING, now=300.0, progress=50) is None
    assert driver.poll(PROCESSING, now=310.0, progress=51) is None
    assert driver.poll(PROCESSING, now=409.0, progress=51) is None
    assert isinstance(driver.poll(PROCESSING, now=420.0, progress=51), TaskStalled)
    driver.poll(PENDING, now=430.0)
    assert isinstance(driver.poll(PENDING, now=530.0), TaskStalled)


def test_no_stall_is_told_when_nobody_wants_to_know():
    """``stalled_after=None``."""
    driver = Driver("a", policy=PollPolicy(stalled_after=None))
    driver.poll(PROCESSING, now=0.0)

    assert driver.poll(PROCESSING, now=1e6) is None


def test_a_state_learned_elsewhere_is_taken_in():
    """Told like an answer; the schedule stays, and an answer in flight still counts."""
    driver = Driver("a")
    driver.poll(PENDING, now=0.0)

    event = driver.scheduler.fed(task(PROCESSING), now=1.0, unix_now=WALL)
    assert (event.previous, event.current) == (PENDING, PROCESSING)
    assert driver.next_at == 5.0
    driver.take(5.0)
    assert driver.scheduler.fed(task(PENDING), now=5.1, unix_now=WALL).current is PENDING
    assert driver.answer(PROCESSING, now=5.2).previous is PENDING


def test_an_end_learned_elsewhere_ends_the_watch():
    """Whether the id waits, is ready or in flight; a late answer is dropped."""
    driver = Driver("a", "b")
    driver.take(0.0, limit=1)

    for task_id in ("a", "b"):
        event = driver.scheduler.fed(task(COMPLETED, task_id), now=0.0, unix_now=WALL)
        assert isinstance(event, TaskCompleted)
    assert driver.answer(FAILED, now=0.1) is None
    assert driver.take(10.0) == []
    assert driver.scheduler.fed(task(COMPLETED, "c"), now=0.0, unix_now=WALL) is None


# -- when to give up ------------------------------------------------------------------------


@pytest.mark.parametrize(("now", "lost"), [(0.0, False), (9.9, False), (10.0, True), (11.0, True)])
def test_an_id_never_seen_has_a_time_of_grace(now, lost):
    """A task just made may not be known everywhere yet."""
    driver = Driver("a", not_found_grace=10.0)

    event = driver.poll(missing(), now=now)

    assert (event is not None) is lost
    if lost:
        assert (event.reason, event.task, event.at) == ("not_found", None, WALL + now)
        assert isinstance(event.error, TaskNotFoundError)
    else:
        assert driver.next_at == now + 5.0


def test_without_grace_the_first_not_found_ends_it():
    """For ids that are known to be old."""
    assert Driver("a", not_found_grace=0.0).poll(missing(), now=0.0).reason == "not_found"


def test_a_task_that_vanished_gets_two_more_looks():
    """A stale replica may not know it; other trouble in between is no answer."""
    driver = Driver("a")
    driver.poll(PROCESSING, now=0.0)

    assert driver.poll(missing(), now=5.0) is None
    assert driver.poll(OUT, now=10.0) is None
    assert driver.poll(missing(), now=20.0) is None
    event = driver.poll(missing(), now=25.0)

    assert isinstance(event, TaskLost)
    assert (event.reason, event.task) == ("vanished", task(PROCESSING))


def test_a_task_seen_again_is_no_longer_missed():
    """The count begins anew."""
    driver = Driver("a")

    for now in range(0, 100, 10):
        driver.poll(PROCESSING, now=float(now))
        assert driver.poll(missing(), now=now + 5.0) is None


@pytest.mark.parametrize(("seen", "reason"), [(True, "vanished"), (False, "not_found")])
def test_a_task_that_is_gone_is_lost_at_once(seen, reason):
    """410 says that it will not come back."""
    driver = Driver("a")
    if seen:
        driver.poll(PROCESSING, now=0.0)

    assert reason == driver.poll(missing(410), now=5.0).reason


@pytest.mark.parametrize(
    "error",
    [
        BadRequestError("no", status=400),
        ServerError("no", status=501, server_message="not_implemented"),
    ],
    ids=["400", "501 with a message"],
)
def test_a_refused_id_is_lost(error):
    """The same request will fail again, and it is about this id alone."""
    event = Driver("a").poll(error, now=0.0)

    assert (event.reason, event.error) == ("refused", error)


def test_a_refusal_that_may_pass_gets_one_more_look():
    """Azure sends Retry-After with some 400s."""
    driver = Driver("a")
    again = BadRequestError("wait", status=400, retryable=True, retry_after=7.0)

    assert driver.poll(again, now=0.0) is None
    assert driver.next_at == 7.5
    assert driver.poll(again, now=7.5).reason == "refused"


def test_an_id_is_given_up_at_its_deadline():
    """Not before, and not after; the error says that the task may still end."""
    driver = Driver("a", timeout=12.0)
    driver.poll(PENDING, now=0.0)
    driver.poll(OUT, now=5.0)
    assert driver.next_at == 12.0

    assert driver.scheduler.expired(11.9, unix_now=WALL) == []
    ((watch, event),) = driver.scheduler.expired(12.0, unix_now=WALL + 12)

    assert watch.final is event
    assert (event.reason, event.task, event.at) == ("deadline", task(PENDING), WALL + 12)
    assert isinstance(event.error, WaitTimeoutError)
    assert (event.error.waited, event.error.last_error) == (12.0, OUT)
    assert (event.error.task, event.error.task_id) == (task(PENDING), "a")
    assert "may still end" in str(event.error)
    assert driver.scheduler.expired(13.0, unix_now=WALL) == []


def test_a_ready_id_is_given_up_at_its_deadline_too():
    """While it waits for a slot; the others stay in their order."""
    driver = Driver("a", timeout=10.0)
    driver.scheduler.add(["b", "c"], now=0.0, rand=0.5)
    driver.scheduler.add(["d"], now=0.0, rand=0.5, timeout=20.0)
    assert driver.scheduler.count_ready(0.0) == 4
    assert driver.next_at == 10.0

    ((watch, _),) = driver.scheduler.expired(10.0, unix_now=WALL)

    assert watch.task_id == "a"
    assert driver.next_at == 20.0
    assert driver.take(10.0) == ["b", "c", "d"]


def test_an_expired_id_is_not_forgotten_when_others_look_first():
    """It is not handed out, and the next look is due at once, so that its end is told."""
    driver = Driver("a", timeout=10.0)

    assert driver.take(11.0) == []
    assert driver.next_at == 10.0
    assert [watch.task_id for watch, _ in driver.scheduler.expired(11.0, unix_now=WALL)] == ["a"]
    assert driver.next_at > 11.0


def test_an_expired_id_that_was_discarded_is_not_told():
    """Nothing is told of it any more."""
    driver = Driver("a", timeout=10.0)
    driver.take(11.0)

    driver.scheduler.discard("a")

    assert driver.scheduler.expired(11.0, unix_now=WALL) == []


def test_an_id_in_flight_at_its_deadline_ends_with_its_outcome():
    """A failure is the deadline; an answer counts, and if it is no end the deadline follows."""
    failing, answered, ended = (Driver("a", timeout=10.0) for _ in range(3))
    for driver in (failing, answered, ended):
        driver.take(9.0)

    assert failing.fail(OUT, now=11.0).reason == "deadline"
    assert answered.answer(PENDING, now=11.0).current is PENDING
    assert answered.next_at == 10.0
    assert [e.reason for _, e in answered.scheduler.expired(11.0, unix_now=WALL)] == ["deadline"]
    assert ended.answer(COMPLETED, now=11.0).is_final


def test_a_retry_after_beyond_the_deadline_is_not_waited_for():
    """Asking again is not allowed before it is too late: the id is given up now."""
    driver = Driver("a", timeout=30.0)

    event = driver.poll(RateLimitError("x", retry_after=30.0), now=0.0)

    assert (event.reason, event.error.waited) == ("deadline", 0.0)
    assert Driver("a", timeout=30.0).poll(RateLimitError("x", retry_after=29.0), now=0.0) is None


def test_without_a_deadline_an_id_is_never_given_up():
    """``timeout=None``."""
    driver = Driver("a")

    assert driver.poll(RateLimitError("x", retry_after=1e9), now=0.0) is None
    assert driver.scheduler.expired(1e12, unix_now=WALL) == []
    assert len(driver.scheduler) == 1


@pytest.mark.parametrize(
    ("error", "fatal"),
    [
        (AuthenticationError("x"), True),
        (AuthenticationError("x", retryable=True), False),
        (PermissionDeniedError("x"), True),
        (PermissionDeniedError("x", retryable=True), False),
        (ConfigError("x"), True),
        (ConfigError("x", retryable=True), False),
        (TLSError("x"), True),
        (TransportError("x", reason="proxy"), False),
        (TransportError("x", reason="proxy", retryable=False), True),
        (TransportError("x"), False),
        (TransportError("x", retryable=False), False),
        (RateLimitError("x"), False),
        (BadRequestError("x"), False),
        (ServerError("x"), False),
        (missing(), False),
    ],
)
def test_trouble_with_our_set_up_is_fatal(error, fatal):
    """Key, account, base url, certificate, proxy: the whole watch ends, not one id."""
    assert is_fatal(error) is fatal


# -- what is learned ------------------------------------------------------------------------------

FIFTY = [f"vid_{number:02}" for number in range(50)]


def fifty_running(**options):
    """Fifty tasks seen running at 0 and at 60 s."""
    driver = Learner(*FIFTY, **options)
    for now in (0.0, 60.0):
        assert len(driver.take(now)) == 50
        for task_id in FIFTY:
            driver.answer(PROCESSING, now=now, task_id=task_id)
    return driver


@pytest.mark.parametrize("status", [COMPLETED, FAILED])
def test_an_end_teaches_how_long_a_task_ran(status):
    """A failure too: it is an end to be found."""
    driver = fifty_running()
    driver.take(65.0)
    for task_id in FIFTY:
        assert driver.outlook().quiet_until is None
        driver.answer(status, now=65.0, task_id=task_id)

    assert driver.outlook().quiet_until == 60.0


def test_an_end_learned_elsewhere_teaches_too():
    """``fed()`` is like an answer."""
    driver = fifty_running()
    for task_id in FIFTY:
        driver.scheduler.fed(aged(COMPLETED, task_id), now=61.0, unix_now=WALL + 61.0)

    assert driver.outlook().quiet_until == 60.0


def test_giving_up_teaches_nothing():
    """Neither a deadline nor ``discard()`` tells when a task ends."""
    driver = fifty_running(timeout=62.0)
    for task_id in FIFTY[:25]:
        driver.scheduler.discard(task_id)
    assert len(driver.scheduler.expired(62.0, unix_now=WALL + 62.0)) == 25

    assert driver.outlook().quiet_until is None
    assert len(driver.scheduler.pace.learned) == 0


def test_what_was_learned_is_used_for_the_next_look():
    """After an answer; after a failure, and by a hint of the server, it is not."""
    driver = fifty_running()
    driver.take(65.0)
    for task_id in FIFTY:
        driver.answer(COMPLETED, now=65.0, task_id=task_id)
    young = Learner("a")
    young.scheduler.pace.learned = driver.scheduler.pace.learned

    young.poll(PROCESSING, now=1.0)
    assert young.next_at == 16.0
    young.poll(OUT, now=16.0)
    assert young.next_at == 23.5
    young.poll(PROCESSING, now=23.5, poll_after=2.0)
    assert young.next_at == 25.5
    young.scheduler.refresh("a", now=24.0)
    young.poll(PROCESSING, now=24.5)
    assert young.next_at == 39.5


def test_a_policy_that_is_not_adaptive_learns_nothing():
    """And keeps nothing for it."""
    driver = fifty_running(policy=PollPolicy())
    driver.take(65.0)
    for task_id in FIFTY:
        driver.answer(COMPLETED, now=65.0, task_id=task_id)

    assert len(driver.scheduler.pace.learned) == 0
    assert driver.scheduler.pace._looks == {}


def test_an_ended_task_keeps_no_look():
    """What was seen of it while it ran is of no use any more."""
    driver = fifty_running()
    first, second, *_ = driver.scheduler
    assert {first, second} <= set(driver.scheduler.pace._looks)

    driver.scheduler.fed(aged(COMPLETED, first.task_id), now=61.0, unix_now=WALL + 61.0)
    driver.scheduler.discard(second.task_id)

    assert not {first, second} & set(driver.scheduler.pace._looks)
