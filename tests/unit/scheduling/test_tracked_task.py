"""Tracked task: the events that responses cause, and the errors of an id that ends without one."""

from __future__ import annotations

import json
from sys import getsizeof

import pytest

from ezvideo_async._domain.events import (
    ProgressChanged,
    StatusChanged,
    TaskCompleted,
    TaskFailed,
    TaskLost,
    TaskStalled,
)
from ezvideo_async._domain.task import TaskStatus, VideoTask
from ezvideo_async._protocol.messages import Response
from ezvideo_async._protocol.stored_response import FinalBodies
from ezvideo_async._scheduling.server_history import ServerHistory
from ezvideo_async._scheduling.tracked_task import TrackedTask
from ezvideo_async.errors import (
    BadResponseError,
    RequestTimeoutError,
    ServerError,
    TaskNotFoundError,
    WaitTimeoutError,
)
from tests.support.response_bodies import UNIX_NOW, decode

PENDING, PROCESSING = TaskStatus.PENDING, TaskStatus.PROCESSING
COMPLETED, FAILED = TaskStatus.COMPLETED, TaskStatus.FAILED


def task(status, progress=None):
    """The task that a response with this status and progress shows."""
    return VideoTask(id="vid_1", status=status, raw_status=str(status), progress=progress)


def response_with(status, progress=None, **more):
    """A response about the task."""
    body = {"id": "vid_1", "status": status, "progress": progress, **more}
    return Response(status=200, body=json.dumps(body).encode())


class Polled:
    """A tracked task that is polled and updated at given instants of the loop clock."""

    def __init__(self, *, progress=True, stalled_after=None):
        self.tracked = TrackedTask("vid_1", added=0.0, tag="t")
        self.options = {"progress": progress, "stalled_after": stalled_after}

    def observe(self, response, now=0.0):
        """Observe a response, whose wall clock is that of the loop and UNIX_NOW."""
        times = {"now": now, "unix_now": UNIX_NOW + now}
        return self.tracked.observe(
            response, decode, None, **times, **self.options, finals=FinalBodies()
        )

    def record(self, state, now=0.0):
        """Record a decoded state."""
        times = {"now": now, "unix_now": UNIX_NOW + now}
        return self.tracked.record(state, **times, **self.options)


def test_first_state_is_an_event():
    """It has no previous status; time, tag and the decoded task itself are in it."""
    polled = Polled()
    state = task(PENDING)

    event = polled.record(state, now=5.0)

    assert event == StatusChanged(
        task_id="vid_1", task=state, at=UNIX_NOW + 5.0, tag="t", previous=None, current=PENDING
    )
    assert event.task is state
    assert polled.tracked.seen_at == UNIX_NOW + 5.0


def test_status_changes_in_both_directions():
    """A task may be requeued; a response that was observed is kept as bytes."""
    polled = Polled()
    responses = [response_with(status) for status in (PENDING, PROCESSING, PENDING)]

    events = [polled.observe(response) for response in responses]

    assert [(event.previous, event.current) for event in events] == [
        (None, PENDING),
        (PENDING, PROCESSING),
        (PROCESSING, PENDING),
    ]
    assert [event.task for event in events] == [task(PENDING), task(PROCESSING), task(PENDING)]
    assert polled.tracked.content == responses[-1].body


@pytest.mark.parametrize("observed", ["model", "progress"], ids=["decoded", "not decoded"])
def test_change_of_progress_is_an_event_where_it_is_wanted(observed):
    """Whether the response was decoded for it, as something else had changed, or not."""
    more = {"model": "m"} if observed == "model" else {}
    for wanted in (True, False):
        polled = Polled(progress=wanted)
        polled.observe(response_with(PROCESSING, 20))

        event = polled.observe(response_with(PROCESSING, 15, **more), now=5.0)

        if wanted:
            assert isinstance(event, ProgressChanged)
            assert (event.previous, event.current, event.tag) == (20, 15, "t")
            assert (event.at, event.task.progress) == (UNIX_NOW + 5.0, 15)
        else:
            assert event is None
        assert polled.tracked.task.progress == polled.tracked.progress == 15
        assert (polled.tracked.seen_at, polled.tracked.changed) == (UNIX_NOW + 5.0, 5.0)


def test_same_state_is_no_event():
    """Also when other fields of the response differ, which are stored."""
    polled = Polled()
    polled.observe(response_with(PROCESSING, 20))

    assert polled.observe(response_with(PROCESSING, 20), now=5.0) is None
    assert polled.observe(response_with(PROCESSING, 20, model="m"), now=10.0) is None
    assert polled.tracked.task.model == "m"
    assert (polled.tracked.seen_at, polled.tracked.changed) == (UNIX_NOW + 10.0, 0.0)


def test_only_what_may_have_changed_is_decoded():
    """Neither a repeated response nor other progress alone is."""
    polled, calls = Polled(), []
    for progress in (20, 20, 25, None):
        polled.tracked.observe(
            response_with(PROCESSING, progress),
            lambda response, *ids: calls.append(response) or decode(response, *ids),
            None,
            now=0.0,
            unix_now=UNIX_NOW,
            finals=FinalBodies(),
            **polled.options,
        )

    assert calls == [response_with(PROCESSING, 20), response_with(PROCESSING, None)]


@pytest.mark.parametrize(("status", "kind"), [(COMPLETED, TaskCompleted), (FAILED, TaskFailed)])
def test_final_state_is_a_final_event(status, kind):
    """Once it is stored, the id has ended."""
    polled, response = Polled(), response_with(status, 100)

    event = polled.observe(response)

    final = kind(task_id="vid_1", task=decode(response, "vid_1", None), at=UNIX_NOW, tag="t")
    assert event == final
    assert (polled.tracked.final_event, polled.tracked.is_open) == (None, True)
    polled.tracked.end(event)
    assert (polled.tracked.final_event, polled.tracked.is_open) == (event, False)
    assert polled.tracked.task is event.task


def test_response_without_a_state_changes_nothing():
    """The error is returned, and counted by the scheduler."""
    polled = Polled()
    response = response_with(PROCESSING, 20)
    polled.observe(response)

    error = polled.observe(Response(status=200, body=b"{"), now=5.0)

    assert isinstance(error, BadResponseError)
    assert (polled.tracked.content, polled.tracked.seen_at) == (response.body, UNIX_NOW)


@pytest.mark.parametrize(
    "outcome",
    [response_with(PROCESSING, 20), response_with(PROCESSING, 25), response_with(PENDING)],
    ids=["repeat", "progress", "status"],
)
def test_valid_response_ends_a_failure_streak(outcome):
    """Whatever it changes."""
    polled = Polled()
    polled.observe(response_with(PROCESSING, 20))
    streak = polled.tracked.failure_streak()
    streak.errors, streak.last_error = 3, ServerError("x")
    assert polled.tracked.failure_streak() is streak
    assert (polled.tracked.failures, polled.tracked.last_error) == (3, streak.last_error)

    polled.observe(outcome)

    assert (polled.tracked.failures, polled.tracked.last_error) == (0, None)


# -- stalls -----------------------------------------------------------------------------------


@pytest.mark.parametrize("extra", [{}, {"metadata": {"n": 1}}], ids=["repeated", "decoded"])
def test_stall_is_an_event_once(extra):
    """It is due when neither status nor progress has changed for so long."""
    polled = Polled(stalled_after=100.0)
    polled.observe(response_with(PROCESSING, 50), now=10.0)

    assert polled.observe(response_with(PROCESSING, 50, **extra), now=109.0) is None
    event = polled.observe(response_with(PROCESSING, 50), now=120.0)

    assert event == TaskStalled(
        task_id="vid_1",
        task=task(PROCESSING, 50),
        at=UNIX_NOW + 120.0,
        tag="t",
        since=UNIX_NOW + 10.0,
    )
    assert polled.observe(response_with(PROCESSING, 50, **extra), now=300.0) is None


@pytest.mark.parametrize("status", [PROCESSING, PENDING])
def test_change_starts_the_time_until_a_stall_again(status):
    """A change of progress counts, whether it is wanted as an event or not."""
    polled = Polled(stalled_after=100.0, progress=False)
    polled.observe(response_with(PROCESSING, 50), now=0.0)
    assert isinstance(polled.observe(response_with(PROCESSING, 50), now=100.0), TaskStalled)

    polled.observe(response_with(status, 51), now=110.0)

    assert polled.observe(response_with(status, 51), now=209.0) is None
    assert isinstance(polled.observe(response_with(status, 51), now=210.0), TaskStalled)


def test_no_stall_without_stalled_after():
    """None means never."""
    polled = Polled(stalled_after=None)
    polled.observe(response_with(PROCESSING))

    assert polled.observe(response_with(PROCESSING), now=1e6) is None


@pytest.mark.fault("Q15")
def test_failed_polls_are_a_stall_once():
    """From the last change on, or from adding if no state was ever shown."""
    polled, unseen = Polled(), TrackedTask("vid_2", added=50.0)
    polled.observe(response_with(PROCESSING), now=10.0)
    error = ServerError("HTTP 503")

    def stall(tracked, now, stalled_after=100.0):
        return tracked.stall(error, now=now, unix_now=UNIX_NOW + now, stalled_after=stalled_after)

    for tracked, since in ((polled.tracked, 10.0), (unseen, 50.0)):
        assert stall(tracked, since + 99.9) is None
        assert stall(tracked, since + 100.0, stalled_after=None) is None
        event = stall(tracked, since + 100.0)
        assert (event.since, event.error) == (UNIX_NOW + since, error)
        assert event.task == tracked.task
        assert stall(tracked, 1e6) is None


# -- states without a poll, and ends without a state --------------------------------------------


def test_recorded_state_replaces_the_stored_response():
    """The next response is compared with that state, and decoded."""
    polled = Polled()
    response = response_with(PROCESSING, 20)
    polled.observe(response)
    state = task(PROCESSING, 50)

    assert polled.record(state).current == 50
    assert polled.tracked.task is state
    assert polled.observe(response).previous == 50


def test_current_state_is_an_event_for_a_reader_that_knows_none():
    """It has the time at which the state was last seen."""
    polled = Polled()
    for now in (5.0, 9.0):
        polled.observe(response_with(PROCESSING, 20), now=now)

    assert polled.tracked.current_state() == StatusChanged(
        task_id="vid_1",
        task=task(PROCESSING, 20),
        at=UNIX_NOW + 9.0,
        tag="t",
        previous=None,
        current=PROCESSING,
    )


def test_lost_id_carries_its_last_error_and_state():
    """Without a failure, and at the deadline, the error is a timeout."""
    polled = Polled()
    polled.observe(response_with(PENDING))
    tracked, error = polled.tracked, ServerError("HTTP 503")
    tracked.failure_streak().last_error = error

    lost = tracked.lost("vanished", now=12.0, unix_now=UNIX_NOW)
    assert lost == TaskLost(
        task_id="vid_1", task=task(PENDING), at=UNIX_NOW, tag="t", error=error, reason="vanished"
    )
    assert lost.error is error
    timeout = tracked.lost("deadline", now=12.0, unix_now=UNIX_NOW).error
    assert (timeout.waited, timeout.last_error) == (12.0, error)
    unseen = TrackedTask("vid_2", added=0.0).lost("not_found", now=3.0, unix_now=UNIX_NOW)
    assert (unseen.task, type(unseen.error)) == (None, WaitTimeoutError)


def test_timeout_error_says_what_to_do_next():
    """Task, last error and id are on it."""
    polled = Polled()
    polled.observe(response_with(PENDING))
    error = ServerError("HTTP 503: overloaded")
    message = "task 'vid_1' did not finish within 12 s%s; it may still complete and be billed"

    before = polled.tracked.timeout_error(waited=12.0)
    polled.tracked.failure_streak().last_error = error
    after = polled.tracked.timeout_error(waited=12.0)

    assert str(before).startswith(message % "")
    assert str(after).startswith(message % " (last error: HTTP 503: overloaded)")
    assert (after.task, after.task_id, after.last_error) == (task(PENDING), "vid_1", error)


NOT_FOUND = TaskNotFoundError("no such task", status=404, code="task_not_found")


def fail(tracked, error, *, now=0.0):
    """Record a failed poll within the grace."""
    return tracked.fail(error, ServerHistory(), url="", is_in_grace=True, is_in_hub=False, now=now)


@pytest.mark.fault("Q16")
def test_timeout_of_a_task_that_was_never_seen_speaks_of_no_bill():
    """It may not exist."""
    unseen = TrackedTask("vid_1", added=0.0)
    fail(unseen, ServerError("HTTP 503"))

    error = unseen.timeout_error(waited=12.0)

    assert str(error) == (
        "task 'vid_1' did not finish within 12 s (last error: HTTP 503); "
        "no response has shown a state of it; call wait() again to continue"
    )
    assert error.__cause__ is error.last_error


@pytest.mark.fault("Q8")
def test_deadline_of_a_task_that_was_only_not_found_says_so():
    """With an error of its own for each caller; timeouts in between change nothing."""
    unseen = TrackedTask("vid_1", added=0.0)
    fail(unseen, NOT_FOUND)
    fail(unseen, RequestTimeoutError("x"))

    lost = unseen.lost("deadline", now=5.0, unix_now=UNIX_NOW)

    assert lost.reason == "not_found"
    assert (type(lost.error), str(lost.error)) == (TaskNotFoundError, "no such task")
    assert lost.error is not NOT_FOUND
    assert isinstance(unseen.timeout_error(waited=5.0), TaskNotFoundError)


@pytest.mark.fault("Q9")
def test_task_that_came_back_after_not_found_is_remembered():
    """Across streaks; "not yet found" before its first state does not count."""
    polled = Polled()
    fail(polled.tracked, NOT_FOUND)
    polled.observe(response_with(PENDING))
    assert not polled.tracked.failure_streak().has_returned
    fail(polled.tracked, NOT_FOUND)
    polled.observe(response_with(PENDING))

    assert polled.tracked.failure_streak().has_returned


def test_claim_is_recorded():
    """It counts also after those who waited have left."""
    tracked = TrackedTask("vid_1", added=0.0)
    assert not tracked.is_claimed

    tracked.claim()

    assert tracked.is_claimed


def test_record_is_small():
    """A hundred thousand ids are watched at once."""
    tracked = TrackedTask("vid_1", added=0.0)

    assert getsizeof(tracked) <= 180
    assert not hasattr(tracked, "__dict__")
    assert not hasattr(tracked, "__weakref__")
