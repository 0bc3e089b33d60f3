"""Tests of ``cli.runner``: signals, threads, logs."""

from __future__ import annotations

import asyncio
import logging
import os
import signal
import sys
import threading
from typing import Any

import pytest

from ezvideo_async import ConfigError, EzVideoError, TransportError
from ezvideo_async.cli import main
from ezvideo_async.cli.runner import _DaemonThreads, _logs_on_stderr, _SignalCanceller


@pytest.mark.fault("P1")
async def test_the_second_signal_exits_at_once(
    terminal: Any, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The first signal cancels the command; the second exits unless it is a SIGHUP."""
    terminal(shared=False)
    codes: list[int] = []
    monkeypatch.setattr(os, "_exit", codes.append)
    canceller = _SignalCanceller()
    task = asyncio.ensure_future(asyncio.sleep(3600.0, 0))
    canceller.install(task)
    canceller._receive(signal.SIGTERM)
    await asyncio.wait([task])

    assert task.cancelled()
    canceller._receive(signal.SIGHUP)
    assert (codes, canceller.number) == ([], signal.SIGTERM)
    canceller._receive(signal.SIGINT)
    assert codes == [130]


async def test_ignored_signals_stay_ignored(monkeypatch: pytest.MonkeyPatch) -> None:
    """Signals that nohup or a script set to be ignored get no handler."""
    loop = asyncio.get_running_loop()
    handled: list[int] = []
    monkeypatch.setattr(signal, "getsignal", lambda number: signal.SIG_IGN)
    monkeypatch.setattr(loop, "add_signal_handler", lambda number, *_: handled.append(number))
    _SignalCanceller().install(None)

    assert handled == []


def test_calls_in_daemon_threads_settle_their_futures() -> None:
    """The executor returns the result or raises the error of a call, and cannot be shut down."""
    with _DaemonThreads() as executor:
        result, error = executor.submit(divmod, 7, 2), executor.submit(divmod, 7, 0)

    assert result.result(timeout=10.0) == (3, 1)
    with pytest.raises(ZeroDivisionError):
        error.result(timeout=10.0)
    assert executor.submit(abs, -1).result(timeout=10.0) == 1


def test_the_command_runs_in_any_thread(server: Any, capsys: pytest.CaptureFixture[str]) -> None:
    """Outside the main thread the command runs without signal handlers."""
    ids = server.add("completed")
    codes: list[int] = []
    thread = threading.Thread(target=lambda: codes.append(main(["status", *ids])))
    thread.start()
    thread.join()

    assert codes == [0]


def test_verbose_logs_requests_and_errors(ezvideo: Any, server: Any) -> None:
    """With -vv requests are logged to stderr, and errors too."""
    server.call("fault", "401")
    result = ezvideo("watch", "-vv", *server.add("completed"))

    assert result.code == 3
    assert "ezvideo: debug: 'vid_" in result.err
    assert "ezvideo: error: " in result.err


@pytest.mark.parametrize(
    ("error", "verbose", "lines"),
    [
        (TransportError("gone"), 0, 0),
        (TransportError("gone"), 1, 1),
        (ConfigError("no such route"), 0, 1),
    ],
)
def test_a_reported_failure_is_not_printed_twice(
    capsys: pytest.CaptureFixture[str], error: EzVideoError, verbose: int, lines: int
) -> None:
    """A warning about an error that the reporter prints appears only with -v."""
    with _logs_on_stderr(verbose):
        logging.getLogger("ezvideo_async").warning("no response: %s", error)

    assert capsys.readouterr().err == f"ezvideo: warning: no response: {error}\n" * lines


def test_closed_streams_keep_the_exit_code(server: Any, monkeypatch: pytest.MonkeyPatch) -> None:
    """With stdout and stderr closed the exit code is still right."""
    monkeypatch.setattr(sys, "stdout", None)
    monkeypatch.setattr(sys, "stderr", None)

    assert main(["watch", *server.add("failed")]) == 1
