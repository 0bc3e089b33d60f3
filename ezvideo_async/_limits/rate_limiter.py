"""
Rate limiter of one server (GCRA), with a shared cool-down and a rate cut after a 429.

``now`` is the loop clock, in seconds.  Rules:

1. At most ``burst + rate * w`` requests start in any window of w seconds.  A resend on a fresh
   connection, or with a renewed API key, belongs to its request.
2. A 429 stops all requests until its ``Retry-After`` has passed.  It cuts the rate to 0.7 of the
   measured rate, which grows back linearly within a minute.  503s between valid responses count
   as a 429.
3. The rate may be set at any time.  Outside a cool-down the next request starts within ``1 / rate``
   then, however many have started before.
4. During an outage polls wait for the circuit breaker.  Single calls of ``retrieve()`` do not.
"""

from __future__ import annotations

from math import exp, inf, sqrt
from typing import TYPE_CHECKING, Protocol
from weakref import ref

from ezvideo_async._domain.telemetry import CircuitOpened, RateLimited
from ezvideo_async._limits.circuit_breaker import CircuitBreaker
from ezvideo_async._limits.refusal_meter import RefusalMeter, is_refusal
from ezvideo_async._limits.retry_quota import RetryQuota
from ezvideo_async.errors import EzVideoError, RateLimitError

if TYPE_CHECKING:
    from ezvideo_async._domain.telemetry import TelemetryEvent

_BURST_SECONDS = 0.05  # the default burst is what the rate allows in this time
_CUT = 0.7  # CUBIC's beta, as botocore's adaptive mode uses it
_CUT_INTERVAL = 1.0  # seconds between two cuts: requests in flight meet the same 429
_REGROWTH = 60.0  # seconds
_MIN_RATE = 1.0  # requests per second that a cut leaves at least
_COOL_DOWN_MAX = 60.0  # seconds, without a Retry-After
_COOL_DOWN_DOUBLINGS = 10  # keeps the power of two finite
_RETRY_AFTER_MAX = 600.0  # seconds

_MIN_RELEASE = 10.0  # seconds over which delayed polls are spread at least
_METER_SECONDS = 5.0  # time constant of the measured rate

_CLOCK_TOLERANCE = 1.0  # seconds; some loops call timers early, by up to their resolution


class SharingQueue(Protocol):
    """Admission queue of one of the clients that share a rate limiter."""

    @property
    def loop(self) -> object: ...

    @property
    def is_abandoned(self) -> bool: ...

    @property
    def has_waiters(self) -> bool: ...

    def serve(self, now: float | None) -> bool: ...
    def spread_again(self) -> None: ...
    def handle(self, event: TelemetryEvent) -> None: ...
    def recheck_calls(self) -> None: ...


class RateLimiter:
    """
    Decides when the next request to one server may start.

    Args:
        rate: Requests per second.
        burst: Requests that may start at once after an idle time; None for what the rate allows
            in 50 ms, at least 1.
        max_in_flight: Requests waiting for their response at the same time.

    Attributes:
        in_flight: Requests that wait for their response now.
        pauses: How many cool-downs and outages have begun.
    """

    def __init__(self, rate: float, *, burst: float | None, max_in_flight: int) -> None:
        # A client that was never closed does not keep its queue here.
        self._queues: tuple[ref[SharingQueue], ...] = ()
        self._given_burst = burst
        self.rate: float = rate
        self.burst: float = self._burst_at(rate)
        self.max_in_flight = max_in_flight
        self.in_flight: int = 0
        self.pauses: int = 0
        self.retry_quota: RetryQuota = RetryQuota()
        self._forget()

    def _forget(self) -> None:
        """Forget all that depends on the clock."""
        self._arrival = -inf  # theoretical arrival time of the next request (GCRA),
        self._arrival_rate = self.rate  # calculated at this rate
        self._tolerance: float = self.burst - 1.0  # requests; more when the rate was just lowered
        self._meter = RateMeter()
        self._cut_at = -inf
        self._cut_to = self.rate
        self._regrows_from = -inf
        self._cool_downs_in_a_row = 0
        self._cool_until = -inf
        self._breaker = CircuitBreaker()
        self._refusals = RefusalMeter(self._breaker)
        self._valid_at = -inf

    @property
    def is_circuit_open(self) -> bool:
        return self._breaker.is_open

    def set_rate(self, rate: float) -> None:
        """Change the rate, spread polls again if it was raised, and admit what may start now."""
        self.remove_abandoned()
        is_raised = rate > self.rate
        self.rate, self.burst = rate, self._burst_at(rate)
        if is_raised:
            for queue in self.queues:
                queue.spread_again()
        self.serve()

    def _burst_at(self, rate: float) -> float:
        return max(1.0, rate * _BURST_SECONDS) if self._given_burst is None else self._given_burst

    def current_rate(self, now: float) -> float:
        """Return the requests per second allowed at *now*; less than ``rate`` after a 429."""
        share = (now - self._regrows_from) / _REGROWTH
        if share >= 1.0 or self._cut_to >= self.rate:
            return self.rate
        return self._cut_to + (self.rate - self._cut_to) * max(0.0, share)

    def cool_down_left(self, now: float) -> float:
        """Return the seconds until the cool-down after a 429 ends; 0 without one."""
        return max(0.0, self._cool_until - now)

    def release_over(self, now: float, count: int) -> float:
        """Return the seconds over which to spread *count* polls that a pause has delayed."""
        return max(_MIN_RELEASE, self._seconds_for(count, max(now, self._regrows_from)))

    def _seconds_for(self, count: int, now: float) -> float:
        """Return how long *count* requests take from *now* on, while the rate grows back."""
        # At the cut rate a thousand tasks would stay away for minutes after a 429, long after
        # the rate has grown back.
        slow, left = self.current_rate(now), self._regrows_from + _REGROWTH - now
        if slow >= self.rate:
            return count / self.rate
        growth = (self.rate - slow) / left
        seconds = (sqrt(slow * slow + 2.0 * growth * count) - slow) / growth
        if seconds <= left:
            return seconds
        return left + (count - left * (slow + self.rate) / 2.0) / self.rate

    # -- admission queues -------------------------------------------------------------------------

    @property
    def queues(self) -> tuple[SharingQueue, ...]:
        """The admission queues that share this limiter, served least recently first."""
        return tuple(queue for each in self._queues if (queue := each()) is not None)

    @property
    def has_waiters(self) -> bool:
        """True while a request waits in any queue; a new one must not overtake it."""
        for each in self._queues:
            queue = each()
            if queue is not None and queue.has_waiters:
                return True
        return False

    def add_queue(self, queue: SharingQueue, now: float) -> None:
        """Let a queue share this limiter; the first one of another clock starts afresh."""
        if not self.queues and now < self._meter.last_at - _CLOCK_TOLERANCE:
            self._forget()
        self._queues = (*self._queues, ref(queue, self._remove))

    def remove_queue(self, queue: SharingQueue) -> None:
        self._queues = tuple(each for each in self._queues if each() is not queue)

    def remove_abandoned(self) -> None:
        """Remove the queues that nobody can use any more, though they were not closed."""
        for queue in self.queues:
            if queue.is_abandoned:
                self.remove_queue(queue)

    def _remove(self, removed: ref[SharingQueue]) -> None:
        self._queues = tuple(each for each in self._queues if each is not removed)

    def serve(self, now: float | None = None) -> None:
        """Admit the waiting requests that may start *now* (None: by the clock), in all queues."""
        queues = self._queues
        for each in queues:
            queue = each()
            if queue is None or not queue.has_waiters or not queue.serve(now):
                continue
            if len(queues) > 1 and each in self._queues:  # the next time the others come first
                self._remove(each)
                self._queues = (*self._queues, each)

    # -- requests ---------------------------------------------------------------------------------

    def start_at(self, now: float, *, poll: bool = True) -> float:
        """
        Return when the next request may start.

        *now* means at once, ``inf`` not before a request in flight has finished.  Single calls
        (not *poll*) do not wait for the circuit breaker.
        """
        if self.in_flight >= self.max_in_flight:
            return inf
        if self._arrival_rate != self.rate:
            self._convert_arrival(now)
        # Of the full rate: in seconds, the tolerance must not grow when the rate is cut.
        ready = max(now, self._arrival - self._tolerance / self.rate, self._cool_until)
        return max(ready, self._breaker.next_poll_at()) if poll and self._breaker.is_open else ready

    def _convert_arrival(self, now: float) -> None:
        """Keep the number of requests already sent, not their seconds, at a new rate."""
        # At a cut rate the seconds stand for fewer requests than the full rate allows in them.
        sent = max(0.0, min((self._arrival - now) * self._arrival_rate, self._tolerance + 1.0))
        self._arrival, self._arrival_rate = now + sent / self.rate, self.rate
        # A smaller burst does not count against requests that a larger one has allowed.
        self._tolerance = max(self._tolerance, self.burst - 1.0)

    def start(self, now: float, *, poll: bool = True) -> None:
        """Count one request as started; call ``start_at`` first."""
        self.in_flight += 1
        if self._arrival_rate != self.rate:
            self._convert_arrival(now)
        if self._tolerance > self.burst - 1.0:
            sent = (self._arrival - now) * self.rate
            self._tolerance = max(self.burst - 1.0, min(self._tolerance, sent))
        self._arrival = max(self._arrival, now) + 1.0 / self.current_rate(now)
        self._meter.record(now)
        if poll:
            self._breaker.start_poll()

    def finish(
        self,
        error: EzVideoError | None,
        *,
        started: float,
        now: float,
        rand: float,
        poll: bool = True,
    ) -> tuple[TelemetryEvent, ...]:
        """Record how one request ended; return what that changed for all requests, if anything."""
        self.in_flight -= 1
        cool_down = circuit = None
        if error is None:
            self._valid_at = now
            if started >= self._cool_until:  # not one sent before the 429
                self._cool_downs_in_a_row = 0
        elif self._refusals.record(error, now, valid_at=self._valid_at):
            cool_down = self._cool_down(None, now, rand)
        elif isinstance(error, RateLimitError):
            cool_down = self._cool_down(error.retry_after, now, rand)
        if error is None or not is_refusal(error, now - self._valid_at):
            circuit = self._breaker.finish(error, poll=poll, started=started, now=now, rand=rand)
        elif poll:
            self._breaker.abandon_poll(started)
        if cool_down is None and circuit is None:
            return ()
        self.pauses += (cool_down is not None) + isinstance(circuit, CircuitOpened)
        return tuple(event for event in (cool_down, circuit) if event is not None)

    def abandon(self, *, started: float, poll: bool = True) -> None:
        """Record that one request was cancelled or never sent."""
        self.in_flight -= 1
        if poll:
            self._breaker.abandon_poll(started)

    def _cool_down(self, retry_after: float | None, now: float, rand: float) -> RateLimited | None:
        """Begin or lengthen a cool-down; return an event for the first 429 of one."""
        is_first = now >= self._cool_until
        self._cool_downs_in_a_row += is_first
        seconds = self._cool_down_seconds(retry_after, rand)
        if is_first and now - self._cut_at >= _CUT_INTERVAL:
            measured = min(self._meter.rate_at(now), self.current_rate(now))
            self._cut_to = max(min(_MIN_RATE, self.rate), _CUT * measured)
            self._cut_at = now
        self._cool_until = max(self._cool_until, now + seconds)
        self._regrows_from = self._cool_until
        return RateLimited(seconds=seconds, rate=self.current_rate(now)) if is_first else None

    def _cool_down_seconds(self, retry_after: float | None, rand: float) -> float:
        if retry_after is not None:
            return min(retry_after, _RETRY_AFTER_MAX)
        doubled = 2.0 ** min(self._cool_downs_in_a_row - 1, _COOL_DOWN_DOUBLINGS)
        return min(_COOL_DOWN_MAX, (1.0 + rand) * doubled)


class RateMeter:
    """
    Recent requests per second: an exponential average, corrected for its empty beginning.

    Attributes:
        last_at: When the last request was sent.
    """

    def __init__(self) -> None:
        self._began = inf
        self.last_at = -inf
        self._average = 0.0

    def record(self, now: float) -> None:
        """Count a request sent at *now*."""
        if self.last_at == -inf:
            self._began = now
        else:
            self._average *= exp(-max(0.0, now - self.last_at) / _METER_SECONDS)
        self._average += 1.0 / _METER_SECONDS
        self.last_at = now

    def rate_at(self, now: float) -> float:
        """Return the requests per second; ``inf`` before any time has passed."""
        measured = max(0.0, now - self._began)
        filled = 1.0 - exp(-measured / _METER_SECONDS)
        if filled <= 0.0:
            return inf
        return self._average * exp(-max(0.0, now - self.last_at) / _METER_SECONDS) / filled
