"""Conversion between records and rows of a store, and the schedule of restored ids."""

from __future__ import annotations

import json
from math import inf

import pytest
from attrs import evolve

from ezvideo_async import PollPolicy, TaskLost, TaskStatus, VideoTask, errors
from ezvideo_async._domain.stored_task import StoredTask
from ezvideo_async._scheduling.restoring import from_stored, stored_final_event, to_stored
from ezvideo_async._scheduling.scheduler import Scheduler
from ezvideo_async._scheduling.tracked_task import TrackedTask
from ezvideo_async.errors import ServerError, TaskNotFoundError
from tests.support.response_bodies import BASE_URL, decode, response_of

EPOCH = 1_767_225_600.0
BODY = b'{"id": "a", "status": "processing", "progress": 40, "created_at": 1767225600}'
RUNNING = StoredTask(
    task_id="a",
    tag='{"user": 7}',
    added_at=EPOCH,
    deadline_at=EPOCH + 86_400.0,
    status=TaskStatus.PROCESSING,
    changed_at=EPOCH + 30.0,
    body=BODY,
    base_url=BASE_URL,
    request_id="r",
)
COMPLETED = StoredTask(
    task_id="a",
    added_at=EPOCH,
    deadline_at=EPOCH + 86_400.0,
    status=TaskStatus.COMPLETED,
    changed_at=EPOCH + 30.0,
    body=b'{"id": "a", "status": "completed", "url": "https://h/v?\xe2\x80\xa6"}',
    final_kind="task_completed",
)
LOST = StoredTask(
    task_id="a",
    added_at=EPOCH,
    final_kind="task_lost",
    loss='{"reason": "not_found", "error": "TaskNotFoundError", "message": "gone"}',
)


def restored(stored, *, now=100.0):
    """The record of a stored id, some time after a restart of the loop clock."""
    return from_stored(stored, epoch=EPOCH, now=now)


@pytest.mark.parametrize(
    "stored", [RUNNING, StoredTask(task_id="b", added_at=EPOCH + 5.0, changed_at=EPOCH + 5.0)]
)
def test_a_row_comes_back_unchanged(stored):
    """State, times, and tag."""
    assert to_stored(restored(stored), epoch=EPOCH) == stored


@pytest.mark.parametrize("stored", [COMPLETED, LOST])
def test_a_final_event_comes_back_unchanged(stored):
    """With its task, or with the reason and the error of the loss."""
    tracked = restored(stored)
    event = stored_final_event(stored, tracked)
    tracked.end(event)

    again = to_stored(tracked, epoch=EPOCH)

    assert (again.final_kind, again.body) == (stored.final_kind, stored.body)
    if stored is LOST:
        assert json.loads(again.loss) == json.loads(stored.loss)
        assert (event.reason, type(event.error)) == ("not_found", TaskNotFoundError)


def test_a_state_that_came_without_bytes_is_stored_in_the_shape_of_the_api():
    """As by ``apply()``."""
    tracked = TrackedTask("a", added=0.0)
    tracked.restore(
        VideoTask(id="a", status=TaskStatus.PENDING, progress=3), changed=0.0, seen_at=0
    )

    body = json.loads(to_stored(tracked, epoch=EPOCH).body)

    assert (body["id"], body["status"], body["progress"]) == ("a", "pending", 3)


@pytest.mark.parametrize("body", [None, b"{", b'{"id": "a", "status": "failed"}'])
def test_a_body_that_cannot_be_read_counts_as_absent(body):
    """The stored status stays: the id was seen."""
    stored = StoredTask(task_id="a", added_at=EPOCH, status=TaskStatus.PROCESSING, body=body)

    assert restored(stored).task == VideoTask(id="a", status=TaskStatus.PROCESSING)


@pytest.mark.fault("STORE-D1")
@pytest.mark.parametrize(
    ("now", "deadline"),
    [
        (100.0, 86_400.0),
        (86_399.0, 86_459.0),
        (4e7, 4e7 + 60.0),  # the clock was a year behind
        (-4e7, -4e7 + 86_400.0),  # or ahead
    ],
)
def test_a_deadline_keeps_its_instant_within_reason(now, deadline):
    """At least 60 s from the restart, at most the whole timeout."""
    assert restored(RUNNING, now=now).deadline == deadline
    assert restored(StoredTask(task_id="a", added_at=EPOCH), now=now).deadline == inf


@pytest.mark.fault("STORE-D1")
def test_a_timeout_stays_what_it_was_however_often_the_clock_is_wrong():
    """A row that was rewritten under a wrong clock gives no year to live."""
    for error in (4e7, -4e7):
        wrong = to_stored(from_stored(RUNNING, epoch=EPOCH + error, now=0.0), epoch=EPOCH + error)
        right = from_stored(wrong, epoch=EPOCH, now=100.0)

        assert 160.0 <= right.deadline <= 100.0 + 86_400.0 + 1e-6
        assert right.added <= 100.0


def test_a_final_event_keeps_its_kind_when_a_later_poll_showed_another_state():
    """It is stored with its own state."""
    restart = Restart(COMPLETED)
    restart.poll(102.0)
    restart.respond({"id": "a", "status": "processing"})

    again = to_stored(restart.tracked[0], epoch=EPOCH)

    assert (again.status, again.final_kind) == (TaskStatus.COMPLETED, "task_completed")
    event = stored_final_event(again, restored(again))
    assert (event.kind, event.task.url) == ("task_completed", "https://h/v?…")


@pytest.mark.parametrize("kind", ["task_completed", "task_failed"])
def test_a_final_event_without_a_readable_state_keeps_its_kind(kind):
    """Whatever the stored status says."""
    stored = evolve(COMPLETED, status=TaskStatus.PROCESSING, body=None, final_kind=kind)

    assert stored_final_event(stored, restored(stored)).kind == kind


def test_every_error_of_a_lost_id_comes_back():
    """By its class and its message; of an unknown class, the message only."""
    for name in (*errors.__all__, "UnheardOfError"):
        loss = json.dumps({"reason": "refused", "error": name, "message": "no\ud800"})
        stored = evolve(LOST, loss=loss)
        error = stored_final_event(stored, restored(stored)).error

        assert isinstance(error, errors.EzVideoError)
        assert (str(error), error.task_id) == ("no\ud800", "a")
        assert name in {type(error).__name__, "UnheardOfError", "DownloadError"}


def test_a_finished_row_without_a_status_has_no_final_event():
    """Nothing writes one."""
    stored = StoredTask(task_id="a", added_at=EPOCH, final_kind="task_completed")

    assert stored_final_event(stored, restored(stored)) is None


# -- the schedule ---------------------------------------------------------------------------------


class Restart:
    """A scheduler after a restart at 100 s, driven by plain calls."""

    def __init__(self, *rows):
        self.scheduler = Scheduler(PollPolicy(jitter=0.0))
        self.tracked = [restored(row) for row in rows]
        finals = [
            (each, stored_final_event(row, each))
            for row, each in zip(rows, self.tracked, strict=True)
        ]
        self.scheduler.restore(
            self.tracked,
            {each: final for each, final in finals if final is not None},
            now=100.0,
            rand=0.5,
            over=4.0,
        )

    def poll(self, now):
        """Poll what is due."""
        return self.scheduler.tick(
            now,
            unix_now=EPOCH + now,
            rand=lambda: 0.5,
            permit=lambda: True,
            release=lambda _ready: 0.0,
        )

    def respond(self, body, *, now=102.0):
        """What a response to the first poll of the first id brings."""
        (first, *_) = self.tracked
        return self.scheduler.observe(
            first, response_of(body), decode, now=now, unix_now=EPOCH + now, rand=0.5
        )


def test_first_polls_after_a_restart_are_spread():
    """As those of ids that are added."""
    restart = Restart(*(StoredTask(task_id=f"{number}", added_at=EPOCH) for number in range(4)))

    assert [tracked.due for tracked in restart.tracked] == [100.5, 101.5, 102.5, 103.5]
    assert len(restart.scheduler) == 4


def test_the_first_change_starts_from_the_stored_status():
    """What is unchanged is no event."""
    restart = Restart(RUNNING)
    restart.poll(102.0)
    event = restart.respond({"id": "a", "status": "pending"})

    assert (event.previous, event.current) == (TaskStatus.PROCESSING, TaskStatus.PENDING)
    restart = Restart(RUNNING)
    restart.poll(102.0)
    assert restart.respond(BODY) is None


def test_an_id_that_was_never_seen_has_a_new_grace():
    """Not found within ``not_found_grace`` of the restart means not yet; after it, lost."""
    unseen = StoredTask(task_id="a", added_at=EPOCH - 3600.0)
    restart = Restart(unseen)
    not_found = TaskNotFoundError("404", status=404)

    def fail(now):
        restart.poll(now)
        return restart.scheduler.fail(
            restart.tracked[0], not_found, url="u", now=now, unix_now=EPOCH + now, rand=0.5
        )

    assert fail(102.0) is None
    assert fail(111.0).reason == "not_found"


@pytest.mark.parametrize(
    ("stored", "body", "expected"),
    [
        (COMPLETED, {"id": "a", "status": "completed", "url": "https://h/v?k=1"}, "fresh"),
        (COMPLETED, {"id": "a", "status": "failed"}, "stored"),
        (COMPLETED, {"id": "a", "status": "processing"}, "stored"),
        (LOST, {"id": "a", "status": "failed"}, "fresh"),
        (LOST, {"id": "a", "status": "processing"}, "stored"),
    ],
)
def test_a_stored_final_event_has_one_fresh_poll(stored, body, expected):
    """A final state of its kind, or any of a lost id, replaces it."""
    restart = Restart(stored)
    restart.poll(102.0)

    event = restart.respond(body)

    fresh = {"completed": "task_completed", "failed": "task_failed"}.get(body["status"])
    assert event.kind == (fresh if expected == "fresh" else stored.final_kind)
    if expected == "fresh":
        assert event.task.url == body.get("url")
    assert restart.tracked[0].final_event is event
    assert len(restart.scheduler) == 0


@pytest.mark.fault("STORE-D8")
@pytest.mark.parametrize(
    "error", [TaskNotFoundError("404", status=404), ServerError("500", status=500)]
)
def test_a_stored_final_event_comes_after_a_failed_poll(error):
    """Whatever the failure."""
    restart = Restart(COMPLETED)
    restart.poll(102.0)
    event = restart.scheduler.fail(
        restart.tracked[0], error, url="u", now=103.0, unix_now=EPOCH, rand=0.5
    )

    assert event.kind == "task_completed"
    assert len(restart.scheduler) == 0


@pytest.mark.fault("STORE-D10")
def test_a_stored_final_event_comes_after_60_seconds():
    """Although nothing may be sent."""
    restart = Restart(COMPLETED)
    (first,) = restart.tracked

    def tick(now):
        return restart.scheduler.tick(
            now,
            unix_now=EPOCH + now,
            rand=lambda: 0.5,
            permit=lambda: False,
            release=lambda _ready: 0.0,
        )

    assert (tick(102.0).next_at, first.due) == (162.0, 102.0)
    assert [event.kind for _, event in tick(162.0).expired] == ["task_completed"]


@pytest.mark.fault("STORE-D6")
def test_apply_and_discard_of_an_id_with_a_stored_final_event():
    """A final state counts as its fresh poll, any other is ignored; discarding forgets it."""
    restart = Restart(COMPLETED)
    running = VideoTask(id="a", status=TaskStatus.PROCESSING)
    done = VideoTask(id="a", status=TaskStatus.COMPLETED, url="https://h/v?k=1")

    assert restart.scheduler.apply(running, now=101.0, unix_now=EPOCH)[1] is None
    assert restart.scheduler.apply(done, now=101.0, unix_now=EPOCH)[1].task is done
    restart = Restart(LOST)
    assert restart.scheduler.discard("a") is restart.tracked[0]
    assert restart.poll(200.0).expired == ()
    assert isinstance(stored_final_event(LOST, restart.tracked[0]), TaskLost)
