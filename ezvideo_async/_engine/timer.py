"""Event loop timer for one due time that changes."""

from __future__ import annotations

import asyncio
from math import inf
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from collections.abc import Callable


class Timer:
    """
    Calls a function at a due time, once for each time it is set.

    *callback* gets the loop clock, at least the due time: some loops call timers early.
    """

    def __init__(self, callback: Callable[[float], None]) -> None:
        self._callback = callback
        self._handle: asyncio.TimerHandle | None = None
        self.at = inf  # the due time, loop clock; inf while not set

    def set(self, at: float, loop: asyncio.AbstractEventLoop) -> None:
        """Replace the due time; inf cancels the timer."""
        if at == self.at:
            return
        self.cancel()
        self.at = at
        if at < inf:
            self._handle = loop.call_at(at, self._fire)

    def cancel(self) -> None:
        """Forget the due time.  Idempotent."""
        if self._handle is not None:
            self._handle.cancel()
        self._handle, self.at = None, inf

    def _fire(self) -> None:
        now = max(self.at, asyncio.get_running_loop().time())
        self._handle, self.at = None, inf
        self._callback(now)
