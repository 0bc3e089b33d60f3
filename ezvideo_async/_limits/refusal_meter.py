"""
Refusal meter: finds 503s between valid responses, which are a rate limit that names itself badly.

nginx's ``limit_req`` refuses with 503 by default.  A server that is down sends 503s alone.
"""

from __future__ import annotations

from collections import deque
from math import inf
from typing import TYPE_CHECKING

from ezvideo_async._limits.circuit_breaker import health_of
from ezvideo_async.errors import RateLimitError, ServerError, TransportError

if TYPE_CHECKING:
    from ezvideo_async._limits.circuit_breaker import CircuitBreaker
    from ezvideo_async.errors import EzVideoError

_UNAVAILABLE = 503

_WINDOW = 5.0  # seconds of responses that are counted, and between two reports
_SHARE = 0.1  # of the responses; a deployment refuses fewer, and for a moment only
_MIN_REFUSALS = 3
_VALID_WITHIN = 2.0  # seconds; after more without a valid response, a 503 is an outage


def is_refusal(error: EzVideoError, since_valid: float) -> bool:
    """Return True for a 503 within 2 s of a valid response: the server is not down."""
    return since_valid < _VALID_WITHIN and _is_503(error)


class RefusalMeter:
    """
    Counts the responses that are 429 or 503; *breaker* counts those of a healthy server.

    It is called for errors only, so that a valid response costs nothing here.
    """

    def __init__(self, breaker: CircuitBreaker) -> None:
        self._breaker = breaker
        self._refusals: deque[float] = deque()
        self._failures: deque[float] = deque()  # responses that the breaker does not count
        self._reported_at = -inf

    def record(self, error: EzVideoError, now: float, *, valid_at: float) -> bool:
        """
        Count a request that ended in an error; the last valid response came at *valid_at*.

        Returns:
            True, at most once in 5 s, for a 503 that is a rate limit: 3 responses or more, and
            more than one in ten, were refusals in the last 5 s, with a valid one between them.
        """
        if isinstance(error, TransportError):
            return False  # there was no response
        if not health_of(error):
            self._failures.append(now)
        is_503 = _is_503(error)
        if is_503 or isinstance(error, RateLimitError):
            self._refusals.append(now)
        _drop_before(now - _WINDOW, self._failures)
        _drop_before(now - _WINDOW, self._refusals)
        if not is_503 or now - self._reported_at < _WINDOW or not self._is_limit(now, valid_at):
            return False
        self._reported_at = now
        return True

    def _is_limit(self, now: float, valid_at: float) -> bool:
        refusals = len(self._refusals)
        if refusals < _MIN_REFUSALS or valid_at <= self._refusals[0]:
            return False
        responses = self._breaker.healthy_since(now - _WINDOW) + len(self._failures)
        return refusals > _SHARE * responses


def _drop_before(begin: float, times: deque[float]) -> None:
    while times and times[0] <= begin:
        times.popleft()


def _is_503(error: EzVideoError) -> bool:
    return isinstance(error, ServerError) and error.status == _UNAVAILABLE
