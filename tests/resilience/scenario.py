"""
Faults that need the real clock, or a network of their own: a program, one scenario a run.

``python -m tests.resilience.scenario NAME`` prints what the clients saw, as JSON.  All but
``failover`` want to be run below ``unshare --net --mount``: they lay a wire from the namespace
they find themselves in, the near one, to a second one, the far one, where the server is.
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
ErrorBody = dict[str, Any]


class RealLoop(Wired, asyncio.SelectorEventLoop):
    """A loop on the real clock with a network of its own."""


# -- wires ----------------------------------------------------------------------------------------


def ip(words: str) -> None:
    """Run one command of iproute2."""
    subprocess.run(["ip", *words.split()], check=True)


def make_far() -> None:
    """Make the far namespace, with a name that nobody else sees."""
    subprocess.run(["mount", "-t", "tmpfs", "tmpfs", "/run"], check=True)
    ip("netns add far")
    ip("link set lo up")


def address(near: str, far: str) -> None:
    """Give both ends of a wire their addresses, and switch it on."""
    for where, end, host in (("", near, NEAR), ("-n far ", far, FAR)):
        ip(f"{where}addr add {host}/24 dev {end}")
        ip(f"{where}link set {end} up")


def lay_wire() -> None:
    """Lay a wire of the kernel's from ``near0`` to ``far0``."""
    make_far()
    ip("link add near0 type veth peer name far0 netns far")
    address("near0", "far0")


class Wire:
    """
    A wire that this process carries each packet over.

    Attributes:
        rate: Bytes per second and direction.
        jitter: The longest time a packet is held back; packets overtake each other.
        overtaken: How many packets have been.
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
            asyncio.get_running_loop().add_reader(source, self._carrier(source, sink))

    @staticmethod
    def _tun(name: str) -> int:
        descriptor = os.open("/dev/net/tun", os.O_RDWR | os.O_NONBLOCK)
        plain_packets, set_interface = 0x1001, 0x400454CA  # IFF_TUN | IFF_NO_PI, TUNSETIFF
        fcntl.ioctl(descriptor, set_interface, struct.pack("16sH14x", name.encode(), plain_packets))
        return descriptor

    def _carrier(self, source: int, sink: int) -> Callable[[], None]:
        loop = asyncio.get_running_loop()
        chance = random.Random(source)
        free_at = arrives_last = 0.0

        def carry() -> None:
            nonlocal free_at, arrives_last
            packet = os.read(source, 65536)
            free_at = max(free_at, loop.time()) + len(packet) / self.rate
            arrives = free_at + chance.random() * self.jitter
            self.reordered += arrives < arrives_last
            arrives_last = max(arrives, arrives_last)
            loop.call_at(arrives, os.write, sink, packet)

        return carry


class FarServer(RawServer):
    """A scripted server in the far namespace, served by the near one's loop."""

    async def __aenter__(self) -> Self:
        self._server = await asyncio.start_server(self._accept, sock=far_socket())
        self.port = self._server.sockets[0].getsockname()[1]
        self._handler = None
        return self

    @property
    def base_url(self) -> str:
        """Where the near namespace finds it."""
        return f"http://{FAR}:{self.port}/v1"


def far_socket() -> socket.socket:
    """Listen in the far namespace: a socket stays in the one it was made in."""
    setns = ctypes.CDLL(None, use_errno=True).setns
    with Path("/proc/self/ns/net").open() as here, Path("/run/netns/far").open() as there:
        assert setns(there.fileno(), 0) == 0
        try:
            return socket.create_server((FAR, 0))
        finally:
            assert setns(here.fileno(), 0) == 0


def named(error: Any) -> str:
    """Tell an error that passes by its class and reason."""
    assert error.retryable
    return f"{type(error).__name__} {error.reason}"


@asynccontextmanager
async def both_clients(base_url: str, **options: Any) -> AsyncIterator[list[AsyncVideoClient]]:
    """Enter a client with a session of its own, and one with a lent session."""
    async with (
        client_for(base_url, "own", retry=ONCE, **options) as own,
        client_for(base_url, "lent", retry=ONCE, **options) as lent,
    ):
        yield [own, lent]


async def each(use: Callable[..., Any], clients: list[AsyncVideoClient], *rest: Any) -> list[Any]:
    """Use all clients at once."""
    return await asyncio.gather(*(use(client, *rest) for client in clients))


async def error_of(client: AsyncVideoClient) -> str:
    """The error of one attempt."""
    return named(await failed(client))


async def seconds_of(use: Callable[..., Any], *arguments: Any) -> float:
    """How long something takes."""
    clock = asyncio.get_running_loop().time
    began = clock()
    await use(*arguments)
    return clock() - began


# -- scenarios ------------------------------------------------------------------------------------


async def failover() -> ErrorBody:
    """N3: a name gets another address, right after it was looked up."""
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


async def link_down() -> ErrorBody:
    """N6: the link goes down under kept connections and a watch, and comes up again."""
    lay_wire()
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
    """Watch three ids closely until all have ended."""
    return await completed(client, policy=OFTEN)


async def broken_ipv6() -> ErrorBody:
    """N7: the name's first address is one of IPv6 that packets, or connects, do not get to."""
    lay_wire()
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
    """How long the first calls of new clients take: later ones begin with another address."""
    async with both_clients(base_url) as clients:
        return await each(lambda client: seconds_of(client.retrieve, "t"), clients)


async def half_open() -> ErrorBody:
    """N12: the peer vanishes when it has read the request, and comes back."""
    lay_wire()
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


async def slow_wire() -> ErrorBody:
    """N22: a thousand bytes a second, for a small answer and for one that takes too long."""
    Wire(rate=1000.0)
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


async def reordered() -> ErrorBody:
    """N22: packets overtake each other, under large answers."""
    wire = Wire(jitter=0.02)
    padding = "x" * 100_000

    def large(seen: Seen) -> bytes:
        return response(task(seen.task_id, padding=padding))

    async with FarServer([READ, large] * 9) as server, both_clients(server.base_url) as clients:
        return {
            "completed": await each(watched, clients),
            "reordered": wire.reordered,
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
