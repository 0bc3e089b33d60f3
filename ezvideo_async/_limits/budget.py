"""Request budget: what users set and read of one server's rate limiter."""

from __future__ import annotations

from ezvideo_async._domain.validation import describe_value, is_number
from ezvideo_async._limits.rate_limiter import RateLimiter
from ezvideo_async.errors import ConfigError

_MIN_RATE = 0.000_001  # requests per second; one in 11 days
_MAX_RATE = 1_000_000.0  # requests per second
_MAX_IN_FLIGHT = 10_000


class RequestBudget:
    """
    How many requests one server is sent at most.

    Share one among all clients of the same server and API key in one event loop.

    Args:
        rate: Requests per second, 0.000001 to 1,000,000.
        burst: Requests that may start at once after an idle time, 1 or more; None for what the
            rate allows in 50 ms, at least 1.
        max_in_flight: Requests waiting for their response at the same time, 1 to 10,000.

    Raises:
        ConfigError: A value has the wrong type or is out of its range.
    """

    def __init__(
        self, rate: float = 100.0, burst: float | None = None, max_in_flight: int = 64
    ) -> None:
        self._limiter = RateLimiter(
            _validate_rate(rate),
            burst=None if burst is None else _validate_burst(burst),
            max_in_flight=_validate_max_in_flight(max_in_flight),
        )

    def __repr__(self) -> str:
        return f"RequestBudget(rate={self.rate:g}, max_in_flight={self.max_in_flight})"

    @property
    def rate(self) -> float:
        """
        Requests per second while no 429 has cut the rate.

        It may be set at any time, in the event loop; waiting requests follow it at once.
        """
        return self._limiter.rate

    @rate.setter
    def rate(self, rate: float) -> None:
        self._limiter.set_rate(_validate_rate(rate))

    @property
    def burst(self) -> float:
        """Requests that may start at once after an idle time."""
        return self._limiter.burst

    @property
    def max_in_flight(self) -> int:
        """Requests that may wait for their response at the same time."""
        return self._limiter.max_in_flight

    @property
    def in_flight(self) -> int:
        """Requests that wait for their response now."""
        return self._limiter.in_flight

    def current_rate(self, now: float) -> float:
        """
        Return the requests per second allowed at *now*, on the loop clock.

        Less than ``rate`` from a 429 until a minute after its cool-down.
        """
        return self._limiter.current_rate(now)


def rate_limiter_of(budget: RequestBudget) -> RateLimiter:
    """Return the rate limiter of *budget*, which all clients of that budget share."""
    return budget._limiter  # noqa: SLF001 -- kept out of the public attributes


def _validate_rate(rate: float) -> float:
    if not is_number(rate) or not _MIN_RATE <= rate <= _MAX_RATE:
        raise ConfigError(
            f"rate must be from {_MIN_RATE:f} to {_MAX_RATE:,.0f} requests per second, "
            f"got {describe_value(rate)}"
        )
    return float(rate)


def _validate_burst(burst: float) -> float:
    if not is_number(burst) or not 1 <= burst <= _MAX_RATE:
        raise ConfigError(
            f"burst must be from 1 to {_MAX_RATE:,.0f} requests, got {describe_value(burst)}"
        )
    return float(burst)


def _validate_max_in_flight(count: int) -> int:
    if not is_number(count) or not isinstance(count, int) or not 1 <= count <= _MAX_IN_FLIGHT:
        raise ConfigError(
            f"max_in_flight must be a whole number from 1 to {_MAX_IN_FLIGHT:,}, "
            f"got {describe_value(count)}"
        )
    return count
