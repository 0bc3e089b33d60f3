"""
How events reach a loop: an object with ``__anext__``, never an async generator.

A generator that is left by ``break`` is closed who knows when and in whose task; a reader holds
nothing that would need closing, and loses nothing when a read is cancelled.
"""

from __future__ import annotations

import asyncio
from typing import TYPE_CHECKING, Self

from ezvideo_async._delivery.mailbox import Mailbox
from ezvideo_async._domain.events import ProgressChanged
from ezvideo_async._lifetime import LoopAffinity
from ezvideo_async.errors import ClosedError

if TYPE_CHECKING:
    from collections.abc import Callable, Sequence
    from types import TracebackType

    from ezvideo_async._domain.events import Event
    from ezvideo_async._scheduling.tracked_task import TrackedTask


class Reader:
    """
    One reader's end of a watcher.

    Args:
        progress: Whether changes of progress alone are told.
        is_over: Says whether nothing can come any more.
        fault: Gives the error that ended the watch, if one did.
    """

    def __init__(
        self,
        *,
        progress: bool,
        is_over: Callable[[], bool],
        fault: Callable[[], BaseException | None],
    ) -> None:
        self.progress = progress
        self.mailbox: Mailbox = Mailbox(progress=progress)
        self._is_over = is_over
        self._fault = fault
        self._woken: asyncio.Future[None] | None = None

    def put(self, watch: TrackedTask, event: Event) -> None:
        """Take in an event, and wake the loop that waits for one."""
        if self.progress or not isinstance(event, ProgressChanged):
            self.mailbox.put(watch, event)
            if self._woken is not None:
                self.wake()

    def put_state(self, watch: TrackedTask) -> None:
        """Have the state of a watch told, whatever it is by then."""
        self.mailbox.put_state(watch)
        self.wake()

    def wake(self) -> None:
        """Let a waiting loop look again."""
        if self._woken is not None and not self._woken.done():
            self._woken.set_result(None)

    async def read(self) -> Event:
        """
        Give the next event; unread ones come before any error.

        Raises:
            StopAsyncIteration: Every watched id has ended and been told.
            EzVideoError: What ended the watch.
            RuntimeError: Another task is reading at this moment.
        """
        if self._woken is not None:
            message = "two tasks read the same events; give each its own subscribe()"
            raise RuntimeError(message)
        # A cancelled read has taken nothing: after taking, nothing is awaited.
        while (event := self.mailbox.take()) is None:
            self._raise_if_finished()
            self._woken = asyncio.get_running_loop().create_future()
            try:
                await self._woken
            finally:
                self._woken = None
        return event

    def _raise_if_finished(self) -> None:
        if self._is_over():
            raise StopAsyncIteration
        fault = self._fault()
        if fault is not None:
            raise fault.with_traceback(None)


class Subscription:
    """
    More eyes on the same polls: ``async with watcher.subscribe(...) as events``.

    Iterate over it; it ends when its ids have ended, or, made without ids, when the watcher's
    own iteration does.  Leaving it stops nothing but the telling.
    """

    def __init__(
        self,
        reader: Reader,
        watches: Sequence[TrackedTask] | None,
        *,
        replay: bool,
        attach: Callable[[Subscription, Sequence[TrackedTask] | None], Sequence[TrackedTask]],
        detach: Callable[[Subscription], None],
    ) -> None:
        self._reader = reader
        self._watches = watches
        self._replay = replay
        self._attach = attach
        self._detach = detach
        self._home = LoopAffinity()
        self._is_entered = False
        self._is_left = False
        self._open: set[TrackedTask] = set()

    async def __aenter__(self) -> Self:
        if self._is_entered:
            message = "a subscription is entered once; subscribe again"
            raise ClosedError(message)
        self._home.check()
        known = self._attach(self, self._watches)
        self._is_entered = True
        self._open = {watch for watch in known if watch.is_open}
        for watch in known:
            if self._watches is not None:
                watch.is_claimed = True
            if self._replay:
                self._tell_state(watch)
        return self

    async def __aexit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        traceback: TracebackType | None,
    ) -> None:
        self._is_left = True
        self._detach(self)
        self._reader.wake()

    def __aiter__(self) -> Self:
        return self

    async def __anext__(self) -> Event:
        """
        Give the next event.

        Raises:
            StopAsyncIteration: Each of its ids has ended.
            ClosedError: It was not entered, has been left, or belongs to another event loop.
            EzVideoError: What ended the whole watch.
        """
        if not self._is_entered:
            message = "enter the subscription first: async with watcher.subscribe(...) as events"
            raise ClosedError(message)
        self._home.check()
        return await self._reader.read()

    @property
    def progress(self) -> bool:
        """Whether changes of progress alone are told."""
        return self._reader.progress

    @property
    def has_ended(self) -> bool:
        """True when each of its ids has ended; never for a subscription to all ids."""
        return self._is_entered and self._watches is not None and not self._open

    @property
    def fault(self) -> ClosedError | None:
        """What a read gets after ``async with``."""
        return ClosedError("the subscription was left") if self._is_left else None

    def _tell_state(self, watch: TrackedTask) -> None:
        if watch.final is not None:
            self._reader.put(watch, watch.final)
        elif watch.status is not None:
            self._reader.put_state(watch)

    def put(self, watch: TrackedTask, event: Event) -> None:
        """Take in an event if it is about one of this subscription's ids."""
        if self._watches is None:
            self._reader.put(watch, event)
        elif watch in self._open:
            if event.is_final:
                self._open.discard(watch)
            self._reader.put(watch, event)

    def drop(self, watch: TrackedTask) -> None:
        """Forget a discarded watch."""
        self._reader.mailbox.drop(watch)
        self._open.discard(watch)
        self._reader.wake()

    def wake(self) -> None:
        """Let a waiting loop look again."""
        self._reader.wake()
