"""
Dispatcher of one watcher: a timer and a pool of workers that drive a scheduler.

1. The scheduler decides who is due, the admission queue who may send; here is only the I/O.
2. There is one timer for all ids, and at most as many workers as requests in flight.
3. One runner task owns the workers, in a context of its own: no context variable or trace span of
   the caller gets into the polls.
4. What ends the watch is reported to *fail* as one error; no exception group leaves.
"""

from __future__ import annotations

import asyncio
import contextvars
import logging
import time
from collections import deque
from functools import partial
from math import inf
from typing import TYPE_CHECKING

import anyio

from ezvideo_async._engine.timer import Timer
from ezvideo_async._lifetime import wait_finished
from ezvideo_async.errors import ClosedError, EzVideoError

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable

    from ezvideo_async._domain.events import Event
    from ezvideo_async._engine.engine import Engine
    from ezvideo_async._scheduling.scheduler import Scheduler
    from ezvideo_async._scheduling.tracked_task import TrackedTask

_log = logging.getLogger("ezvideo_async")

_LATE = 1.0  # seconds by which the timer may be late before that is logged


class Dispatcher:
    """
    Sends the polls that are due, as soon as they are admitted.

    Args:
        publish: Called with every event.
        evict: Called with every ended id that is no longer retained.
        fail: Called once with the error that ends the watch.

    Attributes:
        polls: Polls that have ended, well or not.
        in_flight: Polls that wait for their response.
    """

    def __init__(
        self,
        scheduler: Scheduler,
        engine: Engine,
        *,
        publish: Callable[[TrackedTask, Event], None],
        evict: Callable[[TrackedTask], None],
        fail: Callable[[BaseException], None],
    ) -> None:
        self._scheduler = scheduler
        self._poller = engine.poller
        self._limiter = engine.limiter
        self._admission = engine.admission
        self._rand = engine.rand
        self._publish = publish
        self._evict = evict
        self._fail = fail
        self._loop = asyncio.get_running_loop()
        self._runner: asyncio.Task[None] | None = None
        self._is_stopped = False
        self._timer = Timer(self._timer_fired)
        self._timer_due = inf
        self._pauses_seen = engine.limiter.pauses
        self._assigned: deque[TrackedTask] = deque()
        self._idle: deque[asyncio.Future[None]] = deque()
        self._workers = 0
        self._workers_to_start = 0
        self._is_worker_wanted = asyncio.Event()
        self.polls: int = 0
        self.in_flight: int = 0

    # -- lifetime ---------------------------------------------------------------------------------

    def start(self) -> None:
        """Start the runner, in an empty context."""
        self._runner = self._loop.create_task(
            self._run(), name="ezvideo_async watcher", context=contextvars.Context()
        )
        self._admission.on_raised_rate(self._spread_again)

    def stop(self) -> None:
        """Send nothing more, and cancel what is in flight.  Idempotent."""
        if self._is_stopped:
            return
        self._is_stopped = True
        self._admission.cancel_polls(self._poll_admitted)
        self._admission.off_raised_rate(self._spread_again)
        self._timer.cancel()
        while self._assigned:
            self._admission.abandon(started=self._assigned.popleft().started, poll=True)
        if self._runner is not None:
            self._runner.cancel()

    async def wait_stopped(self) -> None:
        """Wait until the runner has finished, for 2 s at most, also when cancelled."""
        if self._runner is not None:
            await wait_finished(self._runner)

    async def _run(self) -> None:
        # A stray cancellation in a poll ends the group without an error.
        fault: BaseException = ClosedError("the watch was cancelled by something else")
        try:
            async with anyio.create_task_group() as workers:
                while True:
                    await self._is_worker_wanted.wait()
                    self._is_worker_wanted.clear()
                    for _ in range(self._workers_to_start):
                        workers.start_soon(self._work)
                    self._workers_to_start = 0
        except BaseExceptionGroup as group:
            fault = _first_of(group)
        finally:
            if not self._is_stopped:
                self._fail(fault)

    # -- driving ----------------------------------------------------------------------------------

    def dispatch(self, *, since: float | None = None) -> None:
        """Do what is due now; spread what came due during an ``add()`` that began at *since*."""
        now = self._loop.time()
        self._dispatch_at(now, stall=0.0 if since is None else now - since)

    def _dispatch_at(self, now: float, *, stall: float) -> None:
        if self._is_stopped:
            return
        permit = partial(self._admission.try_admit, now)
        if self._tick(now, permit, stall):
            self._admission.request_polls(self._poll_admitted)

    def _tick(self, now: float, permit: Callable[[], bool], stall: float) -> int:
        """Do what the scheduler says; return how many ids are still ready."""
        tick = self._scheduler.tick(
            now,
            unix_now=time.time(),
            rand=self._rand,
            permit=permit,
            release=partial(self._release_over, now) if self._has_paused(now) else _poll_now,
            stall=stall,
        )
        for tracked, event in tick.expired:
            self._publish(tracked, event)
        for tracked in tick.evicted:
            self._evict(tracked)
        self._assign(tick.to_poll)
        self._set_timer(tick.next_at)
        return tick.ready

    def _release_over(self, now: float, ready: int) -> float:
        """Return the seconds over which ready ids come back after a pause, 0 to poll them now."""
        return self._limiter.release_over(now, ready) if ready > self._limiter.burst else 0.0

    def _spread_again(self) -> None:
        """Spread the ids again that wait for longer than the raised rate needs."""
        now = self._loop.time()
        self._scheduler.spread_again(
            now + self._limiter.cool_down_left(now),
            rand=self._rand,
            release=partial(self._release_over, now),
        )
        self.arm()

    def _has_paused(self, now: float) -> bool:
        """Return True, once, after a cool-down or an outage has ended."""
        limiter = self._limiter
        if limiter.pauses == self._pauses_seen:
            return False
        if limiter.is_circuit_open or limiter.cool_down_left(now) > 0.0:
            return False
        self._pauses_seen = limiter.pauses
        return True

    def arm(self) -> None:
        """Set the timer for what comes next."""
        self._set_timer(self._scheduler.next_at())

    def _set_timer(self, at: float) -> None:
        """Set the timer, unless it is set for an earlier instant."""
        if at >= self._timer.at or self._is_stopped:
            return
        at = max(at, self._loop.time())  # a deadline that passed in flight is not late
        if at < self._timer.at:
            self._timer_due = at
            self._timer.set(at, self._loop)

    def _timer_fired(self, now: float) -> None:
        stall = now - self._timer_due
        try:
            if stall >= _LATE:
                _log.info(
                    "polls are %.1f s late: the event loop was blocked or the machine slept", stall
                )
            self._dispatch_at(now, stall=stall)
        except Exception as error:  # noqa: BLE001 -- a callback's error would end in a log
            self._fail(error)

    def _poll_admitted(self, now: float) -> int:
        """Use one permit of the admission queue; return how many ids were ready."""
        permits = [True]
        left = self._tick(now, lambda: bool(permits) and permits.pop(), 0.0)
        return 0 if permits else left + 1

    # -- working ----------------------------------------------------------------------------------

    def _assign(self, to_poll: Iterable[TrackedTask]) -> None:
        for tracked in to_poll:
            self._assigned.append(tracked)
            # A worker about to be free takes it too: it checks here before it sleeps.
            if not self._wake_worker() and self._workers < self._limiter.max_in_flight:
                self._workers += 1
                self._workers_to_start += 1
                self._is_worker_wanted.set()

    def _wake_worker(self) -> bool:
        while self._idle:
            idle = self._idle.popleft()
            if not idle.done():
                idle.set_result(None)
                return True
        return False

    async def _work(self) -> None:
        while True:
            while self._assigned:
                await self._poll(self._assigned.popleft())
            idle: asyncio.Future[None] = self._loop.create_future()
            self._idle.append(idle)
            await idle

    async def _poll(self, tracked: TrackedTask) -> None:
        if not tracked.is_open:  # discarded, or ended by apply(), since it was assigned
            self._admission.abandon(started=tracked.started, poll=True)
            return
        self.in_flight += 1
        # It was assigned a while ago if the loop was blocked: min_interval counts from the send.
        tracked.start_poll(self._loop.time())
        try:
            await self._poller.poll(self._scheduler, tracked, self._publish_polled)
        except EzVideoError as error:
            self._fail(error)
            return
        finally:
            self.in_flight -= 1
            self.polls += 1
        if tracked.due < self._timer.at:
            self.arm()

    def _publish_polled(self, tracked: TrackedTask, event: Event) -> None:
        if not self._is_stopped:
            self._publish(tracked, event)


def _poll_now(_ready: int) -> float:  # a lambda would be made at each tick
    return 0.0


def _first_of(group: BaseExceptionGroup[BaseException]) -> BaseException:
    """Return the one error of a group of one, or the first of several."""
    error: BaseException = group
    while isinstance(error, BaseExceptionGroup):
        error = error.exceptions[0]
    return error
