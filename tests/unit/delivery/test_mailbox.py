"""What one reader hears: a chain of changes, each id's end, and nothing twice."""

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


def watch(task_id="vid_1"):
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


def told(*events):
    """What is read when nothing was read before: the kind's own fields and the progress."""
    mailbox, about = Mailbox(progress=True), watch()
    for event in events:
        mailbox.put(about, event)
    assert len(mailbox) <= 1
    return mailbox.take() if len(mailbox) else None


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
def test_unread_events_of_one_watch_become_one(events, expected):
    """The step from what the reader knew to what is; there and back is nothing."""
    found = told(*events)

    assert (expected and expected.to_dict() | {"seq": 1}) == (found and found.to_dict())


def test_a_hidden_step_of_progress_is_told_with_the_next():
    """When a change of status cancels out, the progress that it hid is still part of the chain."""
    mailbox, about = Mailbox(progress=True), watch()
    mailbox.put(about, status_changed(None, PROCESSING, 10))
    mailbox.take()

    mailbox.put(about, status_changed(PROCESSING, PENDING, 0))
    mailbox.put(about, status_changed(PENDING, PROCESSING, 20))
    assert len(mailbox) == 0
    mailbox.put(about, progress_changed(20, 30))
    assert mailbox.take().previous == 10

    mailbox.put(about, status_changed(PROCESSING, PENDING, 0))
    mailbox.put(about, status_changed(PENDING, PROCESSING, 20))
    mailbox.put(about, progress_changed(20, 30))
    assert len(mailbox) == 0


def test_events_are_read_in_the_order_of_their_watches():
    """A newer change of an old watch keeps the old one's place."""
    mailbox, first, second = Mailbox(progress=True), watch("a"), watch("b")
    mailbox.put(first, status_changed(None, PENDING))
    mailbox.put(second, status_changed(None, PENDING))
    mailbox.put(first, COMPLETED)

    read = [mailbox.take(), mailbox.take()]

    assert [(event.kind, event.seq) for event in read] == [
        ("task_completed", 1),
        ("status_changed", 2),
    ]


def test_a_dropped_watch_is_forgotten():
    """Discarded ids have nothing to tell; dropping again is nothing."""
    mailbox, about, other = Mailbox(progress=True), watch("a"), watch("b")
    mailbox.put(about, progress_changed(10, 20))
    mailbox.take()
    mailbox.put(about, COMPLETED)
    mailbox.put(other, LOST)

    mailbox.drop(about)
    mailbox.drop(about)

    assert len(mailbox) == 1
    assert mailbox.take().kind == "task_lost"
    mailbox.put(about, progress_changed(20, 30))
    assert mailbox.take().previous == 20


states = st.tuples(st.sampled_from([PENDING, PROCESSING]), st.sampled_from([None, 0, 10, 20, 30]))
actions = st.lists(
    st.tuples(st.integers(0, 2), states | st.sampled_from(["read", "stall", "end", "lose"])),
    max_size=60,
)


def _event_of(known, state):
    """What a scheduler makes of a new state."""
    if known is None or known[0] is not state[0]:
        return status_changed(known and known[0], *state)
    return progress_changed(known[1], state[1], state[0]) if known[1] != state[1] else None


class _Hearing:
    """A mailbox between a scheduler's changes and a reader who compares each with the last."""

    def __init__(self):
        self.mailbox = Mailbox(progress=True)
        self.known, self.heard, self.ended, self.numbers = {}, {}, set(), []

    def put(self, about, event):
        self.mailbox.put(about, evolve(event, tag=about))

    def happen(self, about, action):
        if about in self.ended:
            return
        if action in {"end", "lose"}:
            self.put(about, COMPLETED if action == "end" else LOST)
            self.ended.add(about)
        elif action == "stall" and about in self.known:
            status, progress = self.known[about]
            self.put(about, stalled(progress, status))
        elif action != "stall":
            event = _event_of(self.known.get(about), action)
            self.known[about] = action
            if event is not None:
                self.put(about, event)

    def read(self):
        event = self.mailbox.take()
        about = event.tag
        self.numbers.append(event.seq)
        before = self.heard.get(about)
        assert before != "end"
        if isinstance(event, StatusChanged):
            assert event.previous is (before and before[0])
            assert event.previous is not event.current
        elif isinstance(event, ProgressChanged):
            assert (event.previous, event.task.status) == (before[1], before[0])
            assert event.previous != event.current
        now = "end" if event.is_final else (event.task.status, event.task.progress)
        self.heard[about] = now


@given(actions)
def test_what_a_reader_hears_is_a_chain(actions):
    """Each step begins where the last one ended; one unread at most; ends are never lost."""
    hearing, watches = _Hearing(), [watch(name) for name in "abc"]

    for place, action in actions:
        if action != "read":
            hearing.happen(watches[place], action)
        elif len(hearing.mailbox):
            hearing.read()
        assert len(hearing.mailbox) <= len(watches)
    while len(hearing.mailbox):
        hearing.read()

    assert hearing.numbers == list(range(1, len(hearing.numbers) + 1))
    assert {about for about, last in hearing.heard.items() if last == "end"} == hearing.ended
    for about in hearing.known.keys() - hearing.ended:
        assert hearing.heard[about][0] is hearing.known[about][0]


def test_an_event_without_a_task_changes_nothing_heard():
    """What was heard of its progress stays."""
    mailbox, about = Mailbox(progress=True), watch()
    mailbox.put(about, progress_changed(10, 20))
    mailbox.take()
    mailbox.put(about, TaskStalled(task_id="vid_1", task=None, since=0.0))
    mailbox.take()

    mailbox.put(about, progress_changed(25, 30))

    assert mailbox.take().previous == 20


def seen(about, status, progress, now):
    """Let a watch see a state, as a scheduler does."""
    return about.seen(
        task(status, progress), now=now, unix_now=now, progress=True, stalled_after=None
    )


def test_a_state_is_told_as_it_is_when_it_is_read():
    """Changes before that are in it, those after it begin with it."""
    mailbox, about = Mailbox(progress=True), watch()
    seen(about, PENDING, 0, 1.0)
    mailbox.put_state(about)
    mailbox.put(about, seen(about, PROCESSING, 10, 2.0))
    mailbox.put(about, seen(about, PROCESSING, 20, 3.0))

    first = mailbox.take()

    expected = status_changed(None, PROCESSING, 20, at=3.0)
    assert first == evolve(expected, seq=1)
    assert len(mailbox) == 0
    mailbox.put(about, progress_changed(20, 30))
    assert mailbox.take().previous == 20


def test_an_end_takes_the_place_of_a_state_that_was_not_read():
    """It keeps the place, and nothing follows."""
    mailbox, about, other = Mailbox(progress=False), watch(), watch("vid_2")
    for each in (about, other):
        seen(each, PENDING, 0, 1.0)
        mailbox.put_state(each)

    mailbox.put(about, COMPLETED)

    assert [mailbox.take().kind, mailbox.take().kind] == ["task_completed", "status_changed"]
    mailbox.put_state(about)
    mailbox.drop(about)
    assert len(mailbox) == 0


def test_a_reader_that_hears_no_progress_remembers_none():
    """It would be an entry for each id."""
    mailbox, about = Mailbox(progress=False), watch()
    mailbox.put(about, status_changed(None, PENDING, 5))

    mailbox.take()

    assert mailbox._heard == {}
