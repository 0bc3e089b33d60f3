"""
Minimal server of status responses, in a process of its own on the other core.

It sends one response of about 330 bytes with the requested id in it.  With ``--moving`` the
progress grows with every request, so that two responses about one id are rarely equal.  It prints
its port and serves until its standard input closes.
"""

from __future__ import annotations

import asyncio
import json
import os
import subprocess
import sys
from contextlib import asynccontextmanager, contextmanager
from pathlib import Path
from typing import TYPE_CHECKING, Any

from attrs import frozen

from tests.long.bench.harness import CLIENT_CORE, ROOT, SERVER_CORE, meanwhile, pin

if TYPE_CHECKING:
    from collections.abc import AsyncIterator, Callable, Iterator

    from aiohttp import ClientSession

_MOVES = 89  # a prime: for any number of ids, the progress of each one changes
_LEAST = 10  # percent; a progress of two digits, so that all bodies are of one length
_BACKLOG = 4096
_HEAD = (
    b"HTTP/1.1 200 OK\r\nContent-Type: application/json; charset=utf-8\r\n"
    b"Date: Tue, 01 Sep 2026 08:00:00 GMT\r\nX-Request-Id: 0123456789abcdef\r\n"
    b"Content-Length: %d\r\n\r\n"
)
_FIRST = b'{"id":"'
_SECOND = (
    b'","object":"video","model":"veo-3.1-fast-generate","status":"in_progress","progress":%d,'
    b'"created_at":1788000000,"completed_at":null,"expires_at":null,"seconds":"8",'
    b'"size":"1280x720","remixed_from_video_id":null,"error":null,"metadata":{"channel":"a1",'
    b'"prompt":"a lighthouse in the rain"}}'
)


def body_of(task_id: bytes, progress: int) -> bytes:
    """Return the body of a running task."""
    return b"".join((_FIRST, task_id, _SECOND % progress))


class _Connection(asyncio.Protocol):
    """Responds to each GET; a client that waits for responses sends each in one piece."""

    requests = 0
    is_moving = False
    _transport: asyncio.Transport

    def connection_made(self, transport: Any) -> None:
        self._transport = transport

    def data_received(self, data: bytes) -> None:
        path = data[4 : data.index(b" ", 4)]
        if path == b"/count":
            body = b"%d" % _Connection.requests
        else:
            _Connection.requests += 1
            progress = _LEAST + _Connection.requests % _MOVES if self.is_moving else 42
            body = body_of(path[path.rindex(b"/") + 1 :], progress)
        self._transport.write(_HEAD % len(body) + body)


async def serve(*, is_moving: bool) -> None:
    """Respond until standard input closes."""
    _Connection.is_moving = is_moving
    loop = asyncio.get_running_loop()
    listener = await loop.create_server(_Connection, "127.0.0.1", 0, backlog=_BACKLOG)
    print(listener.sockets[0].getsockname()[1], flush=True)
    await loop.run_in_executor(None, sys.stdin.read)


# -- the client's side ----------------------------------------------------------------------------


@frozen
class Responder:
    """A running responder."""

    port: int
    process: int

    @property
    def base_url(self) -> str:
        """The base URL for a client."""
        return f"http://127.0.0.1:{self.port}/v1"

    async def count(self) -> int:
        """Return how many requests have been received."""
        reader, writer = await asyncio.open_connection("127.0.0.1", self.port)
        writer.write(b"GET /count HTTP/1.1\r\n\r\n")
        head = await reader.readuntil(b"\r\n\r\n")
        count = await reader.readexactly(int(head.rpartition(b":")[2]))
        writer.close()
        return int(count)

    def cpu_seconds(self) -> float:
        """Return its CPU time, to a hundredth; 0 if the system does not provide it."""
        try:
            stat = Path(f"/proc/{self.process}/stat").read_text()
        except OSError:
            return 0.0
        user, system = stat.rpartition(")")[2].split()[11:13]
        return (int(user) + int(system)) / os.sysconf("SC_CLK_TCK")


@contextmanager
def responder(*, is_moving: bool = False) -> Iterator[Responder]:
    """Start a responder on the server's core."""
    command = [
        sys.executable,
        "-m",
        "tests.long.bench.responder",
        *(["--moving"] if is_moving else []),
    ]
    pin(SERVER_CORE)  # inherited by the process
    try:
        process = subprocess.Popen(
            command, cwd=ROOT, stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True
        )
    finally:
        pin(CLIENT_CORE)
    with process:
        assert process.stdin is not None
        assert process.stdout is not None
        yield Responder(port=int(process.stdout.readline()), process=process.pid)
        process.stdin.close()
        process.terminate()


@asynccontextmanager
async def coroutine_per_id(
    session: ClientSession, server: Responder, task_ids: list[str], interval: float
) -> AsyncIterator[Callable[[], int]]:
    """Poll each id in a loop of its own on plain aiohttp; yield a counter of the polls."""
    polls = 0

    async def watch(task_id: str, first: float) -> None:
        nonlocal polls
        await asyncio.sleep(first)
        while True:
            async with session.get(f"{server.base_url}/videos/{task_id}") as response:
                json.loads(await response.read())
            polls += 1
            await asyncio.sleep(interval)

    firsts = (interval * place / len(task_ids) for place in range(len(task_ids)))
    async with meanwhile(asyncio.gather(*map(watch, task_ids, firsts))):
        yield lambda: polls


if __name__ == "__main__":
    asyncio.run(serve(is_moving="--moving" in sys.argv))
