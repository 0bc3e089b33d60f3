"""
Timeouts of concurrent attempts that share one event loop timer.

``asyncio.timeout`` sets and cancels a timer for each attempt, which costs more than the rest of
the client's work on it; as all attempts have the same timeout, only the oldest needs a timer.
"""

from __future__ import annotations

import asyncio
from math import inf
from typing import TYPE_CHECKING, Self

if TYPE_CHECKING:
    from types import TracebackType


class SharedTimeout:
    """Timer and running timeouts of one event loop, that in which the first one is entered."""

    def __init__(self, seconds: float) -> None:
        self.seconds = seconds
        self._running: dict[Timeout, None] = {}
        self._timer: asyncio.TimerHandle | None = None

    def start(self, timeout: Timeout) -> None:
        """Watch a timeout; its deadline is the latest of all."""
        self._running[timeout] = None
        if self._timer is None:
            self._set_timer(timeout.deadline)

    def stop(self, timeout: Timeout) -> None:
        self._running.pop(timeout, None)
        if not self._running and self._timer is not None:
            self._timer.cancel()
            self._timer = None

    def expire_all(self) -> None:
        """Expire all running timeouts now."""
        if self._timer is not None:
            self._timer.cancel()
        self._expire_due(inf)

    def _set_timer(self, at: float) -> None:
        self._timer = asyncio.get_running_loop().call_at(at, self._expire_due, at)

    def _expire_due(self, due: float) -> None:
        # Some loops call timers early, as they round times down: what was set for *due* is due.
        now = max(due, asyncio.get_running_loop().time())
        self._timer = None
        for timeout in [timeout for timeout in self._running if timeout.deadline <= now]:
            del self._running[timeout]
            timeout.expire()
        if self._running:
            self._set_timer(next(iter(self._running)).deadline)


class Timeout:
    """
    The timeout of one ``with`` block, which raises ``TimeoutError`` as ``asyncio.timeout`` does.

    Attributes:
        started: When the block was entered, loop clock.
        deadline: When it expires, loop clock.
    """

    __slots__ = ("_cancelling", "_is_expired", "_shared", "_task", "deadline", "started")

    def __init__(self, shared: SharedTimeout) -> None:
        self._shared = shared
        self._is_expired = False

    def __enter__(self) -> Self:
        loop = asyncio.get_running_loop()
        task = asyncio.current_task(loop)
        assert task is not None
        self._task = task
        self._cancelling = task.cancelling()
        self.started = loop.time()
        self.deadline = self.started + self._shared.seconds
        self._shared.start(self)
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        traceback: TracebackType | None,
    ) -> None:
        if not self._is_expired:
            self._shared.stop(self)
        # If the caller cancelled as well, the cancellation is the caller's.
        elif self._task.uncancel() <= self._cancelling and kind is asyncio.CancelledError:
            raise TimeoutError from error

    def expire(self) -> None:
        """Cancel the running block."""
        self._is_expired = True
        if not self._task.get_loop().is_closed():  # else the task never runs again
            self._task.cancel()
