"""
Broadcaster that delivers events to the readers and waiters of one watcher.

1. Each reader has a mailbox of its own: a slow one delays nobody.
2. An error that ends the watch is raised to every reader and waiter, after the events that they
   have not read, with the open ids on it.  A watch never ends silently.  Each gets a copy.
3. An event costs O(readers of its id and of all ids), however many others there are.
"""

from __future__ import annotations

import asyncio
from typing import TYPE_CHECKING

from ezvideo_async._delivery.subscription import Subscription
from ezvideo_async._domain.events import FinalEvent, own_event
from ezvideo_async._domain.fresh_errors import fresh_error
from ezvideo_async.errors import EzVideoError

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable, Sequence

    from ezvideo_async._domain.events import AnyFinalEvent, Event
    from ezvideo_async._scheduling.scheduler import Scheduler
    from ezvideo_async._scheduling.tracked_task import TrackedTask


class Broadcaster:
    """
    The readers and waiters of one watcher.

    Args:
        scheduler: Holds the ids.
        progress: Whether the watcher's own iteration wants it.
        ends: Returns True if the watch ends once all ids have ended.
        drops_unread: Whether an unread final event that somebody claimed is dropped at its
            eviction while the watcher's own iteration has not begun.
        iterates: Whether there is an iteration of the watcher's own.

    Attributes:
        fault: The error that ended the watch, of which copies are raised; None while it runs.
    """

    def __init__(
        self,
        scheduler: Scheduler,
        *,
        progress: bool,
        ends: Callable[[], bool],
        drops_unread: bool,
        iterates: bool,
    ) -> None:
        self._scheduler = scheduler
        self._ends = ends
        self._drops_unread = drops_unread
        self._to_all: dict[Subscription, None] = {}
        self._by_id: dict[TrackedTask, dict[Subscription, None]] = {}
        self._waiting: dict[TrackedTask, dict[asyncio.Future[AnyFinalEvent], None]] = {}
        self._wanting_progress = 0
        self._is_read = False
        self.fault: EzVideoError | None = None
        self._own = Subscription(self, None, progress=progress, replay=False)
        if iterates:
            self._own.start()

    # -- reading ----------------------------------------------------------------------------------

    async def read(self) -> Event:
        """Return the next event of the watcher's own iteration."""
        self._is_read = True
        return await self._own.read()

    @property
    def unread(self) -> int:
        """Number of events that the watcher's own iteration has not read."""
        return self._own.unread

    @property
    def has_idle_iteration(self) -> bool:
        """True while events wait for the watcher's own iteration, which has not begun."""
        return not self._is_read and self._own.unread > 0

    @property
    def is_over(self) -> bool:
        """True when no event can come any more."""
        return not self._scheduler and self._ends()

    def raise_fault(self) -> None:
        """Raise the error that ended the watch, if one did."""
        if self.fault is not None:
            raise fresh_error(self.fault)

    def attach(
        self, subscription: Subscription, ids: Sequence[TrackedTask] | None
    ) -> Iterable[TrackedTask]:
        """Start delivering; return the known ones of *ids*, or of all ids."""
        self.raise_fault()
        self._count_progress(subscription, 1)
        if ids is None:
            self._to_all[subscription] = None
            return list(self._scheduler)
        known = [each for each in ids if self._scheduler.get(each.task_id) is each]
        for tracked in known:
            tracked.claim()
            if tracked.is_open:
                self._by_id.setdefault(tracked, {})[subscription] = None
        return known

    def detach(self, subscription: Subscription) -> None:
        """Stop delivering."""
        self._to_all.pop(subscription, None)
        for tracked in subscription.open_ids:
            readers = self._by_id.get(tracked, {})
            readers.pop(subscription, None)
            if not readers:
                self._by_id.pop(tracked, None)
        self._count_progress(subscription, -1)

    def _count_progress(self, subscription: Subscription, change: int) -> None:
        if subscription.progress:
            self._wanting_progress += change
            self._scheduler.want_progress(self._wanting_progress > 0)

    # -- waiting ----------------------------------------------------------------------------------

    async def final_event_of(self, tracked: TrackedTask, timeout: float | None) -> AnyFinalEvent:  # noqa: ASYNC109 -- its own error carries the task
        """Wait for a final event; raise ``WaitTimeoutError``, or what ended watch or id."""
        tracked.claim()
        loop = asyncio.get_running_loop()
        began = loop.time()
        ended: asyncio.Future[AnyFinalEvent] = loop.create_future()
        self._waiting.setdefault(tracked, {})[ended] = None
        deadline = asyncio.timeout(timeout)
        try:
            async with deadline:
                return await ended
        except TimeoutError:
            if not deadline.expired():
                raise
        finally:
            self._stop_waiting(tracked, ended)
        raise fresh_error(tracked.timeout_error(waited=loop.time() - began))

    def _stop_waiting(self, tracked: TrackedTask, ended: asyncio.Future[AnyFinalEvent]) -> None:
        if ended.done() and not ended.cancelled():
            ended.exception()  # retrieved, even if a cancellation came first
        waiting = self._waiting.get(tracked, {})
        waiting.pop(ended, None)
        if not waiting:
            self._waiting.pop(tracked, None)

    def _wake_waiting(self, tracked: TrackedTask, outcome: AnyFinalEvent | EzVideoError) -> None:
        for ended in self._waiting.pop(tracked, ()):
            if ended.done():
                continue
            if isinstance(outcome, EzVideoError):
                ended.set_exception(fresh_error(outcome))
            else:
                ended.set_result(outcome)

    # -- delivering -------------------------------------------------------------------------------

    def publish(self, tracked: TrackedTask, event: Event) -> None:
        """Deliver an event to every reader and waiter of its id."""
        for subscription in self._to_all:
            subscription.deliver(tracked, event)
        if self._by_id:
            for subscription in self._by_id.get(tracked, ()):
                subscription.deliver(tracked, event)
        if isinstance(event, FinalEvent):
            self._by_id.pop(tracked, None)
            self._wake_waiting(tracked, own_event(event))
            if not self._scheduler:
                self.wake()

    def wake(self) -> None:
        """Let every waiting reader check whether the watch is over."""
        for subscription in self._to_all:
            subscription.wake()
        for readers in self._by_id.values():
            for subscription in readers:
                subscription.wake()

    def drop(self, tracked: TrackedTask, error: EzVideoError) -> None:
        """Deliver nothing more about an id; its waiters get copies of *error*."""
        for subscription in (*self._to_all, *self._by_id.pop(tracked, ())):
            subscription.drop(tracked)
        self._wake_waiting(tracked, error)
        if not self._scheduler:
            self.wake()

    def evict(self, tracked: TrackedTask) -> None:
        """Forget an ended id; in a hub that nobody iterates over, its unread final event too."""
        if self._drops_unread and tracked.is_claimed and not self._is_read:
            self._own.drop(tracked)

    def fail(self, fault: EzVideoError) -> None:
        """Raise copies of *fault* to everybody who reads or waits, now and later."""
        self.fault = fault
        for tracked in tuple(self._waiting):
            self._wake_waiting(tracked, fault)
        self.wake()
