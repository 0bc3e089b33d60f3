"""History of a run: its trace, grouped by watches and readers; a place is a trace index."""

from __future__ import annotations

from collections import defaultdict
from math import inf
from typing import TYPE_CHECKING

from attrs import define, field

from tests.support.oracle.trace import (
    Added,
    AddedAgain,
    Answered,
    Asked,
    Closed,
    Delivered,
    Discarded,
    Ended,
    Joined,
    Left,
    Raised,
)

if TYPE_CHECKING:
    from tests.support.oracle.trace import Trace, WatchKey

TERMINAL = frozenset({"completed", "failed"})


@define(eq=False)
class Watched:
    """
    The requests, responses and events of one watch.

    Attributes:
        begun: The place where it began.
        dropped: The place where it was discarded or left; ``inf`` for never.
        was_left: True if the whole watcher was left.
        stopped: The place after which no request may be sent: dropped, or an error was raised.
        decided: The place where its end was known: by a terminal response, an observer, or a
            final event.
    """

    added: Added
    begun: int
    dropped: float = inf
    was_left: bool = False
    stopped: float = inf
    decided: float = inf
    asked: list[tuple[int, Asked]] = field(factory=list)
    closed: list[tuple[int, Closed]] = field(factory=list)
    answered: list[tuple[int, Answered]] = field(factory=list)
    delivered: dict[int, list[tuple[int, Delivered]]] = field(factory=lambda: defaultdict(list))

    @property
    def key(self) -> WatchKey:
        return self.added.task_id, self.added.number

    @property
    def over(self) -> float:
        return min(self.stopped, self.decided)

    def shown_before(self, place: float) -> str | None:
        """Return the status that was shown last before a place."""
        return next((a.status for at, a in reversed(self.answered) if at < place), None)


@define
class History:
    """
    A whole trace.

    Attributes:
        readers: The place and the record of each reader's start.
        strays: Requests and events without a watch, with their places.
        refused_tags: Tags of repeated adds, which began no watch.
    """

    trace: Trace
    watches: dict[WatchKey, Watched] = field(factory=dict)
    readers: dict[int, tuple[int, Joined]] = field(
        factory=lambda: {0: (-1, Joined(reader=0, at=0.0))}
    )
    strays: list[tuple[int, Asked | Delivered]] = field(factory=list)
    refused_tags: set[WatchKey] = field(factory=set)

    def __attrs_post_init__(self) -> None:
        for place, record in enumerate(self.trace.records):
            self._note(place, record)

    def of(self, kind: type) -> list[tuple[int, object]]:
        """Return all records of one kind, with their places."""
        return [(at, each) for at, each in enumerate(self.trace.records) if isinstance(each, kind)]

    def _note(self, place: int, record: object) -> None:
        match record:
            case Added():
                self.watches[record.task_id, record.number] = Watched(record, place)
            case AddedAgain():
                self.refused_tags.add((record.task_id, record.tag))
            case Discarded() | Left() | Raised():
                self._stop(place, record)
            case Joined():
                self.readers[record.reader] = place, record
            case Asked() | Closed() | Answered() | Ended():
                self._sort(place, record)
            case Delivered():
                self._note_delivered(place, record)
            case _:
                pass

    def _sort(self, place: int, record: Asked | Closed | Answered | Ended) -> None:
        watch = self.watches.get(record.key)
        if watch is None:
            if isinstance(record, Asked):
                self.strays.append((place, record))
            return
        match record:
            case Asked():
                watch.asked.append((place, record))
            case Closed():
                watch.closed.append((place, record))
            case Answered(status=status):
                watch.answered.append((place, record))
                if status in TERMINAL:
                    watch.decided = min(watch.decided, place)
            case Ended():
                watch.decided = min(watch.decided, place)

    def _note_delivered(self, place: int, record: Delivered) -> None:
        watch = self.watches.get((record.event.task_id, record.event.tag))
        if watch is None:
            self.strays.append((place, record))
            return
        watch.delivered[record.reader].append((place, record))
        if record.event.is_final:
            watch.decided = min(watch.decided, place)

    def _stop(self, place: int, record: Discarded | Left | Raised) -> None:
        if isinstance(record, Discarded):
            stopped = [self.watches[record.task_id, record.number]]
        else:
            stopped = list(self.watches.values())
        for watch in stopped:
            watch.stopped = min(watch.stopped, place)
            if watch.dropped == inf and not isinstance(record, Raised):
                watch.dropped, watch.was_left = place, isinstance(record, Left)

    def concerns(self, reader: int, watch: Watched) -> bool:
        """Return True if a reader must get the final event of a watch."""
        joined, how = self.readers[reader]
        if watch.begun > joined:
            return how.later
        return watch.key in how.watches
