"""Clients and loops for the faults of the network: names of our own, counted connects."""

from __future__ import annotations

import asyncio
import contextlib
import socket
from contextlib import asynccontextmanager
from typing import TYPE_CHECKING, Any

import aiohttp
import pytest

from ezvideo_async import AsyncVideoClient, RetryPolicy, TaskCompleted
from ezvideo_async.errors import EzVideoError
from ezvideo_async.testing import VirtualClockLoop
from tests.support.raw_server import KEY

if TYPE_CHECKING:
    from collections.abc import AsyncIterator

ONCE = RetryPolicy(attempts=1)
IDS = ("a", "b", "c")


class Wired:
    """
    Gives an event loop its own name server, and counts its connects.

    Attributes:
        names: The addresses and ports of each host name; other names do not exist.
        patience: Seconds a look-up takes.
        connects: Addresses that a connection was tried to.
    """

    def __init__(self) -> None:
        super().__init__()
        self.names: dict[str, list[tuple[str, int]]] = {}
        self.patience = 0.0
        self.connects: list[Any] = []

    async def getaddrinfo(self, host: Any, port: Any, **_options: Any) -> list[Any]:
        """Look up a name; the loop itself would do so in a thread."""
        if str(host).replace(".", "").isdigit():
            return [_found(host, port)]
        await asyncio.sleep(self.patience)
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
    """A loop in virtual time with a network of its own."""


def wires() -> Any:
    """The running loop, which is a wired one."""
    loop = asyncio.get_running_loop()
    assert isinstance(loop, Wired)
    return loop


class Resolver(aiohttp.abc.AbstractResolver):
    """For lent sessions, which may bring their own: the loop's names."""

    async def resolve(self, host: str, port: int = 0, family: Any = 0) -> list[Any]:
        """Look up a name as the loop does."""
        return await aiohttp.ThreadedResolver().resolve(host, port, family)

    async def close(self) -> None:
        """Nothing is held."""


def client_at(base_url: str, **options: Any) -> AsyncVideoClient:
    """Make a client whose chance is always one half."""
    return AsyncVideoClient(KEY, base_url=base_url, rand=lambda: 0.5, **options)


@asynccontextmanager
async def client_for(base_url: str, owner: str, **options: Any) -> AsyncIterator[AsyncVideoClient]:
    """Enter a client with a session of its own, or with a lent one."""
    async with contextlib.AsyncExitStack() as stack:
        if owner == "lent":
            session = aiohttp.ClientSession(connector=aiohttp.TCPConnector(resolver=Resolver()))
            options["session"] = await stack.enter_async_context(session)
        yield await stack.enter_async_context(client_at(base_url, **options))


async def failed(client: AsyncVideoClient, task_id: str = "t") -> Any:
    """The error that retrieving a task ends with."""
    with pytest.raises(EzVideoError) as raised:
        await client.retrieve(task_id)
    return raised.value


async def completed(client: AsyncVideoClient, **options: Any) -> list[str]:
    """Watch three ids until all have ended; tell which were completed, one name per final event."""
    async with client.watch(IDS, **options) as watcher:
        finals = [event async for event in watcher if event.is_final]
    assert {type(event) for event in finals} == {TaskCompleted}
    return sorted(event.task_id for event in finals)


async def refused(client: AsyncVideoClient) -> Any:
    """The error that watching three ids ends with, none of them ended."""
    events = []
    with pytest.raises(EzVideoError) as raised:
        async with client.watch(IDS) as watcher:
            events += [event async for event in watcher]
    assert raised.value.open_ids == IDS
    assert events == []
    return raised.value
