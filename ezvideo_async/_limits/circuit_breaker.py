"""
Circuit breaker that paces polls during an outage; it ends no poll and no watch.

Closed: polls pass.  Open: one poll at a time is sent as a probe, at growing intervals.
"""

from __future__ import annotations

from collections import deque
from math import inf
from typing import TYPE_CHECKING

from ezvideo_async._domain.telemetry import CircuitClosed, CircuitOpened
from ezvideo_async.errors import (
    BadResponseError,
    ClosedError,
    ConfigError,
    EzVideoError,
    PermissionDeniedError,
    ServerError,
    TransportError,
)

if TYPE_CHECKING:
    from ezvideo_async._domain.telemetry import TelemetryEvent

_NOT_IMPLEMENTED = 501  # concerns one route, not the server's health
_LOCAL_REASONS = frozenset({"local_stall", "key", "resources"})  # not the server's failures

_WINDOW = 30  # seconds of outcomes that are counted
_MIN_OUTCOMES = 20  # outcomes in the window for a share of failures to count
_FAILURE_SHARE = 0.9
_MIN_STREAK = 10  # failures in a row that open the circuit when there are fewer outcomes

_PROBE_INTERVAL = 5.0  # seconds
_PROBE_INTERVAL_GROWTH = 1.5
_PROBE_INTERVAL_MAX = 30.0  # seconds


def health_of(error: EzVideoError | None) -> bool | None:
    """Return True if the outcome shows a healthy server, False if an unhealthy one, else None."""
    if error is None:
        return True
    if isinstance(error, ClosedError) or (isinstance(error, ConfigError) and error.status is None):
        return None  # there was no response
    if isinstance(error, TransportError):
        return None if error.reason in _LOCAL_REASONS else False
    if isinstance(error, ServerError):
        return error.status == _NOT_IMPLEMENTED
    if isinstance(error, BadResponseError):
        return False if error.reason == "html" else None
    if isinstance(error, PermissionDeniedError):
        return not error.retryable
    return True


class CircuitBreaker:
    """Decides from the outcomes of requests when the next poll may start."""

    def __init__(self) -> None:
        self._seconds: deque[list[float]] = deque()  # [second, successes, failures]
        self._failure_streak = 0
        self._opened_at: float | None = None
        self._next_probe = -inf
        self._interval = _PROBE_INTERVAL
        self._is_probing = False

    @property
    def is_open(self) -> bool:
        return self._opened_at is not None

    def next_poll_at(self) -> float:
        """Return when a poll may start: -inf while closed, inf while a probe is in flight."""
        if self._opened_at is None:
            return -inf
        return inf if self._is_probing else self._next_probe

    def start_poll(self) -> None:
        """Record that a poll was sent; while the circuit is open, it is the probe."""
        self._is_probing = self._opened_at is not None

    def abandon_poll(self, started: float) -> None:
        """Record that the poll sent at *started* showed nothing of the server's health."""
        if self._opened_at is not None and started >= self._opened_at:
            self._is_probing = False
            self._next_probe = max(self._next_probe, started + self._interval / 2.0)

    def finish(
        self, error: EzVideoError | None, *, poll: bool, started: float, now: float, rand: float
    ) -> TelemetryEvent | None:
        """
        Record how a request ended; return whether that opened or closed the circuit.

        While the circuit is open, requests sent before it opened are ignored.  A single call
        that succeeds closes it, as a probe does; one that fails does not delay the next probe.
        """
        is_healthy = health_of(error)
        if is_healthy is None:
            if poll:
                self.abandon_poll(started)
            return None
        if self._opened_at is not None:
            if started < self._opened_at or not (poll or is_healthy):
                return None
            return self._finish_probe(self._opened_at, is_healthy=is_healthy, now=now, rand=rand)
        self._failure_streak = 0 if is_healthy else self._failure_streak + 1
        self._count(is_healthy=is_healthy, now=now)
        if is_healthy or not self._has_outage():
            return None
        self._opened_at = now
        self._interval = _PROBE_INTERVAL
        self._schedule_probe(now, rand)
        return CircuitOpened(failures=self._failure_streak)

    def _finish_probe(
        self, opened_at: float, *, is_healthy: bool, now: float, rand: float
    ) -> TelemetryEvent | None:
        self._is_probing = False
        if is_healthy:
            self._opened_at = None
            self._failure_streak = 0
            self._seconds.clear()
            return CircuitClosed(outage=now - opened_at)
        self._interval = min(_PROBE_INTERVAL_MAX, self._interval * _PROBE_INTERVAL_GROWTH)
        self._schedule_probe(now, rand)
        return None

    def _schedule_probe(self, now: float, rand: float) -> None:
        self._next_probe = now + self._interval * (0.5 + rand / 2.0)

    def _count(self, *, is_healthy: bool, now: float) -> None:
        second = now // 1.0
        if not self._seconds or self._seconds[-1][0] != second:
            self._seconds.append([second, 0, 0])
        self._seconds[-1][1 if is_healthy else 2] += 1
        while self._seconds[0][0] <= second - _WINDOW:
            self._seconds.popleft()

    def healthy_since(self, since: float) -> float:
        """Return how many outcomes showed a healthy server, from the second of *since* on."""
        return sum(counts[1] for counts in self._seconds if counts[0] >= since // 1.0)

    def _has_outage(self) -> bool:
        if self._failure_streak >= _MIN_OUTCOMES:
            return True
        failures = sum(counts[2] for counts in self._seconds)
        outcomes = failures + sum(counts[1] for counts in self._seconds)
        if outcomes < _MIN_OUTCOMES:
            return self._failure_streak >= _MIN_STREAK
        return failures >= _FAILURE_SHARE * outcomes
