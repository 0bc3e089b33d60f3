"""
Calendar queue by due time: buckets of 10 ms, of which only the first one is sorted.

1. The order is that of a heap of ``(due, insertion number)``.
2. A bucket of up to 500 items is a list.  A larger one is sorted by instant: whatever number of
   items share a bucket or an instant, each is inserted and removed in O(log n).
3. A removed item leaves nothing behind but, until its time comes, an empty bucket or instant.
4. An unopened bucket costs nothing: distant instants are as cheap as near ones.
"""

from __future__ import annotations

from bisect import bisect_left
from heapq import heapify, heappop, heappush
from math import inf
from operator import attrgetter
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from ezvideo_async._scheduling.tracked_task import TrackedTask

# A heap costs 104 bytes an item in place of 16, and twice the time at 10,000 items.

_BUCKETS_PER_SECOND = 100.0  # with 10,000 ids every 5 s, a bucket holds 20
_FAR = 1e12  # seconds; later instants, and inf, share one last bucket
_LAST_BUCKET = int(_FAR * _BUCKETS_PER_SECOND)
_LIST_MAX = 500  # items in a list: the most that an insertion moves, or a removal compares

_due_of = attrgetter("due")


def _bucket_of(due: float) -> int:
    return int(due * _BUCKETS_PER_SECOND) if due < _FAR else _LAST_BUCKET


class _LargeBucket:
    """The items of one bucket by instant, and in the order of insertion at each instant."""

    __slots__ = ("_instants", "_items")

    def __init__(self, items: list[TrackedTask]) -> None:
        self._items: dict[float, dict[TrackedTask, None]] = {}
        for item in items:
            self._items.setdefault(item.due, {})[item] = None
        self._instants = list(self._items)  # a heap
        heapify(self._instants)

    def append(self, item: TrackedTask) -> None:
        items = self._items.get(item.due)
        if items is None:
            self._items[item.due] = {item: None}
            heappush(self._instants, item.due)
        else:
            items[item] = None

    def remove(self, item: TrackedTask) -> None:
        del self._items[item.due][item]

    def first_due(self) -> float | None:
        """Return the instant at which the first item is due; None for an empty bucket."""
        while self._instants:
            due = self._instants[0]
            if self._items[due]:
                return due
            del self._items[heappop(self._instants)]
        return None

    def pop_due(self, now: float) -> list[TrackedTask]:
        """Remove and return all items due by *now*, in order."""
        popped: list[TrackedTask] = []
        while self._instants and self._instants[0] <= now:
            popped += self._items.pop(heappop(self._instants))
        return popped


class DueQueue:
    """Ids by ``due``, which the queue sets; each is in it at most once."""

    __slots__ = ("_buckets", "_numbers", "_open", "_open_number")

    def __init__(self) -> None:
        self._buckets: dict[int, list[TrackedTask] | _LargeBucket] = {}
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
            return
        bucket.append(item)
        if isinstance(bucket, list) and len(bucket) > _LIST_MAX:
            self._buckets[number] = _LargeBucket(bucket)

    def remove(self, item: TrackedTask) -> None:
        """Remove an item that is in the queue."""
        number = _bucket_of(item.due)
        is_open = self._open and number <= self._open_number
        (self._open if is_open else self._buckets[number]).remove(item)

    def next_at(self) -> float:
        """Return the instant at which the first item is due; ``inf`` for none."""
        while not self._open and self._numbers:
            due = self._open_first()
            if due is not None:
                return due
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
            first = self._buckets[self._numbers[0]]
            if isinstance(first, _LargeBucket):
                popped += first.pop_due(now)
            if self._open_first() is not None:
                return popped

    def _open_first(self) -> float | None:
        """Open the first bucket; return the first instant of a large one, which stays closed."""
        number = self._numbers[0]
        bucket = self._buckets[number]
        if isinstance(bucket, _LargeBucket):
            due = bucket.first_due()
            if due is not None:
                return due
        else:
            self._open_number = number
            self._open = sorted(bucket, key=_due_of)
            self._open.reverse()
        del self._buckets[heappop(self._numbers)]
        return None

    def _insert(self, item: TrackedTask) -> None:
        """Insert an item into the open bucket, or close it first if it is full."""
        if len(self._open) < _LIST_MAX:
            place = bisect_left(self._open, -item.due, key=lambda other: -other.due)
            self._open.insert(place, item)
            return
        bucket, self._open = self._open, []
        for other in (*reversed(bucket), item):
            self.push(other, other.due)
