"""Fixtures of the command's tests: a fake server in a thread, the command, a fake terminal."""

from __future__ import annotations

import asyncio
import re
import sys
import threading
from importlib import import_module
from io import BytesIO, TextIOWrapper
from typing import TYPE_CHECKING, Any

import pytest

from ezvideo_async.cli import main
from ezvideo_async.testing import FakeVideoServer

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator
    from pathlib import Path

KEY = "sk-canary-5d1f"


class ServerInThread:
    """A fake server with an event loop and a thread of its own."""

    def __init__(self) -> None:
        self.started = threading.Event()
        self.thread = threading.Thread(target=lambda: asyncio.run(self.serve()))
        self.base_url = ""

    async def serve(self) -> None:
        """Serve until the event ``stop`` is set."""
        self.loop, self.stop = asyncio.get_running_loop(), asyncio.Event()
        async with FakeVideoServer(api_key=KEY) as self.server:
            self.base_url = self.server.base_url
            self.started.set()
            await self.stop.wait()

    def call(self, name: str, *arguments: Any, **options: Any) -> Any:
        """Call a method of the server in its own thread."""

        async def called() -> Any:
            return getattr(self.server, name)(*arguments, **options)

        return asyncio.run_coroutine_threadsafe(called(), self.loop).result(timeout=10)

    def add(self, *outcomes: str, duration: float = 0.0) -> list[str]:
        """Add a task for each outcome and return the ids."""
        return [self.call("add_task", outcome=outcome, duration=duration) for outcome in outcomes]


class Result:
    """The exit code and the output of a run."""

    def __init__(self, code: int, out: str, err: str) -> None:
        self.code, self.out, self.err = code, out, err
        self.lines = out.splitlines()


@pytest.fixture(scope="module")
def running_server() -> Iterator[ServerInThread]:
    """One server for all tests of a module."""
    import_module("ezvideo_async.cli.commands.watch")  # it takes longer than some tasks run
    server = ServerInThread()
    server.thread.start()
    assert server.started.wait(timeout=10)
    yield server
    server.loop.call_soon_threadsafe(server.stop.set)
    server.thread.join()


@pytest.fixture
def server(
    running_server: ServerInThread, monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> Iterator[ServerInThread]:
    """The server without faults, an environment that names it, and an empty directory."""
    monkeypatch.setenv("EZVIDEO_BASE_URL", running_server.base_url)
    monkeypatch.setenv("EZVIDEO_API_KEY", KEY)
    monkeypatch.setenv("COLUMNS", "80")
    monkeypatch.chdir(tmp_path)
    yield running_server
    running_server.call("heal")


@pytest.fixture
def ezvideo(server: ServerInThread, capsys: pytest.CaptureFixture[str]) -> Callable[..., Result]:
    """Run the command and check that its output does not contain the API key."""

    def run(*arguments: str) -> Result:
        code = main(arguments)
        out, err = capsys.readouterr()
        assert KEY not in out + err
        return Result(code, out, err)

    return run


class FakeTerminal(TextIOWrapper):
    """A stream that claims to be a terminal."""

    def __init__(self, encoding: str = "utf-8") -> None:
        super().__init__(BytesIO(), encoding=encoding, write_through=True)

    def isatty(self) -> bool:
        """Return True."""
        return True

    @property
    def text(self) -> str:
        """What was written, without colours."""
        self.flush()
        buffer = self.buffer
        assert isinstance(buffer, BytesIO)
        return re.sub(r"\x1b\[[0-9;]*m", "", buffer.getvalue().decode(self.encoding))


@pytest.fixture
def terminal(monkeypatch: pytest.MonkeyPatch) -> Callable[..., FakeTerminal]:
    """Replace stderr by a fake terminal, and stdout too if it is shared."""

    def replace(*, shared: bool, kind: str = "xterm", encoding: str = "utf-8") -> FakeTerminal:
        fake = FakeTerminal(encoding)
        for name, value in (("TERM", kind), ("LINES", "24"), ("COLUMNS", "80")):
            monkeypatch.setenv(name, value)
        monkeypatch.setattr(sys, "stderr", fake)
        if shared:
            monkeypatch.setattr(sys, "stdout", fake)
        return fake

    return replace
