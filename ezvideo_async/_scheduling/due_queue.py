"""
Calendar queue by due time: buckets of 10 ms, of which only the first one is sorted.

1. The order is that of a heap of ``(due, insertion number)``.
2. A removed item leaves nothing behind but, until its bucket is opened, an empty bucket.
3. An unopened bucket costs nothing: distant instants are as cheap as near ones.
"""

from __future__ import annotations

from bisect import bisect_left
from heapq import heappop, heappush
from math import inf
from operator import attrgetter
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from ezvideo_async._scheduling.tracked_task import TrackedTask

# A heap costs 104 bytes an item in place of 16, and twice the time at 10,000 items.

_BUCKETS_PER_SECOND = 100.0  # with 10,000 ids every 5 s, a bucket holds 20
_FAR = 1e12  # seconds; later instants, and inf, share one last bucket
_LAST_BUCKET = int(_FAR * _BUCKETS_PER_SECOND)
_MOVED_MAX = 1000  # the most items that an insertion into the open bucket moves

_due_of = attrgetter("due")


def _bucket_of(due: float) -> int:
    return int(due * _BUCKETS_PER_SECOND) if due < _FAR else _LAST_BUCKET


class DueQueue:
    """Ids by ``due``, which the queue sets; each is in it at most once."""

    __slots__ = ("_buckets", "_numbers", "_open", "_open_number")

    def __init__(self) -> None:
        self._buckets: dict[int, list[TrackedTask]] = {}
        self._numbers: list[int] = []  # of the buckets, as a heap
        self._open: list[TrackedTask] = []  # all items due before the first bucket; the last first
        self._open_number = 0  # the latest bucket that has items in the open one

    def push(self, item: TrackedTask, due: float) -> None:
        item.due = due
        number = _bucket_of(due)
        if self._open and number <= self._open_number:
            self._insert(item)
            return
        bucket = self._buckets.get(number)
        if bucket is None:
            self._buckets[number] = [item]
            heappush(self._numbers, number)
        else:
            bucket.append(item)

    def remove(self, item: TrackedTask) -> None:
        """Remove an item that is in the queue; O(size of its bucket)."""
        number = _bucket_of(item.due)
        is_open = self._open and number <= self._open_number
        (self._open if is_open else self._buckets[number]).remove(item)

    def next_at(self) -> float:
        """Return the instant at which the first item is due; ``inf`` for none."""
        while not self._open and self._numbers:
            self._open_next()
        return self._open[-1].due if self._open else inf

    def pop_due(self, now: float) -> list[TrackedTask]:
        """Remove and return all items due by *now*, in order."""
        popped: list[TrackedTask] = []
        while True:
            bucket = self._open
            while bucket and bucket[-1].due <= now:
                popped.append(bucket.pop())
            if bucket or not self._numbers or self._numbers[0] > _bucket_of(now):
                return popped
            self._open_next()

    def _open_next(self) -> None:
        self._open_number = heappop(self._numbers)
        self._open = sorted(self._buckets.pop(self._open_number), key=_due_of)
        self._open.reverse()

    def _insert(self, item: TrackedTask) -> None:
        """Insert an item into the open bucket, or close it first if that would move many."""
        place = bisect_left(self._open, -item.due, key=lambda other: -other.due)
        if len(self._open) - place <= _MOVED_MAX:
            self._open.insert(place, item)
            return
        bucket, self._open = self._open, []
        for other in (*reversed(bucket), item):
            self.push(other, other.due)
