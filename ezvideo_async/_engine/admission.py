"""
Waiting for the budget: who may send next, in fair turns.

The budget says when a request may start; the gate lets requests through one by one.  Calls of
``retrieve()``, looks of ``wait()`` and watchers take turns, so that none starves another: the
first two wait in lines, a watcher says that it wants to send and is called when it may.  Clients
that share a budget have a gate each, and the budget serves them in turn.
"""

from __future__ import annotations

import asyncio
import logging
from collections import deque
from math import inf
from typing import TYPE_CHECKING

from ezvideo_async._domain.telemetry import CircuitClosed, CircuitOpened, RateLimited
from ezvideo_async.errors import ClosedError, EzVideoError, RateLimitError

if TYPE_CHECKING:
    from collections.abc import Callable

    from ezvideo_async._domain.telemetry import TelemetryEvent
    from ezvideo_async._engine.telemetry import TelemetryEmitter
    from ezvideo_async._limits.budget import RequestBudget

_AT_ONCE = 0.001  # seconds after which a call comes again that was not let through

_WARN_EVERY = 60.0  # seconds between two warnings of a 429: a low limit gives them all day

_log = logging.getLogger("ezvideo_async")


class AdmissionQueue:
    """
    One client's way to its budget.

    Args:
        budget: Decides when a request may start; may be shared with other clients.
        observers: Hear of cool-downs and of the breaker.
        rand: Gives numbers in [0, 1); the only source of chance.
    """

    def __init__(
        self, budget: RequestBudget, observers: TelemetryEmitter, rand: Callable[[], float]
    ) -> None:
        self.budget = budget
        self._observers = observers
        self._rand = rand
        self._calls: deque[_Waiter] = deque()
        self._looks: deque[_Waiter] = deque()
        self._watchers: deque[Callable[[], int]] = deque()
        self._turns: deque[_Turn] = deque(
            (
                (self._calls, self._serve_call),
                (self._looks, self._serve_look),
                (self._watchers, self._serve_watcher),
            )
        )
        self._timer: asyncio.TimerHandle | None = None
        self._timer_at = inf
        self._pausing: dict[_Waiter, None] = {}
        self._on_close: dict[Callable[[], None], None] = {}
        self._is_closed = False
        self._warned_at = -inf
        self.loop = asyncio.get_running_loop()
        others = [other for other in budget.listeners if isinstance(other, AdmissionQueue)]
        if any(other.loop is not self.loop for other in others):
            message = "this RequestBudget is in use in another event loop; make one for each loop"
            raise ClosedError(message)
        budget.listen(self)

    def close(self) -> None:
        """Stop serving; whoever still waits is woken to find the client closed."""
        self._is_closed = True
        for closed in tuple(self._on_close):
            closed()
        self.budget.unlisten(self)
        self._drop_timer()
        for waiter in (*self._calls, *self._looks, *self._pausing):
            waiter.wake(inf)

    def on_close(self, closed: Callable[[], None]) -> None:
        """Have *closed* called when the gate is closed."""
        self._on_close[closed] = None

    def off_close(self, closed: Callable[[], None]) -> None:
        """Take back ``on_close``."""
        self._on_close.pop(closed, None)

    # -- calls and looks --------------------------------------------------------------------------

    async def enter(self, *, poll: bool) -> float:
        """
        Wait until one request may start, and count it as started.

        Args:
            poll: False for a call that does not wait for the breaker.

        Returns:
            0 when it may be sent now; else, in a cool-down or after an outage, seconds after
            which to come again, so that not all do at once; ``inf`` when the gate was closed.
        """
        if self._is_closed:
            return inf
        now = self.loop.time()
        cool_down = self.budget.cool_down_left(now)
        if poll and cool_down:
            return cool_down + self._rand() * self.budget.release_over(now, 0)
        if not self.budget.is_contended and self.budget.start_at(now, poll=poll) <= now:
            self.budget.start(now, poll=poll)
            return 0.0
        waiter = _Waiter()
        line = self._looks if poll else self._calls
        line.append(waiter)
        self.budget.notify()
        try:
            return await waiter.woken
        except asyncio.CancelledError:
            if waiter.started is not None:
                self.abandon(started=waiter.started, poll=poll)
            self._shorten(line)
            raise

    async def pause(self, seconds: float) -> None:
        """
        Sleep, but not longer than the client is open.

        Raises:
            ClosedError: The client was closed, before or meanwhile.
        """
        if not self._is_closed and await self._has_slept(seconds):
            return
        message = "the client was closed"
        raise ClosedError(message)

    async def _has_slept(self, seconds: float) -> bool:
        """Sleep; False when the gate was closed meanwhile."""
        waiter = _Waiter()
        timer = self.loop.call_later(seconds, waiter.wake, 0.0)
        self._pausing[waiter] = None
        try:
            return await waiter.woken < inf
        finally:
            timer.cancel()
            del self._pausing[waiter]

    @property
    def is_waiting(self) -> bool:
        """True while somebody stands in line here."""
        return bool(self._calls or self._looks or self._watchers)

    # -- watchers ---------------------------------------------------------------------------------

    def try_start(self, now: float) -> bool:
        """Count one poll as started if it may be sent now and nobody waits."""
        if self.budget.is_contended or self.budget.start_at(now) > now:
            return False
        self.budget.start(now)
        return True

    def want(self, send_one: Callable[[], int]) -> None:
        """
        Ask to be called when a poll may start, until there is nothing more to send.

        Args:
            send_one: Called with the poll counted as started; gives how many polls were ready,
                the one it sent included: 0 when it has nothing to send after all.
        """
        if send_one not in self._watchers:
            self._watchers.append(send_one)
            self.budget.notify()

    def unwant(self, send_one: Callable[[], int]) -> None:
        """Take back ``want``."""
        if send_one in self._watchers:
            self._watchers.remove(send_one)
            self._rest()

    # -- how it ended -----------------------------------------------------------------------------

    def finish(self, error: EzVideoError | None, *, started: float, poll: bool = True) -> None:
        """Tell the budget how a request ended, and everybody what follows."""
        now = self.loop.time()
        signals = self.budget.finish(error, started=started, now=now, rand=self._rand(), poll=poll)
        for signal in signals:
            self._log_signal(signal, now)
            for listener in self.budget.listeners:
                listener.hear(signal)
        if isinstance(error, RateLimitError):
            for listener in self.budget.listeners:
                listener.recheck()
        self.budget.notify()

    def abandon(self, *, started: float, poll: bool = True) -> None:
        """Tell the budget that a request was cancelled."""
        self.budget.abandon(started=started, poll=poll)
        self.budget.notify()

    def hear(self, signal: TelemetryEvent) -> None:
        """Send home who waits here when a pause begins or ends, and tell the observers."""
        match signal:
            case RateLimited(seconds=seconds):
                self._send_looks_home(after=seconds)
            case CircuitClosed():
                self._send_looks_home()
        self._observers.tell(signal)

    def _log_signal(self, signal: TelemetryEvent, now: float) -> None:
        match signal:
            case RateLimited(seconds=seconds, rate=rate):
                # A server with a low limit says 429 again and again: one line a minute.
                level = logging.DEBUG if now - self._warned_at < _WARN_EVERY else logging.WARNING
                self._warned_at = now if level == logging.WARNING else self._warned_at
                _log.log(
                    level, "rate limited: no request for %.1f s, then %.1f a second", seconds, rate
                )
            case CircuitOpened(failures=failures):
                _log.warning("the server is out after %d failures: one probe at a time", failures)
            case CircuitClosed(outage=outage):
                _log.info("the server answers again after %.1f s", outage)

    def recheck(self) -> None:
        """Let the calls in line see how long the cool-down is: they may not have the time."""
        for waiter in self._calls:
            waiter.wake(_AT_ONCE)
        self._calls.clear()

    def _send_looks_home(self, *, after: float = 0.0) -> None:
        """Spread the looks that wait in the line: the end of a pause is no starting gun."""
        looks = [waiter for waiter in self._looks if not waiter.woken.done()]
        self._looks.clear()
        over = self.budget.release_over(self.loop.time(), len(looks))
        for place, waiter in enumerate(looks):
            waiter.wake(after + over * (place + self._rand()) / len(looks))

    # -- taking turns -----------------------------------------------------------------------------

    def serve(self, due: float = -inf) -> bool:
        """Let through whoever may start now, and set the timer for the next one."""
        if not self.is_waiting:
            self._drop_timer()
            return False
        now = max(self.loop.time(), due)
        has_served = False
        while self._has_room(now) and self._serve_next(now):
            has_served = True
        self._set_timer(now)
        return has_served

    def _has_room(self, now: float) -> bool:
        return self.budget.start_at(now, poll=False) <= now

    def _serve_next(self, now: float) -> bool:
        for _ in range(len(self._turns)):
            waiting, serve = self._turns[0]
            self._turns.rotate(-1)
            if waiting and serve(now):
                return True
        return False

    def _serve_call(self, now: float) -> bool:
        return self._serve_line(self._calls, now, poll=False)

    def _serve_look(self, now: float) -> bool:
        return self._serve_line(self._looks, now, poll=True)

    def _serve_line(self, line: deque[_Waiter], now: float, *, poll: bool) -> bool:
        while line and line[0].woken.done():  # cancelled while others waited around it
            line.popleft()
        if not line or self.budget.start_at(now, poll=poll) > now:
            return False
        self.budget.start(now, poll=poll)
        waiter = line.popleft()
        waiter.started = now
        waiter.wake(0.0)
        return True

    def _serve_watcher(self, now: float) -> bool:
        while self._watchers and self.budget.start_at(now) <= now:
            send_one = self._watchers.popleft()
            self.budget.start(now)
            ready = send_one()
            if ready > 1:  # whoever has no more leaves: a permit unused is lost to the rate
                self._watchers.append(send_one)
            if ready:
                return True
            self.budget.abandon(started=now)
        return False

    def _shorten(self, line: deque[_Waiter]) -> None:
        """Forget who left a line, as far as nobody waits before or behind."""
        while line and line[-1].woken.done():
            line.pop()
        while line and line[0].woken.done():
            line.popleft()
        self._rest()

    def _rest(self) -> None:
        """Leave no timer behind when nobody waits any more."""
        if not self.is_waiting:
            self._drop_timer()

    def _set_timer(self, now: float) -> None:
        at = self.budget.start_at(now, poll=False) if self._calls else inf
        if self._looks or self._watchers:
            at = min(at, self.budget.start_at(now))
        if at != self._timer_at:
            self._drop_timer()
            self._timer_at = at
            if at < inf:
                self._timer = self.loop.call_at(at, self._timer_fired)

    def _drop_timer(self) -> None:
        if self._timer is not None:
            self._timer.cancel()
        self._timer, self._timer_at = None, inf

    def _timer_fired(self) -> None:
        # Some loops round timers down: what was set for now is due now.
        due = self._timer_at
        self._timer, self._timer_at = None, inf
        self.budget.notify(due)


_Turn = tuple["deque[_Waiter] | deque[Callable[[], int]]", "Callable[[float], bool]"]
"""Who waits, and what serves the first of them if it may start now."""


class _Waiter:
    """One caller in a line; woken with 0 when its request is counted as started."""

    __slots__ = ("started", "woken")

    def __init__(self) -> None:
        self.started: float | None = None
        self.woken: asyncio.Future[float] = asyncio.get_running_loop().create_future()

    def wake(self, delay: float) -> None:
        if not self.woken.done():
            self.woken.set_result(delay)
