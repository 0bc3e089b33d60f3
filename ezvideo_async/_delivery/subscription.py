"""
One reader's end of a watcher: an async iterator of events, never an async generator.

A generator that is left by ``break`` is closed at an unknown time and in an unknown task.  A
subscription holds nothing that needs closing, and a cancelled read loses no event.
"""

from __future__ import annotations

import asyncio
from typing import TYPE_CHECKING, Self

from ezvideo_async._delivery.mailbox import Mailbox
from ezvideo_async._domain.events import ProgressChanged
from ezvideo_async._lifetime import LoopAffinity
from ezvideo_async.errors import ClosedError, NotOpenError

if TYPE_CHECKING:
    from collections.abc import Sequence
    from types import TracebackType

    from ezvideo_async._delivery.broadcaster import Broadcaster
    from ezvideo_async._domain.events import Event
    from ezvideo_async._scheduling.tracked_task import TrackedTask


class Subscription:
    """
    An additional reader of the same polls; sends no extra requests.

    Use it as ``async with watcher.subscribe(...) as events``, and iterate over it.  Iteration
    ends when its ids have ended or, for a subscription to all ids, when the watcher's does.
    Leaving it stops the delivery to this reader and nothing else.
    """

    def __init__(
        self,
        broadcaster: Broadcaster,
        ids: Sequence[TrackedTask] | None,
        *,
        progress: bool,
        replay: bool,
    ) -> None:
        self._broadcaster = broadcaster
        self._ids = ids
        self._progress = progress
        self._replay = replay
        self._mailbox = Mailbox(progress=progress)
        self._affinity = LoopAffinity("subscription")
        self._reading: asyncio.Future[None] | None = None
        self._open: set[TrackedTask] = set()
        self._is_entered = False
        self._is_left = False

    async def __aenter__(self) -> Self:
        if self._is_entered:
            raise ClosedError("a subscription is entered once; subscribe again")
        self._affinity.check()
        self.start()
        return self

    async def __aexit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        traceback: TracebackType | None,
    ) -> None:
        self._is_left = True
        self._broadcaster.detach(self)
        self.wake()

    def __aiter__(self) -> Self:
        return self

    async def __anext__(self) -> Event:
        """
        Return the next event.

        Raises:
            StopAsyncIteration: Each of its ids has ended.
            NotOpenError: It was not entered.
            ClosedError: It has been left, or belongs to another event loop.
            EzVideoError: The error that ended the whole watch.
        """
        if not self._is_entered:
            raise NotOpenError(
                "enter the subscription first: async with watcher.subscribe(...) as events"
            )
        self._affinity.check()
        return await self.read()

    @property
    def progress(self) -> bool:
        """Whether changes of progress alone are delivered."""
        return self._progress

    @property
    def unread(self) -> int:
        """How many events are unread."""
        return len(self._mailbox)

    # -- for the broadcaster and the watcher ------------------------------------------------------

    @property
    def open_ids(self) -> frozenset[TrackedTask]:
        """The ids of a subscription to some ids that have not ended."""
        return frozenset(self._open)

    def start(self) -> None:
        """Attach to the broadcaster; put the current states into the mailbox for a replay."""
        self._is_entered = True
        known = self._broadcaster.attach(self, self._ids)
        if self._ids is not None:
            self._open = {tracked for tracked in known if tracked.is_open}
        if not self._replay:
            return
        for tracked in known:
            if tracked.final_event is not None:
                self._mailbox.put(tracked, tracked.final_event)
            elif tracked.status is not None:
                self._mailbox.put_state(tracked)

    async def read(self) -> Event:
        """Return the next event; unread ones come before any error.  One task reads at a time."""
        if self._reading is not None:
            raise RuntimeError("two tasks read the same events; give each its own subscribe()")
        # A cancelled read has taken nothing: after taking, nothing is awaited.
        while (event := self._mailbox.take()) is None:
            self._raise_if_over()
            self._reading = asyncio.get_running_loop().create_future()
            try:
                await self._reading
            finally:
                self._reading = None
        return event

    def _raise_if_over(self) -> None:
        is_over = self._broadcaster.is_over if self._ids is None else not self._open
        if is_over:
            raise StopAsyncIteration
        if self._is_left:
            raise ClosedError("the subscription was left")
        self._broadcaster.raise_fault()

    def deliver(self, tracked: TrackedTask, event: Event) -> None:
        """Put an event into the mailbox, and wake the reader."""
        if self._progress or not isinstance(event, ProgressChanged):
            self._mailbox.put(tracked, event)
            if event.is_final:
                self._open.discard(tracked)
            if self._reading is not None:
                self.wake()

    def drop(self, tracked: TrackedTask) -> None:
        """Forget an id and its unread event."""
        self._mailbox.drop(tracked)
        self._open.discard(tracked)
        self.wake()

    def wake(self) -> None:
        """Let a waiting reader check again for events and for the end."""
        if self._reading is not None and not self._reading.done():
            self._reading.set_result(None)
