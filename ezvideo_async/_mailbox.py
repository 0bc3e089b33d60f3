"""
What one reader has not read yet: at most one event for each watch, the newest.

No await, no clock, no randomness, no I/O.  Rules:

1. A newer change takes the place of an older one that nobody has read; what the reader hears is
   the step from what it knew to what is.  A change there and back is no change.
2. A final event is never dropped, merged away or followed.
3. Events are read in the order in which their watches first had something to tell.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

from attrs import evolve

from ezvideo_async._events import ProgressChanged, StatusChanged, TaskStalled

if TYPE_CHECKING:
    from ezvideo_async._events import Event
    from ezvideo_async._schedule import Watch


class Mailbox:
    """The unread events of one reader; its size is bounded by the number of watches."""

    __slots__ = ("_seq", "_unread")

    def __init__(self) -> None:
        self._unread: dict[Watch, Event] = {}
        self._seq = 0

    def __len__(self) -> int:
        return len(self._unread)

    def put(self, watch: Watch, event: Event) -> None:
        """Add what happened to a watch, in place of what was unread of it."""
        waiting = self._unread.get(watch)
        if waiting is None or event.is_final:
            self._unread[watch] = event
            return
        merged = _merged(waiting, event)
        if merged is None:
            del self._unread[watch]
        else:
            self._unread[watch] = merged

    def take(self) -> tuple[Watch, Event]:
        """Read the oldest: its event, numbered 1, 2, 3 and so on for this reader."""
        watch = next(iter(self._unread))
        event = self._unread.pop(watch)
        self._seq += 1
        return watch, evolve(event, seq=self._seq)

    def drop(self, watch: Watch) -> None:
        """Forget what is unread of a watch."""
        self._unread.pop(watch, None)


def _merged(waiting: Event, event: Event) -> Event | None:
    """Make one change of two; None when together they change nothing."""
    match waiting, event:
        case StatusChanged(), StatusChanged():
            merged = evolve(event, previous=waiting.previous)
            return None if merged.previous is merged.current else merged
        case StatusChanged(), (ProgressChanged() | TaskStalled()):
            return evolve(waiting, task=event.task, at=event.at)
        case ProgressChanged(), ProgressChanged():
            step = evolve(event, previous=waiting.previous)
            return None if step.previous == step.current else step
        case _:
            return event
