"""
FIFO queue of the ids that are due and wait for a slot, with removal and expiry in O(log n).

Ids are polled in the order in which they came due.  An id that was spread keeps its first due time
until it is polled, so that repeated pauses do not starve it.
"""

from __future__ import annotations

from collections import OrderedDict
from heapq import heapify, heappop, heappush
from itertools import count
from math import inf
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from collections.abc import Collection

    from ezvideo_async._scheduling.tracked_task import TrackedTask


_UNORDERED_MAX = 1000  # ids whose deadlines are not in a heap; few wait, unless polls are late


class ReadyQueue:
    """
    The due ids of one scheduler.

    Attributes:
        deadline: No id in the queue has an earlier deadline, loop clock; ``inf`` when empty.
    """

    __slots__ = ("_deadlines", "_first_due", "_numbers", "_queue", "deadline")

    def __init__(self) -> None:
        self._queue: OrderedDict[TrackedTask, None] = OrderedDict()
        # A heap, while many ids wait or a deadline has passed: most are polled long before theirs.
        # It keeps ids that have left the queue until their deadline, or until they are half of it.
        self._deadlines: list[tuple[float, int, TrackedTask]] | None = None
        self._numbers = count()  # keep the order of ids that share a deadline
        self._first_due: dict[TrackedTask, float] = {}  # of the ids that were spread
        self.deadline = inf

    def __len__(self) -> int:
        return len(self._queue)

    def append(self, tracked: TrackedTask) -> None:
        if tracked.deadline < self.deadline:  # noqa: PLR1730 -- ``min`` costs more
            self.deadline = tracked.deadline
        self._queue[tracked] = None
        if self._deadlines is not None:
            heappush(self._deadlines, (tracked.deadline, next(self._numbers), tracked))
            if len(self._deadlines) > 2 * len(self._queue):
                self._order()
        elif len(self._queue) > _UNORDERED_MAX:
            self._order()

    def popleft(self) -> TrackedTask:
        """Remove and return the id that waits longest; there must be one."""
        tracked, _ = self._queue.popitem(False)  # noqa: FBT003 -- a keyword costs more
        if self._first_due:
            self._first_due.pop(tracked, None)
        if not self._queue:
            self._deadlines, self.deadline = None, inf
        return tracked

    def remove(self, tracked: TrackedTask) -> None:
        del self._queue[tracked]
        if not self._queue:
            self._deadlines, self.deadline = None, inf

    def pop_expired(self, now: float) -> list[TrackedTask]:
        """Remove and return the ids whose deadline has passed by *now*, earliest first."""
        if now < self.deadline:
            return []
        heap = self._order() if self._deadlines is None else self._deadlines
        expired: list[TrackedTask] = []
        self.deadline = inf
        while heap:
            deadline, _, tracked = heap[0]
            if tracked in self._queue:
                if deadline > now:
                    self.deadline = deadline
                    break
                del self._queue[tracked]
                expired.append(tracked)
            heappop(heap)
        return expired

    def _order(self) -> list[tuple[float, int, TrackedTask]]:
        """Make the heap of deadlines of the ids in the queue."""
        heap = [(each.deadline, next(self._numbers), each) for each in self._queue]
        heapify(heap)
        self._deadlines = heap
        return heap

    def pop_to_spread(self, *, again: bool) -> list[TrackedTask]:
        """
        Remove and return the ids that are to come back later, longest due first.

        Args:
            again: False leaves the ids that were spread before and not polled since.
        """
        first_due = self._first_due
        popped: list[TrackedTask] = []
        kept: dict[TrackedTask, None] = {}
        for tracked in self._queue:
            if again or tracked not in first_due:
                popped.append(tracked)
            else:
                kept[tracked] = None
        for tracked in popped:
            first_due.setdefault(tracked, tracked.due)
        self._queue, self._deadlines = OrderedDict(kept), None
        self.deadline = min((tracked.deadline for tracked in kept), default=inf)
        return sorted(popped, key=first_due.__getitem__)

    def spread_ids(self) -> Collection[TrackedTask]:
        """Return the ids that were spread and not polled since, wherever they wait."""
        return self._first_due.keys()

    def forget(self, tracked: TrackedTask) -> None:
        """Forget the first due time of an id that has ended."""
        self._first_due.pop(tracked, None)
