"""Mailbox: unread events are merged into a chain of changes, and no final event is lost."""

from __future__ import annotations

import pytest
from attrs import evolve
from hypothesis import given, strategies as st

from ezvideo_async._delivery.mailbox import Mailbox
from ezvideo_async._domain.events import (
    ProgressChanged,
    StatusChanged,
    TaskCompleted,
    TaskLost,
    TaskStalled,
)
from ezvideo_async._domain.task import TaskStatus, VideoTask
from ezvideo_async._scheduling.tracked_task import TrackedTask
from ezvideo_async.errors import WaitTimeoutError

PENDING, PROCESSING = TaskStatus.PENDING, TaskStatus.PROCESSING


def tracked_task(task_id="vid_1"):
    return TrackedTask(task_id, added=0.0)


def task(status, progress=None):
    return VideoTask(id="vid_1", status=status, progress=progress)


def status_changed(previous, current, progress=None, at=0.0):
    return StatusChanged(
        task_id="vid_1", task=task(current, progress), at=at, previous=previous, current=current
    )


def progress_changed(previous, current, status=PROCESSING, at=0.0):
    return ProgressChanged(
        task_id="vid_1", task=task(status, current), at=at, previous=previous, current=current
    )


def stalled(progress=None, status=PROCESSING, at=0.0):
    return TaskStalled(task_id="vid_1", task=task(status, progress), at=at, since=0.0)


COMPLETED = TaskCompleted(task_id="vid_1", task=task(TaskStatus.COMPLETED, 100))
LOST = TaskLost(task_id="vid_1", task=None, error=WaitTimeoutError("x"), reason="deadline")


@pytest.mark.parametrize(
    ("events", "expected"),
    [
        ([status_changed(None, PENDING)], status_changed(None, PENDING)),
        (
            [status_changed(None, PENDING), status_changed(PENDING, PROCESSING, at=2.0)],
            status_changed(None, PROCESSING, at=2.0),
        ),
        ([status_changed(PENDING, PROCESSING), status_changed(PROCESSING, PENDING)], None),
        (
            [status_changed(None, PROCESSING, 10), progress_changed(10, 20, at=2.0)],
            status_changed(None, PROCESSING, 20, at=2.0),
        ),
        (
            [status_changed(None, PROCESSING, 10), stalled(10, at=2.0)],
            status_changed(None, PROCESSING, 10, at=2.0),
        ),
        (
            [progress_changed(10, 20), progress_changed(20, 30, at=2.0)],
            progress_changed(10, 30, at=2.0),
        ),
        ([progress_changed(10, 20), progress_changed(20, 10)], None),
        (
            [progress_changed(10, 20), status_changed(PROCESSING, PENDING, 20)],
            status_changed(PROCESSING, PENDING, 20),
        ),
        ([progress_changed(10, 20), stalled(20)], stalled(20)),
        ([stalled(10), progress_changed(10, 20)], progress_changed(10, 20)),
        ([stalled(10), status_changed(PROCESSING, PENDING)], status_changed(PROCESSING, PENDING)),
        ([status_changed(None, PENDING), COMPLETED], COMPLETED),
        ([progress_changed(10, 20), LOST], LOST),
        ([stalled(), COMPLETED], COMPLETED),
        ([COMPLETED], COMPLETED),
    ],
    ids=str,
)  # fmt: skip
def test_unread_events_of_one_id_are_merged(events, expected):
    """The reader gets the step from what it knew; a change and its reversal are none."""
    mailbox, tracked = Mailbox(progress=True), tracked_task()

    for event in events:
        mailbox.put(tracked, event)

    assert len(mailbox) == (expected is not None)
    assert mailbox.take() == (expected and evolve(expected, seq=1))


def test_progress_hidden_by_a_reversed_status_comes_with_the_next_change():
    """It starts from the progress that was read."""
    mailbox, tracked = Mailbox(progress=True), tracked_task()
    mailbox.put(tracked, status_changed(None, PROCESSING, 10))
    mailbox.take()

    mailbox.put(tracked, status_changed(PROCESSING, PENDING, 0))
    mailbox.put(tracked, status_changed(PENDING, PROCESSING, 20))
    assert len(mailbox) == 0
    mailbox.put(tracked, progress_changed(20, 30))
    assert mailbox.take().previous == 10

    mailbox.put(tracked, status_changed(PROCESSING, PENDING, 0))
    mailbox.put(tracked, status_changed(PENDING, PROCESSING, 20))
    mailbox.put(tracked, progress_changed(20, 30))
    assert len(mailbox) == 0


def test_events_are_read_in_the_order_in_which_their_ids_had_one():
    """A newer change keeps the place of the older one."""
    mailbox, first, second = Mailbox(progress=True), tracked_task("a"), tracked_task("b")
    mailbox.put(first, status_changed(None, PENDING))
    mailbox.put(second, status_changed(None, PENDING))
    mailbox.put(first, COMPLETED)

    read = [mailbox.take(), mailbox.take()]

    assert [(event.kind, event.seq) for event in read] == [
        ("task_completed", 1),
        ("status_changed", 2),
    ]


def test_dropped_id_is_forgotten():
    """Its unread event is removed; drop() is idempotent."""
    mailbox, tracked, other = Mailbox(progress=True), tracked_task("a"), tracked_task("b")
    mailbox.put(tracked, progress_changed(10, 20))
    mailbox.take()
    mailbox.put(tracked, COMPLETED)
    mailbox.put(other, LOST)

    mailbox.drop(tracked)
    mailbox.drop(tracked)

    assert len(mailbox) == 1
    assert mailbox.take().kind == "task_lost"
    mailbox.put(tracked, progress_changed(20, 30))
    assert mailbox.take().previous == 20


states = st.tuples(st.sampled_from([PENDING, PROCESSING]), st.sampled_from([None, 0, 10, 20, 30]))
actions = st.lists(
    st.tuples(st.integers(0, 2), states | st.sampled_from(["read", "stall", "end", "lose"])),
    max_size=60,
)


def _event_of(known, state):
    """Give the event that a scheduler makes of a new state."""
    if known is None or known[0] is not state[0]:
        return status_changed(known and known[0], *state)
    return progress_changed(known[1], state[1], state[0]) if known[1] != state[1] else None


class CheckedMailbox:
    """A mailbox whose reader compares each event with the one before."""

    def __init__(self):
        self.mailbox = Mailbox(progress=True)
        self.known, self.read_last, self.ended, self.numbers = {}, {}, set(), []

    def put(self, tracked, event):
        self.mailbox.put(tracked, evolve(event, tag=tracked))

    def happen(self, tracked, action):
        if tracked in self.ended:
            return
        if action in {"end", "lose"}:
            self.put(tracked, COMPLETED if action == "end" else LOST)
            self.ended.add(tracked)
        elif action == "stall" and tracked in self.known:
            status, progress = self.known[tracked]
            self.put(tracked, stalled(progress, status))
        elif action != "stall":
            event = _event_of(self.known.get(tracked), action)
            self.known[tracked] = action
            if event is not None:
                self.put(tracked, event)

    def read(self):
        event = self.mailbox.take()
        tracked = event.tag
        self.numbers.append(event.seq)
        before = self.read_last.get(tracked)
        assert before != "end"
        if isinstance(event, StatusChanged):
            assert event.previous is (before and before[0])
            assert event.previous is not event.current
        elif isinstance(event, ProgressChanged):
            assert (event.previous, event.task.status) == (before[1], before[0])
            assert event.previous != event.current
        now = "end" if event.is_final else (event.task.status, event.task.progress)
        self.read_last[tracked] = now


@given(actions)
def test_events_read_are_a_chain(actions):
    """Each step starts where the last one ended; final events are never lost."""
    checked, ids = CheckedMailbox(), [tracked_task(name) for name in "abc"]

    for place, action in actions:
        if action != "read":
            checked.happen(ids[place], action)
        elif len(checked.mailbox):
            checked.read()
        assert len(checked.mailbox) <= len(ids)
    while len(checked.mailbox):
        checked.read()

    assert checked.numbers == list(range(1, len(checked.numbers) + 1))
    assert {
        tracked for tracked, last in checked.read_last.items() if last == "end"
    } == checked.ended
    for tracked in checked.known.keys() - checked.ended:
        assert checked.read_last[tracked][0] is checked.known[tracked][0]


def test_event_without_a_task_leaves_the_progress_that_was_read():
    """The next change starts from it."""
    mailbox, tracked = Mailbox(progress=True), tracked_task()
    mailbox.put(tracked, progress_changed(10, 20))
    mailbox.take()
    mailbox.put(tracked, TaskStalled(task_id="vid_1", task=None, since=0.0))
    mailbox.take()

    mailbox.put(tracked, progress_changed(25, 30))

    assert mailbox.take().previous == 20


def record(tracked, status, progress, now):
    """Record a state, as a scheduler does."""
    return tracked.record(
        task(status, progress), now=now, unix_now=now, progress=True, stalled_after=None
    )


def test_state_is_read_as_it_is_at_that_time():
    """Changes before are part of it, and those after it start from it."""
    mailbox, tracked = Mailbox(progress=True), tracked_task()
    record(tracked, PENDING, 0, 1.0)
    mailbox.put_state(tracked)
    mailbox.put(tracked, record(tracked, PROCESSING, 10, 2.0))
    mailbox.put(tracked, record(tracked, PROCESSING, 20, 3.0))

    first = mailbox.take()

    expected = status_changed(None, PROCESSING, 20, at=3.0)
    assert first == evolve(expected, seq=1)
    assert len(mailbox) == 0
    mailbox.put(tracked, progress_changed(20, 30))
    assert mailbox.take().previous == 20


def test_final_event_replaces_an_unread_state():
    """It keeps the place, and nothing follows."""
    mailbox, tracked, other = Mailbox(progress=False), tracked_task(), tracked_task("vid_2")
    for each in (tracked, other):
        record(each, PENDING, 0, 1.0)
        mailbox.put_state(each)

    mailbox.put(tracked, COMPLETED)

    assert [mailbox.take().kind, mailbox.take().kind] == ["task_completed", "status_changed"]
    mailbox.put_state(tracked)
    mailbox.drop(tracked)
    assert len(mailbox) == 0


def test_reader_without_progress_keeps_no_progress():
    """It would be an entry for each id."""
    mailbox, tracked = Mailbox(progress=False), tracked_task()
    mailbox.put(tracked, status_changed(None, PENDING, 5))

    mailbox.take()

    assert mailbox._last_read == {}
