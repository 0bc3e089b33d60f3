"""Cancel a coroutine at its k-th suspension: how every await point is tried."""

from __future__ import annotations

import asyncio
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from collections.abc import Coroutine, Generator


class CancelledAt:
    """
    Runs *coroutine* in the current task and cancels the task while it is suspended.

    Args:
        coroutine: What is tried.
        at: Which suspension is cancelled, from 1.

    Attributes:
        was_reached: False when it was over before.
    """

    def __init__(self, coroutine: Coroutine[Any, Any, Any], *, at: int) -> None:
        self._coroutine = coroutine
        self._at = at
        self.was_reached = False

    def __await__(self) -> Generator[Any, Any, Any]:
        """Pass everything on, both ways, and count."""
        steps = self._coroutine.__await__()
        send: Any = lambda: next(steps)  # noqa: E731 -- replaced by throw below
        count = 0
        while True:
            try:
                awaited = send()
            except StopIteration as stop:
                return stop.value
            count += 1
            if count == self._at:
                self.was_reached = True
                task = asyncio.current_task()
                assert task is not None
                asyncio.get_running_loop().call_soon(task.cancel)
            try:
                yield awaited
                send = lambda: next(steps)  # noqa: E731
            except BaseException as error:  # noqa: BLE001 -- all of it is the coroutine's
                send = lambda error=error: steps.throw(error)  # noqa: E731
