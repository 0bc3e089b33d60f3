"""
Whether the server is out: a circuit breaker that paces polls and ends nothing.

No await, no clock, no randomness of its own; arithmetic on ``now`` (loop clock, seconds).
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

_NOT_IMPLEMENTED = 501  # an answer about one thing, not an outage
_OUR_OWN_REASONS = frozenset({"local_stall", "key", "resources"})
"""Our loop, our key provider, our limit of open files."""
_WINDOW = 30  # seconds over which the breaker judges
_ENOUGH = 20  # outcomes for a judgement
_FEW = 10  # failures in a row that open it when there are fewer outcomes
_TROUBLED = 0.9  # share of failures
_PROBE_GAP = 5.0  # seconds
_PROBE_GAP_GROWTH = 1.5
_PROBE_GAP_MAX = 30.0  # seconds


def verdict(error: EzVideoError | None) -> bool | None:
    """Tell whether the server is well (True) or in trouble (False); None when it tells neither."""
    if error is None:
        return True
    if isinstance(error, ClosedError) or (isinstance(error, ConfigError) and error.status is None):
        return None  # ours: the server was not heard
    if isinstance(error, TransportError):
        return None if error.reason in _OUR_OWN_REASONS else False
    if isinstance(error, ServerError):
        return error.status == _NOT_IMPLEMENTED
    if isinstance(error, BadResponseError):
        return False if error.reason == "html" else None
    if isinstance(error, PermissionDeniedError):
        return not error.retryable
    return True


class CircuitBreaker:
    """Closed: everything passes.  Open: one probe at a time, with growing gaps."""

    def __init__(self) -> None:
        self._seconds: deque[list[float]] = deque()  # [second, well, troubled], at most _WINDOW
        self._in_a_row = 0
        self._opened_at: float | None = None
        self._next_probe = -inf
        self._gap = _PROBE_GAP
        self._probing = False

    @property
    def is_open(self) -> bool:
        """True while the server is taken for out."""
        return self._opened_at is not None

    def probe_at(self) -> float:
        """When the next probe may start: at once when closed, ``inf`` while one is out."""
        if self._opened_at is None:
            return -inf
        return inf if self._probing else self._next_probe

    def started(self) -> None:
        """Note that a poll was sent: while open, it is the probe."""
        self._probing = self._opened_at is not None

    def abandoned(self, started: float) -> None:
        """Note that a request ended without telling anything about the server."""
        if self._opened_at is not None and started >= self._opened_at:
            self._probing = False
            self._next_probe = max(self._next_probe, started + self._gap / 2.0)

    def judged(
        self, *, well: bool, is_poll: bool, started: float, now: float, rand: float
    ) -> TelemetryEvent | None:
        """
        Take in one verdict; what it changed, mostly None.

        While open, a single call that went well is as good as a probe; one that did not, for
        a bad task perhaps, tells nothing, and paces no probe.
        """
        if self._opened_at is not None:
            if started < self._opened_at or not (is_poll or well):
                return None
            return self._judged_open(self._opened_at, well=well, now=now, rand=rand)
        self._in_a_row = 0 if well else self._in_a_row + 1
        self._count(well=well, now=now)
        if well or not self._is_out():
            return None
        self._opened_at = now
        self._probing = False
        self._gap = _PROBE_GAP
        self._next_probe = now + self._gap * (0.5 + rand / 2.0)
        return CircuitOpened(failures=self._in_a_row)

    def _judged_open(
        self, opened_at: float, *, well: bool, now: float, rand: float
    ) -> TelemetryEvent | None:
        self._probing = False
        if well:
            self._opened_at = None
            self._in_a_row = 0
            self._seconds.clear()
            return CircuitClosed(outage=now - opened_at)
        self._gap = min(_PROBE_GAP_MAX, self._gap * _PROBE_GAP_GROWTH)
        self._next_probe = now + self._gap * (0.5 + rand / 2.0)
        return None

    def _count(self, *, well: bool, now: float) -> None:
        second = now // 1.0
        if not self._seconds or self._seconds[-1][0] != second:
            self._seconds.append([second, 0, 0])
        self._seconds[-1][1 if well else 2] += 1
        while self._seconds[0][0] <= second - _WINDOW:
            self._seconds.popleft()

    def _is_out(self) -> bool:
        if self._in_a_row >= _ENOUGH:
            return True
        troubled = sum(counts[2] for counts in self._seconds)
        seen = troubled + sum(counts[1] for counts in self._seconds)
        if seen < _ENOUGH:
            return self._in_a_row >= _FEW
        return troubled >= _TROUBLED * seen
