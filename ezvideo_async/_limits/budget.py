"""
How much one client may ask: rate, requests in flight, cool-down, breaker.

No await, no clock, no randomness of its own; arithmetic on ``now`` (loop clock, seconds).
Rules:

1. Starts in any window of w seconds: at most ``burst + rate * w`` (GCRA: one float of state).
   A resend over a fresh connection, or with a renewed key, belongs to its start.
2. A 429 stops everybody until its ``Retry-After`` is over and cuts the rate to 0.7 of what was
   measured; the rate grows back in a line within a minute.
3. When the server is out, polls stop but for one probe at a time.  The breaker paces, it never
   ends anything, and single calls of ``retrieve()`` pass it.
"""

from __future__ import annotations

from math import inf, sqrt
from typing import TYPE_CHECKING, Protocol

from ezvideo_async._domain.telemetry import CircuitClosed, RateLimited
from ezvideo_async._domain.validation import describe_value, is_number
from ezvideo_async._limits.circuit_breaker import CircuitBreaker, verdict
from ezvideo_async._limits.rate_meter import RateMeter
from ezvideo_async.errors import ConfigError, EzVideoError, RateLimitError

if TYPE_CHECKING:
    from ezvideo_async._domain.telemetry import TelemetryEvent

_MAX_RATE = 1_000_000.0
_MAX_IN_FLIGHT = 10_000
_BURST_SECONDS = 0.05
"""The default burst is what the rate allows in this time: no peak that a server would notice."""

_CUT = 0.7  # CUBIC's beta, as botocore's adaptive mode uses it
_CUTS_APART = 1.0  # seconds, and none in a cool-down: requests in flight meet the same 429
_REGROWTH = 60.0  # seconds
_SLOWEST = 1.0  # requests a second that no server minds
_COOL_DOWN_MAX = 60.0  # seconds, without a Retry-After
_RETRY_AFTER_MAX = 600.0  # seconds: asking again after ten minutes is harmless

_RELEASE = 10.0  # seconds over which parked polls come back at least

_RETRY_TOKENS = 100.0  # AWS's 2026 retry quota at a fifth of its size
_RETRY_COST = 14.0
_THROTTLED_RETRY_COST = 5.0


class Listener(Protocol):
    """Who waits for a budget: one of the clients that share it."""

    @property
    def is_waiting(self) -> bool:
        """True while it has something to send."""
        ...

    def serve(self, due: float) -> bool:
        """Send what may be sent now, or at *due* if that is later; True when anything was."""
        ...

    def hear(self, signal: TelemetryEvent) -> None:
        """Hear what changed for everybody."""
        ...

    def recheck(self) -> None:
        """See how long the cool-down is now."""
        ...


class RequestBudget:
    """
    What one server is asked at most.

    Share one among all clients of the same server and key in one event loop.

    Args:
        rate: Requests a second, above 0 and at most 1,000,000.
        burst: Requests that may start at once after a quiet time, 1 or more; None for what the
            rate allows in 50 ms, at least 1.
        max_in_flight: Requests waiting for their answer at the same time, 1 to 10,000.

    Raises:
        ConfigError: A value is out of its range.
    """

    def __init__(
        self, rate: float = 100.0, burst: float | None = None, max_in_flight: int = 64
    ) -> None:
        self._rate = _checked_rate(rate)
        self._burst = None if burst is None else _checked_burst(burst)
        self._max_in_flight = _checked_in_flight(max_in_flight)
        self._in_flight = 0
        self._arrival = -inf  # GCRA's theoretical arrival time of the next request,
        self._arrival_rate = self._rate  # reckoned at this rate
        self._measured = RateMeter()
        self._cut_at = -inf
        self._cut_to = self._rate
        self._regrows_from = -inf
        self._throttled_in_a_row = 0
        self._cool_until = -inf
        self._breaker = CircuitBreaker()
        self._pauses = 0
        self._retry_tokens = _RETRY_TOKENS
        self._listeners: dict[Listener, None] = {}

    def __repr__(self) -> str:
        return f"RequestBudget(rate={self._rate:g}, max_in_flight={self._max_in_flight})"

    @property
    def rate(self) -> float:
        """Requests a second when nothing cuts it; may be set at any time, in the event loop."""
        return self._rate

    @rate.setter
    def rate(self, rate: float) -> None:
        self._rate = _checked_rate(rate)
        self.notify()

    @property
    def burst(self) -> float:
        """Requests that may start at once after a quiet time."""
        return max(1.0, self._rate * _BURST_SECONDS) if self._burst is None else self._burst

    @property
    def max_in_flight(self) -> int:
        """Requests that may wait for their answer at the same time."""
        return self._max_in_flight

    @property
    def in_flight(self) -> int:
        """Requests that wait for their answer now."""
        return self._in_flight

    @property
    def is_server_out(self) -> bool:
        """True while the server is taken for out and only probes are sent."""
        return self._breaker.is_open

    @property
    def pauses(self) -> int:
        """How many cool-downs and outages began so far."""
        return self._pauses

    def current_rate(self, now: float) -> float:
        """
        Requests a second allowed at *now*.

        Less than ``rate`` from a 429 until a minute after its cool-down.
        """
        share = (now - self._regrows_from) / _REGROWTH
        if share >= 1.0 or self._cut_to >= self._rate:
            return self._rate
        return self._cut_to + (self._rate - self._cut_to) * max(0.0, share)

    def release_over(self, now: float, count: int) -> float:
        """Seconds over which *count* polls should come back after a pause."""
        return max(_RELEASE, self._seconds_for(count, max(now, self._regrows_from)))

    def _seconds_for(self, count: int, now: float) -> float:
        """How long *count* requests take from *now* on, while the rate grows back."""
        # By the rate of the moment a thousand tasks would stay away for minutes after a 429,
        # long after the rate has grown back.
        slow, left = self.current_rate(now), self._regrows_from + _REGROWTH - now
        if slow >= self._rate:
            return count / self._rate
        growth = (self._rate - slow) / left
        seconds = (sqrt(slow * slow + 2.0 * growth * count) - slow) / growth
        if seconds <= left:
            return seconds
        return left + (count - left * (slow + self._rate) / 2.0) / self._rate

    # -- who waits for it -----------------------------------------------------------------------

    @property
    def listeners(self) -> tuple[Listener, ...]:
        """Who shares this budget at the moment."""
        return tuple(self._listeners)

    @property
    def is_contended(self) -> bool:
        """True while anybody waits; who comes now stands in line."""
        return any(listener.is_waiting for listener in self._listeners)

    def listen(self, listener: Listener) -> None:
        """Have *listener* served whenever a place may be free."""
        self._listeners[listener] = None

    def unlisten(self, listener: Listener) -> None:
        """Take back ``listen``."""
        self._listeners.pop(listener, None)

    def notify(self, due: float = -inf) -> None:
        """
        Serve all listeners; one that was served is served last the next time.

        Args:
            due: The instant for which a timer was set that fired a hair early.
        """
        for listener in self.listeners:
            if listener.serve(due) and listener in self._listeners:
                self._listeners[listener] = self._listeners.pop(listener)

    # -- sending ------------------------------------------------------------------------------

    def start_at(self, now: float, *, poll: bool = True) -> float:
        """
        Say when the next request may start.

        Args:
            now: The loop clock.
            poll: False for a single call that does not wait for the breaker.

        Returns:
            An instant; *now* means at once, ``inf`` when an answer must come first.
        """
        if self._in_flight >= self._max_in_flight:
            return inf
        self._reckon_at_rate(now)
        # Of the full rate: in seconds, the tolerance must not grow when the rate is cut.
        tolerance = (self.burst - 1.0) / self._rate
        ready = max(now, self._arrival - tolerance, self._cool_until)
        return max(ready, self._breaker.probe_at()) if poll else ready

    def _reckon_at_rate(self, now: float) -> None:
        """What was sent at another rate is so many requests, not so many seconds."""
        if self._arrival_rate != self._rate:
            debt = max(0.0, self._arrival - now) * self._arrival_rate
            self._arrival, self._arrival_rate = now + debt / self._rate, self._rate

    def start(self, now: float, *, poll: bool = True) -> None:
        """Count one request as sent; ask ``start_at`` first."""
        self._in_flight += 1
        self._reckon_at_rate(now)
        self._arrival = max(self._arrival, now) + 1.0 / self.current_rate(now)
        self._measured.count(now)
        if poll:
            self._breaker.started()

    def finish(
        self,
        error: EzVideoError | None,
        *,
        started: float,
        now: float,
        rand: float,
        poll: bool = True,
    ) -> tuple[TelemetryEvent, ...]:
        """
        Take in how one request ended.

        Args:
            error: What it ended with; None for an answer.
            started: When it was sent, loop clock.
            now: The loop clock.
            rand: A number in [0, 1); the only source of chance.
            poll: As it was started.

        Returns:
            What changed for everybody: a cool-down, the breaker; mostly nothing.
        """
        self._in_flight -= 1
        signals: list[TelemetryEvent | None] = []
        if isinstance(error, RateLimitError):
            signals.append(self._throttled(error, now, rand))
        if error is None and started >= self._cool_until:  # not one sent before the 429
            self._throttled_in_a_row = 0
        well = verdict(error)
        if well is not None:
            judged = self._breaker.judged(
                well=well, is_poll=poll, started=started, now=now, rand=rand
            )
            signals.append(judged)
        elif poll:
            self._breaker.abandoned(started)
        if not any(signals):
            return ()
        changed = tuple(signal for signal in signals if signal is not None)
        self._pauses += sum(not isinstance(signal, CircuitClosed) for signal in changed)
        return changed

    def abandon(self, *, started: float, poll: bool = True) -> None:
        """Take in that one request was cancelled: it says nothing about the server."""
        self._in_flight -= 1
        if poll:
            self._breaker.abandoned(started)

    def cool_down_left(self, now: float) -> float:
        """Seconds until the server's 429 is over; 0 when there is none."""
        return max(0.0, self._cool_until - now)

    def _throttled(self, error: RateLimitError, now: float, rand: float) -> RateLimited | None:
        is_first = now >= self._cool_until
        self._throttled_in_a_row += is_first
        seconds = self._cool_down_seconds(error.retry_after, rand)
        if is_first and now - self._cut_at >= _CUTS_APART:
            measured = min(self._measured.at(now), self.current_rate(now))
            self._cut_to = max(min(_SLOWEST, self._rate), _CUT * measured)
            self._cut_at = now
        self._cool_until = max(self._cool_until, now + seconds)
        self._regrows_from = self._cool_until
        return RateLimited(seconds=seconds, rate=self.current_rate(now)) if is_first else None

    def _cool_down_seconds(self, retry_after: float | None, rand: float) -> float:
        if retry_after is not None:
            return min(retry_after, _RETRY_AFTER_MAX)
        doubled = 2.0 ** min(self._throttled_in_a_row - 1, 10)
        return min(_COOL_DOWN_MAX, (1.0 + rand) * doubled)

    # -- retries within one call ----------------------------------------------------------------

    def take_retry(self, *, throttled: bool) -> bool:
        """
        Ask for the right to send one call again; False when an outage used it up.

        A full budget pays for 7 retries after trouble or 20 after a 429, each answer for a
        fourteenth of one: at 100 % failure the amplification goes to 1.
        """
        cost = _THROTTLED_RETRY_COST if throttled else _RETRY_COST
        if self._retry_tokens < cost:
            return False
        self._retry_tokens -= cost
        return True

    def credit_retry(self, *, retried: bool, throttled: bool = False) -> None:
        """Pay in for an answer: a successful retry gets its cost back, a first try 1."""
        cost = _THROTTLED_RETRY_COST if throttled else _RETRY_COST
        self._retry_tokens = min(_RETRY_TOKENS, self._retry_tokens + (cost if retried else 1.0))


def _checked_rate(rate: float) -> float:
    if not is_number(rate) or not 0 < rate <= _MAX_RATE:
        message = (
            f"rate must be above 0 and at most {_MAX_RATE:,.0f} requests a second, "
            f"got {describe_value(rate)}"
        )
        raise ConfigError(message)
    return float(rate)


def _checked_burst(burst: float) -> float:
    if not is_number(burst) or not 1 <= burst <= _MAX_RATE:
        message = f"burst must be from 1 to {_MAX_RATE:,.0f} requests, got {describe_value(burst)}"
        raise ConfigError(message)
    return float(burst)


def _checked_in_flight(count: int) -> int:
    if not is_number(count) or not isinstance(count, int) or not 1 <= count <= _MAX_IN_FLIGHT:
        allowed = f"a whole number from 1 to {_MAX_IN_FLIGHT:,}"
        message = f"max_in_flight must be {allowed}, got {describe_value(count)}"
        raise ConfigError(message)
    return count
