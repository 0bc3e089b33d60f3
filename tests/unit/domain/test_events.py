"""What events are and what they look like as plain data."""

from __future__ import annotations

import copy
import json
import pickle
import typing
from functools import partial

import pytest
from attrs import evolve
from attrs.exceptions import FrozenInstanceError

from ezvideo_async._domain import events
from ezvideo_async._domain.task import ErrorInfo, TaskStatus, VideoTask
from ezvideo_async._domain.telemetry import (
    CircuitClosed,
    PollSucceeded,
    RateLimited,
    TelemetryEvent,
)
from ezvideo_async.errors import TaskNotFoundError

ALIVE = VideoTask(id="vid_1", status=TaskStatus.PROCESSING, progress=40)
DONE = VideoTask(id="vid_1", status=TaskStatus.COMPLETED)
FAILED = VideoTask(id="vid_1", status=TaskStatus.FAILED, error=ErrorInfo(code="c"))
LOST = TaskNotFoundError("HTTP 404: no such task", task_id="vid_1", status=404)

ORDINARY = events.ProgressChanged(
    task_id="vid_1", task=ALIVE, at=12.5, tag="t", previous=None, current=40
)

SEEN = {"task_id": "vid_1", "seq": 3, "at": 12.5}
EVENTS = {
    events.StatusChanged(
        **SEEN, task=ALIVE, previous=TaskStatus.PENDING, current=TaskStatus.PROCESSING
    ): {"event": "status_changed", "previous": "pending", "current": "processing"},
    events.StatusChanged(**SEEN, task=ALIVE, previous=None, current=TaskStatus.PROCESSING): {
        "event": "status_changed",
        "previous": None,
        "current": "processing",
    },
    events.ProgressChanged(**SEEN, task=ALIVE, previous=None, current=40): {
        "event": "progress_changed",
        "previous": None,
        "current": 40,
    },
    events.TaskStalled(**SEEN, task=ALIVE, since=2.5): {"event": "task_stalled", "since": 2.5},
    events.TaskCompleted(**SEEN, task=DONE): {"event": "task_completed", "final": True},
    events.TaskFailed(**SEEN, task=FAILED): {"event": "task_failed", "final": True},
    events.TaskLost(**SEEN, task=None, error=LOST, reason="not_found"): {
        "event": "task_lost",
        "final": True,
        "reason": "not_found",
        "error": {"type": "TaskNotFoundError", "message": "HTTP 404: no such task"},
    },
}
ROWS = pytest.mark.parametrize(
    ("event", "own"), EVENTS.items(), ids=[f"{n} {event.kind}" for n, event in enumerate(EVENTS)]
)


@ROWS
def test_an_event_is_plain_data(event, own):
    """The common keys and the kind's own, all of them for JSON; a tag only when there is one."""
    shape = {
        "task_id": "vid_1",
        "seq": 3,
        "at": 12.5,
        "final": False,
        "task": event.task and event.task.to_dict(),
    } | own

    assert shape == event.to_dict()
    assert json.loads(json.dumps(shape)) == shape


@ROWS
def test_an_event_is_frozen_and_travels(event, own):
    """It may be handed to anybody, and to another process."""
    with pytest.raises(FrozenInstanceError):
        event.seq = 4
    assert not hasattr(event, "__dict__")
    assert pickle.loads(pickle.dumps(event)) == event


def unread(reads):
    """Give a change of progress whose task has not been read; *reads* counts how often it is."""

    def read():
        reads.append("once")
        return ALIVE

    return events.progress_changed(
        read, task_id="vid_1", at=12.5, tag="t", previous=None, current=40
    )


USES = {
    "the task": lambda event: event.task == ALIVE,
    "equality": lambda event: event == ORDINARY,
    "hash": lambda event: hash(event) == hash(ORDINARY),
    "repr": lambda event: repr(event) == repr(ORDINARY),
    "plain data": lambda event: event.to_dict() == ORDINARY.to_dict(),
    "evolve": lambda event: evolve(event, seq=7) == evolve(ORDINARY, seq=7),
    "copy": lambda event: copy.copy(event) == ORDINARY,
    "a second reader": lambda event: (
        events.numbered(events.numbered(event, 1), 2) == evolve(ORDINARY, seq=2)
    ),
}


@pytest.mark.parametrize("use", USES.values(), ids=USES)
def test_a_task_is_read_when_it_is_asked_for(use):
    """Once, however it is; but for that the event is as any other."""
    reads = []
    event = unread(reads)
    assert (event.current, event.previous, event.task_id, event.tag) == (40, None, "vid_1", "t")
    assert (event.seq, event.is_final, event.regressed, reads) == (0, False, False, [])

    assert use(event)
    assert event.task is event.task is ALIVE
    assert reads == ["once"]


def test_an_event_with_an_unread_task_travels():
    """It is pickled with the task, or with what to read it from."""
    event = events.progress_changed(
        partial(VideoTask.from_dict, {"id": "vid_1", "status": "processing", "progress": 40}),
        task_id="vid_1", at=12.5, tag=None, previous=None, current=40,
    )  # fmt: skip

    assert pickle.loads(pickle.dumps(event)).task.progress == 40
    assert copy.deepcopy(event) == event


def test_an_event_has_no_other_names():
    """Reading on demand is for the task alone."""
    with pytest.raises(AttributeError, match="'ProgressChanged' object has no attribute 'tusk'"):
        _ = ORDINARY.tusk


def test_the_tag_is_handed_back():
    """As it is, whatever it is."""
    tag = {"user": 7}

    event = events.TaskCompleted(task_id="vid_1", task=DONE, tag=tag)

    assert event.tag is tag
    assert event.to_dict()["tag"] is tag


def test_an_event_of_no_kind_tells_the_common_keys_alone():
    """The base is for ``isinstance`` and for kinds that others add."""
    assert events.TaskEvent(task_id="vid_1", task=None).to_dict() == {
        "event": "task_event",
        "task_id": "vid_1",
        "seq": 0,
        "at": 0.0,
        "final": False,
        "task": None,
    }


def _kinds_of(base):
    """List the classes below one that nothing is derived from."""
    below = base.__subclasses__()
    return {kind for each in below for kind in _kinds_of(each)} if below else {base}


def test_the_unions_are_complete():
    """``match`` over the six classes is exhaustive, and three of them are final."""
    every = set(typing.get_args(events.Event))

    assert every == _kinds_of(events.TaskEvent)
    assert {kind for kind in every if kind.is_final} == set(typing.get_args(events.Final))
    assert _kinds_of(events.FinalEvent) == set(typing.get_args(events.Final))
    assert len({kind.kind for kind in every}) == 6


@pytest.mark.parametrize(
    ("previous", "current", "regressed"),
    [
        ("processing", "pending", True),
        ("pending", "processing", False),
        (None, "pending", False),
        (None, "processing", False),
    ],
)
def test_a_status_regresses_from_processing_to_pending(previous, current, regressed):
    """Requeued, or told by a stale replica."""
    event = events.StatusChanged(
        task_id="vid_1",
        task=ALIVE,
        previous=previous and TaskStatus(previous),
        current=TaskStatus(current),
    )

    assert event.regressed is regressed


@pytest.mark.parametrize(
    ("previous", "current", "regressed"),
    [(60, 40, True), (40, 60, False), (None, 40, False), (40, None, False), (0, 0, False)],
)
def test_a_progress_regresses_when_it_goes_down(previous, current, regressed):
    """An unknown percentage is neither more nor less."""
    event = events.ProgressChanged(task_id="v", task=ALIVE, previous=previous, current=current)

    assert event.regressed is regressed


def test_signals_are_frozen_records_of_one_union():
    """An observer may keep them, compare them and match on their classes."""
    done = PollSucceeded(task_id="vid_1", status=TaskStatus.PENDING, elapsed=0.1)

    assert done == PollSucceeded(task_id="vid_1", status=TaskStatus.PENDING, elapsed=0.1)
    assert {PollSucceeded, RateLimited, CircuitClosed} < set(typing.get_args(TelemetryEvent))
    with pytest.raises(FrozenInstanceError):
        done.elapsed = 0.0
