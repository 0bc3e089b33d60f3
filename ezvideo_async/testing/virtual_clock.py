"""
An asyncio event loop whose clock moves only when there is nothing left to do.

Rules of this file:

1. The clock stands still while a callback is ready, a socket has something to say, or
   an executor job runs.
2. Otherwise it jumps, exactly, to the next timer.
3. With no timer left and nobody to bring work, the loop raises; it never hangs.
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

# Real seconds.  Loopback delivers inside the send call (measured: none of 700,000 sends was late,
# also under load); the margin is for kernels that hand packets to another core or thread.
IN_FLIGHT_GRACE = 50e-6
# Real seconds.  A connect that met a full backlog is repeated by the kernel after 1 s, and a
# closed window is probed after 0.2 s.
BLOCKED_WRITE_GRACE = 1.2
# Real seconds.  Room for threads and child processes, which this loop cannot see.
DEADLOCK_GRACE = 1.0
# Tasks named in the message of a deadlock.
MAX_NAMED_TASKS = 5


class _PatientSelector(selectors.DefaultSelector):
    """A selector that never sleeps by itself: when nothing is ready it asks *on_idle*."""

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
        """Real waiting; None: until something is ready."""
        return super().select(seconds)

    def glance(self, seconds: float) -> _Events:
        """Real waiting without epoll's rounding up to milliseconds."""
        if not hasattr(self, "fileno"):  # pragma: no cover -- neither epoll nor kqueue
            return super().select(seconds)
        select.select([self.fileno()], [], [], seconds)
        return super().select(0)


class VirtualClockLoop(asyncio.SelectorEventLoop):
    """
    An event loop for tests: hours of waiting take milliseconds, sockets stay real.

    ``time()`` starts at 0.0 and is the virtual clock, in seconds.  It stands still while anything
    is ready and jumps exactly to the next timer when nothing is, so tests may compare instants
    with ``==``.  Jobs of ``run_in_executor``, name look-ups among them, are waited for in real
    time.  Both ends of a connection belong in this loop: a peer in another thread or process gets
    only microseconds before the clock jumps.

    When no timer is left and for one real second nothing happens, the loop raises a
    ``RuntimeError`` that names the waiting tasks.

    Use it as ``asyncio.Runner(loop_factory=VirtualClockLoop)``, or return
    ``("asyncio", {"loop_factory": VirtualClockLoop})`` from an ``anyio_backend`` fixture.
    """

    _scheduled: list[asyncio.TimerHandle]  # a heap kept by the base class

    def __init__(self) -> None:
        self._now = 0.0
        self._jobs = 0
        self._given_up_on: set[int] = set()
        self._patient = _PatientSelector()
        super().__init__(self._patient)
        self._clock_resolution = 1e-6
        self._patient.on_idle = self._idle

    def time(self) -> float:
        """Virtual seconds since the loop was made."""
        return self._now

    def run_in_executor(
        self, executor: Executor | None, func: Callable[[*Ts], T], *args: *Ts
    ) -> asyncio.Future[T]:
        """Start a job in a thread or process; the clock stands still until it is done."""
        future = super().run_in_executor(executor, func, *args)
        self._jobs += 1
        future.add_done_callback(self._job_done)
        return future

    async def shutdown_default_executor(
        self,
        timeout: float | None = None,  # noqa: ARG002, ASYNC109 -- the base class has it; no time passes meanwhile
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
            return self._patient.wait(None)
        if events := self._late_events():
            return events
        if not self._scheduled:
            return self._patient.wait(DEADLOCK_GRACE) or self._deadlock()
        self._now = max(self._now, self._scheduled[0].when())
        return []

    def _late_events(self) -> _Events:
        """What sockets still bring when given a moment; no moment without sockets."""
        if len(self._patient.get_map()) == 1:  # the loop's own wake-up pipe
            return []
        writers = self._patient.writers
        if not writers or writers == self._given_up_on:
            return self._patient.glance(IN_FLIGHT_GRACE)
        events = self._patient.wait(BLOCKED_WRITE_GRACE)
        self._given_up_on = set() if events else set(writers)
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
