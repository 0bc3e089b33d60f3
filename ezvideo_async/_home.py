"""Where something may be used: in the event loop and the process in which it was made."""

from __future__ import annotations

import asyncio
import os

from ezvideo_async.errors import ClosedError


class Home:
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
