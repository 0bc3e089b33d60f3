"""
``TaskWatcher``: thousands of tasks watched in one event loop.

Rules of this room:

1. The scheduler decides and the pump drives; here is who is watched.
2. Adding, discarding, feeding are plain calls in the watcher's own event loop.
3. What ends the watch, but for the end of all tasks, is an exception with the open ids on it.
"""

from __future__ import annotations

import asyncio
import logging
import time
from collections import Counter
from types import EllipsisType
from typing import TYPE_CHECKING, Any, Self

from attrs import frozen

from ezvideo_async._client import poller_of
from ezvideo_async._delivery.broadcaster import Broadcaster
from ezvideo_async._domain.events import FinalEvent
from ezvideo_async._domain.policies import PollPolicy
from ezvideo_async._domain.telemetry import TaskEnded
from ezvideo_async._domain.validation import (
    validate_seconds,
    validate_task,
    validate_task_id,
    validate_task_ids,
    validate_timeout,
)
from ezvideo_async._engine.dispatcher import Dispatcher
from ezvideo_async._engine.poller import outcome_of
from ezvideo_async._lifetime import LoopAffinity
from ezvideo_async._scheduling.scheduler import Scheduler
from ezvideo_async.errors import ClosedError, ConfigError

if TYPE_CHECKING:
    from collections.abc import Iterable, Mapping, Sequence
    from types import TracebackType

    from ezvideo_async._client import AsyncVideoClient
    from ezvideo_async._delivery.subscription import Subscription
    from ezvideo_async._domain.events import Event
    from ezvideo_async._domain.task import VideoTask
    from ezvideo_async._engine.poller import Poller
    from ezvideo_async._scheduling.tracked_task import TrackedTask

_log = logging.getLogger("ezvideo_async")

_FIRST_LOOKS_SHARE = 0.5
"""First looks of many ids take this share of the rate, so that they are no peak."""

_NOT_ENTERED = "enter the watcher first: async with client.watch(...) as watcher"


@frozen(kw_only=True)
class WatcherStats:
    """
    Counts of one watcher.

    Attributes:
        open: Ids that have not ended.
        completed: Ids that ended well.
        failed: Ids that failed.
        lost: Ids we stopped looking for.
        unread: Events that the watcher's own loop has not read.
        polls: Polls that have come to an end, well or not.
        in_flight: Polls being answered now.
    """

    open: int
    completed: int
    failed: int
    lost: int
    unread: int
    polls: int
    in_flight: int


class TaskWatcher:
    """
    Watches many tasks, and tells each change of status until every task has ended.

    Enter it (``async with``), then iterate over it.  Iteration ends when every id has ended,
    unless *keep_open* is set or it was made without ids and not yet closed.

    Shape:
        Events of one id come in order and end with exactly one final event; between ids no
        order is promised.  A slow reader gets the newest state only: at most one unread event
        per id.  Polling does not slow down for it.

    Args:
        client: An entered client; it outlives the watcher.
        task_ids: The first ids.
        policy: When to ask; None is ``PollPolicy()``.
        timeout: Seconds until an id is given up with ``TaskLost``, at once if the server, refusing,
            asks to wait for longer; None for never.
        progress: Whether changes of progress alone are told.
        keep_open: True for a watcher that goes on when all ids have ended.
        not_found_grace: Seconds after ``add`` in which "not found" is taken for "not yet".
        retain_ended: Seconds for which an ended id stays known to late readers.

    Raises:
        ConfigError: An option is out of its range.
        InvalidTaskIdError: An id can't be used.
    """

    def __init__(
        self,
        client: AsyncVideoClient,
        task_ids: Iterable[str] = (),
        *,
        policy: PollPolicy | None = None,
        timeout: float | None = 86_400.0,
        progress: bool = False,
        keep_open: bool = False,
        not_found_grace: float = 10.0,
        retain_ended: float = 300.0,
    ) -> None:
        self._client = client
        self._first_ids = validate_task_ids(task_ids)
        self._timeout = validate_timeout("timeout", timeout)
        self._ends_by_itself = bool(self._first_ids) and not keep_open
        self._scheduler = Scheduler(
            policy if policy is not None else PollPolicy(),
            not_found_grace=validate_seconds("not_found_grace", not_found_grace, low=0.0),
            retain_ended=validate_seconds("retain_ended", retain_ended, low=0.0),
            progress=progress,
        )
        self._audience = Broadcaster(
            self._scheduler,
            progress=progress,
            is_over=self._is_over,
            is_hub=not self._ends_by_itself,
        )
        self._is_closing = False
        self._home: LoopAffinity | None = None
        self._poller: Poller
        self._pump: Dispatcher
        self._has_told_stretch = False
        self._ended: Counter[str] = Counter()

    def __repr__(self) -> str:
        return f"<TaskWatcher of {len(self._scheduler)} open tasks>"

    # -- lifetime ---------------------------------------------------------------------------------

    async def __aenter__(self) -> Self:
        if self._home is not None:
            message = "a watcher is entered once; make a new one"
            raise ClosedError(message)
        self._poller = poller_of(self._client)
        self._scheduler.pace.learned = self._poller.learned
        self._home = LoopAffinity()
        self._pump = Dispatcher(
            self._scheduler,
            poller=self._poller,
            publish=self._publish,
            forget=self._audience.forget,
            fail=self._fail,
        )
        self._poller.gate.on_close(self._client_closed)
        self._pump.start()
        first_ids, self._first_ids = self._first_ids, []
        self._add(first_ids, timeout=self._timeout, tag=None)
        return self

    async def __aexit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        traceback: TracebackType | None,
    ) -> None:
        self._fail(ClosedError("the watcher was closed"))
        await self._pump.ended()

    def close(self) -> None:
        """Add no more ids: iteration ends after the last final event."""
        self._is_closing = True
        self._audience.wake()

    def _client_closed(self) -> None:
        self._fail(ClosedError("the client was closed while a watch ran"))

    def _is_over(self) -> bool:
        return not self._scheduler and (self._is_closing or self._ends_by_itself)

    # -- reading ----------------------------------------------------------------------------------

    def __aiter__(self) -> Self:
        return self

    async def __anext__(self) -> Event:
        """
        Give the next event.

        Raises:
            StopAsyncIteration: Every id has ended.
            AuthenticationError: The key was refused; likewise for other trouble with the key or
                the set-up.  ``open_ids`` on the exception names the ids without an end.
            ClosedError: The watcher is not open, or the client was closed.
        """
        self._check_at_home()
        return await self._audience.read()

    def subscribe(self, *task_ids: str, progress: bool = True, replay: bool = True) -> Subscription:
        """
        Read the same polls a second time, for some ids or for all.

        Args:
            task_ids: Watched ids, or ids that ended less than ``retain_ended`` ago; none for
                all, later ones too.
            progress: Whether changes of progress alone are told.
            replay: Whether the current state of each id is told first, without a request.

        Raises:
            ConfigError: An id is not known; ``add()`` it first.
            ClosedError: The watcher is not open in this event loop.
        """
        self._check_usable()
        watches = [self._known(task_id) for task_id in dict.fromkeys(task_ids)] or None
        return self._audience.subscription(watches, progress=progress, replay=replay)

    def _known(self, task_id: str) -> TrackedTask:
        watch = self._scheduler.get(validate_task_id(task_id))
        if watch is None:
            message = f"task {task_id!a} is not being watched; add() it first"
            raise ConfigError(message, task_id=task_id)
        return watch

    async def wait(
        self,
        task_id: str,
        *,
        timeout: float | None = 3600.0,  # noqa: ASYNC109 -- its own error carries the task
        raise_on_failure: bool = True,
    ) -> VideoTask:
        """
        Wait until one task has ended, sharing polls with everybody else.

        An id that is not watched is added, and stays watched when the time is up.  The state
        of an ended id is given at once, without a request.

        Args:
            task_id: The task.
            timeout: Seconds, more than 0; None waits for ever.
            raise_on_failure: False returns a failed task instead of raising.

        Raises:
            TaskFailedError: The task ended without a video.
            WaitTimeoutError: The time was up, or the watcher's own limit for this id.
            TaskNotFoundError: The server does not know the task (any more).
            ClosedError: The id was discarded, or the watcher is not open.
            EzVideoError: What ended the whole watch.
        """
        limit = validate_timeout("timeout", timeout)
        self._check_usable()
        watch = self._scheduler.get(validate_task_id(task_id))
        if watch is None:
            self.add(task_id)
            watch = self._known(task_id)
        final = watch.final
        if final is None:
            final = await self._audience.final_of(watch, limit)
        else:
            watch.is_claimed = True
        return outcome_of(final, raise_on_failure=raise_on_failure)

    def snapshot(self) -> Mapping[str, VideoTask | None]:
        """
        The last state seen of every known id; None before the first answer.

        It does not change later.  A state is read from the server's answer each time it is asked
        for, so that thousands of watched tasks stay small: keep it when you need it twice.
        """
        return self._scheduler.snapshot()

    @property
    def open_ids(self) -> tuple[str, ...]:
        """The ids that have not ended, in the order they were added."""
        return self._scheduler.open_ids

    @property
    def stats(self) -> WatcherStats:
        """Counts of what happened so far."""
        pump = None if self._home is None else self._pump
        return WatcherStats(
            open=len(self._scheduler),
            completed=self._ended["task_completed"],
            failed=self._ended["task_failed"],
            lost=self._ended["task_lost"],
            unread=self._audience.unread,
            polls=pump.polls if pump else 0,
            in_flight=pump.in_flight if pump else 0,
        )

    # -- who is watched ---------------------------------------------------------------------------

    def add(
        self, *task_ids: str, tag: Any = None, timeout: float | EllipsisType | None = ...
    ) -> None:
        """
        Watch more ids; one that is watched is left as it is, one that ended starts anew.

        Args:
            task_ids: The ids.
            tag: Anything; handed back with every event of these ids.
            timeout: Seconds until they are given up; None for never.  Left out, it is the
                watcher's.

        Raises:
            InvalidTaskIdError: An id can't be used; then none is added.
            ConfigError: *timeout* is out of its range.
            ClosedError: The watcher is not open in this event loop, or ``close()`` was called.
        """
        checked = validate_task_ids(task_ids)
        limit = (
            self._timeout
            if isinstance(timeout, EllipsisType)
            else validate_timeout("timeout", timeout)
        )
        self._check_usable()
        if self._is_closing:
            message = "close() was called on this watcher; it takes no more ids"
            raise ClosedError(message)
        self._add(checked, timeout=limit, tag=tag)

    def _add(self, task_ids: Sequence[str], *, timeout: float | None, tag: Any) -> None:
        now = self._now()
        rate = self._poller.gate.budget.current_rate(now) * _FIRST_LOOKS_SHARE
        self._scheduler.add(
            task_ids,
            now=now,
            rand=self._poller.rand(),
            over=min(self._scheduler.policy.interval, (len(task_ids) - 1) / rate)
            if task_ids
            else 0.0,
            timeout=timeout,
            tag=tag,
        )
        self._tell_stretch()
        self._pump.added(since=now)

    def _tell_stretch(self) -> None:
        count, budget = len(self._scheduler), self._poller.gate.budget
        if self._has_told_stretch or count <= budget.rate * self._scheduler.policy.interval:
            return
        self._has_told_stretch = True
        _log.info(
            "%d tasks at %g requests a second: each is asked for every %.1f s instead of %.1f s",
            count, budget.rate, count / budget.rate, self._scheduler.policy.interval,
        )  # fmt: skip

    def discard(self, task_id: str) -> bool:
        """
        Stop watching an id; the remote task goes on.

        After the call no event of that watch comes, to nobody.

        Returns:
            False when the id was not being watched.
        """
        self._check_usable()
        watch = self._scheduler.get(task_id)
        if watch is None or not self._scheduler.discard(task_id):
            return False
        self._audience.drop(watch, ClosedError("the task was discarded", task_id=task_id))
        return True

    def refresh(self, task_id: str) -> bool:
        """
        Look soon, as ``min_interval`` allows, even before a ``Retry-After`` of this id is over.

        For when a webhook came: what it tells is worth a request.

        Returns:
            False when the id is not being watched.
        """
        self._check_usable()
        is_watched = self._scheduler.refresh(task_id, now=self._now())
        self._pump.pump()
        return is_watched

    def feed(self, task: VideoTask) -> bool:
        """
        Take in a state learned elsewhere, as if a poll had brought it.

        Returns:
            False when the task is not being watched.

        Raises:
            TypeError: *task* is no task, or its status is a plain text.
        """
        validate_task(task)
        self._check_usable()
        watch = self._scheduler.get(task.id)
        if watch is None or not watch.is_open:
            return False
        event = self._scheduler.fed(task, now=self._now(), unix_now=time.time())
        if event is not None:
            self._publish(watch, event)
        self._pump.arm()
        return True

    def _check_usable(self) -> None:
        self._check_at_home()
        if self._audience.fault is not None:
            raise self._audience.fault.with_traceback(None)

    def _check_at_home(self) -> None:
        if self._home is None:
            raise ClosedError(_NOT_ENTERED)
        self._home.check()

    def _now(self) -> float:
        return asyncio.get_running_loop().time()

    # -- telling ----------------------------------------------------------------------------------

    def _publish(self, watch: TrackedTask, event: Event) -> None:
        self._audience.publish(watch, event)
        if isinstance(event, FinalEvent):
            self._ended[event.kind] += 1
            if self._poller.observers:
                self._poller.observers.tell(TaskEnded(task_id=watch.task_id, kind=event.kind))

    def _fail(self, error: BaseException) -> None:
        """End the watch: no more polls; readers get what is unread, then the error."""
        if self._audience.fault is not None:
            return
        # Also on a bug's or a key provider's own exception: whoever catches it can go on.
        vars(error)["open_ids"] = self._scheduler.open_ids
        if not isinstance(error, ClosedError):
            _log.error("the watch of %d open tasks ends: %s", len(self._scheduler), error)
        self._pump.stop()
        self._poller.gate.off_close(self._client_closed)
        self._audience.fail(error)
