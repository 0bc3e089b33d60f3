"""Event loop and process affinity, and waiting for a cancelled task to finish."""

from __future__ import annotations

import asyncio
import os
from typing import Any

from ezvideo_async.errors import ClosedError

_STOPPING_MAX = 2.0  # seconds


class LoopAffinity:
    """
    The event loop and process to which an object belongs: those in which this is made.

    Args:
        owner: What belongs to them, such as "watcher", for messages.
    """

    def __init__(self, owner: str) -> None:
        self._owner = owner
        self._loop = asyncio.get_running_loop()
        self._process = os.getpid()

    def check(self) -> None:
        """Raise ClosedError unless called from the owning event loop and process."""
        if os.getpid() != self._process:
            raise ClosedError(
                f"this {self._owner} belongs to the parent process; make one after the fork"
            )
        if running_loop() is not self._loop:
            raise ClosedError(
                f"this {self._owner} belongs to another event loop; make one per loop, or call it "
                "by that loop's call_soon_threadsafe()"
            )


def running_loop() -> asyncio.AbstractEventLoop | None:
    """Return the event loop that runs in this thread and process; None if none does."""
    try:
        return asyncio.get_running_loop()
    except RuntimeError:
        return None


async def wait_finished(task: asyncio.Future[Any]) -> None:
    """Wait until a task has finished, for 2 s at most, then raise a cancellation that came."""
    loop = asyncio.get_running_loop()
    deadline = loop.time() + _STOPPING_MAX
    cancellation: asyncio.CancelledError | None = None
    while not task.done() and loop.time() < deadline:
        try:
            await asyncio.wait([task], timeout=deadline - loop.time())
        except asyncio.CancelledError as cancelled:  # noqa: ASYNC103 -- raised below
            cancellation = cancelled
    if cancellation is not None:
        raise cancellation
