"""
Mailbox of one reader: at most one unread event per id, the newest.

1. A newer change replaces an unread older one: the reader gets the step from the state that it
   read last to the newest.  A change and its reversal are no change.
2. A final event is never dropped, merged or followed.
3. Events are read in the order in which their ids first had an unread one.
"""

from __future__ import annotations

from collections import OrderedDict
from typing import TYPE_CHECKING

from attrs import evolve

from ezvideo_async._domain.events import ProgressChanged, StatusChanged, TaskStalled, numbered

if TYPE_CHECKING:
    from ezvideo_async._domain.events import Event
    from ezvideo_async._scheduling.tracked_task import TrackedTask


class Mailbox:
    """
    The unread events of one reader; its size is bounded by the number of ids.

    Args:
        progress: Whether changes of progress are put in: then the progress read last is kept.
    """

    __slots__ = ("_last_read", "_progress", "_seq", "_unread")

    def __init__(self, *, progress: bool) -> None:
        self._progress = progress
        # An ordered dict pops its first item in constant time.  None: the state when it is read.
        self._unread: OrderedDict[TrackedTask, Event | None] = OrderedDict()
        self._last_read: dict[TrackedTask, int | None] = {}  # the progress of the last event
        self._seq = 0

    def __len__(self) -> int:
        return len(self._unread)

    def put(self, tracked: TrackedTask, event: Event) -> None:
        """Add an event, merged with the unread one of the same id."""
        if tracked not in self._unread:
            self._put(tracked, event)
            return
        unread = self._unread[tracked]
        if unread is None:
            self._unread[tracked] = event if event.is_final else None
        else:
            self._put(tracked, _merged(unread, event))

    def _put(self, tracked: TrackedTask, event: Event | None) -> None:
        if isinstance(event, ProgressChanged):
            event = self._since_last_read(tracked, event)
        if event is not None:
            self._unread[tracked] = event
        else:
            self._unread.pop(tracked, None)

    def put_state(self, tracked: TrackedTask) -> None:
        """Add the state that an id will have when it is read; costs no memory until then."""
        self._unread[tracked] = None

    def _since_last_read(
        self, tracked: TrackedTask, event: ProgressChanged
    ) -> ProgressChanged | None:
        """Start from the progress that was read, which a merged change of status may hide."""
        previous = self._last_read.get(tracked, event.previous)
        if previous == event.current:
            return None
        return event if previous == event.previous else evolve(event, previous=previous)

    def take(self) -> Event | None:
        """Remove and return the oldest event, numbered from 1; None if there is none."""
        if not self._unread:
            return None
        tracked, unread = self._unread.popitem(last=False)
        self._seq += 1
        event = numbered(tracked.current_state() if unread is None else unread, self._seq)
        if event.is_final:
            self._last_read.pop(tracked, None)
        elif isinstance(event, ProgressChanged):
            self._last_read[tracked] = event.current
        elif self._progress and event.task is not None:
            self._last_read[tracked] = event.task.progress
        return event

    def drop(self, tracked: TrackedTask) -> None:
        self._unread.pop(tracked, None)
        self._last_read.pop(tracked, None)


def _merged(unread: Event, event: Event) -> Event | None:
    """Make one change of two; None when together they change nothing."""
    match unread, event:
        case StatusChanged(), StatusChanged():
            step = evolve(event, previous=unread.previous)
            return None if step.previous is step.current else step
        case StatusChanged(), (ProgressChanged() | TaskStalled()):
            return evolve(unread, task=event.task, at=event.at)
        case ProgressChanged(), ProgressChanged():
            return evolve(event, previous=unread.previous)
        case _:
            return event
