"""Waiters: one future each, for a request that waits for admission, or for a caller that sleeps."""

from __future__ import annotations

from typing import TYPE_CHECKING

if TYPE_CHECKING:
    import asyncio


class Waiter:
    """
    One request that waits for admission.

    Attributes:
        started: When it was admitted, loop clock; None if it was not.
        delay: Seconds after which a poll that was not admitted waits again.
    """

    __slots__ = ("delay", "future", "started")

    def __init__(self, loop: asyncio.AbstractEventLoop) -> None:
        self.started: float | None = None
        self.delay = 0.0
        self.future: asyncio.Future[None] = loop.create_future()

    def wake(self) -> None:
        if not self.future.done():
            self.future.set_result(None)


class Sleeper(Waiter):
    """
    One caller that sleeps until *at*, on the loop clock.

    Attributes:
        is_spread: Whether it sleeps so that polls are no burst; then it may wake earlier.
    """

    __slots__ = ("at", "is_spread", "timer")

    def __init__(self, loop: asyncio.AbstractEventLoop, at: float, *, is_spread: bool) -> None:
        super().__init__(loop)
        self.at, self.is_spread = at, is_spread
        self.timer = loop.call_at(at, self.wake)

    def wake_by(self, at: float) -> None:
        """Sleep until *at* at the latest."""
        if at < self.at:
            self.timer.cancel()
            self.at = at
            self.timer = self.future.get_loop().call_at(at, self.wake)
