"""
Scripted TCP server: plays one script of bytes per connection and records requests.

A script is a list of steps.  Bytes are sent, a number is a delay in seconds, a function is called
with the last request and returns the bytes to send; ``READ``, ``CLOSE``, ``CUT``, ``RESET`` and
``STALL`` are below.  After the last step the connection is closed.  If the client closes a
connection after a long idle time, the next connection continues its script.
"""

from __future__ import annotations

import asyncio
import contextlib
import json
import socket
import struct
from typing import TYPE_CHECKING, Any, Self
from urllib.parse import unquote

from attrs import frozen

from tests.support.clients import make_client

if TYPE_CHECKING:
    import ssl

    from ezvideo_async import AsyncVideoClient

KEY = "sk-canary-0123456789abcdef"
"""The API key of all tests: long enough to be masked, and part of no other text."""

MAX_BYTES = 1 << 20
"""Bytes of a response in tests, so that bodies without an end are over soon."""

READ = object()
"""Read one whole request."""
CLOSE = object()
"""Send FIN."""
CUT = object()
"""Send FIN without the close_notify of TLS."""
RESET = object()
"""Send RST."""
STALL = object()
"""Send nothing until the server is closed."""

LONG_IDLE = 15.0  # seconds; the client closes connections that are idle for longer

_RST = struct.pack("ii", 1, 0)  # SO_LINGER on, 0 seconds


@frozen(kw_only=True)
class Seen:
    """One request as the server received it."""

    target: str
    headers: dict[str, str]
    lines: tuple[str, ...]
    at: float
    connection: int

    @property
    def task_id(self) -> str:
        return unquote(self.target.rpartition("/")[2])


Step = Any
Script = list[Step]


def response(body: bytes | dict[str, Any], *headers: str, status: str = "200 OK") -> bytes:
    """One whole HTTP answer."""
    content = body if isinstance(body, bytes) else json.dumps(body).encode()
    lines = [f"HTTP/1.1 {status}", f"Content-Length: {len(content)}", *headers, "", ""]
    return "\r\n".join(lines).encode() + content


def task(task_id: str, status: str = "completed", **fields: Any) -> dict[str, Any]:
    """Build a task in the API document's shape."""
    return {"id": task_id, "status": status, **fields}


def done(seen: Seen) -> bytes:
    """Respond that the requested task is completed."""
    return response(task(seen.task_id))


def running(seen: Seen) -> bytes:
    """Respond that the requested task is processing."""
    return response(task(seen.task_id, "processing"))


def replying(*replies: Any) -> Script:
    """Make a script that reads a request before each of the replies."""
    return [step for reply in replies for step in (READ, reply)]


DONE: Script = replying(*[done] * 1000)
"""A connection on which every task is completed."""


class RawServer:
    """
    Plays one script per connection; further connections get the last one.

    Attributes:
        connections: Number of accepted connections.
        requests: The requests read so far.
    """

    def __init__(self, *scripts: Script, tls: ssl.SSLContext | None = None) -> None:
        self._scripts = list(scripts)
        self._tls = tls
        self._playing: set[asyncio.Task[None]] = set()
        self.connections = 0
        self.requests: list[Seen] = []

    async def __aenter__(self) -> Self:
        self._server = await asyncio.start_server(
            self._accept, "127.0.0.1", 0, ssl=self._tls, backlog=1000
        )
        self.port = self._server.sockets[0].getsockname()[1]
        loop = asyncio.get_running_loop()
        self._handler = loop.get_exception_handler()
        loop.set_exception_handler(self._handle)
        return self

    async def __aexit__(self, *_: object) -> None:
        self._server.close()
        for playing in self._playing:
            playing.cancel()
        await asyncio.gather(*self._playing, return_exceptions=True)
        for _round in range(5):
            await asyncio.sleep(0)
        asyncio.get_running_loop().set_exception_handler(self._handler)

    def _handle(self, loop: asyncio.AbstractEventLoop, context: dict[str, Any]) -> None:
        """Pass on what the loop reports, except handshakes that clients ended."""
        if "transport creation" not in context["message"]:  # reported in debug mode only
            handle = self._handler or type(loop).default_exception_handler
            handle(loop, context)

    @property
    def base_url(self) -> str:
        return f"{'https' if self._tls else 'http'}://127.0.0.1:{self.port}/v1"

    @property
    def open_connections(self) -> int:
        """Number of connections that neither side has closed."""
        return len(self._playing)

    @property
    def times(self) -> list[float]:
        return [seen.at for seen in self.requests]

    async def _accept(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        playing = asyncio.current_task()
        assert playing is not None
        self._playing.add(playing)
        playing.add_done_callback(self._playing.discard)
        number, self.connections = self.connections, self.connections + 1
        try:
            script = self._scripts.pop(0) if len(self._scripts) > 1 else self._scripts[0]
            with contextlib.suppress(OSError, asyncio.IncompleteReadError):
                await self._play(script, number, reader, writer)
        except asyncio.CancelledError:
            pass  # the stream protocol would report it to the loop as an error
        finally:
            writer.transport.abort() if playing.cancelling() else writer.close()

    async def _play(
        self, script: Script, number: int, reader: asyncio.StreamReader, writer: Any
    ) -> None:
        for index, step in enumerate(script):
            if step is READ:
                seen = await self._read_request(reader, number, script, index)
                self.requests.append(seen)
            elif step is STALL:
                await asyncio.Event().wait()
            elif step is CLOSE:
                writer.close()
            elif step is CUT:
                writer.transport.abort()
            elif step is RESET:
                sock = writer.get_extra_info("socket")
                sock.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, _RST)
                writer.transport.abort()
            elif isinstance(step, float):
                await asyncio.sleep(step)
            elif not writer.is_closing():  # uvloop refuses to write to a closed transport
                writer.write(step(seen) if callable(step) else step)
                await writer.drain()

    async def _read_request(
        self, reader: asyncio.StreamReader, number: int, script: Script, index: int
    ) -> Seen:
        loop = asyncio.get_running_loop()
        idle_since = loop.time()
        try:
            return _parse(await reader.readuntil(b"\r\n\r\n"), number)
        except asyncio.IncompleteReadError:
            if loop.time() - idle_since >= LONG_IDLE and isinstance(script, list):
                self._scripts.insert(0, script[index:])
            raise


def _parse(head: bytes, number: int) -> Seen:
    start, *lines = head.decode("latin-1").rstrip("\r\n").split("\r\n")
    # Whitespace around a value is not part of it (RFC 9110, 5.5).
    named = (line.partition(":") for line in lines)
    headers = {name.lower(): value.strip(" \t") for name, _, value in named}
    return Seen(
        target=start.split(" ")[1],
        headers=headers,
        lines=tuple(lines),
        at=asyncio.get_running_loop().time(),
        connection=number,
    )


class KeyProvider:
    """
    An async ``api_key`` callable that returns its keys one after another, the last for ever.

    Attributes:
        calls: Number of calls so far.
    """

    def __init__(self, *keys: Any) -> None:
        self._keys = keys
        self.calls = 0

    async def __call__(self) -> str:
        key = self._keys[min(self.calls, len(self._keys) - 1)]
        self.calls += 1
        await asyncio.sleep(1.0)
        if isinstance(key, BaseException):
            raise key
        return key


def client_of(server: Any, **options: Any) -> AsyncVideoClient:
    """Make a client whose random numbers are all 0.5, and that reads at most 1 MiB."""
    options = {"base_url": server.base_url, "max_response_bytes": MAX_BYTES, **options}
    return make_client(options.pop("api_key", KEY), **options)


def now() -> float:
    """Return the virtual seconds since the test started."""
    return asyncio.get_running_loop().time()
