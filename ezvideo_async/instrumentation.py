"""
Telemetry events for metrics, traces and logs, and the ``Observer`` that receives them.

Pass observers to ``AsyncVideoClient(observers=[...])``; each one is called in the event loop with
every telemetry event of that client and its watchers.
"""

from ezvideo_async._domain.telemetry import (
    CircuitClosed,
    CircuitOpened,
    Observer,
    PollFailed,
    PollSucceeded,
    RateLimited,
    RetryScheduled,
    StoreFailed,
    StoreRecovered,
    TaskEnded,
    TelemetryEvent,
)

__all__ = [
    "CircuitClosed",
    "CircuitOpened",
    "Observer",
    "PollFailed",
    "PollSucceeded",
    "RateLimited",
    "RetryScheduled",
    "StoreFailed",
    "StoreRecovered",
    "TaskEnded",
    "TelemetryEvent",
]
