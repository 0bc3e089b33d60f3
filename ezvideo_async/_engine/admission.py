"""
Admission queue of one client: which request is sent next within the rate limit.

Single calls, polls of ``wait()`` and dispatchers of watchers are admitted in rotation, so that
none starves another.  Clients that share a budget have a queue each, served in rotation, too.
"""

from __future__ import annotations

import asyncio
import contextlib
from collections import OrderedDict, deque
from functools import partial
from math import inf
from operator import attrgetter
from typing import TYPE_CHECKING

from ezvideo_async._domain.telemetry import CircuitClosed, RateLimited
from ezvideo_async._engine.telemetry import LimitLog
from ezvideo_async._engine.timer import Timer
from ezvideo_async._engine.waiter import Sleeper, Waiter
from ezvideo_async.errors import ClosedError, RateLimitError, RequestTimeoutError

if TYPE_CHECKING:
    from collections.abc import Callable, Sized

    from ezvideo_async._domain.telemetry import TelemetryEvent
    from ezvideo_async._engine.telemetry import TelemetryEmitter
    from ezvideo_async._limits.rate_limiter import RateLimiter
    from ezvideo_async.errors import EzVideoError


class AdmissionQueue:
    """Requests of one client that wait to be sent; *rand* is the only source of chance."""

    loop: asyncio.AbstractEventLoop  # set by open()

    def __init__(
        self, limiter: RateLimiter, telemetry: TelemetryEmitter, rand: Callable[[], float]
    ) -> None:
        self._limiter = limiter
        self._telemetry = telemetry
        self._rand = rand
        self._calls: OrderedDict[Waiter, None] = OrderedDict()
        self._polls: OrderedDict[Waiter, None] = OrderedDict()
        self._dispatchers: deque[Callable[[float], int]] = deque()
        self._rotation: deque[tuple[Sized, Callable[[float], bool]]] = deque(
            (
                (self._calls, partial(self._start_first, self._calls, poll=False)),
                (self._polls, partial(self._start_first, self._polls, poll=True)),
                (self._dispatchers, self._start_dispatched),
            )
        )
        self._sleeping: set[Sleeper] = set()
        self._on_raised_rate: dict[Callable[[], None], None] = {}
        self._timer = Timer(limiter.serve)
        self._log = LimitLog()
        self._is_closed = False

    def open(self) -> None:
        """
        Bind the queue to the running event loop and begin to use the rate limiter.

        Raises:
            ClosedError: The budget is in use in another event loop.
        """
        loop = asyncio.get_running_loop()
        self._limiter.remove_abandoned()
        if any(queue.loop is not loop for queue in self._limiter.queues):
            raise ClosedError(
                "this RequestBudget is in use in another event loop; make one for each loop"
            )
        self.loop = loop
        self._limiter.add_queue(self, loop.time())

    def close(self) -> None:
        """Admit nothing more; all that wait here raise ``ClosedError``.  Idempotent."""
        self._is_closed = True
        self._limiter.remove_queue(self)
        for waiter in (*self._calls, *self._polls, *self._sleeping):
            waiter.wake()
        self._calls.clear()
        self._polls.clear()
        self._dispatchers.clear()
        self._on_raised_rate.clear()
        self._timer.cancel()

    # -- single calls and polls of wait() ---------------------------------------------------------

    async def admit_call(self, task_id: str, *, deadline: float, cool_down_max: float) -> None:
        """
        Wait until a single call's request may be sent, and count it as started.

        Args:
            task_id: The call's task, for its errors.
            deadline: An instant on the loop clock; inf means no limit.
            cool_down_max: The longest cool-down that the call waits for, in seconds.

        Raises:
            ClosedError: The client was closed.
            RateLimitError: The cool-down lasts longer than *cool_down_max* or the deadline.
            RequestTimeoutError: The request was not admitted by the deadline.
        """
        began = self.loop.time()
        with contextlib.suppress(TimeoutError):
            async with asyncio.timeout_at(None if deadline == inf else deadline):
                await self._admit_call(task_id, deadline, cool_down_max)
                return
        raise RequestTimeoutError(
            f"request not sent within {round(self.loop.time() - began, 1):g} s: "
            "the request budget is exhausted; increase rate or max_in_flight",
            task_id=task_id,
            reason="budget",
        )

    async def _admit_call(self, task_id: str, deadline: float, cool_down_max: float) -> None:
        is_admitted = False
        while not is_admitted:
            now = self.loop.time()
            cool_down = self._limiter.cool_down_left(now)
            if cool_down > min(cool_down_max, deadline - now):
                raise RateLimitError(
                    f"rate limited: no requests for another {cool_down:.0f} s",
                    task_id=task_id,
                    retryable=True,
                    retry_after=cool_down,
                    status=429,
                )
            is_admitted = await self._admit(Waiter(self.loop), poll=False)

    async def admit_poll(self) -> None:
        """
        Wait until a poll of ``wait()`` may be sent, and count it as started.

        After a cool-down or an outage the polls are spread over some seconds.  Raises
        ``ClosedError`` when the client is closed.
        """
        while True:
            now = self.loop.time()
            waiter = Waiter(self.loop)
            cool_down = self._limiter.cool_down_left(now)
            if cool_down:
                waiter.delay = cool_down + self._rand() * self._limiter.release_over(now, 0)
            elif await self._admit(waiter, poll=True):
                return
            await self.sleep(waiter.delay, is_spread=True)

    async def _admit(self, waiter: Waiter, *, poll: bool) -> bool:
        """Return True once the request has started, False if a pause has begun or ended first."""
        self._check_open()
        if self.try_admit(self.loop.time(), poll=poll):
            return True
        waiting = self._polls if poll else self._calls
        waiting[waiter] = None
        self._limiter.serve()
        try:
            await waiter.future
        except asyncio.CancelledError:
            waiting.pop(waiter, None)
            self._cancel_idle_timer()
            if waiter.started is not None:
                self.abandon(started=waiter.started, poll=poll)
            raise
        if waiter.started is None:
            self._check_open()
        return waiter.started is not None

    async def sleep(self, seconds: float, *, is_spread: bool = False) -> None:
        """
        Sleep; raise ClosedError when the client is closed, before or meanwhile.

        A sleep that spreads polls may become shorter.
        """
        self._check_open()
        sleeper = Sleeper(self.loop, self.loop.time() + seconds, is_spread=is_spread)
        self._sleeping.add(sleeper)
        try:
            await sleeper.future
        finally:
            sleeper.timer.cancel()
            self._sleeping.remove(sleeper)
        self._check_open()

    def _check_open(self) -> None:
        if self._is_closed:
            raise ClosedError("the client was closed")

    # -- dispatchers ------------------------------------------------------------------------------

    def try_admit(self, now: float, *, poll: bool = True) -> bool:
        """Count one request as started if it may be sent now and no other one waits."""
        limiter = self._limiter
        if limiter.has_waiters or limiter.start_at(now, poll=poll) > now:
            return False
        limiter.start(now, poll=poll)
        return True

    def request_polls(self, send_one: Callable[[float], int]) -> None:
        """
        Call *send_one* for each poll that may start, until it has no more.  Idempotent.

        It is called with the loop clock, and one poll counted as started.  It returns how many
        polls were ready, including the one it sent; 0 when it has sent none.
        """
        if send_one not in self._dispatchers:
            self._dispatchers.append(send_one)
            self._limiter.serve()

    def cancel_polls(self, send_one: Callable[[float], int]) -> None:
        if send_one in self._dispatchers:
            self._dispatchers.remove(send_one)
            self._cancel_idle_timer()

    # -- a raised rate ----------------------------------------------------------------------------

    def on_raised_rate(self, callback: Callable[[], None]) -> None:
        """Call *callback* whenever the rate is raised."""
        self._on_raised_rate[callback] = None

    def off_raised_rate(self, callback: Callable[[], None]) -> None:
        """Undo ``on_raised_rate``.  Idempotent."""
        self._on_raised_rate.pop(callback, None)

    def spread_again(self) -> None:
        """Spread the polls that a pause has spread over the time that the raised rate needs."""
        now = self.loop.time()
        begin = now + self._limiter.cool_down_left(now)
        sleepers = [sleeper for sleeper in self._sleeping if sleeper.is_spread]
        over = self._limiter.release_over(now, len(sleepers))
        for place, sleeper in enumerate(sorted(sleepers, key=attrgetter("at"))):
            sleeper.wake_by(begin + over * (place + self._rand()) / len(sleepers))
        for callback in tuple(self._on_raised_rate):
            callback()

    # -- results ----------------------------------------------------------------------------------

    def finish(self, error: EzVideoError | None, *, started: float, poll: bool = True) -> None:
        """Record how a request ended and admit those that may start now."""
        now, limiter = self.loop.time(), self._limiter
        events = limiter.finish(error, started=started, now=now, rand=self._rand(), poll=poll)
        for event in events:
            self._log.log(event, now)
            for queue in limiter.queues:
                queue.handle(event)
        if events or isinstance(error, RateLimitError):
            for queue in limiter.queues:
                queue.recheck_calls()
        limiter.serve(now)

    def abandon(self, *, started: float, poll: bool = True) -> None:
        """Record that a request was cancelled and admit those that may start now."""
        self._limiter.abandon(started=started, poll=poll)
        self._limiter.serve()

    def handle(self, event: TelemetryEvent) -> None:
        """Delay the waiting polls when a cool-down begins or an outage ends, and emit *event*."""
        match event:
            case RateLimited(seconds=seconds):
                self._delay_polls(after=seconds)
            case CircuitClosed():
                self._delay_polls(after=0.0)
        self._telemetry.emit(event)

    def _delay_polls(self, *, after: float) -> None:
        """Spread the waiting polls, so that they do not start as a burst."""
        polls = [waiter for waiter in self._polls if not waiter.future.done()]
        self._polls.clear()
        over = self._limiter.release_over(self.loop.time(), len(polls))
        for place, waiter in enumerate(polls):
            waiter.delay = after + over * (place + self._rand()) / len(polls)
            waiter.wake()
        self._cancel_idle_timer()

    def recheck_calls(self) -> None:
        """Wake the waiting calls, which may not have the time for a longer cool-down."""
        for waiter in self._calls:
            waiter.wake()
        self._calls.clear()
        self._cancel_idle_timer()

    # -- admission in rotation --------------------------------------------------------------------

    @property
    def is_abandoned(self) -> bool:
        """True once the event loop was closed without the client."""
        return self.loop.is_closed()

    @property
    def has_waiters(self) -> bool:
        return bool(self._calls or self._polls or self._dispatchers)

    def serve(self, now: float | None = None) -> bool:
        """Admit the requests that may start now, and set the timer for the next one."""
        if now is None:
            now = self.loop.time()
        has_started = False
        at = self._limiter.start_at(now, poll=False)
        while at <= now and self._start_next(now):
            has_started = True
            at = self._limiter.start_at(now, poll=False)
        self._set_timer(now, at)
        return has_started

    def _start_next(self, now: float) -> bool:
        for _ in range(len(self._rotation)):
            waiting, start = self._rotation[0]
            self._rotation.rotate(-1)
            if waiting and start(now):
                return True
        return False

    def _start_first(self, waiting: OrderedDict[Waiter, None], now: float, *, poll: bool) -> bool:
        while waiting and self._limiter.start_at(now, poll=poll) <= now:
            waiter, _ = waiting.popitem(last=False)
            if not waiter.future.done():  # else its task was cancelled and has not run since
                self._limiter.start(now, poll=poll)
                waiter.started = now
                waiter.wake()
                return True
        return False

    def _start_dispatched(self, now: float) -> bool:
        while self._dispatchers and self._limiter.start_at(now) <= now:
            send_one = self._dispatchers.popleft()
            self._limiter.start(now)
            ready = send_one(now)
            if ready > 1:  # with 1 it has no more, and a permit it does not use is lost
                self._dispatchers.append(send_one)
            if ready:
                return True
            self._limiter.abandon(started=now)
        return False

    def _set_timer(self, now: float, call_at: float) -> None:
        """Set the timer for the next request; a call may start at *call_at*."""
        if self._calls:
            at = call_at
        elif self._polls or self._dispatchers:
            at = call_at if call_at == inf else self._limiter.start_at(now)
        else:
            at = inf
        self._timer.set(at, self.loop)

    def _cancel_idle_timer(self) -> None:
        if not self.has_waiters:
            self._timer.cancel()
