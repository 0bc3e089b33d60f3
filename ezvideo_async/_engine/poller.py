"""
Poller: one request for one id, recorded by a scheduler; and the loop of ``wait()``.

A poll is sent once; the scheduler decides when the next one follows.  An error of key or
configuration is raised: it would concern every task.
"""

from __future__ import annotations

import asyncio
import logging
import time
from typing import TYPE_CHECKING

from ezvideo_async._domain.events import TaskFailed, TaskLost
from ezvideo_async._domain.fresh_errors import fresh_error
from ezvideo_async._domain.redaction import redact_queries
from ezvideo_async._domain.task import ErrorInfo
from ezvideo_async._domain.telemetry import RetryScheduled
from ezvideo_async._protocol.requests import retrieve_request
from ezvideo_async._scheduling.scheduler import Scheduler
from ezvideo_async.errors import ClosedError, EzVideoError, TaskFailedError

if TYPE_CHECKING:
    from collections.abc import Callable

    from ezvideo_async._domain.events import AnyFinalEvent, Event
    from ezvideo_async._domain.policies import PollPolicy
    from ezvideo_async._domain.task import VideoTask
    from ezvideo_async._engine.engine import Engine
    from ezvideo_async._protocol.messages import Evidence, Response
    from ezvideo_async._scheduling.tracked_task import TrackedTask

    Publish = Callable[[TrackedTask, Event], None]

_log = logging.getLogger("ezvideo_async")

_SINGLE_ATTEMPT = 30.0  # seconds until a single attempt must be admitted
_CAUSE_MAX = 200  # characters of a failed task's own error in our message


class Poller:
    """Polls ids for any number of schedulers of one client."""

    def __init__(self, engine: Engine) -> None:
        self._engine = engine

    async def poll(self, scheduler: Scheduler, tracked: TrackedTask, publish: Publish) -> None:
        """
        Send one poll that was admitted; record and publish what it brings.

        The response is compared, recorded and published in one step, before anybody else runs.

        Raises:
            EzVideoError: An error that concerns every task; the id stays as it is.
        """
        engine, now = self._engine, asyncio.get_running_loop().time
        decode, rand = engine.requester.decode, engine.rand

        def read(response: Response, evidence: Evidence) -> TrackedTask | VideoTask | EzVideoError:
            if not tracked.is_open:  # discarded, or ended by apply()
                return decode(response, tracked.task_id, evidence)
            found = scheduler.observe(
                tracked, response, decode, evidence, now=now(), unix_now=time.time(), rand=rand()
            )
            if isinstance(found, EzVideoError):
                return found
            if found is not None:
                publish(tracked, found)
            return tracked

        request = retrieve_request(engine.route, tracked.task_id)
        found = await engine.requester.request(request, read, poll=True)
        if isinstance(found, EzVideoError):
            self._fail(scheduler, tracked, found, publish, url=request.url, now=now())
        elif found is not tracked:
            scheduler.finish_poll(tracked)

    def _fail(
        self,
        scheduler: Scheduler,
        tracked: TrackedTask,
        error: EzVideoError,
        publish: Publish,
        *,
        url: str,
        now: float,
    ) -> None:
        if isinstance(error, ClosedError):
            raise error
        engine = self._engine
        event = scheduler.fail(
            tracked, error, url=url, now=now, unix_now=time.time(), rand=engine.rand()
        )
        advice = engine.history.warning_of(error)
        if advice is not None:
            _log.warning(
                "no valid response from %s yet, and polling continues: task %.200a: %s; %s",
                engine.base_url, tracked.task_id, error, advice,
            )  # fmt: skip
        if event is not None:
            publish(tracked, event)
        if engine.telemetry and tracked.is_open:
            delay = tracked.due - now
            retry = RetryScheduled(task_id=tracked.task_id, failures=tracked.failures, delay=delay)
            engine.telemetry.emit(retry)

    async def retrieve(self, task_id: str) -> VideoTask:
        """Request a task's state in one attempt, within 30 s; raise what it got."""
        engine = self._engine
        decode = engine.requester.decode

        def read(response: Response, evidence: Evidence) -> VideoTask | EzVideoError:
            return decode(response, task_id, evidence)

        deadline = asyncio.get_running_loop().time() + _SINGLE_ATTEMPT
        await engine.admission.admit_call(task_id, deadline=deadline, cool_down_max=0.0)
        request = retrieve_request(engine.route, task_id)
        found = await engine.requester.request(request, read, poll=False)
        if isinstance(found, EzVideoError):
            raise found
        return found

    async def wait(
        self,
        task_id: str,
        *,
        policy: PollPolicy,
        not_found_grace: float,
        timeout: float | None,  # noqa: ASYNC109 -- its own error carries the task
        raise_on_failure: bool,
    ) -> VideoTask:
        """
        Watch one id with a scheduler of its own: poll at once, then at intervals.

        Raises:
            TaskFailedError: The task failed, and *raise_on_failure* is set.
            WaitTimeoutError: *timeout* seconds have passed.
            EzVideoError: An error that waiting does not repair.
        """
        engine, loop = self._engine, asyncio.get_running_loop()
        estimator = engine.estimator if policy.adaptive else None
        scheduler = Scheduler(
            policy,
            history=engine.history,
            estimator=estimator,
            not_found_grace=not_found_grace,
        )
        began = loop.time()
        (tracked,) = scheduler.add({task_id: None}, now=began, rand=engine.rand())
        deadline = asyncio.timeout_at(None if timeout is None else began + timeout)
        try:
            async with deadline:
                while tracked.final_event is None:
                    await self._poll_next(scheduler)
        except TimeoutError:
            if not deadline.expired():
                raise
        if tracked.final_event is None:
            raise tracked.timeout_error(waited=loop.time() - began)
        return outcome_of(tracked.final_event, raise_on_failure=raise_on_failure)

    async def _poll_next(self, scheduler: Scheduler) -> None:
        engine, loop = self._engine, asyncio.get_running_loop()
        due = scheduler.next_at()
        await engine.admission.sleep(due - loop.time())
        await engine.admission.admit_poll()
        tick = scheduler.tick(
            max(due, loop.time()),
            unix_now=time.time(),
            rand=engine.rand,
            permit=lambda: True,
            release=lambda _ready: 0.0,
        )
        for tracked in tick.to_poll:
            await self.poll(scheduler, tracked, lambda *_: None)  # wait() reads the record


def outcome_of(final: AnyFinalEvent, *, raise_on_failure: bool) -> VideoTask:
    """
    Return the task of a final event.

    Raises:
        TaskFailedError: The task failed, and *raise_on_failure* is set.
        EzVideoError: The id is lost.
    """
    if isinstance(final, TaskLost):
        raise fresh_error(final.error)
    task = final.task
    assert task is not None, "a final state was seen"
    if isinstance(final, TaskFailed) and raise_on_failure:
        error = task.error or ErrorInfo()
        cause = redact_queries(": ".join(part for part in (error.code, error.message) if part))
        why = f": {cause[:_CAUSE_MAX]!a}" if cause else "; the server gives no reason"
        raise TaskFailedError(f"task {task.id!a} failed{why}", task_id=task.id, task=task)
    return task
