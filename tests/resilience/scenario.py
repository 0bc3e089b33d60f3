"""
Network faults that need the real clock or a network namespace: a program, one scenario a run.

``python -m tests.resilience.scenario NAME`` prints what the clients saw, as JSON.  All but
``failover`` must run below ``unshare --net --mount``: they connect their own namespace, the near
one, with a second one, the far one, which has the server.
"""

from __future__ import annotations

import asyncio
import ctypes
import fcntl
import json
import os
import random
import socket
import struct
import subprocess
import sys
from contextlib import asynccontextmanager
from pathlib import Path
from typing import TYPE_CHECKING, Any, Self

from ezvideo_async import AsyncVideoClient, PollPolicy
from tests.resilience.wires import ONCE, Wired, client_for, completed, failed, wires
from tests.support.raw_server import DONE, READ, STALL, RawServer, Seen, done, response, task

if TYPE_CHECKING:
    from collections.abc import AsyncIterator, Callable

NEAR, FAR = "10.0.0.1", "10.0.0.2"
NEAR_6, FAR_6, HOLE_6 = "2001:db8::1", "2001:db8::2", "2001:db8:dead::2"
NOBODY = "02:00:00:00:00:99"
OFTEN = PollPolicy(interval=0.2, min_interval=0.1)
Result = dict[str, Any]


class RealLoop(Wired, asyncio.SelectorEventLoop):
    """Loop on the real clock with its own name server."""


# -- networks -------------------------------------------------------------------------------------


def ip(words: str) -> None:
    """Run one command of iproute2."""
    subprocess.run(["ip", *words.split()], check=True, timeout=60)


def make_far() -> None:
    """Make the far namespace, with a private name."""
    subprocess.run(["mount", "-t", "tmpfs", "tmpfs", "/run"], check=True, timeout=60)
    ip("netns add far")
    ip("link set lo up")


def address(near: str, far: str) -> None:
    """Give both ends of a link their addresses, and set it up."""
    for where, end, host in (("", near, NEAR), ("-n far ", far, FAR)):
        ip(f"{where}addr add {host}/24 dev {end}")
        ip(f"{where}link set {end} up")


def make_link() -> None:
    """Make a link of the kernel from ``near0`` to ``far0``."""
    make_far()
    ip("link add near0 type veth peer name far0 netns far")
    address("near0", "far0")


class SlowLink:
    """
    A link over which this process forwards each packet.

    Attributes:
        rate: Bytes per second and direction.
        jitter: Longest delay of a packet, in seconds, which reorders packets.
        reordered: Number of reordered packets.
    """

    def __init__(self, *, rate: float = 1e9, jitter: float = 0.0) -> None:
        make_far()
        self.rate = rate
        self.jitter = jitter
        self.reordered = 0
        near, far = self._tun("near0"), self._tun("far0")
        ip("link set far0 netns far")
        address("near0", "far0")
        for source, sink in ((near, far), (far, near)):
            asyncio.get_running_loop().add_reader(source, self._forwarder(source, sink))

    @staticmethod
    def _tun(name: str) -> int:
        descriptor = os.open("/dev/net/tun", os.O_RDWR | os.O_NONBLOCK)
        plain_packets, set_interface = 0x1001, 0x400454CA  # IFF_TUN | IFF_NO_PI, TUNSETIFF
        fcntl.ioctl(descriptor, set_interface, struct.pack("16sH14x", name.encode(), plain_packets))
        return descriptor

    def _forwarder(self, source: int, sink: int) -> Callable[[], None]:
        loop = asyncio.get_running_loop()
        chance = random.Random(source)
        free_at = arrives_last = 0.0

        def forward() -> None:
            nonlocal free_at, arrives_last
            packet = os.read(source, 65536)
            free_at = max(free_at, loop.time()) + len(packet) / self.rate
            arrives = free_at + chance.random() * self.jitter
            self.reordered += arrives < arrives_last
            arrives_last = max(arrives, arrives_last)
            loop.call_at(arrives, os.write, sink, packet)

        return forward


class FarServer(RawServer):
    """A scripted server in the far namespace, on the loop of the near one."""

    async def __aenter__(self) -> Self:
        self._server = await asyncio.start_server(self._accept, sock=far_socket())
        self.port = self._server.sockets[0].getsockname()[1]
        self._handler = None
        return self

    @property
    def base_url(self) -> str:
        """Return its URL in the near namespace."""
        return f"http://{FAR}:{self.port}/v1"


def far_socket() -> socket.socket:
    """Make a listening socket in the far namespace; it stays there."""
    setns = ctypes.CDLL(None, use_errno=True).setns
    with Path("/proc/self/ns/net").open() as here, Path("/run/netns/far").open() as there:
        assert setns(there.fileno(), 0) == 0
        try:
            return socket.create_server((FAR, 0))
        finally:
            assert setns(here.fileno(), 0) == 0


def named(error: Any) -> str:
    """Return class and reason of a retryable error."""
    assert error.retryable
    return f"{type(error).__name__} {error.reason}"


@asynccontextmanager
async def both_clients(base_url: str, **options: Any) -> AsyncIterator[list[AsyncVideoClient]]:
    """Enter a client with its own connections, and one with a borrowed session."""
    async with (
        client_for(base_url, "own", retry=ONCE, **options) as own,
        client_for(base_url, "borrowed", retry=ONCE, **options) as borrowed,
    ):
        yield [own, borrowed]


async def each(use: Callable[..., Any], clients: list[AsyncVideoClient], *rest: Any) -> list[Any]:
    """Use all clients concurrently."""
    return await asyncio.gather(*(use(client, *rest) for client in clients))


async def error_of(client: AsyncVideoClient) -> str:
    """Return the error of one request."""
    return named(await failed(client))


async def seconds_of(use: Callable[..., Any], *arguments: Any) -> float:
    """Return how many seconds a call takes."""
    clock = asyncio.get_running_loop().time
    began = clock()
    await use(*arguments)
    return clock() - began


# -- scenarios ------------------------------------------------------------------------------------


async def failover() -> Result:
    """N3: a name gets another address, right after its lookup."""
    closing = [READ, done]
    async with (
        RawServer(closing) as first,
        RawServer(closing) as second,
        both_clients("http://api.test/v1") as clients,
    ):
        wires().names["api.test"] = [("127.0.0.1", first.port)]
        await each(AsyncVideoClient.retrieve, clients, "t")
        wires().names["api.test"] = [("127.0.0.1", second.port)]
        await asyncio.sleep(10.01)
        await each(AsyncVideoClient.retrieve, clients, "t")
        return {"first": len(first.requests), "second": len(second.requests)}


async def link_down() -> Result:
    """N6: the link goes down under kept connections and a watch, and up again."""
    make_link()
    async with (
        FarServer(DONE) as server,
        both_clients(server.base_url, request_timeout=2.0) as clients,
    ):
        await each(AsyncVideoClient.retrieve, clients, "t")
        ip("link set near0 down")
        kept = await each(error_of, clients)
        fresh = await each(error_of, clients)
        watches = asyncio.ensure_future(each(watched, clients))
        await asyncio.sleep(0.5)
        ended_early = watches.done()
        ip("link set near0 up")
        return {
            "kept": kept,
            "fresh": fresh,
            "ended_early": ended_early,
            "completed": await watches,
            "sent": [client.requests_sent for client in clients],
        }


async def watched(client: AsyncVideoClient) -> list[str]:
    """Watch three ids at a short interval until all have ended."""
    return await completed(client, policy=OFTEN)


async def broken_ipv6() -> Result:
    """N7: the first address of a name is an IPv6 one that is silent, or has no route."""
    make_link()
    ip(f"addr add {NEAR_6}/64 dev near0 nodad")
    ip(f"neigh add {FAR_6} lladdr {NOBODY} dev near0 nud permanent")
    ip(f"route add blackhole {HOLE_6}")
    async with FarServer([READ, done]) as server:  # each request needs a connect
        seconds = {}
        for name, host in (("silent", FAR_6), ("unreachable", HOLE_6)):
            wires().names[f"{name}.test"] = [(host, server.port), (FAR, server.port)]
            tries = [await seconds_of_first_calls(f"http://{name}.test/v1") for _try in range(3)]
            seconds[name] = [min(of_one) for of_one in zip(*tries, strict=True)]
        tried = [address[0] for address in wires().connects]
        return {
            "seconds": seconds,
            "tried": [tried.count(host) for host in (FAR_6, HOLE_6)],
            "seen": len(server.requests),
        }


async def seconds_of_first_calls(base_url: str) -> list[float]:
    """Return how long the first calls of new clients take; later ones try another address."""
    async with both_clients(base_url) as clients:
        return await each(lambda client: seconds_of(client.retrieve, "t"), clients)


async def half_open() -> Result:
    """N12: the peer vanishes after it has read the request, and comes back."""
    make_link()
    are_read = asyncio.Event()

    def note(_seen: Seen) -> bytes:
        if len(server.requests) == len(clients):
            are_read.set()
        return b""

    async with (
        FarServer(*[[READ, note, STALL]] * 2, DONE) as server,
        both_clients(server.base_url, request_timeout=2.0) as clients,
    ):
        asking = asyncio.ensure_future(each(error_of, clients))
        took = asyncio.ensure_future(seconds_of(lambda: asking))
        await are_read.wait()
        ip("-n far link set far0 down")
        errors = await asking
        in_flight = [client.budget.in_flight for client in clients]
        ip("-n far link set far0 up")
        return {
            "errors": errors,
            "seconds": await took,
            "in_flight": in_flight,
            "completed": await each(watched, clients),
        }


async def slow_wire() -> Result:
    """N22: a thousand bytes a second, for a small response and for one that takes too long."""
    SlowLink(rate=1000.0)
    small, large = response(task("t")), response(task("t", padding="x" * 9000))
    async with FarServer([READ, small], [READ, small], [READ, large]) as server:
        async with both_clients(server.base_url) as clients:
            found = await each(AsyncVideoClient.retrieve, clients, "t")
        async with both_clients(server.base_url, request_timeout=2.0) as clients:
            asking = asyncio.ensure_future(each(error_of, clients))
            took = await seconds_of(lambda: asking)
            return {
                "found": [state.succeeded for state in found],
                "errors": await asking,
                "seconds": took,
            }


async def reordered() -> Result:
    """N22: reordered packets under large responses."""
    link = SlowLink(jitter=0.02)
    padding = "x" * 100_000

    def large(seen: Seen) -> bytes:
        return response(task(seen.task_id, padding=padding))

    async with FarServer([READ, large] * 9) as server, both_clients(server.base_url) as clients:
        return {
            "completed": await each(watched, clients),
            "reordered": link.reordered,
            "sent": sum(client.requests_sent for client in clients),
            "seen": len(server.requests),
        }


SCENARIOS = {
    play.__name__: play
    for play in (failover, link_down, broken_ipv6, half_open, slow_wire, reordered)
}

if __name__ == "__main__":
    with asyncio.Runner(loop_factory=RealLoop) as runner:
        sys.stdout.write(json.dumps(runner.run(SCENARIOS[sys.argv[1]]())))
