"""Headless Chromium that runs JavaScript in a page, over its DevTools protocol."""

from __future__ import annotations

import asyncio
import itertools
import shutil
import tempfile
from contextlib import asynccontextmanager
from typing import TYPE_CHECKING, Any

import aiohttp

if TYPE_CHECKING:
    from collections.abc import AsyncIterator

OPTIONS = (
    *("--headless", "--no-sandbox", "--disable-gpu", "--disable-quic", "--no-first-run"),
    *("--disable-background-networking", "--disable-component-update", "--disable-sync"),
    "--remote-debugging-port=0",
)
START_LIMIT = 60.0  # seconds
WAIT_LIMIT = 60.0  # seconds
POLL_CONDITION = """
new Promise((resolve) => {
  const timer = setInterval(() => (%s) && (clearInterval(timer), resolve(true)), 50);
})
"""


class Page:
    """The only page of a running Chromium."""

    def __init__(self, socket: aiohttp.ClientWebSocketResponse) -> None:
        self._socket = socket
        self._numbers = itertools.count(1)

    async def open(self, url: str) -> None:
        """Load a page; it need not exist, but it sets the origin of what runs in it."""
        await self._call("Page.navigate", url=url)
        await self.wait_until("document.readyState == 'complete'")

    async def run(self, expression: str) -> Any:
        """Return the value of an expression, or of its promise."""
        result = await self._call(
            "Runtime.evaluate", expression=expression, awaitPromise=True, returnByValue=True
        )
        assert "exceptionDetails" not in result, result
        return result["result"].get("value")

    async def wait_until(self, condition: str) -> None:
        """Wait until an expression is true in the page."""
        async with asyncio.timeout(WAIT_LIMIT):
            await self.run(POLL_CONDITION % condition)

    async def _call(self, method: str, **parameters: Any) -> dict[str, Any]:
        number = next(self._numbers)
        await self._socket.send_json({"id": number, "method": method, "params": parameters})
        while (message := await self._socket.receive_json()).get("id") != number:
            pass
        result: dict[str, Any] = message["result"]
        return result


@asynccontextmanager
async def run_chromium() -> AsyncIterator[Page]:
    """Run a Chromium with an empty profile."""
    program = shutil.which("chromium")
    assert program is not None, "`nox -s browser` installs chromium"
    with tempfile.TemporaryDirectory(ignore_cleanup_errors=True) as profile:
        process = await asyncio.create_subprocess_exec(
            *(program, *OPTIONS, f"--user-data-dir={profile}", "about:blank"),
            stdout=asyncio.subprocess.DEVNULL,
            stderr=asyncio.subprocess.PIPE,
        )
        try:
            async with aiohttp.ClientSession() as session:
                yield await _connect(process, session)
        finally:
            process.terminate()
            await process.communicate()


async def _connect(process: asyncio.subprocess.Process, session: aiohttp.ClientSession) -> Page:
    assert process.stderr is not None
    async with asyncio.timeout(START_LIMIT):
        line = ""
        while "DevTools listening on ws://" not in line:
            line = (await process.stderr.readline()).decode()
            assert line, "chromium has ended"
        address = line.split("ws://")[1].split("/")[0]
        async with session.get(f"http://{address}/json/list") as response:
            pages = [each for each in await response.json() if each["type"] == "page"]
        return Page(await session.ws_connect(pages[0]["webSocketDebuggerUrl"]))
