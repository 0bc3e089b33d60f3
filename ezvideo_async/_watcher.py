"""
``TaskWatcher``: thousands of tasks watched in one event loop.

1. The scheduler decides, the dispatcher polls, the broadcaster delivers; the watcher is their
   public side.
2. What ends the watch, other than the end of all ids, is an exception with the open ids on it.
"""

from __future__ import annotations

import asyncio
import logging
import time
from collections import Counter
from typing import TYPE_CHECKING, Any, Self

from ezvideo_async._delivery.broadcaster import Broadcaster
from ezvideo_async._delivery.subscription import Subscription
from ezvideo_async._domain.events import FinalEvent, TaskLost, own_event
from ezvideo_async._domain.fresh_errors import fresh_error
from ezvideo_async._domain.policies import PollPolicy
from ezvideo_async._domain.telemetry import TaskEnded
from ezvideo_async._domain.validation import (
    UNSET,
    Unset,
    task_id_of,
    validate_instance,
    validate_json_tag,
    validate_seconds,
    validate_task,
    validate_tasks,
    validate_timeout,
)
from ezvideo_async._domain.watcher_reports import WatchedTask, WatcherStats
from ezvideo_async._engine.dispatcher import Dispatcher
from ezvideo_async._engine.persistence import WatcherHandle
from ezvideo_async._engine.poller import outcome_of
from ezvideo_async._lifetime import LoopAffinity
from ezvideo_async._scheduling.scheduler import Scheduler
from ezvideo_async.errors import ClosedError, ConfigError, EzVideoError, NotOpenError, StoreError

if TYPE_CHECKING:
    from collections.abc import Iterable, Mapping
    from types import TracebackType

    from ezvideo_async._domain.events import Event
    from ezvideo_async._domain.task import VideoTask
    from ezvideo_async._engine.engine import Engine
    from ezvideo_async._engine.persistence import Acknowledge, Persistence, StoreArgument
    from ezvideo_async._scheduling.tracked_task import TrackedTask

_log = logging.getLogger("ezvideo_async")

_FIRST_POLLS_SHARE = 0.5  # of the rate, for the first polls of many ids


class TaskWatcher:
    """
    Watches many tasks, and yields each change of status until every id has ended.

    Make it with :meth:`AsyncVideoClient.watch`, enter it (``async with``), then iterate over it.
    Iteration ends when every id has ended, unless *keep_open* is set, or it was made without ids
    and ``finish_adding()`` was not yet called.

    Shape:
        Events of one id come in order and end with exactly one final event; between ids no
        order is promised.  A slow reader gets the newest state only: at most one unread event
        per id.  Polling does not slow down for it.
    """

    def __init__(
        self,
        engine: Engine,
        tasks: Iterable[str | VideoTask] | Mapping[str, Any],
        *,
        policy: PollPolicy | None,
        timeout: float | None,
        progress: bool,
        keep_open: bool,
        not_found_grace: float,
        retain_ended: float,
        tag: Any,
        store: StoreArgument,
        acknowledge: Acknowledge,
        iterate: bool,
    ) -> None:
        self._engine = engine
        self._persistence = _persistence(store, acknowledge=acknowledge, iterate=iterate)
        self._acknowledges_on_next = acknowledge == "on_next"
        self._iterates = iterate
        self._first = self._storable(validate_tasks(tasks, tag=tag))
        self._timeout = validate_timeout("timeout", timeout)
        self._ends_by_itself = bool(self._first) and not keep_open
        self._policy = validate_instance("policy", policy, PollPolicy) or PollPolicy()
        self._progress = progress
        self._scheduler = Scheduler(
            self._policy,
            history=engine.history,
            estimator=engine.estimator if self._policy.adaptive else None,
            final_bodies=engine.final_bodies,
            not_found_grace=validate_seconds("not_found_grace", not_found_grace, low=0.0),
            retain_ended=validate_seconds("retain_ended", retain_ended, low=0.0),
            progress=progress,
            is_hub=not self._ends_by_itself,
        )
        self._is_finishing = False
        self._affinity: LoopAffinity | None = None
        self._broadcaster: Broadcaster
        self._dispatcher: Dispatcher
        self._unix_offset = 0.0  # seconds from the loop clock to Unix time
        self._has_logged_stretch = False
        self._ended: Counter[str] = Counter()
        self._last_final: FinalEvent | None = None  # acknowledged by the next read
        self._has_logged_unread = False

    def __repr__(self) -> str:
        return f"<TaskWatcher of {len(self._scheduler) or len(self._first)} open tasks>"

    # -- lifetime ---------------------------------------------------------------------------------

    async def __aenter__(self) -> Self:
        if self._affinity is not None:
            raise ClosedError("a watcher is entered once; make a new one")
        self._engine.bind()
        self._affinity = LoopAffinity("watcher")
        self._unix_offset = time.time() - self._now()
        self._broadcaster = Broadcaster(
            self._scheduler,
            progress=self._progress,
            ends=lambda: self._is_finishing or self._ends_by_itself,
            drops_unread=not self._ends_by_itself and self._persistence is None,
            iterates=self._iterates,
        )
        self._dispatcher = Dispatcher(
            self._scheduler,
            self._engine,
            publish=self._deliver if self._persistence is None else self._persistence.publish,
            evict=self._evict,
            fail=self._fail,
        )
        self._engine.on_close(self._client_closed)
        self._engine.aliases.add_watched(self._scheduler)
        first: Mapping[str, Any] = self._first
        self._first = {}
        try:
            if self._persistence is not None:
                first = await self._restore(self._persistence, first)
            self._dispatcher.start()
            self._add(first, timeout=self._timeout, restart_ended=False)
            self._dispatcher.arm()
        except BaseException:  # there will be no ``__aexit__``
            self._fail(ClosedError("the watcher could not be entered"))
            await self._dispatcher.wait_stopped()
            raise
        return self

    async def _restore(
        self, persistence: Persistence, first: Mapping[str, Any]
    ) -> Mapping[str, Any]:
        """Restore what is stored; return the first ids that are still to be added."""
        engine = self._engine
        handle = WatcherHandle(
            scheduler=self._scheduler,
            broadcaster=self._broadcaster,
            dispatcher=self._dispatcher,
            budget=engine.budget,
            deliver=self._deliver,
            fail=self._fail,
            emit=engine.telemetry.emit,
            first_polls_over=self._first_polls_over,
            retrieve=engine.poller.retrieve,
            base_url=engine.base_url,
            fingerprint=await engine.fingerprint(),
            now=self._now,
            unix_now=time.time,
            epoch=self._unix_offset,
            rand=engine.rand,
        )
        left = await persistence.start(handle, list(first))
        for tracked in self._scheduler:
            if tracked.status is not None:  # a response has shown it: base_url is proven
                engine.history.record_valid(tracked.task_id, self._now())
                break
        return {task_id: first[task_id] for task_id in left}

    async def __aexit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        traceback: TracebackType | None,
    ) -> None:
        if kind is None:
            self._acknowledge_last()
        self._fail(ClosedError("the watcher was closed"))
        await self._dispatcher.wait_stopped()
        if self._persistence is None:
            return
        try:
            await self._persistence.stop()
        except StoreError as failure:
            if kind is None:
                raise
            _log.error("%s", failure)

    def finish_adding(self) -> None:
        """Accept no more ids: iteration ends after the last final event.  Idempotent."""
        self._is_finishing = True
        if self._affinity is not None:
            self._broadcaster.wake()

    def _client_closed(self) -> None:
        self._fail(ClosedError("the client was closed during the watch"))

    # -- reading ----------------------------------------------------------------------------------

    def __aiter__(self) -> Self:
        return self

    async def __anext__(self) -> Event:
        """
        Return the next event.

        Raises:
            StopAsyncIteration: Every id has ended.
            AuthenticationError: The API key was refused; likewise for other errors of key or
                configuration.  ``open_ids`` on the exception names the ids that have not ended.
            EzVideoError: The cause, an exception of the ``api_key`` callable or a bug, ended it.
            NotOpenError: The watcher was not entered.
            ClosedError: The watcher or its client was closed.
        """
        self._check_entered()
        if not self._iterates:
            raise ConfigError("this watcher was made with iterate=False; use wait() or subscribe()")
        if self._persistence is not None and self._acknowledges_on_next:
            self._acknowledge_last()
            await self._persistence.wait_acknowledged()  # also if that was cancelled before
        event = await self._broadcaster.read()
        if self._acknowledges_on_next and isinstance(event, FinalEvent):
            self._last_final = event
        return event

    def _acknowledge_last(self) -> None:
        event, self._last_final = self._last_final, None
        if event is not None and self._persistence is not None:
            self._persistence.acknowledge(event)

    def subscribe(
        self, *tasks: str | VideoTask, progress: bool = True, replay: bool = True
    ) -> Subscription:
        """
        Make an additional reader of the same polls, for some ids or for all.

        Args:
            tasks: Watched ids, or ids that ended less than ``retain_ended`` seconds ago; none
                for all ids, later ones too.
            progress: Whether changes of progress alone are delivered.
            replay: Whether the current state of each id is delivered first, without a request.

        Raises:
            ConfigError: An id is not known; ``add()`` it first.
            NotOpenError: The watcher was not entered.
            ClosedError: The watcher was closed, or belongs to another event loop.
        """
        self._check_open()
        ids = [self._known(task_id) for task_id in dict.fromkeys(map(task_id_of, tasks))]
        return Subscription(self._broadcaster, ids or None, progress=progress, replay=replay)

    def _known(self, task_id: str) -> TrackedTask:
        tracked = self._scheduler.get(task_id)
        if tracked is None:
            raise ConfigError(f"task {task_id!a} is not watched; add() it first", task_id=task_id)
        return tracked

    async def wait(
        self,
        task: str | VideoTask,
        *,
        timeout: float | None = 3600.0,  # noqa: ASYNC109 -- its own error carries the task
        raise_on_failure: bool = True,
    ) -> VideoTask:
        """
        Wait until one task has finished, by the polls that everybody shares.

        An id that is not watched is added, and stays watched after the timeout.  An ended id
        returns at once, without a request.

        Args:
            task: The task, or its id.
            timeout: Seconds, more than 0; None means no limit.
            raise_on_failure: False returns a failed task instead of raising.

        Raises:
            TaskFailedError: The task finished without a video.
            WaitTimeoutError: It did not finish in time, by this or by the watcher's own timeout.
            TaskNotFoundError: The server does not know the task (any more).
            NotOpenError: The watcher was not entered.
            ClosedError: The id was discarded, or the watcher was closed.
            EzVideoError: The error that ended the whole watch.
        """
        task_id = task_id_of(task)
        limit = validate_timeout("timeout", timeout)
        self._check_open()
        if self._scheduler.get(task_id) is None:
            self.add(task_id)
        tracked = self._known(task_id)
        tracked.claim()
        if tracked.final_event is None:
            final = await self._broadcaster.final_event_of(tracked, limit)
        else:
            final = own_event(tracked.final_event)
        return outcome_of(final, raise_on_failure=raise_on_failure)

    def get(self, task: str | VideoTask) -> WatchedTask | None:
        """
        Return what is known of an id, without a request; O(1).

        Returns:
            None when the id is not watched, and did not end less than ``retain_ended`` ago.
        """
        tracked = self._scheduler.get(task_id_of(task))
        if tracked is None:
            return None
        final = None if tracked.final_event is None else own_event(tracked.final_event)
        if isinstance(final, TaskLost):
            last_error: EzVideoError | None = final.error
        else:
            last_error = tracked.last_error and fresh_error(tracked.last_error)
        return WatchedTask(
            task=tracked.task if final is None else final.task,
            final_event=final,
            last_error=last_error,
            added_at=tracked.added + self._unix_offset,
            tag=tracked.tag,
        )

    def snapshot(self) -> Mapping[str, VideoTask | None]:
        """
        Return the last state of every known id; None before the first response.

        It does not change later.  A state is decoded each time it is read: keep it when you need
        it twice.
        """
        return self._scheduler.snapshot()

    @property
    def open_ids(self) -> tuple[str, ...]:
        """The ids that have not ended, in the order they were added."""
        return self._scheduler.open_ids

    @property
    def stats(self) -> WatcherStats:
        """Counts of what happened so far, and whether the server responds."""
        is_entered, history = self._affinity is not None, self._engine.history
        return WatcherStats(
            open=len(self._scheduler),
            completed=self._ended["task_completed"],
            failed=self._ended["task_failed"],
            lost=self._ended["task_lost"],
            unread=self._broadcaster.unread if is_entered else 0,
            polls=self._dispatcher.polls if is_entered else 0,
            in_flight=self._dispatcher.in_flight if is_entered else 0,
            unsaved=0 if self._persistence is None else self._persistence.unsaved,
            last_response_at=self._unix_time(history.last_valid_at),
            failing_since=self._unix_time(history.failing_since),
            last_error=history.last_error,
        )

    def _unix_time(self, instant: float | None) -> float | None:
        if instant is None or self._affinity is None:
            return None
        return instant + self._unix_offset

    # -- the store --------------------------------------------------------------------------------

    async def save(self) -> None:
        """
        Wait until all that was recorded is written; without a store, return at once.

        After it, neither a kill nor a power cut loses an id added before.

        Raises:
            StoreError: Writing failed; the changes stay queued, and writing is tried again.
            NotOpenError: The watcher was not entered.
        """
        self._check_entered()
        if self._persistence is not None:
            await self._persistence.save()

    def acknowledge(self, event: FinalEvent | str) -> bool:
        """
        Record that a final event need not be delivered again after a restart.

        With ``acknowledge="on_next"``, the default, reading on does that.

        Args:
            event: The event, or its task id.

        Returns:
            False when no final event of this id waits for it, or another one than *event*, and
            always without a store.
        """
        self._check_entered()
        final = event if isinstance(event, FinalEvent) else task_id_of(event)
        return self._persistence is not None and self._persistence.acknowledge(final)

    def _storable(self, tags: dict[str, Any]) -> dict[str, Any]:
        """Return the tags as JSON makes them, if there is a store."""
        if self._persistence is None:
            return tags
        return {task_id: validate_json_tag(tag, task_id) for task_id, tag in tags.items()}

    # -- which ids are watched --------------------------------------------------------------------

    def add(
        self,
        *tasks: str | VideoTask,
        tag: Any = None,
        timeout: float | Unset | None = UNSET,
        restart_ended: bool = False,
    ) -> None:
        """
        Watch more ids.  Idempotent: a known id is left alone.

        Args:
            tasks: The tasks, or their ids.
            tag: Anything; returned with every event of these ids.
            timeout: Seconds until they are lost; None means no limit.  Left out, it is the
                watcher's.
            restart_ended: Whether an id that has ended, and is still known, is watched again.

        Raises:
            InvalidTaskIdError: An id is not valid; then none is added.
            ConfigError: *timeout* is out of its range.
            NotOpenError: The watcher was not entered.
            ClosedError: The watcher was closed, belongs to another event loop, or
                ``finish_adding()`` was called.
        """
        tags = self._storable(validate_tasks(tasks, tag=tag))
        limit = self._timeout if timeout is UNSET else validate_timeout("timeout", timeout)
        self._check_open()
        if self._is_finishing:
            raise ClosedError("finish_adding() was called on this watcher; it takes no more ids")
        self._add(tags, timeout=limit, restart_ended=restart_ended)

    def _add(self, tags: Mapping[str, Any], *, timeout: float | None, restart_ended: bool) -> None:
        now = self._now()
        if self._persistence is not None and not restart_ended:
            is_waiting = self._persistence.is_waiting
            tags = {task_id: tag for task_id, tag in tags.items() if not is_waiting(task_id)}
        added = self._scheduler.add(
            tags,
            now=now,
            rand=self._engine.rand(),
            over=self._first_polls_over(len(tags)),
            timeout=timeout,
            restart_ended=restart_ended,
        )
        if added:
            if self._persistence is not None:
                self._persistence.record_added(added)
            self._log_stretch()
            self._dispatcher.dispatch(since=now)

    def _first_polls_over(self, count: int) -> float:
        """Return the seconds over which the first polls of this many ids are spread."""
        rate = self._engine.limiter.current_rate(self._now()) * _FIRST_POLLS_SHARE
        return min(self._policy.interval, max(count - 1, 0) / rate)

    def _log_stretch(self) -> None:
        """Log once that the budget stretches the interval."""
        count, rate = len(self._scheduler), self._engine.budget.rate
        interval = self._policy.interval
        if self._has_logged_stretch or count <= rate * interval:
            return
        self._has_logged_stretch = True
        _log.info(
            "%d tasks at %g requests per second: each is polled every %.1f s instead of %.1f s",
            count, rate, count / rate, interval,
        )  # fmt: skip

    def discard(self, task: str | VideoTask) -> bool:
        """
        Stop watching an id and delivering its events; the remote task is not cancelled.

        Returns:
            False when the id is not watched.
        """
        self._check_open()
        task_id = task_id_of(task)
        tracked = self._scheduler.discard(task_id)
        if tracked is None:
            return False
        if self._persistence is not None:
            self._persistence.record_discarded(tracked)
        self._engine.aliases.drop_watched([task_id])
        self._broadcaster.drop(tracked, ClosedError("the task was discarded", task_id=task_id))
        return True

    def poll_now(self, task: str | VideoTask) -> bool:
        """
        Poll as soon as ``min_interval`` allows, even before a ``Retry-After`` of this id is over.

        Call it when a webhook came.

        Returns:
            False when the id is not watched.
        """
        self._check_open()
        is_watched = self._scheduler.poll_now(task_id_of(task), now=self._now())
        self._dispatcher.dispatch()
        return is_watched

    def apply(self, task: VideoTask) -> bool:
        """
        Record a state learned elsewhere, as if a poll had brought it.

        Returns:
            False when the task is not watched.

        Raises:
            TypeError: *task* is not a task, or its status is plain text.
        """
        validate_task(task)
        self._check_open()
        tracked, event = self._scheduler.apply(task, now=self._now(), unix_now=time.time())
        if tracked is None:
            return False
        if event is not None:
            self._publish(tracked, event)
        self._dispatcher.arm()
        return True

    def _check_open(self) -> None:
        self._check_entered()
        self._broadcaster.raise_fault()

    def _check_entered(self) -> None:
        if self._affinity is None:
            raise NotOpenError("enter the watcher first: async with client.watch(...) as watcher")
        self._affinity.check()

    def _now(self) -> float:
        return asyncio.get_running_loop().time()

    # -- delivering -------------------------------------------------------------------------------

    def _publish(self, tracked: TrackedTask, event: Event) -> None:
        if self._persistence is None:
            self._deliver(tracked, event)
        else:
            self._persistence.publish(tracked, event)

    def _deliver(self, tracked: TrackedTask, event: Event) -> None:
        self._broadcaster.publish(tracked, event)
        if isinstance(event, FinalEvent):
            self._ended[event.kind] += 1
            telemetry = self._engine.telemetry
            if telemetry:
                telemetry.emit(TaskEnded(task_id=tracked.task_id, kind=event.kind))

    def _evict(self, tracked: TrackedTask) -> None:
        self._engine.aliases.drop_watched([tracked.task_id])
        self._broadcaster.evict(tracked)
        if self._persistence is not None and self._broadcaster.has_idle_iteration:
            self._log_unread()

    def _log_unread(self) -> None:
        if not self._has_logged_unread:
            self._has_logged_unread = True
            _log.warning(
                "final events wait for the iteration over this watcher, which has not begun; "
                "iterate, or make it with iterate=False if only wait() and subscribe() read it"
            )

    def _fail(self, error: BaseException) -> None:
        """End the watch: no more polls; readers get what is unread, then the error."""
        if self._broadcaster.fault is not None:
            return
        fault = fresh_error(error) if isinstance(error, EzVideoError) else _foreign_error(error)
        fault.open_ids = self._scheduler.open_ids
        if not isinstance(fault, ClosedError):
            _log.error("the watch of %d open tasks ends: %s", len(self._scheduler), fault)
        self._dispatcher.stop()
        self._engine.aliases.drop_watched([tracked.task_id for tracked in self._scheduler])
        self._engine.off_close(self._client_closed)
        self._broadcaster.fail(fault)


def _persistence(
    store: StoreArgument, *, acknowledge: Acknowledge, iterate: bool
) -> Persistence | None:
    """Return what keeps the ids of a watcher with these options; None without a store."""
    if acknowledge not in {"on_next", "by_hand"}:
        raise ConfigError(f'acknowledge must be "on_next" or "by_hand", not {acknowledge!a}')
    if not iterate and acknowledge == "by_hand":
        raise ConfigError("nothing is acknowledged with iterate=False; leave acknowledge out")
    if store is None:
        return None
    from ezvideo_async.store import persistence_of  # noqa: PLC0415 -- it is a layer above

    return persistence_of(store, iterates=iterate)


def _foreign_error(cause: BaseException) -> EzVideoError:
    """Return the error for an exception of the key callable, or of a bug."""
    error = EzVideoError(
        f"{type(cause).__name__} ended the watch (see the cause): the api_key callable raised it, "
        "or it is a bug; mend that, then watch open_ids again"
    )
    error.__cause__ = cause
    return error
