"""Cancellation of a coroutine at its k-th suspension."""

from __future__ import annotations

import asyncio
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from collections.abc import Coroutine, Generator


class CancelledAt:
    """
    Runs *coroutine* in the current task and cancels the task while it is suspended.

    Args:
        coroutine: Runs until its end or the cancel.
        at: Number of the cancelled suspension, from 1; 0 for none.
        again: Number of the next cancelled suspension after that one, from 1; 0 for none.
        late: Cancel not as soon as the coroutine is suspended, but when its result has come and
            it has not continued yet.

    Attributes:
        suspensions: Number of suspensions.
        cancels: Number of cancelled suspensions.
    """

    def __init__(
        self, coroutine: Coroutine[Any, Any, Any], *, at: int, again: int = 0, late: bool = False
    ) -> None:
        self._coroutine = coroutine
        self._at = {at, at + again} if at else set()
        self._late = late
        self.suspensions = 0
        self.cancels = 0

    @property
    def was_reached(self) -> bool:
        """True if every chosen suspension came."""
        return self.cancels == len(self._at)

    def __await__(self) -> Generator[Any, Any, Any]:
        """Forward everything, both ways, and count."""
        steps = self._coroutine.__await__()
        send: Any = lambda: next(steps)  # noqa: E731 -- replaced by throw below
        while True:
            try:
                awaited = send()
            except StopIteration as stop:
                return stop.value
            self.suspensions += 1
            if self.suspensions in self._at:
                self.cancels += 1
                self._cancel(awaited)
            try:
                yield awaited
                send = lambda: next(steps)  # noqa: E731
            except BaseException as error:  # noqa: BLE001 -- forwarded to the coroutine
                send = lambda error=error: steps.throw(error)  # noqa: E731

    def _cancel(self, awaited: asyncio.Future[Any] | None) -> None:
        task = asyncio.current_task()
        assert task is not None
        if self._late and awaited is not None:  # called before the task itself is
            awaited.add_done_callback(lambda _: task.cancel())
        else:
            asyncio.get_running_loop().call_soon(task.cancel)
