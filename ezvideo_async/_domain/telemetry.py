"""
What instruments hear: one record per thing that happened, one callable that takes them.

No await, no clock, no randomness, no I/O.  Records hold no key and no url; those of single
requests are built only when somebody listens.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Protocol

from attrs import frozen

if TYPE_CHECKING:
    from ezvideo_async._domain.task import TaskStatus
    from ezvideo_async.errors import EzVideoError


@frozen(kw_only=True)
class PollSucceeded:
    """
    A request was answered with a task.

    *elapsed* is in seconds, from the start to the reading, resends included.
    """

    task_id: str
    status: TaskStatus
    elapsed: float


@frozen(kw_only=True)
class PollFailed:
    """A request gave no task; *elapsed* as above."""

    task_id: str
    error: EzVideoError
    elapsed: float


@frozen(kw_only=True)
class RetryScheduled:
    """A task or call will be asked for again in *delay* seconds, after *failures* in a row."""

    task_id: str
    failures: int
    delay: float


@frozen(kw_only=True)
class RateLimited:
    """The server said 429: nothing is sent for *seconds*, then at most *rate* a second."""

    seconds: float
    rate: float


@frozen(kw_only=True)
class CircuitOpened:
    """The server is out: one probe at a time until an answer comes."""

    failures: int


@frozen(kw_only=True)
class CircuitClosed:
    """The server answers again, after *outage* seconds."""

    outage: float


@frozen(kw_only=True)
class TaskEnded:
    """A watched task had its final event of this *kind*."""

    task_id: str
    kind: str


TelemetryEvent = (
    PollSucceeded
    | PollFailed
    | RetryScheduled
    | RateLimited
    | CircuitOpened
    | CircuitClosed
    | TaskEnded
)
"""Everything an observer may be called with."""


class Observer(Protocol):
    """
    Any callable that takes a :data:`TelemetryEvent`.

    It is called in the event loop and must return at once.  What it raises is logged once and
    changes nothing else.
    """

    def __call__(self, signal: TelemetryEvent, /) -> None:
        """Hear of one thing that happened."""
