"""
How many requests a second there have been lately.

No await, no clock, no randomness, no I/O; ``now`` is the loop clock in seconds.
"""

from __future__ import annotations

from math import exp, inf

_MEASURED_OVER = 5.0  # seconds, the time constant


class RateMeter:
    """Requests a second lately: an exponential average, corrected for its empty beginning."""

    def __init__(self) -> None:
        self._began = inf
        self._at = -inf
        self._average = 0.0

    def count(self, now: float) -> None:
        """Take in a request."""
        if self._at == -inf:
            self._began = now
        else:
            self._average *= exp(-max(0.0, now - self._at) / _MEASURED_OVER)
        self._average += 1.0 / _MEASURED_OVER
        self._at = now

    def at(self, now: float) -> float:
        """Requests a second; ``inf`` before there was time to count any."""
        seen = max(0.0, now - self._began)
        filled = 1.0 - exp(-seen / _MEASURED_OVER)
        if filled <= 0.0:
            return inf
        return self._average * exp(-max(0.0, now - self._at) / _MEASURED_OVER) / filled
