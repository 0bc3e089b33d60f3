"""
What one reader has not read yet: at most one event for each watch, the newest.

No await, no clock, no randomness, no I/O.  Rules:

1. A newer change takes the place of an older one that nobody has read; what the reader hears is
   the step from what it knew to what is.  A change there and back is no change.
2. A final event is never dropped, merged away or followed.
3. Events are read in the order in which their watches first had something to tell.
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
    The unread events of one reader; its size is bounded by the number of watches.

    Args:
        progress: Whether changes of progress are put in: only then is remembered what was read.
    """

    __slots__ = ("_heard", "_progress", "_seq", "_unread")

    def __init__(self, *, progress: bool) -> None:
        self._progress = progress
        # An ordered dict pops its first in no time; None: the state, whatever it is when read.
        self._unread: OrderedDict[TrackedTask, Event | None] = OrderedDict()
        self._heard: dict[TrackedTask, int | None] = {}  # the progress with the last event read
        self._seq = 0

    def __len__(self) -> int:
        return len(self._unread)

    def put(self, watch: TrackedTask, event: Event) -> None:
        """Add what happened to a watch, in place of what was unread of it."""
        if watch not in self._unread:
            self._put(watch, event)
            return
        waiting = self._unread[watch]
        if waiting is None:
            self._unread[watch] = event if event.is_final else None
        else:
            self._put(watch, _merged(waiting, event))

    def _put(self, watch: TrackedTask, event: Event | None) -> None:
        if isinstance(event, ProgressChanged):
            event = self._since_heard(watch, event)
        if event is not None:
            self._unread[watch] = event
        else:
            self._unread.pop(watch, None)

    def put_state(self, watch: TrackedTask) -> None:
        """
        Have the state of a watch told, whatever it is when it is read.

        A hundred thousand states at once, made only then, cost no time and room beforehand.
        """
        self._unread[watch] = None

    def _since_heard(self, watch: TrackedTask, event: ProgressChanged) -> ProgressChanged | None:
        """Tell the step from what was read, since a merged change of status may hide one."""
        previous = self._heard.get(watch, event.previous)
        if previous == event.current:
            return None
        return event if previous == event.previous else evolve(event, previous=previous)

    def take(self) -> Event | None:
        """Read the oldest event, numbered 1, 2, 3 and so on for this reader; None if all are."""
        if not self._unread:
            return None
        watch, waiting = self._unread.popitem(last=False)
        event: Event = watch.state_told() if waiting is None else waiting
        if event.is_final:
            self._heard.pop(watch, None)
        elif isinstance(event, ProgressChanged):
            self._heard[watch] = event.current  # its task may not have been read
        elif self._progress and event.task is not None:
            self._heard[watch] = event.task.progress
        self._seq += 1
        return numbered(event, self._seq)

    def drop(self, watch: TrackedTask) -> None:
        """Forget a watch, and what is unread of it."""
        self._unread.pop(watch, None)
        self._heard.pop(watch, None)


def _merged(waiting: Event, event: Event) -> Event | None:
    """Make one change of two; None when together they change nothing."""
    match waiting, event:
        case StatusChanged(), StatusChanged():
            step = evolve(event, previous=waiting.previous)
            return None if step.previous is step.current else step
        case StatusChanged(), (ProgressChanged() | TaskStalled()):
            return evolve(waiting, task=event.task, at=event.at)
        case ProgressChanged(), ProgressChanged():
            return evolve(event, previous=waiting.previous)
        case _:
            return event
