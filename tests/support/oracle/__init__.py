"""
The watcher's promises as one checker over what happened.

A trace says who was added, asked, answered, discarded and told, and when.  ``check`` names every
promise it breaks; the same checker judges runs in virtual time and runs over real sockets.

INV-1    a reader's events are numbered 1, 2, 3
INV-2    an event is final if and only if the status it tells is
INV-2b   a watch has one first observation, and its statuses follow on each other
INV-3    nothing is invented: what is told was shown to this watch, a loss has its reason
INV-3b   told in the order shown; who waits has been told the newest state, and the end always
INV-4    one final event a watch and reader at most, and nothing after it
INV-5    no request after the end was known
INV-6    an id has one request in flight at most
INV-7    a request has one result
INV-8    requests and events are about what was added
INV-9    adding what is watched changes nothing
INV-10   in flight are ``max_in_flight`` at most
INV-11   an id's requests start ``min_interval`` apart
INV-12   the rate holds in every window
INV-13   none is sent in a shared cool-down
INV-13b  after a 429 the rate is 0.7 of what was measured, and grows back in a minute
INV-13c  in an outage single probes go out, with growing gaps, and no watch ends by it
INV-16   when it is over every watch has ended; when it breaks off the open ones are named
INV-17   no event after ``discard()``
INV-19   nothing after the watcher was left
INV-20   no exception is left that nobody retrieved
INV-21   no open id is forgotten
INV-22   no healthy id is starved
INV-23   no busy loop
INV-26   unread is at most one event for each watch
INV-27   what is raised is ours

Not here: INV-14, 15 and 24 wait for the durable watch set.  That nothing is left (INV-18) each
harness checks when it leaves a watcher; INV-25 says that INV-1, 3b and 16 hold although reads are
cancelled, which harnesses do; INV-28, secrets, is about texts, not about a trace.
"""

from __future__ import annotations

from tests.support.oracle import events, pauses, progress, requests
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
    Name every broken promise.

    Args:
        trace: What happened.
        limits: What the run was allowed.
        is_over: The first reader's iteration has ended.
        is_part: Others shared the budget and the server, of whom the trace does not tell; what
            is promised of all together can't be judged.
    """
    if is_over:
        at = trace.records[-1].at if trace.records else 0.0
        trace = Trace([*trace.records, Finished(at)])
    history = History(trace)
    broken = [breach for promise in events.CHECKS for breach in promise(history)]
    of_all = (*requests.CHECKS, *pauses.CHECKS, *progress.CHECKS)
    for promise in requests.OF_EACH if is_part else of_all:
        broken += promise(history, limits)
    return broken
