"""Delays between polls: after responses and failures, and those predicted from finished tasks."""

from __future__ import annotations

from datetime import UTC, datetime

import pytest
from hypothesis import given, strategies as st

from ezvideo_async._domain.events import TaskCompleted, TaskFailed
from ezvideo_async._domain.policies import PollPolicy
from ezvideo_async._domain.task import TaskStatus, VideoTask
from ezvideo_async._protocol.messages import NO_HINT, PollHint
from ezvideo_async._scheduling.duration_estimator import (
    UNKNOWN,
    DurationEstimator,
    Prediction,
)
from ezvideo_async._scheduling.pacing import AdaptivePacer, Pacer, predicted_interval
from ezvideo_async._scheduling.tracked_task import TrackedTask
from ezvideo_async.errors import (
    BadResponseError,
    RateLimitError,
    RequestTimeoutError,
    ServerError,
    TaskNotFoundError,
)

UNIX_START = 1_767_225_600.0
OUTAGE = ServerError("HTTP 503", status=503, retryable=True)


def task(status=TaskStatus.PROCESSING, *, has_age=True):
    """A task created at the beginning."""
    created = datetime.fromtimestamp(UNIX_START, UTC) if has_age else None
    return VideoTask(id="vid_1", status=status, model="m", created_at=created)


def test_polls_start_min_interval_apart():
    """An id that was never polled may be polled at once."""
    pacer, tracked = Pacer(PollPolicy(min_interval=3.0)), TrackedTask("vid_1", added=0.0)
    assert pacer.earliest(tracked, 10.0) == 10.0

    tracked.start_poll(10.0)

    assert pacer.earliest(tracked, 10.5) == 13.0
    assert pacer.earliest(tracked, 14.0) == 14.0


def test_delays_grow_with_failures():
    """Failure k: U(interval, min(60, interval * 2^k))."""
    pacer, tracked = Pacer(PollPolicy()), TrackedTask("vid_1", added=0.0)

    delays = [pacer.after_failure(tracked, OUTAGE, rand=0.5) for _ in range(6)]

    assert delays == [7.5, 12.5, 22.5, 32.5, 32.5, 32.5]
    assert tracked.failures == 6


@pytest.mark.parametrize(
    ("error", "rand", "delay"),
    [
        (ServerError("x", retryable=True, retry_after=20.0), 0.5, 20.0),
        (ServerError("x", retryable=True, retry_after=2.0), 0.5, 7.5),
        (BadResponseError("x", retry_after=30.0), 0.5, 30.0),
        (RateLimitError("x", retry_after=20.0), 0.0, 20.0),
        (RateLimitError("x", retry_after=20.0), 0.5, 25.0),
        (RateLimitError("x", retry_after=86_400.0), 0.5, 605.0),
        (RateLimitError("x"), 0.0, 5.0),
        (RateLimitError("x"), 0.9, 9.5),
        (TaskNotFoundError("x", status=404, retry_after=8.0), 0.5, 8.0),
    ],
)
def test_delay_after_a_failure_obeys_retry_after(error, rand, delay):
    """With any status; after a 429 the ids are spread over two intervals more."""
    tracked = TrackedTask("vid_1", added=0.0)

    assert Pacer(PollPolicy()).after_failure(tracked, error, rand=rand) == delay


@pytest.mark.fault("C21")
@pytest.mark.parametrize(
    "error",
    [RequestTimeoutError("x", reason="local_stall"), TaskNotFoundError("x", status=404)],
    ids=["local stall", "not found"],
)
def test_some_failures_do_not_count_for_the_backoff(error):
    """A blocked event loop, and a task that is not yet known, are no fault of the server."""
    pacer, tracked = Pacer(PollPolicy()), TrackedTask("vid_1", added=0.0)

    assert [pacer.after_failure(tracked, error, rand=0.5) for _ in range(3)] == [5.0] * 3
    assert tracked.failures == 0


def test_not_found_counts_for_the_backoff_of_a_task_that_was_seen():
    """It exists, so that the server may be at fault."""
    pacer, tracked = Pacer(PollPolicy()), TrackedTask("vid_1", added=0.0)
    tracked.store(task())

    error = TaskNotFoundError("x", status=404)

    assert [pacer.after_failure(tracked, error, rand=0.5) for _ in range(2)] == [7.5, 12.5]


# -- predicted intervals --------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("predicted", "interval"),
    [
        (UNKNOWN, 5.0),
        (Prediction(age=10.0), 5.0),
        (Prediction(quiet_until=60.0, ends_at=90.0), 5.0),
        (Prediction(age=10.0, quiet_until=60.0), 15.0),
        (Prediction(age=52.0, quiet_until=60.0), 8.0),
        (Prediction(age=57.0, quiet_until=60.0), 4.8),
        (Prediction(age=600.0, quiet_until=60.0), 4.8),
        (Prediction(age=2.0, quiet_until=15.0), 13.0),
        (Prediction(age=2.0, quiet_until=14.9), 5.0),
        (Prediction(age=10.0, ends_at=90.0), 15.0),
        (Prediction(age=70.0, ends_at=90.0), 10.0),
        (Prediction(age=88.0, ends_at=90.0), 3.0),
        (Prediction(age=95.0, ends_at=90.0), 3.0),
        (Prediction(age=88.0, ends_at=90.0, quiet_until=600.0), 3.0),
    ],
)
def test_predicted_interval_follows_its_formula(predicted, interval):
    """A predicted end comes before a quiet time, and nothing is predicted without an age."""
    assert predicted_interval(5.0, predicted) == interval


numbers = st.none() | st.floats(0.0, 1e6)


@given(interval=st.floats(0.001, 1e4), age=numbers, quiet_until=numbers, ends_at=numbers)
def test_predicted_interval_is_bounded(interval, age, quiet_until, ends_at):
    """It is never below 0.6 intervals, and never above 3."""
    predicted = Prediction(age=age, quiet_until=quiet_until, ends_at=ends_at)

    assert 0.6 * interval <= predicted_interval(interval, predicted) <= 3.0 * interval


class AdaptiveRun:
    """Fifty tasks, created at 0 and seen running at 0 and at 60 s."""

    def __init__(self, *, has_age=True):
        self.estimator = DurationEstimator()
        self.pacer = AdaptivePacer(PollPolicy(adaptive=True), self.estimator)
        self.ids = [TrackedTask(f"vid_{number}", added=0.0) for number in range(50)]
        for now in (0.0, 60.0):
            for tracked in self.ids:
                tracked.store(task(has_age=has_age))
                self.pacer.observe(tracked, now=now, unix_now=UNIX_START + now)

    def finish(self, tracked, event):
        """End an id as the scheduler does."""
        tracked.end(event)
        self.pacer.end(tracked, now=65.0, unix_now=UNIX_START + 65.0)

    def delay_at(self, age, hint=NO_HINT):
        """The delay of a new task after a response at this age."""
        tracked = TrackedTask("vid_new", added=0.0)
        tracked.store(task())
        return self.pacer.after_response(
            tracked, hint, now=age, unix_now=UNIX_START + age, rand=0.5
        )


@pytest.mark.parametrize(
    ("kind", "status"),
    [(TaskCompleted, TaskStatus.COMPLETED), (TaskFailed, TaskStatus.FAILED)],
)
def test_finished_tasks_change_the_delays(kind, status):
    """Fifty are needed; a hint of the server comes before any prediction."""
    run = AdaptiveRun()
    assert run.pacer._observations.keys() == set(run.ids)
    for tracked in run.ids:
        assert run.delay_at(1.0) == 5.0
        run.finish(tracked, kind(task_id=tracked.task_id, task=task(status)))

    assert run.delay_at(1.0) == 15.0
    assert run.delay_at(1.0, PollHint(poll_after=2.0)) == 2.0
    assert run.delay_at(1.0, PollHint(retry_after=7.0)) == 7.0
    assert not run.pacer._observations.keys() & set(run.ids)


def test_lost_and_discarded_ids_change_nothing():
    """When such a task finishes is unknown, and its observation is dropped."""
    run = AdaptiveRun()
    for tracked in run.ids[:25]:
        run.pacer.forget(tracked)
    for tracked in run.ids[25:]:
        run.finish(tracked, tracked.lost("deadline", now=65.0, unix_now=UNIX_START + 65.0))

    assert len(run.estimator) == 0
    assert run.pacer._observations == {}


def test_task_without_an_age_is_polled_at_the_interval():
    """Nothing is kept for it."""
    run = AdaptiveRun(has_age=False)

    assert run.pacer._observations == {}
    delay = run.pacer.after_response(
        run.ids[0], NO_HINT, now=65.0, unix_now=UNIX_START + 65.0, rand=0.5
    )
    assert delay == 5.0
    run.finish(run.ids[0], TaskCompleted(task_id="vid_0", task=task(TaskStatus.COMPLETED)))
    assert len(run.estimator) == 0
