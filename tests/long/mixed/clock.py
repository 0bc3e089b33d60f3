"""
Event loop whose clock runs faster than real time, for the mixed run.

The thresholds of the verdicts are real (10 s, 60 s, 300 s, 600 s), and a run over real sockets in
real time would take half an hour.  A loop in virtual time would jump over the races between
client and server.  So both processes use one clock that runs ``SPEED`` times faster than the
system's: a threshold of 300 s takes 30 s, and bytes still cross the kernel when they cross it.
"""

from __future__ import annotations

import asyncio
import selectors
import time

SPEED = 10.0
"""Seconds of the run in one real second."""


class _FastSelector(selectors.DefaultSelector):
    """Selector whose timeouts are seconds of the run."""

    def select(self, timeout: float | None = None) -> list[tuple[selectors.SelectorKey, int]]:
        return super().select(timeout if timeout is None else timeout / SPEED)


class FastLoop(asyncio.SelectorEventLoop):
    """
    Event loop whose ``time()`` is the seconds of the run since *epoch*.

    Args:
        epoch: ``time.monotonic()`` at the start of the run, the same in all processes.
    """

    def __init__(self, epoch: float) -> None:
        self._epoch = epoch
        super().__init__(_FastSelector())
        self._clock_resolution *= SPEED

    def time(self) -> float:
        return (time.monotonic() - self._epoch) * SPEED
