"""Promises about delivered events: INV-1 to 4, 8, 9, 16, 17, 19, 26, 27."""

from __future__ import annotations

import asyncio
from collections import defaultdict
from math import inf
from typing import TYPE_CHECKING

from ezvideo_async import (
    EzVideoError,
    ProgressChanged,
    StatusChanged,
    TaskCompleted,
    TaskFailed,
    TaskLost,
    TaskStalled,
)
from tests.support.oracle.trace import Delivered, Finished, Raised, Unread, Waits

if TYPE_CHECKING:
    from collections.abc import Iterator

    from ezvideo_async import Event
    from tests.support.oracle.history import History, Watched

_EARLY = 1e-6  # seconds: sums of floats


def numbering(history: History) -> Iterator[str]:
    """INV-1: each reader's events are numbered 1, 2, 3 in their order."""
    numbers = defaultdict(list)
    for _place, record in history.of(Delivered):
        numbers[record.reader].append(record.event.seq)
    for reader, counted in numbers.items():
        if counted != list(range(1, len(counted) + 1)):
            yield f"INV-1: events of reader {reader} are numbered {counted}"


def kinds(history: History) -> Iterator[str]:
    """INV-2: an event is final if and only if its status is."""
    for _place, record in history.of(Delivered):
        if not _fits(record.event):
            yield f"INV-2: {record.event.kind} with {record.event.task}"


def _fits(event: Event) -> bool:
    match event:
        case TaskCompleted():
            return event.is_final and str(event.task.status) == "completed"
        case TaskFailed():
            return event.is_final and str(event.task.status) == "failed"
        case TaskLost():
            return event.is_final and (event.task is None or not event.task.is_terminal)
        case StatusChanged():
            return not event.task.is_terminal and event.current is event.task.status
        case TaskStalled(task=None):  # all its polls fail
            return event.error is not None
        case _:
            return not event.is_final and not event.task.is_terminal


def chains(history: History) -> Iterator[str]:
    """INV-2b: a watch has one first state, and each status change starts from the last one."""
    for watch in history.watches.values():
        for reader, records in watch.delivered.items():
            yield from _chain(history, watch, reader, [each.event for _place, each in records])


def _chain(history: History, watch: Watched, reader: int, events: list[Event]) -> Iterator[str]:
    known = _known_before(history, watch, reader)
    for event in events:
        match event:
            case StatusChanged(previous=previous, current=current):
                if previous != known or current == known:
                    yield f"INV-2b: {watch.key} goes from {known} by {previous} to {current}"
                known = current
            case ProgressChanged(previous=previous, current=current):
                if previous == current:
                    yield f"INV-2b: {watch.key} repeats progress {current}"
            case _:
                pass


def _known_before(history: History, watch: Watched, reader: int) -> str | None:
    """Return the status that a reader without replay knows from before."""
    joined, how = history.readers[reader]
    return None if how.replay or watch.begun > joined else watch.shown_before(joined)


def sources(history: History) -> Iterator[str]:
    """INV-3: each delivered state was shown to this watch, each loss has its reason."""
    for watch in history.watches.values():
        for records in watch.delivered.values():
            for place, each in records:
                if isinstance(each.event, TaskLost):
                    yield from _loss(watch, place, each)
                elif each.event.task is not None and _state(each.event) not in _shown(watch, place):
                    yield f"INV-3: {watch.key} was delivered as {_state(each.event)}"


def _state(event: Event) -> tuple[str, int | None]:
    return str(event.task.status), event.task.progress


def _shown(watch: Watched, place: int) -> list[tuple[str, int | None]]:
    return [(each.status, each.progress) for at, each in watch.answered if at < place]


def _loss(watch: Watched, place: int, record: Delivered) -> Iterator[str]:
    """Check that the deadline has passed or can't be met, or that the server refused."""
    results = [each for at, each in watch.closed if at < place]
    if record.event.reason != "deadline":
        if not any(each.kind in {"refusal", "unclear"} for each in results):
            yield f"INV-13c: {watch.key} was lost as {record.event.reason} without a refusal"
        return
    deadline = watch.added.deadline - _EARLY
    late = any(each.hint is not None and each.at + each.hint >= deadline for each in results)
    if record.at < deadline and not late:
        yield f"INV-3: {watch.key} was lost at {record.at}, before its deadline"


def order(history: History) -> Iterator[str]:
    """INV-3b: the delivered states are a subsequence of the shown ones."""
    for watch in history.watches.values():
        for records in watch.delivered.values():
            ends = [place for place, each in records if each.event.is_final]
            states = [
                (place, _state(each.event))
                for place, each in records
                # The two repeat a state that may have been delivered before.
                if not isinstance(each.event, TaskLost | TaskStalled)
                and place <= min(ends, default=place)
            ]
            if all(state in _shown(watch, place) for place, state in states):  # else INV-3
                yield from _subsequence(watch, states)


def _subsequence(watch: Watched, states: list[tuple[int, tuple[str, int | None]]]) -> Iterator[str]:
    shown = iter(watch.answered)
    for place, state in states:
        if not any(at < place and (each.status, each.progress) == state for at, each in shown):
            yield f"INV-3b: {watch.key} was delivered as {state} out of order"
            return


def levels(history: History) -> Iterator[str]:
    """INV-3b: a reader with nothing to read has the newest state of each watch, and every end."""
    quiet = [*history.of(Waits), *history.of(Raised)]
    for place, record in quiet:
        for watch in history.watches.values():
            if history.concerns(record.reader, watch) and watch.begun < place < watch.dropped:
                yield from _level(history, watch, record.reader, place)


def _level(history: History, watch: Watched, reader: int, place: int) -> Iterator[str]:
    events = [each.event for at, each in watch.delivered[reader] if at < place]
    shown = watch.shown_before(place)
    if any(event.is_final for event in events):
        return
    statuses = [event.task.status for event in events if not isinstance(event, TaskStalled)]
    known = statuses[-1] if statuses else _known_before(history, watch, reader)
    if shown != known:
        yield f"INV-3b: reader {reader} has {watch.key} as {known}, but it is {shown}"


def finals(history: History) -> Iterator[str]:
    """INV-4: at most one final event for each watch and reader, and no event after it."""
    for watch in history.watches.values():
        for records in watch.delivered.values():
            if any(each.event.is_final for _place, each in records[:-1]):
                yield f"INV-4: {watch.key} has events after its final one"


def strangers(history: History) -> Iterator[str]:
    """INV-8, INV-9: events concern watches, and a repeated ``add()`` begins none."""
    for _place, stray in history.strays:
        if isinstance(stray, Delivered):
            key = stray.event.task_id, stray.event.tag
            name = "INV-9" if key in history.refused_tags else "INV-8"
            yield f"{name}: an event of {key}, which never began"


def endings(history: History) -> Iterator[str]:
    """INV-16: a finished reader had each final event; an error carries the open ids."""
    for place, record in history.of(Finished):
        for watch in _watches_of(history, record.reader, place):
            if not _has_final(watch, record.reader, place):
                yield f"INV-16: {watch.key} has no final event"
    for place, record in history.of(Raised):
        open_ids = [
            watch.added.task_id
            for watch in _watches_of(history, record.reader, place)
            if not _has_final(watch, record.reader)
        ]
        named = getattr(record.error, "open_ids", None)
        if history.readers[record.reader][1].later and named != tuple(open_ids):
            yield f"INV-16: {named} are named as open instead of {open_ids}"


def _has_final(watch: Watched, reader: int, place: float = inf) -> bool:
    """Return True if a reader had the final event of a watch before a place."""
    return any(each.event.is_final for at, each in watch.delivered[reader] if at < place)


def _watches_of(history: History, reader: int, place: int) -> list[Watched]:
    return [
        watch
        for watch in history.watches.values()
        if history.concerns(reader, watch) and watch.begun < place < watch.dropped
    ]


def drops(history: History) -> Iterator[str]:
    """INV-17, INV-19: no event of a discarded watch, or after the watcher was left."""
    for watch in history.watches.values():
        for records in watch.delivered.values():
            if any(place > watch.dropped for place, _each in records):
                name = "INV-19" if watch.was_left else "INV-17"
                yield f"{name}: an event of {watch.key}, which was dropped"


def memory(history: History) -> Iterator[str]:
    """INV-26: at most one unread event for each watch without a delivered final event."""
    for place, record in history.of(Unread):
        allowed = sum(
            watch.begun < place < watch.dropped and not _has_final(watch, record.reader, place)
            for watch in history.watches.values()
        )
        if record.count > allowed:
            yield f"INV-26: reader {record.reader} has {record.count} unread for {allowed} watches"


def errors(history: History) -> Iterator[str]:
    """INV-27: a raised error is ours or a cancellation."""
    for _place, record in history.of(Raised):
        if not isinstance(record.error, EzVideoError | asyncio.CancelledError):
            yield f"INV-27: {record.error!r} was raised"


CHECKS = (
    numbering,
    kinds,
    chains,
    sources,
    order,
    levels,
    finals,
    strangers,
    endings,
    drops,
    memory,
    errors,
)
