"""
Who is due and waits for a slot, and in which order they get one.

No await, no clock, no randomness, no I/O.  Rules:

1. Ready ids are served in the order they came due.  One that was spread, and not sent since, has
   waited longer than all that were not: it comes first.
2. Whose deadline passes while it waits here is handed out as expired, and not served.
"""

from __future__ import annotations

from math import inf
from typing import TYPE_CHECKING

from ezvideo_async._scheduling.fifo import FifoQueue
from ezvideo_async._scheduling.tracked_task import Phase

if TYPE_CHECKING:
    from ezvideo_async._scheduling.tracked_task import TrackedTask

# Looking up a member of an enum takes longer than looking up its name (CPython 3.11: 0.1 us).
_READY, _OVERDUE = Phase.READY, Phase.OVERDUE


class ReadyQueue:
    """
    The due ids of one schedule.

    Attributes:
        deadline: No ready id's deadline is earlier; ``inf`` when none is ready.
    """

    __slots__ = ("_lines", "_overdue", "_since", "_usual", "deadline")

    def __init__(self) -> None:
        self._overdue: FifoQueue[TrackedTask] = FifoQueue()  # of those that were spread before
        self._usual: FifoQueue[TrackedTask] = FifoQueue()
        self._lines = (self._overdue, self._usual)
        self._since: dict[
            TrackedTask, float
        ] = {}  # when those came due that were spread, not sent yet
        self.deadline = inf

    def __len__(self) -> int:
        return len(self._overdue) + len(self._usual)

    def append(self, watch: TrackedTask) -> None:
        """Let an id queue up that has come due."""
        if watch.deadline < self.deadline:  # noqa: PLR1730 -- ``min`` takes 0.1 us more
            self.deadline = watch.deadline
        if self._since and watch in self._since:
            watch.state = _OVERDUE
            self._overdue.append(watch)
        else:
            watch.state = _READY
            self._usual.append(watch)

    def take(self, limit: int) -> list[TrackedTask]:
        """Serve those that wait longest, so many at most."""
        taken = self._overdue.take(limit) if self._overdue else []
        taken += self._usual.take(limit - len(taken))
        if self._since:
            for watch in taken:
                self._since.pop(watch, None)
        self._note_if_empty()
        return taken

    def take_expired(self, now: float) -> list[TrackedTask]:
        """Take out those whose deadline has passed by *now*, in order."""
        if now < self.deadline:
            return []
        expired = [watch for line in self._lines for watch in line if watch.deadline <= now]
        for watch in expired:
            self._line_of(watch).remove(watch)
        self.deadline = min((watch.deadline for line in self._lines for watch in line), default=inf)
        return expired

    def take_to_spread(self, *, again: bool) -> list[TrackedTask]:
        """
        Take out those that are to come back later, those first that wait longest.

        Args:
            again: False leaves alone what was spread before and not sent since.
        """
        lines = self._lines if again else (self._usual,)
        waiting = [watch for line in lines for watch in line]
        for line in lines:
            line.clear()
        self.deadline = min((watch.deadline for watch in self._overdue), default=inf)
        for watch in waiting:
            self._since.setdefault(watch, watch.due)
        waiting.sort(key=self._since.__getitem__)
        return waiting

    def drop(self, watch: TrackedTask) -> None:
        """Forget an id that has ended, whether it is ready or not."""
        if watch.state in (_READY, _OVERDUE):
            self._line_of(watch).remove(watch)
            self._note_if_empty()
        self._since.pop(watch, None)

    def _line_of(self, watch: TrackedTask) -> FifoQueue[TrackedTask]:
        return self._overdue if watch.state is _OVERDUE else self._usual

    def _note_if_empty(self) -> None:
        if not self._usual and not self._overdue:
            self.deadline = inf
