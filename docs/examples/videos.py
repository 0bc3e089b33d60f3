"""Synchronous access to tasks: one event loop and one client for the process."""

from __future__ import annotations

import threading
from contextlib import ExitStack
from functools import partial

from anyio.from_thread import BlockingPortal, start_blocking_portal
from ezvideo_async import AsyncVideoClient, VideoTask


class Videos:
    """For any thread; its loop runs in a thread of its own from the first call on."""

    def __init__(self) -> None:
        self._stack = ExitStack()
        self._lock = threading.Lock()
        self._opened: tuple[BlockingPortal, AsyncVideoClient] | None = None

    def _open(self) -> tuple[BlockingPortal, AsyncVideoClient]:
        with self._lock:
            if self._opened is None:
                portal = self._stack.enter_context(start_blocking_portal())
                opening = portal.wrap_async_context_manager(AsyncVideoClient())
                self._opened = portal, self._stack.enter_context(opening)
            return self._opened

    def retrieve(self, task_id: str) -> VideoTask:
        portal, client = self._open()
        return portal.call(client.retrieve, task_id)

    def wait(self, task_id: str, *, timeout: float = 1800.0) -> VideoTask:
        portal, client = self._open()
        return portal.call(partial(client.wait, task_id, timeout=timeout))

    def close(self) -> None:
        with self._lock:
            self._stack.close()
            self._opened = None


videos = Videos()
