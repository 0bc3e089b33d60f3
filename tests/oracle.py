"""
The watcher's promises as one checker over what happened.

A trace says who was added, asked, answered, discarded and told, and when.  ``check`` names every
promise it breaks; the same checker judges runs in virtual time and runs over real sockets.
Events carry the number of their watch as the tag, so that watches of one id are told apart.
"""

from __future__ import annotations

from collections import defaultdict
from itertools import pairwise
from typing import TYPE_CHECKING

from attrs import define, field

from ezvideo_async import (
    ProgressChanged,
    StatusChanged,
    TaskCompleted,
    TaskFailed,
    TaskLost,
    TaskStatus,
)

if TYPE_CHECKING:
    from collections.abc import Iterable, Iterator

    from ezvideo_async import Event

EPSILON = 1e-6  # seconds: sums of floats


@define
class Added:
    """Watch number *number* of an id began."""

    task_id: str
    number: int
    at: float


@define
class Discarded:
    """``discard()`` returned True."""

    task_id: str
    number: int
    at: float


@define
class Asked:
    """A request left; *ended* is when it was answered, failed or cancelled."""

    task_id: str
    at: float
    ended: float | None = None


@define
class Answered:
    """The server showed, or a webhook fed, this status word."""

    task_id: str
    at: float
    status: str


@define
class Told:
    """A reader got an event."""

    event: Event
    at: float


@define
class Trace:
    """What happened, in order."""

    records: list[Added | Discarded | Asked | Answered | Told] = field(factory=list)

    def asked(self, task_id: str, at: float) -> Asked:
        """Note a request; its end is filled in later."""
        record = Asked(task_id, at)
        self.records.append(record)
        return record

    def answered(self, task_id: str, at: float, status: str) -> None:
        """Note what the server showed."""
        self.records.append(Answered(task_id, at, status))

    def told(self, event: Event, at: float) -> None:
        """Note what the reader got."""
        self.records.append(Told(event, at))


@define(kw_only=True)
class Limits:
    """What the run was allowed."""

    min_interval: float = 1.0
    max_in_flight: int = 64
    rate: float = 100.0
    burst: float = 5.0


def check(trace: Trace, limits: Limits, *, is_over: bool = False) -> list[str]:
    """Name every broken promise; *is_over* says that the iteration ended by itself."""
    return [
        *_numbering(trace),
        *_watches(trace, is_over=is_over),
        *_requests(trace, limits),
    ]


def _of(trace: Trace, kind: type) -> list:
    return [record for record in trace.records if isinstance(record, kind)]


def _numbering(trace: Trace) -> Iterator[str]:
    """INV-1: numbers of events run 1, 2, 3."""
    numbers = [told.event.seq for told in _of(trace, Told)]
    if numbers != list(range(1, len(numbers) + 1)):
        yield f"INV-1: events are numbered {numbers}"


def _watches(trace: Trace, *, is_over: bool) -> Iterator[str]:
    told: dict[tuple[str, int], list[Event]] = defaultdict(list)
    begun: dict[tuple[str, int], int] = {}
    dropped: dict[tuple[str, int], int] = {}
    for place, record in enumerate(trace.records):
        match record:
            case Added(task_id=task_id, number=number):
                begun[task_id, number] = place
            case Discarded(task_id=task_id, number=number):
                dropped[task_id, number] = place
            case Told(event=event):
                watch = event.task_id, event.tag
                told[watch].append(event)
                if watch not in begun:
                    yield f"INV-8: an event of {watch}, which was never added"
                if watch in dropped:
                    yield f"INV-17: an event of {watch} after discard()"
                else:
                    yield from _shown_before(trace, begun.get(watch, 0), place, event)
    for watch, events in told.items():
        yield from _chain(watch, events)
    for watch in begun.keys() - dropped.keys() if is_over else ():
        finals = sum(event.is_final for event in told[watch])
        if finals != 1:
            yield f"INV-16: {watch} has {finals} final events"


def _shown_before(trace: Trace, begun: int, place: int, event: Event) -> Iterator[str]:
    """INV-3: nothing invented."""
    if isinstance(event, TaskLost):
        return
    shown = {
        record.status
        for record in trace.records[begun:place]
        if isinstance(record, Answered) and record.task_id == event.task_id
    }
    if str(event.task.status) not in shown:
        yield f"INV-3: {event.task_id} told as {event.task.status}, shown were {shown}"


def _chain(watch: tuple[str, int], events: list[Event]) -> Iterator[str]:
    """INV-2, 2b, 4: one first observation, no repetition, one final event at the end."""
    if any(event.is_final for event in events[:-1]):
        yield f"INV-4: {watch} has events after its final one"
    known: TaskStatus | None = None
    for event in events:
        match event:
            case StatusChanged(previous=previous, current=current):
                if previous is not known or current is known:
                    yield f"INV-2b: {watch} goes from {known} by {previous} to {current}"
                known = current
            case ProgressChanged(previous=previous, current=current):
                if previous == current:
                    yield f"INV-2b: {watch} repeats progress {current}"
            case TaskCompleted(task=task) | TaskFailed(task=task):
                if not task.is_terminal:
                    yield f"INV-2: {watch} ends with {task.status}"
            case _:
                pass


def _requests(trace: Trace, limits: Limits) -> Iterator[str]:
    asked: list[Asked] = _of(trace, Asked)
    by_id: dict[str, list[Asked]] = defaultdict(list)
    for request in asked:
        by_id[request.task_id].append(request)
    watched = {record.task_id for record in _of(trace, Added)}
    for task_id, requests in by_id.items():
        if task_id not in watched:
            yield f"INV-8: {task_id} was asked for, but never added"
        yield from _spacing(trace, task_id, requests, limits)
    yield from _in_flight(asked, limits)
    yield from _rate([request.at for request in asked], limits)


def _spacing(trace: Trace, task_id: str, requests: list[Asked], limits: Limits) -> Iterator[str]:
    """INV-6 and INV-11, within one watch: a new watch of the id starts afresh."""
    begun = [record.at for record in _of(trace, Added) if record.task_id == task_id]
    for one, two in pairwise(requests):
        if any(one.at <= at <= two.at for at in begun):
            continue
        if one.ended is None or one.ended > two.at + EPSILON:
            yield f"INV-6: {task_id} in flight twice at {two.at}"
        if two.at - one.at < limits.min_interval - EPSILON:
            yield f"INV-11: {task_id} asked at {one.at} and {two.at}"


def _in_flight(asked: list[Asked], limits: Limits) -> Iterator[str]:
    """INV-10: never more than *max_in_flight* at once."""
    changes = [(request.at, 1, 1) for request in asked]
    changes += [(request.ended, 0, -1) for request in asked if request.ended is not None]
    flying = 0
    for at, _order, change in sorted(changes):
        flying += change
        if flying > limits.max_in_flight:
            yield f"INV-10: {flying} in flight at {at}"


def _rate(starts: Iterable[float], limits: Limits) -> Iterator[str]:
    """INV-12: in no window more than burst + rate * its length; a bucket that never overflows."""
    level, last = 0.0, 0.0
    for at in starts:
        level = max(0.0, level - limits.rate * (at - last)) + 1.0
        last = at
        if level > limits.burst + 1.0 + EPSILON:
            yield f"INV-12: the rate is passed at {at}"
