"""What readers are told: INV-1 to 4, 9, 16, 17, 19, 26, 27."""

from __future__ import annotations

import asyncio
from collections import defaultdict
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
from tests.support.oracle.trace import ErrorBody, Finished, Raised, Unread, Waits

if TYPE_CHECKING:
    from collections.abc import Iterator

    from ezvideo_async import Event
    from tests.support.oracle.history import History, Watched

_EARLY = 1e-6  # seconds: sums of floats


def numbering(history: History) -> Iterator[str]:
    """INV-1: each reader's events are numbered 1, 2, 3 in the order they are told."""
    numbers = defaultdict(list)
    for _place, told in history.of(ErrorBody):
        numbers[told.reader].append(told.event.seq)
    for reader, counted in numbers.items():
        if counted != list(range(1, len(counted) + 1)):
            yield f"INV-1: events of reader {reader} are numbered {counted}"


def kinds(history: History) -> Iterator[str]:
    """INV-2: an event is final if and only if the status it tells is."""
    for _place, told in history.of(ErrorBody):
        if not _fits(told.event):
            yield f"INV-2: {told.event.kind} with {told.event.task}"


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
        case _:
            return not event.is_final and not event.task.is_terminal


def chains(history: History) -> Iterator[str]:
    """INV-2b: a watch has one first observation, and its statuses follow on each other."""
    for watch in history.watches.values():
        for reader, told in watch.told.items():
            yield from _chain(history, watch, reader, [each.event for _place, each in told])


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
    """The status that a reader without replay is taken to know."""
    joined, how = history.readers[reader]
    return None if how.replay or watch.begun > joined else watch.shown_before(joined)


def sources(history: History) -> Iterator[str]:
    """INV-3: nothing is invented: each status was shown to this watch, each loss has a reason."""
    for watch in history.watches.values():
        for told in watch.told.values():
            for place, each in told:
                if isinstance(each.event, TaskLost):
                    yield from _loss(watch, place, each)
                elif _state(each.event) not in _shown(watch, place):
                    yield f"INV-3: {watch.key} was told as {_state(each.event)}"


def _state(event: Event) -> tuple[str, int | None]:
    return str(event.task.status), event.task.progress


def _shown(watch: Watched, place: int) -> list[tuple[str, int | None]]:
    return [(each.status, each.progress) for at, each in watch.answered if at < place]


def _loss(watch: Watched, place: int, told: ErrorBody) -> Iterator[str]:
    """A deadline has passed or can't be met; everything else was said by the server."""
    results = [each for at, each in watch.closed if at < place]
    if told.event.reason != "deadline":
        if not any(each.kind in {"well", "neither"} for each in results):
            yield f"INV-13c: {watch.key} was ended as {told.event.reason} without being refused"
        return
    deadline = watch.added.deadline - _EARLY
    late = any(each.hint is not None and each.at + each.hint >= deadline for each in results)
    if told.at < deadline and not late:
        yield f"INV-3: {watch.key} was given up at {told.at}, before its deadline"


def order(history: History) -> Iterator[str]:
    """INV-3b: what is told is a subsequence of what was shown."""
    for watch in history.watches.values():
        for told in watch.told.values():
            ends = [place for place, each in told if each.event.is_final]
            states = [
                (place, _state(each.event))
                for place, each in told
                if not isinstance(each.event, TaskLost) and place <= min(ends, default=place)
            ]
            if all(state in _shown(watch, place) for place, state in states):  # else INV-3
                yield from _subsequence(watch, states)


def _subsequence(watch: Watched, states: list[tuple[int, tuple[str, int | None]]]) -> Iterator[str]:
    shown = iter(watch.answered)
    for place, state in states:
        if not any(at < place and (each.status, each.progress) == state for at, each in shown):
            yield f"INV-3b: {watch.key} was told as {state} out of order"
            return


def levels(history: History) -> Iterator[str]:
    """INV-3b: a reader that has nothing to read knows the newest state of each watch, and ends."""
    quiet = [*history.of(Waits), *history.of(Raised)]
    for place, record in quiet:
        for watch in history.watches.values():
            if history.concerns(record.reader, watch) and watch.begun < place < watch.dropped:
                yield from _level(history, watch, record.reader, place)


def _level(history: History, watch: Watched, reader: int, place: int) -> Iterator[str]:
    told = [each.event for at, each in watch.told[reader] if at < place]
    shown = watch.shown_before(place)
    if any(event.is_final for event in told):
        return
    statuses = [event.task.status for event in told if not isinstance(event, TaskStalled)]
    known = statuses[-1] if statuses else _known_before(history, watch, reader)
    if shown != known:
        yield f"INV-3b: reader {reader} takes {watch.key} for {known}, but it is {shown}"


def finals(history: History) -> Iterator[str]:
    """INV-4: at most one final event a watch and reader, and no event after it."""
    for watch in history.watches.values():
        for told in watch.told.values():
            if any(each.event.is_final for _place, each in told[:-1]):
                yield f"INV-4: {watch.key} has events after its final one"


def strangers(history: History) -> Iterator[str]:
    """INV-8 and INV-9: events are about watches, and a repeated ``add()`` begins none."""
    for _place, stray in history.strays:
        if isinstance(stray, ErrorBody):
            key = stray.event.task_id, stray.event.tag
            name = "INV-9" if key in history.refused_tags else "INV-8"
            yield f"{name}: an event of {key}, which never began"


def endings(history: History) -> Iterator[str]:
    """INV-16: who is told that it is over had the end of each watch; else they are named."""
    for place, record in history.of(Finished):
        for watch in _watches_of(history, record.reader, place):
            count = sum(each.event.is_final for at, each in watch.told[record.reader] if at < place)
            if count == 0:
                yield f"INV-16: {watch.key} has no final event"
    for place, record in history.of(Raised):
        open_ids = [
            watch.added.task_id
            for watch in _watches_of(history, record.reader, place)
            if not any(each.event.is_final for _, each in watch.told[record.reader])
        ]
        named = getattr(record.error, "open_ids", None)
        if history.readers[record.reader][1].later and named != tuple(open_ids):
            yield f"INV-16: {named} are named as open, but {open_ids} are"


def _watches_of(history: History, reader: int, place: int) -> list[Watched]:
    return [
        watch
        for watch in history.watches.values()
        if history.concerns(reader, watch) and watch.begun < place < watch.dropped
    ]


def drops(history: History) -> Iterator[str]:
    """INV-17 and INV-19: no event of a watch that was discarded, or whose watcher was left."""
    for watch in history.watches.values():
        for told in watch.told.values():
            if any(place > watch.dropped for place, _each in told):
                name = "INV-19" if watch.was_left else "INV-17"
                yield f"{name}: an event of {watch.key}, which was dropped"


def memory(history: History) -> Iterator[str]:
    """INV-26: unread is at most one event for each watch whose end the reader does not know."""
    for place, record in history.of(Unread):
        room = sum(
            1
            for watch in history.watches.values()
            if watch.begun < place < watch.dropped
            and not any(e.event.is_final for at, e in watch.told[record.reader] if at < place)
        )
        if record.count > room:
            yield f"INV-26: reader {record.reader} has {record.count} unread for {room} watches"


def errors(history: History) -> Iterator[str]:
    """INV-27: what leaves is ours, or a cancellation, or the caller's own."""
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
