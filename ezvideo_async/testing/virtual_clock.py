"""
Virtual clock for tests: an asyncio event loop whose time moves only when nothing is ready.

1. The clock stands still while a callback or a socket is ready or an executor job runs.
2. Otherwise it jumps exactly to the next timer.
3. Without a timer, and when nothing becomes ready, the loop raises; it never hangs.
"""

from __future__ import annotations

import asyncio
import select
import selectors
from typing import TYPE_CHECKING, TypeVar, TypeVarTuple

if TYPE_CHECKING:
    from collections.abc import Callable
    from concurrent.futures import Executor

    from _typeshed import FileDescriptorLike

T = TypeVar("T")
Ts = TypeVarTuple("Ts")
_Events = list[tuple[selectors.SelectorKey, int]]

# Real seconds.  Loopback delivers inside the send call; the margin is for kernels that hand
# packets to another core or thread.
IN_FLIGHT_GRACE = 50e-6
# Real seconds.  The kernel repeats a connect to a full backlog after 1 s, and probes a closed
# window after 0.2 s.
BLOCKED_WRITE_GRACE = 1.2
# Real seconds.  Time for threads and child processes, which this loop does not know.
DEADLOCK_GRACE = 1.0
# Tasks named in the message about a deadlock.
MAX_NAMED_TASKS = 5


class _IdleSelector(selectors.DefaultSelector):
    """Selector that calls *on_idle* instead of blocking when no file is ready."""

    def __init__(self) -> None:
        super().__init__()
        self.on_idle: Callable[[], _Events] | None = None
        self.writers: set[int] = set()

    def _track(self, key: selectors.SelectorKey) -> selectors.SelectorKey:
        if key.events & selectors.EVENT_WRITE:
            self.writers.add(key.fd)
        else:
            self.writers.discard(key.fd)
        return key

    def register(
        self, fileobj: FileDescriptorLike, events: int, data: object = None
    ) -> selectors.SelectorKey:
        return self._track(super().register(fileobj, events, data))

    def modify(
        self, fileobj: FileDescriptorLike, events: int, data: object = None
    ) -> selectors.SelectorKey:
        return self._track(super().modify(fileobj, events, data))

    def unregister(self, fileobj: FileDescriptorLike) -> selectors.SelectorKey:
        key = super().unregister(fileobj)
        self.writers.discard(key.fd)
        return key

    def select(self, timeout: float | None = None) -> _Events:
        events = super().select(0)
        if events or timeout == 0 or self.on_idle is None:
            return events
        return self.on_idle()

    def wait(self, seconds: float | None) -> _Events:
        """Block in real time; None: until a file is ready."""
        return super().select(seconds)

    def wait_briefly(self, seconds: float) -> _Events:
        """Block in real time, without epoll's rounding up to milliseconds."""
        if not hasattr(self, "fileno"):  # pragma: no cover -- neither epoll nor kqueue
            return super().select(seconds)
        select.select([self.fileno()], [], [], seconds)
        return super().select(0)


class VirtualClockLoop(asyncio.SelectorEventLoop):
    """
    Event loop for tests: hours of waiting take milliseconds, sockets stay real.

    ``time()`` starts at 0.0 and is the virtual clock, in seconds.  It stands still while anything
    is ready and jumps exactly to the next timer when nothing is, so tests may compare instants
    with ``==``.  Jobs of ``run_in_executor``, name resolution included, take real time and no
    virtual time.  Both ends of a connection belong in this loop: the clock waits for a peer in
    another thread or process only microseconds before it jumps.

    When no timer is left and nothing becomes ready for one real second, the loop raises a
    ``RuntimeError`` that names the waiting tasks.

    Use it as ``asyncio.Runner(loop_factory=VirtualClockLoop)``, or return
    ``("asyncio", {"loop_factory": VirtualClockLoop})`` from an ``anyio_backend`` fixture.
    """

    _scheduled: list[asyncio.TimerHandle]  # a heap kept by the base class

    def __init__(self) -> None:
        self._now = 0.0
        self._jobs = 0
        self._blocked_writers: set[int] = set()
        self._idle_selector = _IdleSelector()
        super().__init__(self._idle_selector)
        self._clock_resolution = 1e-6
        self._idle_selector.on_idle = self._idle

    def time(self) -> float:
        """Return the virtual seconds since the creation of the loop."""
        return self._now

    def run_in_executor(
        self, executor: Executor | None, func: Callable[[*Ts], T], *args: *Ts
    ) -> asyncio.Future[T]:
        """Run a job in a thread or process; the clock stands still until it ends."""
        future = super().run_in_executor(executor, func, *args)
        self._jobs += 1
        future.add_done_callback(self._job_done)
        return future

    async def shutdown_default_executor(
        self,
        timeout: float | None = None,  # noqa: ARG002, ASYNC109 -- signature of the base class; no virtual time passes
    ) -> None:
        """Wait in real time for the threads of the default executor."""
        self._jobs += 1
        try:
            await super().shutdown_default_executor()
        finally:
            self._jobs -= 1

    def _job_done(self, _: asyncio.Future[T]) -> None:
        self._jobs -= 1

    def _idle(self) -> _Events:
        if self._jobs:
            return self._idle_selector.wait(None)
        if events := self._late_events():
            return events
        if not self._scheduled:
            return self._idle_selector.wait(DEADLOCK_GRACE) or self._deadlock()
        self._now = max(self._now, self._scheduled[0].when())
        return []

    def _late_events(self) -> _Events:
        """Return events of sockets that become ready shortly; do not wait without sockets."""
        if len(self._idle_selector.get_map()) == 1:  # only the wake-up pipe of the loop
            return []
        writers = self._idle_selector.writers
        if not writers or writers == self._blocked_writers:
            return self._idle_selector.wait_briefly(IN_FLIGHT_GRACE)
        events = self._idle_selector.wait(BLOCKED_WRITE_GRACE)
        self._blocked_writers = set() if events else set(writers)
        return events

    def _deadlock(self) -> _Events:
        tasks = sorted(map(_describe, asyncio.all_tasks(self)))
        names = ", ".join(tasks[:MAX_NAMED_TASKS]) or "none"
        more = f" and {len(tasks) - MAX_NAMED_TASKS} more" if tasks[MAX_NAMED_TASKS:] else ""
        raise RuntimeError(
            "deadlock in virtual time: no timer is set, no callback or socket is ready, "
            f"and no executor job runs; waiting tasks: {names}{more}"
        )


def _describe(task: asyncio.Task[object]) -> str:
    return f"{task.get_name()} ({getattr(task.get_coro(), '__qualname__', '?')})"
