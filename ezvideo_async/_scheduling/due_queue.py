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
_LIST_MAX = 500  # items in a list: the most that an insertion moves, or a removal compares

_due_of = attrgetter("due")


def _bucket_of(due: float) -> int:
    return int(due * _BUCKETS_PER_SECOND) if due < _FAR else _LAST_BUCKET


def _by_instant(items: list[TrackedTask]) -> InstantQueue:
    queue = InstantQueue()
    for item in items:
        queue.add(item, item.due)
    return queue


class InstantQueue:
    """Items by instant, and in the order of insertion at each; a single one costs no object."""

    __slots__ = ("_instants", "_items")

    def __init__(self) -> None:
        # None and an empty dictionary stand for removed items, until their instant comes first.
        self._items: dict[float, TrackedTask | dict[TrackedTask, None] | None] = {}
        self._instants: list[float] = []  # a heap

    def __len__(self) -> int:
        """Return the number of instants, also of those whose items were removed."""
        return len(self._instants)

    def add(self, item: TrackedTask, instant: float) -> None:
        found = self._items.get(instant)
        if found is None:
            if instant not in self._items:
                heappush(self._instants, instant)
            self._items[instant] = item
        elif isinstance(found, dict):
            found[item] = None
        else:
            self._items[instant] = {found: None, item: None}

    def remove(self, item: TrackedTask, instant: float) -> None:
        found = self._items[instant]
        if isinstance(found, dict):
            del found[item]
        else:
            self._items[instant] = None

    def first(self) -> float | None:
        """Return the first instant that has items; None if there are none."""
        while self._instants:
            instant = self._instants[0]
            if self._items[instant]:
                return instant
            del self._items[heappop(self._instants)]
        return None

    def pop_until(self, now: float) -> list[TrackedTask]:
        """Remove and return the items of all instants until *now*, in order."""
        popped: list[TrackedTask] = []
        while self._instants and self._instants[0] <= now:
            found = self._items.pop(heappop(self._instants))
            if isinstance(found, dict):
                popped += found
            elif found is not None:
                popped.append(found)
        return popped


class DueQueue:
    """Ids by ``due``, which the queue sets; each is in it at most once."""

    __slots__ = ("_buckets", "_numbers", "_open", "_open_number")

    def __init__(self) -> None:
        self._buckets: dict[int, list[TrackedTask] | InstantQueue] = {}
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
        if isinstance(bucket, list):
            bucket.append(item)
            if len(bucket) > _LIST_MAX:
                self._buckets[number] = _by_instant(bucket)
        else:
            bucket.add(item, due)

    def remove(self, item: TrackedTask) -> None:
        """Remove an item that is in the queue."""
        number = _bucket_of(item.due)
        is_open = self._open and number <= self._open_number
        bucket = self._open if is_open else self._buckets[number]
        if isinstance(bucket, list):
            bucket.remove(item)
        else:
            bucket.remove(item, item.due)

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
            if isinstance(first, InstantQueue):
                popped += first.pop_until(now)
            if self._open_first() is not None:
                return popped

    def _open_first(self) -> float | None:
        """Open the first bucket; return the first instant of a large one, which stays closed."""
        number = self._numbers[0]
        bucket = self._buckets[number]
        if isinstance(bucket, InstantQueue):
            due = bucket.first()
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
