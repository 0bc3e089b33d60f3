"""
FIFO queue of the ids that are due and wait for a slot, with removal and expiry in O(log n).

Ids are polled in the order in which they came due.  A removed id leaves a gap, which is dropped
when the id would come next; gaps are never more than half of the queue.  An id that was spread
keeps its first due time until it is polled, so that repeated pauses do not starve it.
"""

from __future__ import annotations

from collections import deque
from math import inf
from typing import TYPE_CHECKING

from ezvideo_async._scheduling.due_queue import InstantQueue

if TYPE_CHECKING:
    from collections.abc import Collection

    from ezvideo_async._scheduling.tracked_task import TrackedTask

_UNORDERED_MAX = 10_000  # ids that are arranged by deadline only once one has passed: 5 ms


class ReadyQueue:
    """
    The due ids of one scheduler.

    Attributes:
        deadline: No id in the queue has an earlier deadline, loop clock; ``inf`` when empty.
    """

    __slots__ = ("_by_deadline", "_first_due", "_queue", "_removed", "deadline")

    def __init__(self) -> None:
        self._queue: deque[TrackedTask] = deque()
        self._removed: set[TrackedTask] = set()
        self._by_deadline: InstantQueue | None = None  # if many wait, or one has expired
        self._first_due: dict[TrackedTask, float] = {}  # of the ids that were spread
        self.deadline = inf

    def __len__(self) -> int:
        return len(self._queue) - len(self._removed)

    def append(self, tracked: TrackedTask) -> None:
        if tracked.deadline < self.deadline:  # noqa: PLR1730 -- ``min`` costs more
            self.deadline = tracked.deadline
        self._queue.append(tracked)
        if self._by_deadline is not None:
            self._by_deadline.add(tracked, tracked.deadline)
            if len(self._by_deadline) > 2 * len(self):
                self._order()
        elif len(self._queue) > _UNORDERED_MAX:
            self._order()

    def popleft(self) -> TrackedTask:
        """Remove and return the id that waits longest; there must be one."""
        tracked = self._queue.popleft()
        if self._removed:
            while tracked in self._removed:
                self._removed.remove(tracked)
                tracked = self._queue.popleft()
            self._drop_gaps()
        if self._first_due:
            self._first_due.pop(tracked, None)
        if not self._queue:
            self._by_deadline, self.deadline = None, inf
        elif self._by_deadline is not None:
            self._by_deadline.remove(tracked, tracked.deadline)
        return tracked

    def remove(self, tracked: TrackedTask) -> None:
        if self._by_deadline is not None:
            self._by_deadline.remove(tracked, tracked.deadline)
        self._removed.add(tracked)
        self._drop_gaps()

    def pop_expired(self, now: float) -> list[TrackedTask]:
        """Remove and return the ids whose deadline has passed by *now*, earliest first."""
        if now < self.deadline:
            return []
        by_deadline = self._order() if self._by_deadline is None else self._by_deadline
        expired = by_deadline.pop_until(now)
        self._removed.update(expired)
        self._drop_gaps()
        first = by_deadline.first()
        self.deadline = inf if first is None else first
        return expired

    def _order(self) -> InstantQueue:
        """Arrange the ids by deadline."""
        self._by_deadline = by_deadline = InstantQueue()
        for tracked in self._present():
            by_deadline.add(tracked, tracked.deadline)
        return by_deadline

    def pop_to_spread(self, *, again: bool) -> list[TrackedTask]:
        """
        Remove and return the ids that are to come back later, longest due first.

        Args:
            again: False leaves the ids that were spread before and not polled since.
        """
        first_due = self._first_due
        popped: list[TrackedTask] = []
        kept: list[TrackedTask] = []
        for tracked in self._present():
            (popped if again or tracked not in first_due else kept).append(tracked)
        for tracked in popped:
            first_due.setdefault(tracked, tracked.due)
        self._queue, self._by_deadline = deque(kept), None
        self._removed.clear()
        self.deadline = min((tracked.deadline for tracked in kept), default=inf)
        return sorted(popped, key=first_due.__getitem__)

    def spread_ids(self) -> Collection[TrackedTask]:
        """Return the ids that were spread and not polled since, wherever they wait."""
        return self._first_due.keys()

    def forget(self, tracked: TrackedTask) -> None:
        """Forget the first due time of an id that has ended."""
        self._first_due.pop(tracked, None)

    def _drop_gaps(self) -> None:
        """Drop the gaps once they are more than half of the queue."""
        if 2 * len(self._removed) > len(self._queue):
            self._queue = deque(self._present())
            self._removed.clear()
            if not self._queue:
                self._by_deadline, self.deadline = None, inf

    def _present(self) -> list[TrackedTask]:
        return [tracked for tracked in self._queue if tracked not in self._removed]
