"""
One reader's end of a watcher: an async iterator of events, never an async generator.

A generator that is left by ``break`` is closed at an unknown time and in an unknown task.  A
subscription holds nothing that needs closing, and a cancelled read loses no event.
"""

from __future__ import annotations

import asyncio
from typing import TYPE_CHECKING, Protocol, Self

from ezvideo_async._delivery.mailbox import Mailbox
from ezvideo_async._domain.events import ProgressChanged
from ezvideo_async._lifetime import LoopAffinity
from ezvideo_async.errors import ClosedError, NotOpenError

if TYPE_CHECKING:
    from collections.abc import Iterable, Sequence
    from types import TracebackType

    from ezvideo_async._domain.events import Event
    from ezvideo_async._scheduling.tracked_task import TrackedTask


class Publisher(Protocol):
    """The side of a broadcaster that a subscription sees."""

    @property
    def is_over(self) -> bool:
        """True when no event can come any more."""
        ...

    def attach(
        self, subscription: Subscription, ids: Sequence[TrackedTask] | None
    ) -> Iterable[TrackedTask]:
        """Start delivering; return the known ones of *ids*, or of all ids."""
        ...

    def detach(self, subscription: Subscription) -> None:
        """Stop delivering."""

    def raise_fault(self) -> None:
        """Raise the error that ended the watch, if one did."""


class Subscription:
    """
    An additional reader of the same polls; sends no extra requests.

    Use it as ``async with watcher.subscribe(...) as events``, and iterate over it.  Iteration
    ends when its ids have ended or, for a subscription to all ids, when the watcher's does.
    Leaving it stops the delivery to this reader and nothing else.
    """

    def __init__(
        self,
        publisher: Publisher,
        ids: Sequence[TrackedTask] | None,
        *,
        progress: bool,
        replay: bool,
    ) -> None:
        self._publisher = publisher
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
        self._publisher.detach(self)
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
            message = "enter the subscription first: async with watcher.subscribe(...) as events"
            raise NotOpenError(message)
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
        """Attach to the publisher, and deliver the current states if they were asked for."""
        self._is_entered = True
        known = self._publisher.attach(self, self._ids)
        if self._ids is not None:
            self._open = {tracked for tracked in known if tracked.is_open}
        if self._replay:
            for tracked in known:
                self._deliver_state(tracked)

    def _deliver_state(self, tracked: TrackedTask) -> None:
        if tracked.final_event is not None:
            self._mailbox.put(tracked, tracked.final_event)
        elif tracked.status is not None:
            self._mailbox.put_state(tracked)

    async def read(self) -> Event:
        """
        Return the next event; unread ones come before any error.

        Raises:
            RuntimeError: Another task is reading at this moment.
        """
        if self._reading is not None:
            message = "two tasks read the same events; give each its own subscribe()"
            raise RuntimeError(message)
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
        has_ended = self._publisher.is_over if self._ids is None else not self._open
        if has_ended:
            raise StopAsyncIteration
        if self._is_left:
            raise ClosedError("the subscription was left")
        self._publisher.raise_fault()

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
