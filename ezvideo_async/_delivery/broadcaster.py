"""
Who is told: the watcher's own loop, its subscriptions, its waiters.

Rules of this room:

1. Everybody is told from here, and each reader by a mailbox of its own: a slow one holds up
   nobody.
2. What ended the watch is kept as its *fault* and raised to every reader and waiter, after the
   events that they have not read, with the open ids on it.  It is never a silent end.
"""

from __future__ import annotations

import asyncio
from typing import TYPE_CHECKING, Any

from ezvideo_async._delivery.subscription import Reader, Subscription
from ezvideo_async._domain.events import FinalEvent
from ezvideo_async._scheduling.tracked_task import timed_out

if TYPE_CHECKING:
    from collections.abc import Callable, Coroutine, Sequence

    from ezvideo_async._domain.events import Event, Final
    from ezvideo_async._scheduling.scheduler import Scheduler
    from ezvideo_async._scheduling.tracked_task import TrackedTask


class Broadcaster:
    """
    The readers and waiters of one watcher.

    Args:
        scheduler: Knows the watches; is told whether anybody wants progress.
        progress: Whether the watcher's own loop does.
        is_over: Says whether nothing can come any more.
        is_hub: Whether the watcher goes on when all its ids have ended.
    """

    def __init__(
        self,
        scheduler: Scheduler,
        *,
        progress: bool,
        is_over: Callable[[], bool],
        is_hub: bool,
    ) -> None:
        self._scheduler = scheduler
        self._is_over = is_over
        self._is_hub = is_hub
        self._subscriptions: dict[Subscription, None] = {}
        self._waiting: dict[TrackedTask, list[asyncio.Future[Final]]] = {}
        self._is_read = False
        self._reader = Reader(progress=progress, is_over=is_over, fault=lambda: self.fault)
        self.fault: BaseException | None = None

    # -- reading ----------------------------------------------------------------------------------

    def read(self) -> Coroutine[Any, Any, Event]:
        """Give the next event to the watcher's own loop; to be awaited."""
        self._is_read = True
        return self._reader.read()

    @property
    def unread(self) -> int:
        """How many events the watcher's own loop has not read."""
        return len(self._reader.mailbox)

    def subscription(
        self, watches: Sequence[TrackedTask] | None, *, progress: bool, replay: bool
    ) -> Subscription:
        """Make a subscription to some watches, or to all: None."""
        subscription: Subscription
        reader = Reader(
            progress=progress,
            is_over=lambda: subscription.has_ended or (watches is None and self._is_over()),
            fault=lambda: subscription.fault or self.fault,
        )
        subscription = Subscription(
            reader, watches, replay=replay, attach=self._attach, detach=self._detach
        )
        return subscription

    def _attach(
        self, subscription: Subscription, watches: Sequence[TrackedTask] | None
    ) -> Sequence[TrackedTask]:
        """Begin to tell; those of *watches*, or of all, that are still known."""
        if self.fault is not None:
            raise self.fault.with_traceback(None)
        self._subscriptions[subscription] = None
        self._note_progress()
        if watches is None:
            return list(self._scheduler)
        return [watch for watch in watches if self._scheduler.get(watch.task_id) is watch]

    def _detach(self, subscription: Subscription) -> None:
        self._subscriptions.pop(subscription, None)
        self._note_progress()

    def _note_progress(self) -> None:
        wanted = any(subscription.progress for subscription in self._subscriptions)
        self._scheduler.progress = wanted or self._reader.progress

    # -- waiting ----------------------------------------------------------------------------------

    async def final_of(self, watch: TrackedTask, limit: float | None) -> Final:
        """
        Wait for the end of one watch.

        Raises:
            WaitTimeoutError: *limit* seconds have passed.
            BaseException: What ended the whole watch, or this one without an event.
        """
        watch.is_claimed = True
        loop = asyncio.get_running_loop()
        began = loop.time()
        ended: asyncio.Future[Final] = loop.create_future()
        self._waiting.setdefault(watch, []).append(ended)
        patience = asyncio.timeout(limit)
        try:
            async with patience:
                return await ended
        except TimeoutError:
            if not patience.expired():
                raise
        finally:
            self._stop_waiting(watch, ended)
        raise timed_out(watch, waited=loop.time() - began)

    def _stop_waiting(self, watch: TrackedTask, ended: asyncio.Future[Final]) -> None:
        if ended.done() and not ended.cancelled():
            ended.exception()  # seen, even if a cancellation came first
        others = [other for other in self._waiting.pop(watch, ()) if other is not ended]
        if others:
            self._waiting[watch] = others

    def _wake_waiting(self, watch: TrackedTask, outcome: Final | BaseException) -> None:
        for ended in self._waiting.pop(watch, ()):
            if ended.done():
                continue
            if isinstance(outcome, BaseException):
                ended.set_exception(outcome)
            else:
                ended.set_result(outcome)

    # -- telling ----------------------------------------------------------------------------------

    def publish(self, watch: TrackedTask, event: Event) -> None:
        """Tell everybody whom it concerns."""
        self._reader.put(watch, event)
        if self._subscriptions:
            for subscription in tuple(self._subscriptions):
                subscription.put(watch, event)
        if isinstance(event, FinalEvent):
            self._wake_waiting(watch, event)
            if not self._scheduler:
                self.wake()

    def wake(self) -> None:
        """Let everybody who reads look again whether it is over."""
        self._reader.wake()
        for subscription in self._subscriptions:
            subscription.wake()

    def drop(self, watch: TrackedTask, error: BaseException) -> None:
        """Tell no more of a watch; who waits for it gets *error*."""
        self._reader.mailbox.drop(watch)
        for subscription in self._subscriptions:
            subscription.drop(watch)
        self._wake_waiting(watch, error)
        self.wake()

    def forget(self, watch: TrackedTask) -> None:
        """
        Let go of an ending whose time of retention is over.

        An ending that the watcher's own loop has not read stays unread for it, for ever.  Only
        in a hub, a watcher that does not end by itself and whose loop was never begun, does an
        ending go, if somebody waited for it or subscribed to it by its id.
        """
        if self._is_hub and watch.is_claimed and not self._is_read:
            self._reader.mailbox.drop(watch)

    def fail(self, fault: BaseException) -> None:
        """Give *fault* to everybody who reads or waits, now and later."""
        self.fault = fault
        for watch in tuple(self._waiting):
            self._wake_waiting(watch, fault)
        self.wake()
