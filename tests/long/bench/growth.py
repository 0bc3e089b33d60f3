"""
Benchmark of CPU time per poll and memory per id, by the number of ids.

Up to a million ids on a transport without a network, up to 20,000 on real sockets; always 64
requests in flight, and more polls due than can be sent.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from tests.long.bench.harness import (
    KEY,
    Case,
    Meter,
    Options,
    Sample,
    drained,
    interleaved,
    markdown,
    meanwhile,
    reached,
    spread,
    task_ids,
)
from tests.long.bench.memory import resident_bytes
from tests.long.bench.responder import coroutine_per_id, responder

if TYPE_CHECKING:
    from ezvideo_async import AsyncVideoClient

WIDTH = 64
_AMPLE = 1e6
_CROWD = 20_000.0  # polls per second that are due: more than can be sent
MOCK, SOCKETS, COROUTINES = "mock", "sockets", "coroutines"
TOLD = {
    MOCK: "watcher, no network",
    SOCKETS: "watcher, real sockets",
    COROUTINES: "aiohttp, one coroutine per id",
}
_KIB = 1024.0


async def without_network(ids: int, count: int) -> Sample:
    """Watch on a transport that responds in the next iteration of the loop."""
    from tests.long.bench.mock import MockTransport, mock_client

    async with mock_client(MockTransport(is_moving=True), rate=_AMPLE) as client:
        return await _watched(client, ids, count)


async def over_sockets(ids: int, count: int) -> Sample:
    """Watch a server in another process."""
    from ezvideo_async import AsyncVideoClient, RequestBudget

    budget = RequestBudget(rate=_AMPLE, max_in_flight=WIDTH)
    with responder(is_moving=True) as server:
        async with AsyncVideoClient(KEY, base_url=server.base_url, budget=budget) as client:
            return await _watched(client, ids, count)


async def _watched(client: AsyncVideoClient, ids: int, count: int) -> Sample:
    from ezvideo_async import PollPolicy

    asked = task_ids(ids)
    await client.retrieve(asked[0])
    before = resident_bytes()
    policy = PollPolicy(interval=ids / _CROWD, min_interval=0.001)
    async with (
        client.watch(asked, policy=policy, progress=True) as watcher,
        meanwhile(drained(watcher)),
    ):
        await reached(lambda: watcher.stats.polls, max(ids, count // 4))
        taken = resident_bytes() - before
        start = watcher.stats.polls
        with Meter() as meter:
            await reached(lambda: watcher.stats.polls, start + count)
            polls = watcher.stats.polls - start
    return {"us": 1e6 * meter.cpu / polls, "kib": taken / ids / _KIB}


async def by_coroutines(ids: int, count: int) -> Sample:
    """Run a loop with a sleep per id, on one aiohttp session with as many requests in flight."""
    import aiohttp

    asked = task_ids(ids)
    with responder(is_moving=True) as server:
        connector = aiohttp.TCPConnector(limit=WIDTH)
        async with aiohttp.ClientSession(connector=connector) as session:
            async with session.get(f"{server.base_url}/videos/{asked[0]}") as response:
                await response.read()
            before = resident_bytes()
            async with coroutine_per_id(session, server, asked, ids / _CROWD) as polls:
                await reached(polls, max(ids, count // 4))
                taken = resident_bytes() - before
                start = polls()
                with Meter() as meter:
                    await reached(polls, start + count)
                    done = polls() - start
    return {"us": 1e6 * meter.cpu / done, "kib": taken / ids / _KIB}


# -- tables --------------------------------------------------------------------------------------


def run(options: Options) -> dict[str, Any]:
    """Measure all sizes alternately."""
    mock = (100, 1_000, 20_000) if options.quick else (100, 1_000, 10_000, 100_000, 10**6)
    real = (100, 1_000, 3_000) if options.quick else (100, 1_000, 10_000, 20_000)
    count = 3_000 if options.quick else 12_000
    sizes = {MOCK: mock, SOCKETS: real, COROUTINES: real}
    subjects = {MOCK: without_network, SOCKETS: over_sockets, COROUTINES: by_coroutines}
    # Enough polls that a rare full garbage collection is not most of their cost.
    cases = [
        Case(f"{kind}, {ids}", subject, {"ids": ids, "count": max(count, ids // 5)}, _rounds(ids))
        for kind, subject in subjects.items()
        for ids in sizes[kind]
    ]
    return {"samples": interleaved(cases, options), "sizes": sizes}


def _rounds(ids: int) -> int:
    """Return the rounds for a number of ids: few for slow cases."""
    return 1 if ids > 100_000 else 3


def tables(found: dict[str, Any]) -> str:
    """Return CPU time and memory by number of ids as tables."""
    samples, sizes = found["samples"], found["sizes"]
    numbers = sorted({ids for kind in sizes.values() for ids in kind})

    def row(kind: str, name: str, digits: int) -> list[str]:
        return [
            spread(samples, f"{kind}, {ids}", name).shown(digits) if ids in sizes[kind] else ""
            for ids in numbers
        ]

    heads = [f"{ids:,} ids" for ids in numbers]
    cost = [[what, *row(kind, "us", 0)] for kind, what in TOLD.items()]
    size = [[what, *row(kind, "kib", 2)] for kind, what in TOLD.items()]
    return (
        f"{markdown(['CPU per poll, µs', *heads], cost)}\n\n"
        f"{markdown(['memory per id, KiB (RSS)', *heads], size)}"
    )
