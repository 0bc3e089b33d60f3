"""Web examples as processes of their own, in real time, on a free port."""

from __future__ import annotations

import asyncio
import os
import signal
import socket
import sys
from contextlib import asynccontextmanager
from pathlib import Path
from typing import TYPE_CHECKING, Any

import aiohttp

if TYPE_CHECKING:
    from collections.abc import AsyncIterator

EXAMPLES = Path(__file__).parents[2] / "docs" / "examples"
START_LIMIT = 60.0  # seconds, for a slow machine

HUBS = {
    "aiohttp": ("web_hub",),
    "fastapi": ("uvicorn", "fastapi_hub:app", "--timeout-graceful-shutdown", "2"),
}
"""Module to run, and its arguments."""

DURABLE_HUB = "durable"
PROGRAMS = {**HUBS, DURABLE_HUB: ("durable_hub",)}


class HubProcess:
    """A running example: the URL of its streams, and what of its log was read."""

    def __init__(self, process: asyncio.subprocess.Process, origin: str) -> None:
        self._process = process
        self.origin = origin
        self.log = ""

    def stream_url(self, task_id: str) -> str:
        """Return the URL of the events of a task."""
        return f"{self.origin}/videos/{task_id}/events"

    async def wait_ready(self) -> None:
        """Wait until the example responds."""
        async with asyncio.timeout(START_LIMIT), aiohttp.ClientSession() as session:
            while self._process.returncode is None:
                try:
                    async with session.get(self.origin):
                        return
                except aiohttp.ClientConnectionError:
                    await asyncio.sleep(0.05)
        raise RuntimeError((await self._process.communicate())[1].decode())

    async def wait_logged(self, text: str) -> None:
        """Wait until the process has written a line with *text* to stderr."""
        async with asyncio.timeout(10.0):
            while text not in (line := await self._read_line()):
                assert line, "the process has ended"

    async def terminate(self) -> float:
        """Send SIGTERM, and return the seconds until the process has ended."""
        loop = asyncio.get_running_loop()
        sent_at = loop.time()
        self._process.send_signal(signal.SIGTERM)
        async with asyncio.timeout(30.0):
            while await self._read_line():
                pass
            await self._process.wait()
        return loop.time() - sent_at

    async def kill(self) -> None:
        """End the process if it is still running."""
        if self._process.returncode is None:
            self._process.kill()
            await self._process.communicate()

    async def _read_line(self) -> str:
        assert self._process.stderr is not None
        line = (await self._process.stderr.readline()).decode()
        self.log += line
        return line


@asynccontextmanager
async def run_hub(
    name: str, *, base_url: str, before: str = "", port: int = 0, folder: Path | None = None
) -> AsyncIterator[HubProcess]:
    """
    Run an example against a server.

    Args:
        before: Code that runs before it, in its process.
        folder: Where it keeps its files.
    """
    port = port or free_port()
    module, *arguments = PROGRAMS[name]
    program = f"""
import runpy, sys
{before}
sys.argv[1:] = {arguments}
runpy.run_module({module!r}, run_name="__main__")
"""
    environment = {
        **os.environ,
        "EZVIDEO_API_KEY": "test-key",
        "EZVIDEO_BASE_URL": base_url,
        "PORT": str(port),
        "UVICORN_PORT": str(port),
        "PYTHONPATH": os.pathsep.join([str(EXAMPLES), str(EXAMPLES.parents[1])]),
    }
    process = await asyncio.create_subprocess_exec(
        *(sys.executable, "-W", "error", "-c", program),
        env=environment,
        cwd=folder,
        stdout=asyncio.subprocess.DEVNULL,
        stderr=asyncio.subprocess.PIPE,
    )
    hub = HubProcess(process, f"http://127.0.0.1:{port}")
    try:
        await hub.wait_ready()
        yield hub
    finally:
        await hub.kill()


def free_port() -> int:
    """Return a port of loopback that nothing listens on."""
    with socket.create_server(("127.0.0.1", 0)) as listener:
        port: int = listener.getsockname()[1]
    return port


async def read_messages(response: aiohttp.ClientResponse) -> list[dict[str, Any]]:
    """Read server-sent events to the end of the response; comments have the key ``comment``."""
    return [message async for message in iter_messages(response)]


async def iter_messages(response: aiohttp.ClientResponse) -> AsyncIterator[dict[str, Any]]:
    """Yield server-sent events as mappings of their fields."""
    message: dict[str, Any] = {}
    async for line in response.content:
        field, _, value = line.decode().rstrip("\n").partition(":")
        if line == b"\n":
            yield message
            message = {}
        else:
            message[field or "comment"] = value.removeprefix(" ")
