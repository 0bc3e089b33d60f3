"""Clients and event loops for network faults: a private name server, counted connects."""

from __future__ import annotations

import asyncio
import socket
from contextlib import asynccontextmanager
from typing import TYPE_CHECKING, Any

import aiohttp
import pytest

from ezvideo_async import AsyncVideoClient, RetryPolicy, TaskCompleted
from ezvideo_async.errors import EzVideoError
from ezvideo_async.testing import VirtualClockLoop
from tests.support.clients import make_client
from tests.support.raw_server import KEY, MAX_BYTES

if TYPE_CHECKING:
    from collections.abc import AsyncIterator

ONCE = RetryPolicy(attempts=1)
over_both_sessions = pytest.mark.parametrize("session", ["own", "borrowed"])
"""The client's own connections, and a session of the caller: their code paths differ."""

IDS = ("a", "b", "c")


class Wired:
    """
    Event loop with its own name server, which counts connects.

    Attributes:
        names: Addresses and ports of each host name; other names do not exist.
        lookup_seconds: Duration of a lookup.
        connects: Addresses of all attempted connects.
    """

    def __init__(self) -> None:
        super().__init__()
        self.names: dict[str, list[tuple[str, int]]] = {}
        self.lookup_seconds = 0.0
        self.connects: list[Any] = []

    async def getaddrinfo(self, host: Any, port: Any, **_options: Any) -> list[Any]:
        """Look up a name without a thread."""
        if str(host).replace(".", "").isdigit():
            return [_found(host, port)]
        await asyncio.sleep(self.lookup_seconds)
        if host not in self.names:
            raise socket.gaierror(socket.EAI_NONAME, "Name or service not known")
        return [_found(*address) for address in self.names[host]]

    async def sock_connect(self, sock: socket.socket, address: Any) -> None:
        """Connect, and count it."""
        self.connects.append(address)
        await super().sock_connect(sock, address)  # type: ignore[misc] -- the loop's


def _found(host: str, port: int) -> tuple[Any, ...]:
    if ":" in host:
        return (socket.AF_INET6, socket.SOCK_STREAM, 6, "", (host, port, 0, 0))
    return (socket.AF_INET, socket.SOCK_STREAM, 6, "", (host, port))


class WiredLoop(Wired, VirtualClockLoop):
    """Loop in virtual time with its own name server."""


def wires() -> Any:
    """Return the running loop, which is a ``Wired`` one."""
    loop = asyncio.get_running_loop()
    assert isinstance(loop, Wired)
    return loop


class Resolver(aiohttp.abc.AbstractResolver):
    """Resolver for borrowed sessions: the names of the loop."""

    async def resolve(self, host: str, port: int = 0, family: Any = 0) -> list[Any]:
        """Look up a name as the loop does."""
        return await aiohttp.ThreadedResolver().resolve(host, port, family)

    async def close(self) -> None:
        """Do nothing."""


def client_at(base_url: str, **options: Any) -> AsyncVideoClient:
    """Make a client whose random numbers are 0.5; names like ``api.test`` are this machine."""
    options = {"max_response_bytes": MAX_BYTES, **options}
    return make_client(KEY, base_url=base_url, allow_insecure=True, **options)


@asynccontextmanager
async def client_for(
    base_url: str, session: str, **options: Any
) -> AsyncIterator[AsyncVideoClient]:
    """Enter a client with its own connections, or with a borrowed session."""
    if session == "own":
        async with client_at(base_url, **options) as client:
            yield client
        return
    connector = aiohttp.TCPConnector(resolver=Resolver())
    async with aiohttp.ClientSession(connector=connector) as borrowed:
        async with client_at(base_url, session=borrowed, **options) as client:
            yield client
        assert not borrowed.closed


async def failed(client: AsyncVideoClient, task_id: str = "t") -> Any:
    """Retrieve a task, which must fail, and return the error."""
    with pytest.raises(EzVideoError) as raised:
        await client.retrieve(task_id)
    return raised.value


async def completed(client: AsyncVideoClient, **options: Any) -> list[str]:
    """Watch three ids to their end; return the completed ids, one for each final event."""
    async with client.watch(IDS, **options) as watcher:
        finals = [event async for event in watcher if event.is_final]
    assert {type(event) for event in finals} == {TaskCompleted}
    return sorted(event.task_id for event in finals)


async def refused(client: AsyncVideoClient) -> Any:
    """Watch three ids, which must fail for all of them, and return the error."""
    events = []
    with pytest.raises(EzVideoError) as raised:
        async with client.watch(IDS) as watcher:
            events += [event async for event in watcher]
    assert raised.value.open_ids == IDS
    assert events == []
    return raised.value
