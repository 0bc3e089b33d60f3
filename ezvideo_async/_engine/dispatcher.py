"""
The engine of a watcher: drives a scheduler with loop time.

Rules of this room:

1. The scheduler decides who is due, the gate who may be sent; here is only the driving.
2. One timer for the next due id; worker tasks as many as requests in flight at most, none per id.
3. One runner task owns the workers, in a context of its own: no context variable or trace span of
   the caller gets into the polls.
4. Whatever goes wrong is told to *fail* as one error; no exception group leaves.
"""

from __future__ import annotations

import asyncio
import contextvars
import logging
import time
from collections import deque
from math import inf
from typing import TYPE_CHECKING

import anyio

from ezvideo_async._lifetime import wait_finished
from ezvideo_async.errors import ClosedError, EzVideoError

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable

    from ezvideo_async._domain.events import Event
    from ezvideo_async._engine.poller import Poller
    from ezvideo_async._scheduling.scheduler import Scheduler
    from ezvideo_async._scheduling.tracked_task import TrackedTask

_log = logging.getLogger("ezvideo_async")

_LATE = 1.0
"""Seconds by which the timer may be late; beyond, the process slept or the loop was blocked."""

_STALL = 0.05
"""Seconds in which nobody could be asked, as while garbage is collected or ids are added; beyond,
what came due meanwhile would go out as a burst."""

_MADE_UP_OVER = 10.0
"""Times as long, what came due meanwhile takes to go out: a tenth more than the rest."""


class Dispatcher:
    """
    Sends what is due, as soon as it is permitted.

    Args:
        scheduler: Decides.
        poller: Sends one poll and gives its result to the scheduler; its gate permits.
        publish: Called with every event.
        forget: Called with every watch whose time of retention is over.
        fail: Called once with what ends everything.
    """

    def __init__(
        self,
        scheduler: Scheduler,
        *,
        poller: Poller,
        publish: Callable[[TrackedTask, Event], None],
        forget: Callable[[TrackedTask], None],
        fail: Callable[[BaseException], None],
    ) -> None:
        self._scheduler = scheduler
        self._poller = poller
        self._gate = poller.gate
        self._publish = publish
        self._forget = forget
        self._fail = fail
        self._loop = asyncio.get_running_loop()
        self._runner: asyncio.Task[None] | None = None
        self._is_stopped = False
        self._timer: asyncio.TimerHandle | None = None
        self._timer_at = inf
        self._pauses_seen = poller.gate.budget.pauses
        self._assigned: deque[TrackedTask] = deque()
        self._idle: deque[asyncio.Future[None]] = deque()
        self._workers = 0
        self._workers_to_start = 0
        self._is_worker_wanted = asyncio.Event()
        self.polls = 0
        self.in_flight = 0

    # -- lifetime ---------------------------------------------------------------------------------

    def start(self) -> None:
        """Start the runner, in an empty context."""
        self._runner = self._loop.create_task(
            self._run(), name="ezvideo_async watcher", context=contextvars.Context()
        )

    def stop(self) -> None:
        """Send nothing more and cancel what is in flight; again is nothing."""
        if self._is_stopped:
            return
        self._is_stopped = True
        self._gate.unwant(self._send_one)
        self._disarm()
        while self._assigned:
            self._gate.abandon(started=self._assigned.popleft().started)
        if self._runner is not None:
            self._runner.cancel()

    async def ended(self) -> None:
        """Wait for the runner's end, cancellations notwithstanding, for 2 s at most."""
        if self._runner is not None:
            await wait_finished(self._runner)

    async def _run(self) -> None:
        # A stray cancellation in a poll ends the group without a word.
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
            fault = _only(group)
        finally:
            if not self._is_stopped:
                self._fail(fault)

    # -- driving ----------------------------------------------------------------------------------

    def pump(self) -> None:
        """Give up what expired, send what is due and permitted, and set the timer."""
        self._pump_until(self._loop.time())

    def _pump_until(self, now: float) -> None:
        if self._is_stopped:
            return
        for watch, event in self._scheduler.expired(now, unix_now=time.time()):
            self._publish(watch, event)
        for watch in self._scheduler.forgotten():
            self._forget(watch)
        self._spread_after_pause(now)
        self._send_ready(now)
        self.arm()

    def added(self, *, since: float) -> None:
        """Pump when ids have been added, which began at *since*: 0.2 s for a hundred thousand."""
        now = self._loop.time()
        self._spread_after_stall(now, late=now - since)
        self._pump_until(now)

    def arm(self) -> None:
        """Set the timer for what comes next, unless it comes no sooner than what is set."""
        at = self._scheduler.next_at()
        if at >= self._timer_at or self._is_stopped:
            return
        at = max(at, self._loop.time())
        if at < self._timer_at:
            self._disarm()
            self._timer_at = at
            self._timer = self._loop.call_at(at, self._timer_fired)

    def _disarm(self) -> None:
        if self._timer is not None:
            self._timer.cancel()
        self._timer, self._timer_at = None, inf

    def _timer_fired(self) -> None:
        now, due = self._loop.time(), self._timer_at
        self._timer, self._timer_at = None, inf
        try:
            if now - due >= _LATE:
                _log.info(
                    "polls are %.1f s late: the loop was blocked or the machine slept", now - due
                )
            self._spread_after_stall(now, late=now - due)
            # Some loops round timers down: what was set for now is due now.
            self._pump_until(max(now, due))
        except Exception as error:  # noqa: BLE001 -- a callback's error would end in a log
            self._fail(error)

    def _spread_after_stall(self, now: float, *, late: float) -> None:
        """Let what came due in a stall, in which nobody was asked, go out little by little."""
        if late < _STALL:
            return
        if late >= _LATE or self._scheduler.count_ready(now) > self._gate.budget.max_in_flight:
            over = min(_MADE_UP_OVER * late, self._scheduler.policy.interval)
            self._spread(now, over=over, again=False)

    def _spread_after_pause(self, now: float) -> None:
        """Let what a cool-down or an outage has held back come back slowly."""
        budget = self._gate.budget
        if budget.pauses == self._pauses_seen or budget.is_server_out or budget.cool_down_left(now):
            return
        self._pauses_seen = budget.pauses
        ready = self._scheduler.count_ready(now)
        if ready > budget.burst:
            self._spread(now, over=budget.release_over(now, ready), again=True)

    def _spread(self, now: float, *, over: float, again: bool) -> None:
        self._scheduler.spread(now=now, over=over, rand=self._poller.rand(), again=again)

    def _send_ready(self, now: float) -> None:
        ready, permits = self._scheduler.count_ready(now), 0
        while permits < ready and self._gate.try_start(now):
            permits += 1
        taken = self._scheduler.take_due(now, limit=permits)
        for _ in range(permits - len(taken)):
            self._gate.abandon(started=now)
        self._assign(taken)
        if self._scheduler.ready:
            self._gate.want(self._send_one)

    def _send_one(self) -> int:
        """Use one permit of the gate's; how many were ready, 0 for an unused permit."""
        now = self._loop.time()
        self._spread_after_pause(now)
        taken = self._scheduler.take_due(now, limit=1)
        self._assign(taken)
        self.arm()
        return len(taken) + self._scheduler.ready

    def _assign(self, watches: Iterable[TrackedTask]) -> None:
        for watch in watches:
            self._assigned.append(watch)
            # A worker about to be free takes it too: it looks here before it rests.
            if not self._wake_worker() and self._workers < self._gate.budget.max_in_flight:
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

    # -- working ----------------------------------------------------------------------------------

    async def _work(self) -> None:
        while True:
            while self._assigned:
                await self._poll(self._assigned.popleft())
            idle: asyncio.Future[None] = self._loop.create_future()
            self._idle.append(idle)
            await idle

    async def _poll(self, watch: TrackedTask) -> None:
        if not watch.is_open:  # discarded, or ended by feed(), since it was assigned
            self._gate.abandon(started=watch.started)
            return
        self.in_flight += 1
        # Taken a while ago if the loop was blocked since: min_interval counts from the sending.
        watch.started = self._loop.time()
        try:
            event = await self._poller.poll(self._scheduler, watch)
        except EzVideoError as error:
            self._fail(error)
            return
        finally:
            self.in_flight -= 1
            self.polls += 1
        if event is not None and not self._is_stopped:
            self._publish(watch, event)
        if watch.due < self._timer_at:
            self.arm()


def _only(group: BaseExceptionGroup[BaseException]) -> BaseException:
    """Take the one error out of a group of one, or the first of several."""
    error: BaseException = group
    while isinstance(error, BaseExceptionGroup):
        error = error.exceptions[0]
    return error
