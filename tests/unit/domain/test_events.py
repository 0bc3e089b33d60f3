"""Events: their plain data, their kinds, and the task that is decoded on demand."""

from __future__ import annotations

import copy
import json
import pickle
import typing

import pytest
from attrs import evolve, field, frozen
from attrs.exceptions import FrozenInstanceError

from ezvideo_async._domain import events
from ezvideo_async._domain.task import ErrorInfo, TaskStatus, VideoTask
from ezvideo_async.errors import TaskNotFoundError

RUNNING = VideoTask(id="vid_1", status=TaskStatus.PROCESSING, progress=40)
COMPLETED = VideoTask(id="vid_1", status=TaskStatus.COMPLETED)
FAILED = VideoTask(id="vid_1", status=TaskStatus.FAILED, error=ErrorInfo(code="c"))
NOT_FOUND = TaskNotFoundError("HTTP 404: no such task", task_id="vid_1", status=404)

COMMON = {"task_id": "vid_1", "seq": 3, "at": 12.5}
EVENTS = {
    events.StatusChanged(
        **COMMON, task=RUNNING, previous=TaskStatus.PENDING, current=TaskStatus.PROCESSING
    ): {"event": "status_changed", "previous": "pending", "current": "processing"},
    events.StatusChanged(**COMMON, task=RUNNING, previous=None, current=TaskStatus.PROCESSING): {
        "event": "status_changed",
        "previous": None,
        "current": "processing",
    },
    events.ProgressChanged(**COMMON, task=RUNNING, previous=None, current=40): {
        "event": "progress_changed",
        "previous": None,
        "current": 40,
    },
    events.TaskStalled(**COMMON, task=RUNNING, since=2.5): {
        "event": "task_stalled",
        "since": 2.5,
        "error": None,
    },
    events.TaskCompleted(**COMMON, task=COMPLETED): {"event": "task_completed", "final": True},
    events.TaskFailed(**COMMON, task=FAILED): {"event": "task_failed", "final": True},
    events.TaskLost(**COMMON, task=None, error=NOT_FOUND, reason="not_found"): {
        "event": "task_lost",
        "final": True,
        "reason": "not_found",
        "error": {"type": "TaskNotFoundError", "message": "HTTP 404: no such task"},
    },
}
EACH_EVENT = pytest.mark.parametrize(
    ("event", "own"), EVENTS.items(), ids=[f"{n} {event.kind}" for n, event in enumerate(EVENTS)]
)


@EACH_EVENT
def test_to_dict_returns_the_common_keys_and_those_of_the_kind(event, own):
    """All of it is plain data for JSON; there is no tag unless one was given."""
    shape = {
        "task_id": "vid_1",
        "seq": 3,
        "at": 12.5,
        "final": False,
        "task": event.task and event.task.to_dict(),
    } | own

    assert shape == event.to_dict()
    assert json.loads(json.dumps(shape)) == shape


@EACH_EVENT
def test_event_is_frozen_and_can_be_pickled(event, own):
    """An event may be given to other code, and to another process."""
    with pytest.raises(FrozenInstanceError):
        event.seq = 4
    assert not hasattr(event, "__dict__")
    assert pickle.loads(pickle.dumps(event)) == event


DECODED = events.ProgressChanged(
    task_id="vid_1", task=RUNNING, at=12.5, tag="t", previous=None, current=40
)


@frozen
class Encoded:
    """A task that counts how often it is decoded."""

    calls: list[str] = field(factory=list, eq=False)

    def decode(self):
        self.calls.append("decode")
        return RUNNING


@pytest.mark.parametrize(
    "use",
    [
        lambda event: event.task == RUNNING,
        lambda event: repr(event) == repr(DECODED),
        lambda event: event.to_dict() == DECODED.to_dict(),
    ],
    ids=["task", "repr", "to_dict"],
)
def test_task_is_decoded_once_on_demand(use):
    """Reading the event's other fields decodes nothing."""
    calls = []
    event = evolve(DECODED, task=Encoded(calls))
    assert (event.current, event.is_final, event.regressed, calls) == (40, False, False, [])

    assert use(event)
    assert event.task is event.task is RUNNING
    assert calls == ["decode"]


@pytest.mark.parametrize(
    "copied", [evolve, copy.copy, copy.deepcopy, lambda e: pickle.loads(pickle.dumps(e))]
)
def test_event_with_an_undecoded_task_equals_a_decoded_one(copied):
    """Copies carry what the task is decoded from; equality and hash compare the task."""
    event = evolve(DECODED, task=Encoded())

    same = copied(event)

    assert same == event == DECODED
    assert hash(same) == hash(event)
    assert same.task == RUNNING
    assert event != evolve(DECODED, task=COMPLETED)


def test_first_reader_gets_the_event_and_others_a_numbered_copy():
    """Each reader counts for itself."""
    event = evolve(DECODED)

    first = events.numbered(event, 7)
    second = events.numbered(event, 1)

    assert first is event
    assert (first.seq, second.seq) == (7, 1)
    assert second == evolve(DECODED, seq=1)


def test_tag_is_returned_unchanged():
    """A tag may be any object, and is not converted by to_dict()."""
    tag = {"user": 7}

    event = events.TaskCompleted(task_id="vid_1", task=COMPLETED, tag=tag)

    assert event.tag is tag
    assert event.to_dict()["tag"] is tag


def _kinds_of(base):
    """List the classes below one that nothing is derived from."""
    below = base.__subclasses__()
    return {kind for each in below for kind in _kinds_of(each)} if below else {base}


def test_unions_and_literals_name_every_kind():
    """A ``match`` over the six classes is exhaustive, and three of them are final."""
    classes = set(typing.get_args(events.Event))
    finals = {each for each in classes if each.is_final}

    assert classes == _kinds_of(events.TaskEvent)
    assert finals == _kinds_of(events.FinalEvent)
    assert {each.kind for each in finals} == set(typing.get_args(events.FinalKind))
    kinds = {kind for each in typing.get_args(events.EventKind) for kind in typing.get_args(each)}
    assert {each.kind for each in classes} == kinds
    assert len(kinds) == 6


@pytest.mark.parametrize(
    ("previous", "current", "regressed"),
    [
        ("processing", "pending", True),
        ("pending", "processing", False),
        (None, "pending", False),
        (None, "processing", False),
    ],
)
def test_status_regresses_from_processing_to_pending(previous, current, regressed):
    """A gateway may requeue a task, or a stale replica respond."""
    event = events.StatusChanged(
        task_id="vid_1",
        task=RUNNING,
        previous=previous and TaskStatus(previous),
        current=TaskStatus(current),
    )

    assert event.regressed is regressed


@pytest.mark.parametrize(
    ("previous", "current", "regressed"),
    [(60, 40, True), (40, 60, False), (None, 40, False), (40, None, False), (0, 0, False)],
)
def test_progress_regresses_when_it_goes_down(previous, current, regressed):
    """An unknown percentage is neither more nor less."""
    event = events.ProgressChanged(task_id="v", task=RUNNING, previous=previous, current=current)

    assert event.regressed is regressed
