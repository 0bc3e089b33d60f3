"""Promises about requests: INV-5 to 8, 10 to 12, 19."""

from __future__ import annotations

from collections import defaultdict
from itertools import pairwise
from typing import TYPE_CHECKING

from tests.support.oracle.trace import Asked, Closed, Finished

if TYPE_CHECKING:
    from collections.abc import Iterator

    from tests.support.oracle.history import History
    from tests.support.oracle.trace import Limits

EPSILON = 1e-6  # seconds: sums of floats


def wanted(history: History, _limits: Limits) -> Iterator[str]:
    """INV-5, 8, 19: requests concern watched ids that have neither ended nor been dropped."""
    for _place, stray in history.strays:
        if isinstance(stray, Asked):
            yield f"INV-8: {stray.task_id} was polled at {stray.at}, but never added"
    for watch in history.watches.values():
        for place, asked in watch.asked:
            if place > watch.stopped:
                is_discarded = watch.stopped == watch.dropped and not watch.was_left
                name = "INV-8" if is_discarded else "INV-19"
                yield f"{name}: {watch.key} was polled at {asked.at} after it was dropped"
            elif place > watch.decided and not asked.resend:
                yield f"INV-5: {watch.key} was polled at {asked.at} after its end was known"


def apart(history: History, limits: Limits) -> Iterator[str]:
    """INV-6, 11: an id's requests do not overlap, and start ``min_interval`` apart."""
    asked, dropped = defaultdict(list), defaultdict(list)
    for place, record in history.of(Asked):
        asked[record.task_id].append((place, record))
    for watch in history.watches.values():
        dropped[watch.added.task_id].append(watch.dropped)
    for task_id, requests in asked.items():
        for (early, one), (late, two) in pairwise(requests):
            if any(early < place < late for place in dropped[task_id]):
                continue  # a new watch has no history
            if one.ended is None or one.ended > two.at + EPSILON:
                yield f"INV-6: {task_id} is in flight twice at {two.at}"
            elif two.at - one.at < limits.min_interval - EPSILON and not two.resend:
                yield f"INV-11: {task_id} was polled at {one.at} and {two.at}"


def results(history: History, _limits: Limits) -> Iterator[str]:
    """INV-7: a request has one result, at the latest when the first reader is finished."""
    counts = defaultdict(int)
    for _place, closed in history.of(Closed):
        counts[closed.asked] += 1
    finished = [place for place, each in history.of(Finished) if each.reader == 0]
    for place, asked in history.of(Asked):
        count = counts[asked]
        if count > 1:
            yield f"INV-7: the request for {asked.task_id} at {asked.at} has {count} results"
        if asked.ended is None and finished and place < finished[0]:
            yield f"INV-7: the request for {asked.task_id} at {asked.at} has no result"


def in_flight(history: History, limits: Limits) -> Iterator[str]:
    """INV-10: at most ``max_in_flight`` requests are in flight."""
    asked = [each for _place, each in history.of(Asked)]
    changes = [(request.at, 1, 1) for request in asked]
    changes += [(request.ended, 0, -1) for request in asked if request.ended is not None]
    count = 0
    for at, _order, change in sorted(changes):
        count += change
        if count > limits.max_in_flight:
            yield f"INV-10: {count} are in flight at {at}"


def rate(history: History, limits: Limits) -> Iterator[str]:
    """INV-12: at most burst + rate * w requests in any window of w seconds."""
    level, last = 0.0, 0.0
    for _place, asked in history.of(Asked):
        if asked.resend:
            continue  # counts as part of its first send
        level = max(0.0, level - limits.rate * (asked.at - last)) + 1.0
        last = asked.at
        if level > limits.burst + 1.0 + EPSILON:
            yield f"INV-12: the rate is exceeded at {asked.at}"


OF_EACH = (wanted, apart, results)
CHECKS = (*OF_EACH, in_flight, rate)
