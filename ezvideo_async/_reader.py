"""
How events reach a loop: an object with ``__anext__``, never an async generator.

A generator that is left by ``break`` is closed who knows when and in whose task; a reader holds
nothing that would need closing, and loses nothing when a read is cancelled.
"""

from __future__ import annotations

import asyncio
from typing import TYPE_CHECKING, Self

from ezvideo_async._events import ProgressChanged, StatusChanged
from ezvideo_async._mailbox import Mailbox

if TYPE_CHECKING:
    from collections.abc import Callable, Sequence
    from types import TracebackType

    from ezvideo_async._events import Event
    from ezvideo_async._watch import Watch


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
        self.mailbox = Mailbox()
        self._is_over = is_over
        self._fault = fault
        self._woken: asyncio.Future[None] | None = None

    def put(self, watch: Watch, event: Event) -> None:
        """Take in an event, and wake the loop that waits for one."""
        if self.progress or not isinstance(event, ProgressChanged):
            self.mailbox.put(watch, event)
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
        while not self.mailbox:
            self._raise_if_finished()
            self._woken = asyncio.get_running_loop().create_future()
            try:
                await self._woken
            finally:
                self._woken = None
        # Nothing is awaited from here on: a cancelled read has taken nothing.
        watch, event = self.mailbox.take()
        watch.told = watch.told or event.is_final
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
        watches: Sequence[Watch] | None,
        *,
        replay: bool,
        attach: Callable[[Subscription], Sequence[Watch]],
        detach: Callable[[Subscription], None],
    ) -> None:
        self._reader = reader
        self._open = None if watches is None else {watch for watch in watches if watch.is_open}
        self._watches = watches
        self._replay = replay
        self._attach = attach
        self._detach = detach

    async def __aenter__(self) -> Self:
        known = self._attach(self)
        if self._replay:
            for watch in known if self._watches is None else self._watches:
                self._tell_state(watch)
        return self

    async def __aexit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        traceback: TracebackType | None,
    ) -> None:
        self._detach(self)

    def __aiter__(self) -> Self:
        return self

    async def __anext__(self) -> Event:
        return await self._reader.read()

    @property
    def progress(self) -> bool:
        """Whether changes of progress alone are told."""
        return self._reader.progress

    @property
    def has_ended(self) -> bool:
        """True when each of its ids has ended; never for a subscription to all ids."""
        return self._open is not None and not self._open

    def _tell_state(self, watch: Watch) -> None:
        if watch.final is not None:
            self._reader.put(watch, watch.final)
        elif watch.task is not None:
            self._reader.put(
                watch,
                StatusChanged(
                    task_id=watch.task_id,
                    task=watch.task,
                    at=watch.seen_at,
                    tag=watch.tag,
                    previous=None,
                    current=watch.task.status,
                ),
            )

    def put(self, watch: Watch, event: Event) -> None:
        """Take in an event if it is about one of this subscription's ids."""
        if self._open is None:
            self._reader.put(watch, event)
        elif watch in self._open:
            if event.is_final:
                self._open.discard(watch)
            self._reader.put(watch, event)

    def drop(self, watch: Watch) -> None:
        """Forget a discarded watch."""
        self._reader.mailbox.drop(watch)
        if self._open is not None:
            self._open.discard(watch)
        self._reader.wake()

    def wake(self) -> None:
        """Let a waiting loop look again."""
        self._reader.wake()
