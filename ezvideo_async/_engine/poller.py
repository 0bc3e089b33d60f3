"""
Ask, and let the scheduler decide: the step that ``wait()`` and the watcher share.

A poll is sent once; what it brings goes to the scheduler, which knows when to ask again.
Trouble that concerns our key or set-up is raised: it would meet every task alike.
"""

from __future__ import annotations

import asyncio
import time
from typing import TYPE_CHECKING

from ezvideo_async._domain.events import FinalEvent, TaskFailed, TaskLost
from ezvideo_async._domain.redaction import redact_queries
from ezvideo_async._domain.task import ErrorInfo, VideoTask
from ezvideo_async._domain.telemetry import RetryScheduled
from ezvideo_async._protocol.progress_only import ProgressUpdate
from ezvideo_async._scheduling.duration_estimator import DurationEstimator
from ezvideo_async._scheduling.scheduler import Scheduler
from ezvideo_async._scheduling.tracked_task import is_fatal, timed_out
from ezvideo_async.errors import ClosedError, PermissionDeniedError, TaskFailedError

if TYPE_CHECKING:
    from collections.abc import Callable

    from ezvideo_async._domain.events import Event, Final
    from ezvideo_async._domain.policies import PollPolicy
    from ezvideo_async._engine.admission import AdmissionQueue
    from ezvideo_async._engine.requester import Requester
    from ezvideo_async._engine.telemetry import TelemetryEmitter
    from ezvideo_async._scheduling.tracked_task import TrackedTask
    from ezvideo_async.errors import EzVideoError

_FIREWALL_PAGES = 5
_FIREWALL_SECONDS = 60.0
"""A firewall's page may pass; so many in a row over so long are meant for us."""


class Poller:
    """
    Polls for any number of schedulers of one client.

    Args:
        exchange: Asks the server.
        gate: Lets the looks of ``wait()`` through.
        observers: Hear of pauses after failures.
        rand: Gives numbers in [0, 1); the only source of chance.

    What adaptive policies have learned of the server is here, for all schedulers.
    """

    def __init__(
        self,
        exchange: Requester,
        gate: AdmissionQueue,
        observers: TelemetryEmitter,
        rand: Callable[[], float],
    ) -> None:
        self._exchange = exchange
        self.gate = gate
        self.observers = observers
        self.rand = rand
        self.learned = DurationEstimator()
        self._firewall_pages = 0
        self._firewall_since = 0.0

    async def poll(self, scheduler: Scheduler, watch: TrackedTask) -> Event | None:
        """
        Send one poll that the gate has let through.

        Returns:
            What changed, if anything.

        Raises:
            EzVideoError: Trouble that would meet every task; the watch stays as it is.
        """
        answer = await self._exchange.ask(watch.task_id, known=watch)
        now, unix_now, rand = self.gate.loop.time(), time.time(), self.rand()
        if answer.outcome is None or isinstance(answer.outcome, VideoTask | ProgressUpdate):
            self._firewall_pages = 0
            return scheduler.answered(
                watch,
                answer.outcome,
                now=now,
                unix_now=unix_now,
                rand=rand,
                retry_after=answer.hint.retry_after,
                poll_after=answer.hint.poll_after,
            )
        error = self._judged(answer.outcome, now)
        if is_fatal(error) or isinstance(error, ClosedError):
            raise error
        event = scheduler.failed(watch, error, now=now, unix_now=unix_now, rand=rand)
        if self.observers and watch.is_open:
            due = RetryScheduled(
                task_id=watch.task_id, failures=watch.errors, delay=watch.due - now
            )
            self.observers.tell(due)
        return event

    def _judged(self, error: EzVideoError, now: float) -> EzVideoError:
        """Lose patience with a firewall that refuses again and again."""
        if not isinstance(error, PermissionDeniedError) or not error.retryable:
            self._firewall_pages = 0
            return error
        if self._firewall_pages == 0:
            self._firewall_since = now
        self._firewall_pages += 1
        lasting = now - self._firewall_since >= _FIREWALL_SECONDS
        if self._firewall_pages >= _FIREWALL_PAGES and lasting:
            error.retryable = False
        return error

    async def wait(
        self,
        task_id: str,
        *,
        policy: PollPolicy,
        not_found_grace: float,
        limit: float | None,
        raise_on_failure: bool,
    ) -> VideoTask:
        """
        Watch one id on a scheduler of its own until its final event: look first, sleep after.

        Raises:
            TaskFailedError: The task failed, and *raise_on_failure* is set.
            WaitTimeoutError: *limit* seconds have passed.
            EzVideoError: Trouble that waiting does not heal.
        """
        scheduler = Scheduler(policy, not_found_grace=not_found_grace)
        scheduler.pace.learned = self.learned
        began = asyncio.get_running_loop().time()
        (watch,) = scheduler.add([task_id], now=began, rand=self.rand())
        patience = asyncio.timeout_at(None if limit is None else began + limit)
        final: Final | None = None
        try:
            async with patience:
                final = await self._final_event(scheduler)
        except TimeoutError:
            if not patience.expired():
                raise
        if final is None:
            raise timed_out(watch, waited=asyncio.get_running_loop().time() - began)
        return outcome_of(final, raise_on_failure=raise_on_failure)

    async def _final_event(self, scheduler: Scheduler) -> Final:
        loop = asyncio.get_running_loop()
        while True:
            due = scheduler.next_at()
            await self.gate.pause(due - loop.time())
            while delay := await self.gate.enter(poll=True):
                await self.gate.pause(delay)
            (watch,) = scheduler.take_due(max(due, loop.time()), limit=1)
            event = await self.poll(scheduler, watch)
            if isinstance(event, FinalEvent):
                return event


def outcome_of(final: Final, *, raise_on_failure: bool) -> VideoTask:
    """
    Turn a final event into what ``wait()`` gives.

    Raises:
        TaskFailedError: The task failed, and *raise_on_failure* is set.
        EzVideoError: We stopped looking.
    """
    if isinstance(final, TaskLost):
        raise final.error.with_traceback(None)
    if isinstance(final, TaskFailed) and raise_on_failure:
        raise _failed(final.task)
    return final.task


def _failed(task: VideoTask) -> TaskFailedError:
    error = task.error or ErrorInfo()
    told = redact_queries(": ".join(part for part in (error.code, error.message) if part))
    why = f": {told[:200]!a}" if told else ", and the server does not say why"
    return TaskFailedError(f"task {task.id!a} failed{why}", task_id=task.id, task=task)
