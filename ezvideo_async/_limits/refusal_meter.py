"""
Refusal meter: finds 503s between valid responses, which are a rate limit that names itself badly.

nginx's ``limit_req`` refuses with 503 by default.  A server that is down sends 503s alone.
"""

from __future__ import annotations

from collections import deque
from math import inf
from typing import TYPE_CHECKING

from ezvideo_async.errors import RateLimitError, ServerError, TransportError

if TYPE_CHECKING:
    from ezvideo_async.errors import EzVideoError

_UNAVAILABLE = 503

_WINDOW = 5.0  # seconds of responses that are counted, and between two reports
_SHARE = 0.1  # of the responses; a deployment refuses fewer, and for a moment only
_MIN_REFUSALS = 3
_VALID_WITHIN = 2.0  # seconds; after more without a valid response, a 503 is an outage


class RefusalMeter:
    """Counts the responses of one server, and those among them that are 429 or 503."""

    def __init__(self) -> None:
        self._seconds: deque[list[float]] = deque(maxlen=int(_WINDOW) + 1)  # [second, responses]
        self._refusals: deque[tuple[float, int]] = deque()  # when, after how many valid responses
        self._valid = 0
        self._valid_at = -inf
        self._reported_at = -inf

    def record_valid(self, now: float) -> None:
        """Count a response that showed a task."""
        self._valid += 1
        self._valid_at = now
        self._count(now)

    def record_error(self, error: EzVideoError, now: float) -> bool:
        """
        Count a request that ended in an error.

        Returns:
            True, at most once in 5 s, for a 503 that is a rate limit: 3 responses or more, and
            more than one in ten, were refusals in the last 5 s, with a valid one between them.
        """
        if isinstance(error, TransportError):
            return False  # there was no response
        self._count(now)
        is_503 = _is_503(error)
        if not is_503 and not isinstance(error, RateLimitError):
            return False
        self._refusals.append((now, self._valid))
        while self._refusals[0][0] <= now - _WINDOW:
            self._refusals.popleft()
        if not is_503 or now - self._reported_at < _WINDOW or not self._is_limiting(now):
            return False
        self._reported_at = now
        return True

    def is_refusal(self, error: EzVideoError, now: float) -> bool:
        """Return True for a 503 within 2 s of a valid response: the server is not down."""
        return now - self._valid_at < _VALID_WITHIN and _is_503(error)

    def _is_limiting(self, now: float) -> bool:
        refusals, since = len(self._refusals), (now - _WINDOW) // 1.0
        responses = sum(count for second, count in self._seconds if second >= since)
        return (
            refusals >= _MIN_REFUSALS
            and refusals > _SHARE * responses
            and self._refusals[0][1] < self._valid
        )

    def _count(self, now: float) -> None:
        second, seconds = now // 1.0, self._seconds
        if seconds and seconds[-1][0] == second:
            seconds[-1][1] += 1.0
        else:
            seconds.append([second, 1.0])


def _is_503(error: EzVideoError) -> bool:
    return isinstance(error, ServerError) and error.status == _UNAVAILABLE
