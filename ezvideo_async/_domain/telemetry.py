"""
Telemetry events, one record per kind, and the ``Observer`` that receives them.

Rules:

1. A telemetry event holds no API key and no url.
2. The events of single requests are made only if there is an observer.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Literal, Protocol

from attrs import frozen

if TYPE_CHECKING:
    from ezvideo_async._domain.task import TaskStatus
    from ezvideo_async.errors import EzVideoError, StoreError


@frozen(kw_only=True)
class PollSucceeded:
    """
    A request for a task's state returned a task.

    Attributes:
        elapsed: Seconds from the start of the request to the decoded response, resends included.
    """

    task_id: str
    status: TaskStatus
    elapsed: float


@frozen(kw_only=True)
class PollFailed:
    """
    A request for a task's state returned no task but an error.

    Attributes:
        elapsed: Seconds from the start of the request to the error, resends included.
    """

    task_id: str
    error: EzVideoError
    elapsed: float


@frozen(kw_only=True)
class RetryScheduled:
    """
    The next request for a task is scheduled after a failure.

    Attributes:
        failures: The failure streak so far.
        delay: Seconds until the next request.
    """

    task_id: str
    failures: int
    delay: float


@frozen(kw_only=True)
class RateLimited:
    """
    A cool-down began: the server responded with 429, or with 503s between valid responses.

    Attributes:
        seconds: The cool-down, in which nothing is sent.
        rate: Requests per second at most after it.
    """

    seconds: float
    rate: float


@frozen(kw_only=True)
class CircuitOpened:
    """The circuit breaker opened after *failures* in a row: one probe at a time is sent."""

    failures: int


@frozen(kw_only=True)
class CircuitClosed:
    """The circuit breaker closed: the server responds again after *outage* seconds."""

    outage: float


@frozen(kw_only=True)
class TaskEnded:
    """A watched id had its final event, of this ``kind``."""

    task_id: str
    kind: Literal["task_completed", "task_failed", "task_lost"]


@frozen(kw_only=True)
class StoreFailed:
    """
    States could not be written to the store; once per period of failing writes.

    Attributes:
        error: Why.
        unsaved: Changes that wait.
    """

    error: StoreError
    unsaved: int


@frozen(kw_only=True)
class StoreRecovered:
    """Writing to the store succeeds again, after *outage* seconds."""

    outage: float


TelemetryEvent = (
    PollSucceeded
    | PollFailed
    | RetryScheduled
    | RateLimited
    | CircuitOpened
    | CircuitClosed
    | TaskEnded
    | StoreFailed
    | StoreRecovered
)
"""Every event an observer may be called with."""


class Observer(Protocol):
    """
    Any callable that receives a :data:`TelemetryEvent`.

    It is called in the event loop and must return quickly.  An exception from it is logged once
    and has no other effect.
    """

    def __call__(self, event: TelemetryEvent, /) -> None:
        """Receive one telemetry event."""
