"""
Time limits of many tries on one timer.

``asyncio.timeout`` sets and cancels a timer for each request, which costs more than the rest of
our bookkeeping together; of requests with one and the same limit, only the oldest needs one.
"""

from __future__ import annotations

import asyncio
from math import inf
from typing import TYPE_CHECKING, Self

if TYPE_CHECKING:
    from types import TracebackType


class SharedTimeout:
    """
    Gives each try the same time, in seconds: ``with patience.limit(): ...``.

    Belongs to one event loop, the one in which a limit is first used.
    """

    def __init__(self, seconds: float) -> None:
        self.seconds = seconds
        self._running: dict[Timeout, None] = {}
        self._timer: asyncio.TimerHandle | None = None

    def limit(self) -> Timeout:
        """Make the limit of one try."""
        return Timeout(self)

    def begin(self, limit: Timeout) -> None:
        """Watch a limit; it is the latest of all."""
        self._running[limit] = None
        if self._timer is None:
            self._set_timer(limit.deadline)

    def end(self, limit: Timeout) -> None:
        """Watch it no more."""
        self._running.pop(limit, None)
        if not self._running and self._timer is not None:
            self._timer.cancel()
            self._timer = None

    def end_all(self) -> None:
        """Let the time of all tries that run be up now."""
        if self._timer is not None:
            self._timer.cancel()
        self._fired(inf)

    def _set_timer(self, at: float) -> None:
        self._timer = asyncio.get_running_loop().call_at(at, self._fired, at)

    def _fired(self, at: float) -> None:
        # Some loops round timers down: what was set for now is over now.
        now = max(at, asyncio.get_running_loop().time())
        self._timer = None
        for limit in [limit for limit in self._running if limit.deadline <= now]:
            del self._running[limit]
            limit.interrupt()
        if self._running:
            self._set_timer(next(iter(self._running)).deadline)


class Timeout:
    """
    The time limit of what runs inside ``with``.

    Raises:
        TimeoutError: Its time was up, on leaving; as of ``asyncio.timeout``.
    """

    __slots__ = ("_cancelling", "_is_over", "_patience", "_task", "began", "deadline")

    def __init__(self, patience: SharedTimeout) -> None:
        self._patience = patience
        self._is_over = False

    def __enter__(self) -> Self:
        loop = asyncio.get_running_loop()
        task = asyncio.current_task(loop)
        assert task is not None
        self._task = task
        self._cancelling = task.cancelling()
        self.began = loop.time()
        self.deadline = self.began + self._patience.seconds
        self._patience.begin(self)
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        traceback: TracebackType | None,
    ) -> None:
        if not self._is_over:
            self._patience.end(self)
        # A cancellation that the caller asked for as well is the caller's.
        elif self._task.uncancel() <= self._cancelling and kind is asyncio.CancelledError:
            raise TimeoutError from error

    def interrupt(self) -> None:
        """Cancel what runs: its time is up."""
        self._is_over = True
        if not self._task.get_loop().is_closed():  # else it never goes on
            self._task.cancel()
