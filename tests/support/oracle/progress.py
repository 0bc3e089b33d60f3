"""Promises about liveness and fairness: INV-20 to 23."""

from __future__ import annotations

from itertools import pairwise
from math import inf
from typing import TYPE_CHECKING

from tests.support.oracle.trace import Asked, Closed, Complained, Delivered, Stalled, Woke

if TYPE_CHECKING:
    from collections.abc import Iterator

    from tests.support.oracle.history import History, Watched
    from tests.support.oracle.trace import Limits

EPSILON = 1e-6  # seconds: sums of floats

FAIR = 3.0
"""The longest gap of a healthy id, in mean gaps."""

FAILURES_THAT_OPEN = 10
REFUSALS_THAT_LIMIT = 3
"""Failures in a row that may open the circuit breaker, which delays all polls."""

WAKES_A_SECOND = 10.0
"""Additional rounds of the loop, for timers."""


def unhandled(history: History, _limits: Limits) -> Iterator[str]:
    """INV-20: no exception stays unhandled."""
    for _place, record in history.of(Complained):
        yield f"INV-20: {record.message}"


def liveness(history: History, limits: Limits) -> Iterator[str]:
    """INV-21: an open id is polled within two intervals, or ``longest_gap`` after failures."""
    calm_until = _calm_until(history)
    calm = 2.0 * _interval_now(history, limits)
    for watch in history.watches.values():
        for free, until in _gaps(history, watch):
            longest = calm if until <= calm_until else max(calm, limits.longest_gap)
            if until - free > longest + EPSILON:
                yield f"INV-21: {watch.key} was not polled from {free} to {until}"


def _calm_until(history: History) -> float:
    """Return when the first failure, stall or hint to wait came."""
    for record in history.trace.records:
        match record:
            case Stalled(seconds=seconds, at=at):
                return at - seconds
            case Closed(kind=kind, at=at, hint=hint) if kind != "ok" or hint is not None:
                return at
            case _:
                pass
    return inf


def _interval_now(history: History, limits: Limits) -> float:
    """Return the interval, stretched when the budget is too small for it."""
    ids = len({task_id for task_id, _number in history.watches})
    slowest = max((e.at - e.asked.at for _place, e in history.of(Closed)), default=0.0)
    each = max(1.0 / limits.rate, slowest / limits.max_in_flight)
    return max(limits.interval * (1.0 + limits.jitter), ids * each)


def _gaps(history: History, watch: Watched) -> Iterator[tuple[float, float]]:
    """Yield the times in which a watch was open without a request in flight."""
    free = watch.added.at
    for _place, asked in watch.asked:
        yield free, asked.at
        free = asked.ended if asked.ended is not None else inf
    last = history.trace.records[-1].at
    over = watch.over
    yield free, last if over == inf else history.trace.records[int(over)].at


def fairness(history: History, limits: Limits) -> Iterator[str]:
    """INV-22: without cool-downs and outages no healthy id waits for three mean gaps."""
    healthy = {
        watch.key: [late.at - early.at for (_, early), (_, late) in pairwise(watch.asked)]
        for watch in history.watches.values()
        if all(closed.kind == "ok" for _place, closed in watch.closed)
    }
    gaps = [gap for of_watch in healthy.values() for gap in of_watch]
    if not gaps or _is_held_up(history):
        return
    longest = FAIR * max(limits.interval * (1.0 + limits.jitter), sum(gaps) / len(gaps))
    if len(healthy) < len(history.watches):
        longest += limits.timeout  # the slot of one that fails
    for key, of_watch in healthy.items():
        if max(of_watch, default=0.0) > longest + EPSILON:
            yield f"INV-22: {key} waited {max(of_watch)} s"


def _is_held_up(history: History) -> bool:
    in_a_row = unavailable = 0
    for record in history.trace.records:
        if isinstance(record, Stalled):
            return True
        if isinstance(record, Closed):
            in_a_row = in_a_row + 1 if record.kind in {"failure", "unavailable"} else 0
            unavailable += record.kind == "unavailable"
            hinted = record.hint is not None and record.kind == "ok"
            is_limited = record.kind == "rate_limited" or unavailable >= REFUSALS_THAT_LIMIT
            if is_limited or hinted or in_a_row >= FAILURES_THAT_OPEN:
                return True
    return False


def busy_loops(history: History, limits: Limits) -> Iterator[str]:
    """INV-23: the loop wakes up for requests, events and calls only."""
    woken = history.of(Woke)
    for (early, one), (late, two) in pairwise(woken):
        between = history.trace.records[early:late]
        reasons = sum(isinstance(record, Asked | Delivered) for record in between)
        allowed = limits.wakes * (reasons + two.calls - one.calls + 1)
        if two.count - one.count > allowed + WAKES_A_SECOND * (two.at - one.at):
            yield f"INV-23: {two.count - one.count} rounds of the loop from {one.at} to {two.at}"


CHECKS = (unhandled, liveness, fairness, busy_loops)
