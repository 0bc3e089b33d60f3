"""
Benchmark of the CPU time of one poll, compared with a plain aiohttp loop and openai's client.

All have 64 requests in flight, or poll 10,000 ids every 5 seconds; the responses are the same for
all.  Our rows include all that the library does: checks, decoding, schedule, events.
"""

from __future__ import annotations

import asyncio
import json
from typing import TYPE_CHECKING, Any

from tests.long.bench.harness import (
    KEY,
    Case,
    Goal,
    Meter,
    Options,
    Sample,
    drained,
    interleaved,
    markdown,
    meanwhile,
    ratio,
    reached,
    spread,
    task_ids,
)
from tests.long.bench.responder import responder

if TYPE_CHECKING:
    from collections.abc import AsyncIterable, Awaitable, Callable, Iterable

    from ezvideo_async import TaskEvent
    from tests.long.bench.responder import Responder

WIDTH = 64  # requests in flight
IDS = 10_000
INTERVAL = 5.0
CROWD = 20_000.0  # polls per second that are due: more than the watcher can send
AMPLE = 1e6  # requests per second: the budget must not limit
_SELDOM = 0.1  # seconds: requesting the count of the responder is not free


# -- what is measured -----------------------------------------------------------------------------


def _told(meter: Meter, count: float, server: Responder, server_before: float) -> Sample:
    return {
        "us": 1e6 * meter.cpu / count,
        "a second": count / meter.wall,
        "server busy": (server.cpu_seconds() - server_before) / meter.wall,
    }


async def _all(poll: Callable[[str], Awaitable[object]], asked: Iterable[str]) -> None:
    """Poll each id, 64 at a time."""
    left = iter(asked)

    async def work() -> None:
        for task_id in left:
            await poll(task_id)

    await asyncio.gather(*(work() for _ in range(WIDTH)))


async def _measured(
    poll: Callable[[str], Awaitable[object]], server: Responder, count: int
) -> Sample:
    """Warm up, then measure *count* polls of one id after the other."""
    asked = task_ids(count)
    await _all(poll, asked[: max(WIDTH, count // 5)])
    before = server.cpu_seconds()
    with Meter() as meter:
        await _all(poll, asked)
    return _told(meter, count, server, before)


async def _counted(server: Responder, counter: Callable[[], int], count: int) -> Sample:
    """Measure what runs meanwhile, until *count* more polls are done."""
    start, before = counter(), server.cpu_seconds()
    with Meter() as meter:
        await reached(counter, start + count)
        done = counter() - start
    return _told(meter, done, server, before)


async def bare_loop(count: int, *, is_moving: bool = False) -> Sample:
    """A plain loop on aiohttp."""
    import aiohttp

    with responder(is_moving=is_moving) as server:
        async with aiohttp.ClientSession() as session:

            async def poll(task_id: str) -> None:
                async with session.get(f"{server.base_url}/videos/{task_id}") as answer:
                    json.loads(await answer.read())

            return await _measured(poll, server, count)


async def our_retrieve(count: int) -> Sample:
    """``AsyncVideoClient.retrieve``."""
    from ezvideo_async import AsyncVideoClient, RequestBudget

    budget = RequestBudget(rate=AMPLE, max_in_flight=WIDTH)
    with responder() as server:
        async with AsyncVideoClient(KEY, base_url=server.base_url, budget=budget) as client:
            return await _measured(client.retrieve, server, count)


async def openai_retrieve(count: int) -> Sample:
    """``videos.retrieve`` of openai's client."""
    from openai import AsyncOpenAI

    with responder() as server:
        async with AsyncOpenAI(api_key=KEY, base_url=server.base_url) as client:
            return await _measured(client.videos.retrieve, server, count)


async def openai_poll(ids: int, count: int) -> Sample:
    """``videos.poll`` of openai's client, gathered: each id is polled every second."""
    from openai import AsyncOpenAI

    with responder() as server:
        async with AsyncOpenAI(api_key=KEY, base_url=server.base_url) as client:
            polls = [
                client.videos.poll(task_id, poll_interval_ms=1000) for task_id in task_ids(ids)
            ]
            async with meanwhile(asyncio.gather(*polls)):
                start, before = await _come(server, ids), server.cpu_seconds()
                with Meter() as meter:
                    done = await _come(server, start + count) - start
            return _told(meter, done, server, before)


async def _come(server: Responder, least: int) -> int:
    """Wait until at least *least* requests were received; return their number."""
    while (count := await server.count()) < least:  # noqa: ASYNC110 -- it is in another process
        await asyncio.sleep(_SELDOM)
    return count


async def _looked_at(events: AsyncIterable[TaskEvent]) -> None:
    async for event in events:
        _ = event.task


async def watcher(
    ids: int,
    count: int,
    *,
    interval: float,
    rate: float,
    is_moving: bool = False,
    progress: bool = False,
    reads_tasks: bool = False,
) -> Sample:
    """``TaskWatcher``, with a loop that reads every event, and its task if *reads_tasks*."""
    from ezvideo_async import AsyncVideoClient, PollPolicy, RequestBudget

    policy = PollPolicy(interval=interval, min_interval=0.001)
    budget = RequestBudget(rate=rate, max_in_flight=WIDTH)
    with responder(is_moving=is_moving) as server:
        async with (
            AsyncVideoClient(KEY, base_url=server.base_url, budget=budget) as client,
            client.watch(task_ids(ids), policy=policy, progress=progress) as watched,
            meanwhile(_looked_at(watched) if reads_tasks else drained(watched)),
        ):
            await reached(lambda: watched.stats.polls, ids)
            return await _counted(server, lambda: watched.stats.polls, count)


async def coroutine_per_id(ids: int, count: int, interval: float) -> Sample:
    """A loop with a sleep per id, on one default aiohttp session."""
    import aiohttp

    polls = 0
    with responder(is_moving=True) as server:
        async with aiohttp.ClientSession() as session:

            async def watch(task_id: str, first: float) -> None:
                nonlocal polls
                await asyncio.sleep(first)
                while True:
                    async with session.get(f"{server.base_url}/videos/{task_id}") as answer:
                        json.loads(await answer.read())
                    polls += 1
                    await asyncio.sleep(interval)

            watches = [
                watch(task_id, interval * place / ids)
                for place, task_id in enumerate(task_ids(ids))
            ]
            async with meanwhile(asyncio.gather(*watches)):
                await reached(lambda: polls, ids)
                return await _counted(server, lambda: polls, count)


# -- tables --------------------------------------------------------------------------------------


ROWS = {
    "bare": "plain loop: aiohttp, `json.loads`",
    "bare, moving": "the same, progress changing",
    "watcher": "`TaskWatcher`, {ids:,} ids, nothing new",
    "watcher, moving": "the same, progress changing",
    "watcher, moving, told": "the same with `progress=True`: every poll an event",
    "watcher, moving, read": "the same, and each event's whole task read",
    "retrieve": "`AsyncVideoClient.retrieve()`",
    "openai retrieve": "openai `videos.retrieve`",
    "openai poll": "openai `gather(videos.poll(...), ...)`, {openai_ids:,} ids",
    "paced, coroutines": "plain aiohttp, one coroutine per id",
    "paced, watcher": "`TaskWatcher`",
}


def run(options: Options) -> dict[str, Any]:
    """Measure all cases alternately."""
    ids, interval = (3_000, 2.0) if options.quick else (IDS, INTERVAL)
    count, ours, paced = (3_000, 5_000, 3_000) if options.quick else (12_000, 20_000, 8_000)
    few, openai_ids = (400, 200) if options.quick else (1_200, 1_000)
    crowd = {"ids": ids, "interval": ids / CROWD, "rate": AMPLE, "count": ours}
    pace = {"ids": ids, "interval": interval, "count": paced}
    cases = [
        Case("bare", bare_loop, {"count": count}),
        Case("watcher", watcher, crowd),
        Case("bare, moving", bare_loop, {"count": count, "is_moving": True}),
        Case("watcher, moving", watcher, {**crowd, "is_moving": True}),
        Case("watcher, moving, told", watcher, {**crowd, "is_moving": True, "progress": True}),
        Case("watcher, moving, read", watcher,
             {**crowd, "is_moving": True, "progress": True, "reads_tasks": True}),
        Case("retrieve", our_retrieve, {"count": ours}),
        Case("openai retrieve", openai_retrieve, {"count": few}),
        Case("openai poll", openai_poll, {"ids": openai_ids, "count": few}, 3),
        Case("paced, coroutines", coroutine_per_id, pace, 5),
        Case("paced, watcher", watcher,
             {**pace, "rate": 2.0 * ids / interval, "is_moving": True, "progress": True}, 5),
    ]  # fmt: skip
    samples = interleaved(cases, options)
    return {"samples": samples, "ids": ids, "interval": interval, "openai_ids": openai_ids}


def tables(found: dict[str, Any]) -> str:
    """Return the cost of all clients as tables, at the highest and at a fixed rate."""
    samples = found["samples"]
    heads = ["client", "CPU per poll, µs", "ratio to plain loop", "polls per second", "server busy"]

    def row(case: str, reference: str) -> list[str]:
        return [
            ROWS[case].format_map(found),
            spread(samples, case, "us").shown(0),
            ratio(samples, case, reference, "us").shown(),
            f"{spread(samples, case, 'a second').median:,.0f}",
            f"{spread(samples, case, 'server busy').median:.0%}",
        ]

    crowded = [row(case, "bare, moving" if "moving" in case else "bare")
               for case in ROWS if not case.startswith("paced")]  # fmt: skip
    paced = [row(case, "paced, coroutines") for case in ROWS if case.startswith("paced")]
    return (
        f"{WIDTH} requests in flight, at the highest rate:\n\n{markdown(heads, crowded)}\n\n"
        f"{found['ids']:,} ids, each every {found['interval']:g} seconds, progress changing; the "
        f"loop sleeps between polls, which costs CPU time in both cases:\n\n"
        f"{markdown([heads[0], heads[1], 'ratio to coroutines', *heads[3:]], paced)}"
    )


def goals(found: dict[str, Any]) -> list[Goal]:
    """Compare the figures with the targets."""
    samples = found["samples"]
    watcher_cost = ratio(samples, "watcher", "bare", "us")
    moving_cost = ratio(samples, "watcher, moving", "bare, moving", "us")
    told_cost = ratio(samples, "watcher, moving, told", "bare, moving", "us")
    return [
        Goal("a", "watcher / plain loop, nothing new", watcher_cost, 0.85,
             stretch=0.5, unit="x"),
        Goal("a", "the same, progress changing", moving_cost, 0.85, stretch=0.5, unit="x"),
        Goal("a", "the same, every poll an event", told_cost, 0.85, stretch=0.5,
             unit="x"),
        Goal("a", "the same, and each event's whole task read",
             ratio(samples, "watcher, moving, read", "bare, moving", "us"), 0.85, stretch=0.5,
             unit="x"),
        Goal("b", "openai `videos.retrieve` / watcher, nothing new",
             ratio(samples, "openai retrieve", "watcher", "us"), 10, at_least=True,
             unit="x", digits=1),
        Goal("b", "the same, progress changing",
             ratio(samples, "openai retrieve", "watcher, moving", "us"), 10, at_least=True,
             unit="x", digits=1),
        Goal("b", "the same, every poll an event",
             ratio(samples, "openai retrieve", "watcher, moving, told", "us"), 10, at_least=True,
             unit="x", digits=1),
        Goal("b", "the same, and each event's whole task read",
             ratio(samples, "openai retrieve", "watcher, moving, read", "us"), 10, at_least=True,
             unit="x", digits=1),
        Goal("b", "openai `videos.retrieve` / `retrieve()`",
             ratio(samples, "openai retrieve", "retrieve", "us"), 10, at_least=True, unit="x",
             digits=1),
        Goal("c", "`retrieve()` / plain loop", ratio(samples, "retrieve", "bare", "us"),
             1.15, unit="x"),
    ]  # fmt: skip
