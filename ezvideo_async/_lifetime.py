"""Event loop and process affinity, and waiting for a cancelled task to finish."""

from __future__ import annotations

import asyncio
import os
from typing import Any, Final

from ezvideo_async.errors import ClosedError

_LONGEST: Final = 2.0  # seconds that stopping may take


class LoopAffinity:
    """The event loop and process in which something was made, and may be used."""

    def __init__(self) -> None:
        self._loop = asyncio.get_running_loop()
        self._process = os.getpid()

    def check(self) -> None:
        """
        Let use at home pass.

        Raises:
            ClosedError: This is another event loop, another thread, or a forked child.
        """
        if running_loop() is self._loop:
            return
        if os.getpid() != self._process:
            message = "this watcher belongs to the parent process; make a new one after the fork"
            raise ClosedError(message)
        message = (
            "a watcher belongs to one event loop; from elsewhere use "
            "loop.call_soon_threadsafe(watcher.add, task_id)"
        )
        raise ClosedError(message)


def running_loop() -> asyncio.AbstractEventLoop | None:
    """Give the event loop that runs in this thread and process, if one does."""
    try:
        return asyncio.get_running_loop()
    except RuntimeError:
        return None


async def wait_finished(task: asyncio.Future[Any]) -> None:
    """Wait for a task's end, cancellations notwithstanding, for 2 s at most."""
    loop = asyncio.get_running_loop()
    limit = loop.time() + _LONGEST
    interrupted: asyncio.CancelledError | None = None
    while not task.done() and loop.time() < limit:
        try:
            await asyncio.wait([task], timeout=limit - loop.time())
        except asyncio.CancelledError as cancelled:  # noqa: ASYNC103 -- raised below
            interrupted = cancelled
    if interrupted is not None:
        raise interrupted
