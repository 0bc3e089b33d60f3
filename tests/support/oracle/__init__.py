"""
Checker of the watcher's promises (the oracle), over the records of one run.

A trace holds what was added, requested, answered, discarded and delivered, and when.  ``check``
names every broken promise; it serves runs in virtual time and runs over real sockets.

INV-1    the events of a reader are numbered 1, 2, 3
INV-2    an event is final if and only if its status is
INV-2b   a watch has one first state, and each status change starts from the last one
INV-3    each delivered state was shown to this watch, and each loss has its reason
INV-3b   states are delivered in order; a waiting reader has the newest state, and every end
INV-4    at most one final event for each watch and reader, and no event after it
INV-5    no request after the end is known
INV-6    at most one request of an id is in flight
INV-7    a request has one result
INV-8    requests and events concern added ids only
INV-9    adding an id that is watched changes nothing
INV-10   at most ``max_in_flight`` requests are in flight
INV-11   requests of an id start at least ``min_interval`` apart
INV-12   the rate holds in every window
INV-13   no request is sent in a shared cool-down
INV-13b  after a 429 the rate is 0.7 of the measured rate, and grows back within a minute
INV-13c  in an outage single probes are sent with growing gaps, and no watch ends because of it
INV-16   when iteration ends every watch has ended; an error carries the open ids
INV-17   no event after ``discard()``
INV-19   no event after the watcher was left
INV-20   no exception stays unhandled
INV-21   every open id is polled again
INV-22   no healthy id is starved
INV-23   no busy loop
INV-26   at most one unread event for each watch
INV-27   every raised error is ours

Not checked here: INV-14, 15 and 24 need the store.  Each harness checks that nothing is left
behind (INV-18) and cancels reads (INV-25); INV-28, secrets, is about texts, not about a trace.
"""

from __future__ import annotations

from tests.support.oracle import cool_downs, events, progress, requests
from tests.support.oracle.history import History
from tests.support.oracle.trace import (
    Added,
    AddedAgain,
    Asked,
    Complained,
    Discarded,
    Finished,
    Joined,
    Left,
    Limits,
    Raised,
    Stalled,
    Trace,
    Unread,
    Waits,
    Woke,
)

__all__ = [
    "Added",
    "AddedAgain",
    "Asked",
    "Complained",
    "Discarded",
    "Finished",
    "Joined",
    "Left",
    "Limits",
    "Raised",
    "Stalled",
    "Trace",
    "Unread",
    "Waits",
    "Woke",
    "check",
]


def check(
    trace: Trace, limits: Limits, *, is_over: bool = False, is_part: bool = False
) -> list[str]:
    """
    Return one line for each broken promise.

    Args:
        trace: The records of the run.
        limits: What the run was allowed.
        is_over: True if the first reader's iteration has ended.
        is_part: True if requests outside the trace share the budget; promises about all requests
            together are then not checked.
    """
    if is_over:
        at = trace.records[-1].at if trace.records else 0.0
        trace = Trace([*trace.records, Finished(at)])
    history = History(trace)
    broken = [breach for promise in events.CHECKS for breach in promise(history)]
    of_all = (*requests.CHECKS, *cool_downs.CHECKS, *progress.CHECKS)
    for promise in requests.OF_EACH if is_part else of_all:
        broken += promise(history, limits)
    return broken
