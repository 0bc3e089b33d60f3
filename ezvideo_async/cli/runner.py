"""
Event loop for one command, with signal handling and logging to stderr.

The first SIGINT, SIGTERM or SIGHUP cancels the command, which closes its connections and prints
how to continue; the second ends the process at once, unless it is a SIGHUP.  A signal that was
ignored before stays ignored.  The end does not wait for the resolution of a host name, which
nothing can cancel.
"""

from __future__ import annotations

import asyncio
import contextlib
import logging
import os
import signal
import sys
from concurrent.futures import Future, ThreadPoolExecutor
from functools import partial
from threading import Thread
from typing import TYPE_CHECKING, Any, ParamSpec, TypeVar

from ezvideo_async.cli.connection import REPORTED_ERRORS
from ezvideo_async.cli.exit_codes import SIGNALLED
from ezvideo_async.cli.output import print_error

if TYPE_CHECKING:
    from collections.abc import Callable, Coroutine, Iterator

P = ParamSpec("P")
T = TypeVar("T")

_SIGNALS = ("SIGINT", "SIGTERM", "SIGHUP")
_SIGHUP = getattr(signal, "SIGHUP", None)
_SHOW_CURSOR = b"\x1b[?25h"


def run(command: Coroutine[Any, Any, int], *, verbose: int) -> int:
    """Run *command* and return its exit code, or 128 + n if signal n ended it."""
    canceller = _SignalCanceller()
    with (
        _logs_on_stderr(verbose),
        asyncio.Runner() as runner,
        contextlib.suppress(asyncio.CancelledError),
    ):
        runner.get_loop().set_default_executor(_DaemonThreads())
        return runner.run(_run_cancellable(command, canceller))
    return SIGNALLED + canceller.number


async def _run_cancellable(command: Coroutine[Any, Any, int], canceller: _SignalCanceller) -> int:
    canceller.install(asyncio.current_task())
    return await command


class _DaemonThreads(ThreadPoolExecutor):
    """
    Executor with one daemon thread per call, which neither the loop nor the process waits for.

    The threads of its base class are joined when the interpreter exits, and ``getaddrinfo()`` may
    take minutes.
    """

    def submit(self, fn: Callable[P, T], /, *args: P.args, **kwargs: P.kwargs) -> Future[T]:
        """Call *fn* in a new thread."""
        future: Future[T] = Future()
        Thread(target=_settle, args=(future, partial(fn, *args, **kwargs)), daemon=True).start()
        return future

    def shutdown(self, wait: bool = True, *, cancel_futures: bool = False) -> None:  # noqa: FBT001, FBT002 -- the signature of the base class
        """Do nothing."""


def _settle(future: Future[T], call: Callable[[], T]) -> None:
    if not future.set_running_or_notify_cancel():
        return
    try:
        result = call()
    except BaseException as error:  # noqa: BLE001, ASYNC103 -- it belongs to the caller
        future.set_exception(error)
    else:
        future.set_result(result)


class _SignalCanceller:
    """
    Signal handlers that cancel a task.

    Attributes:
        number: The first signal received; SIGINT until then.
    """

    def __init__(self) -> None:
        self.number = int(signal.SIGINT)
        self._was_received = False
        self._task: asyncio.Task[int] | None = None

    def install(self, task: asyncio.Task[int] | None) -> None:
        """Cancel *task* when a signal arrives from now on."""
        self._task = task
        loop = asyncio.get_running_loop()
        for number in (getattr(signal, name) for name in _SIGNALS if hasattr(signal, name)):
            if signal.getsignal(number) is signal.SIG_IGN:
                continue
            # Windows has no such handlers, and only the main thread receives signals.
            with contextlib.suppress(NotImplementedError, RuntimeError, ValueError):
                loop.add_signal_handler(number, self._receive, number)

    def _receive(self, number: int) -> None:
        if self._was_received:
            # A closing terminal sends SIGHUP twice: once from the shell, once from the kernel.
            if number != _SIGHUP:
                _exit_at_once(SIGNALLED + number)
            return
        self.number, self._was_received = number, True
        if self._task is not None:
            self._task.cancel()


def _exit_at_once(code: int) -> None:
    with contextlib.suppress(OSError, AttributeError):
        if sys.stderr.isatty():
            os.write(sys.stderr.fileno(), _SHOW_CURSOR)
    os._exit(code)


@contextlib.contextmanager
def _logs_on_stderr(verbose: int) -> Iterator[None]:
    """Show warnings; with ``-v`` also INFO, with ``-vv`` also DEBUG."""
    log = logging.getLogger("ezvideo_async")
    handler, level = _StderrHandler(is_verbose=verbose > 0), log.level
    log.addHandler(handler)
    log.setLevel({0: logging.WARNING, 1: logging.INFO}.get(verbose, logging.DEBUG))
    try:
        yield
    finally:
        log.removeHandler(handler)
        log.setLevel(level)


class _StderrHandler(logging.Handler):
    """Log handler that prints each record as one cleaned line."""

    def __init__(self, *, is_verbose: bool) -> None:
        super().__init__()
        self._is_verbose = is_verbose

    def emit(self, record: logging.LogRecord) -> None:
        # An error ends the command, which prints it itself.
        if self._is_verbose or (record.levelno < logging.ERROR and not _is_reported(record)):
            print_error(f"{record.levelname.lower()}: {record.getMessage()}")


def _is_reported(record: logging.LogRecord) -> bool:
    """Return True for the failure of a request, which ``FailureReporter`` prints."""
    arguments = record.args if isinstance(record.args, tuple) else ()
    errors = [argument for argument in arguments if isinstance(argument, REPORTED_ERRORS)]
    return any(error.retryable for error in errors)
