"""
Runs one command in an event loop: signals end it in order, logs go to stderr.

The first SIGINT, SIGTERM or SIGHUP cancels the command, which closes what it opened and says how
to go on; the second ends the process at once, unless it is a SIGHUP.  A signal that was being
ignored stays ignored.
"""

from __future__ import annotations

import asyncio
import contextlib
import logging
import os
import signal
import sys
from typing import TYPE_CHECKING, Any

from ezvideo_async.cli.clean import clean
from ezvideo_async.cli.exit_codes import SIGNALLED, say

if TYPE_CHECKING:
    from collections.abc import Coroutine, Iterator

_SIGNALS = ("SIGINT", "SIGTERM", "SIGHUP")
_HANG_UP = getattr(signal, "SIGHUP", None)
_SHOW_CURSOR = b"\x1b[?25h"


def run(command: Coroutine[Any, Any, int], *, verbose: int) -> int:
    """Run a command to its end and give its exit code, or 128 + n when signal n ended it."""
    interruption = _Interruption()
    with (
        _logs_on_stderr(verbose),
        asyncio.Runner() as runner,
        contextlib.suppress(asyncio.CancelledError),
    ):
        return runner.run(_interruptible(command, interruption))
    return SIGNALLED + interruption.number


async def _interruptible(command: Coroutine[Any, Any, int], interruption: _Interruption) -> int:
    interruption.cancels(asyncio.current_task())
    return await command


class _Interruption:
    """
    What signals do.

    Attributes:
        number: The first signal received; SIGINT until one is.
    """

    def __init__(self) -> None:
        self.number = int(signal.SIGINT)
        self._was_received = False
        self._task: asyncio.Task[int] | None = None

    def cancels(self, task: asyncio.Task[int] | None) -> None:
        """From now on, let signals cancel *task*."""
        self._task = task
        loop = asyncio.get_running_loop()
        for number in (getattr(signal, name) for name in _SIGNALS if hasattr(signal, name)):
            if signal.getsignal(number) is signal.SIG_IGN:
                continue
            # Windows has none of this, and threads other than the main one take no signals.
            with contextlib.suppress(NotImplementedError, RuntimeError, ValueError):
                loop.add_signal_handler(number, self._receive, number)

    def _receive(self, number: int) -> None:
        if self._was_received:
            # A closing terminal hangs up twice: the shell does, and the system does.
            if number != _HANG_UP:
                _end_at_once(SIGNALLED + number)
            return
        self.number, self._was_received = number, True
        if self._task is not None:
            self._task.cancel()


def _end_at_once(code: int) -> None:
    with contextlib.suppress(OSError, AttributeError):
        if sys.stderr.isatty():
            os.write(sys.stderr.fileno(), _SHOW_CURSOR)
    os._exit(code)


@contextlib.contextmanager
def _logs_on_stderr(verbose: int) -> Iterator[None]:
    """Show warnings; with ``-v`` all but debugging, with ``-vv`` that too."""
    log = logging.getLogger("ezvideo_async")
    handler, level = _Handler(is_verbose=verbose > 0), log.level
    log.addHandler(handler)
    log.setLevel({0: logging.WARNING, 1: logging.INFO}.get(verbose, logging.DEBUG))
    try:
        yield
    finally:
        log.removeHandler(handler)
        log.setLevel(level)


class _Handler(logging.Handler):
    """Says each record in one clean line."""

    def __init__(self, *, is_verbose: bool) -> None:
        super().__init__()
        self._is_verbose = is_verbose

    def emit(self, record: logging.LogRecord) -> None:
        # What is an error ends the command, which says so itself.
        if self._is_verbose or record.levelno < logging.ERROR:
            say(clean(f"ezvideo: {record.levelname.lower()}: {record.getMessage()}"))
