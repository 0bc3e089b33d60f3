"""
Benchmark of the CPU time of one poll, compared with a plain aiohttp loop and openai's client.

All have 64 requests in flight and get the same responses.  Our rows include all that the library
does: checks, decoding, schedule, events.
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
    is_moving: bool = False,
    progress: bool = False,
    reads_tasks: bool = False,
) -> Sample:
    """``TaskWatcher``, with a loop that reads every event, and its task if *reads_tasks*."""
    from ezvideo_async import AsyncVideoClient, PollPolicy, RequestBudget

    policy = PollPolicy(interval=ids / CROWD, min_interval=0.001)
    budget = RequestBudget(rate=AMPLE, max_in_flight=WIDTH)
    with responder(is_moving=is_moving) as server:
        async with (
            AsyncVideoClient(KEY, base_url=server.base_url, budget=budget) as client,
            client.watch(task_ids(ids), policy=policy, progress=progress) as watched,
            meanwhile(_looked_at(watched) if reads_tasks else drained(watched)),
        ):
            await reached(lambda: watched.stats.polls, ids)
            return await _counted(server, lambda: watched.stats.polls, count)


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
}


def run(options: Options) -> dict[str, Any]:
    """Measure all cases alternately."""
    ids, count, ours = (3_000, 3_000, 5_000) if options.quick else (10_000, 12_000, 20_000)
    few, openai_ids = (400, 200) if options.quick else (1_200, 1_000)
    crowd = {"ids": ids, "count": ours}
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
    ]  # fmt: skip
    samples = interleaved(cases, options)
    return {"samples": samples, "ids": ids, "openai_ids": openai_ids}


def tables(found: dict[str, Any]) -> str:
    """Return the cost of all clients as a table."""
    samples = found["samples"]
    heads = ["client", "CPU per poll, µs", "ratio to plain loop", "polls per second", "server busy"]

    rows = []
    for case, client in ROWS.items():
        reference = "bare, moving" if "moving" in case else "bare"
        rows.append([
            client.format_map(found),
            spread(samples, case, "us").shown(0),
            ratio(samples, case, reference, "us").shown(),
            f"{spread(samples, case, 'a second').median:,.0f}",
            f"{spread(samples, case, 'server busy').median:.0%}",
        ])  # fmt: skip
    return f"{WIDTH} requests in flight, at the highest rate:\n\n{markdown(heads, rows)}"


def goals(found: dict[str, Any]) -> list[Goal]:
    """Compare the figures with the targets."""
    samples = found["samples"]
    watchers = {
        "watcher": "nothing new",
        "watcher, moving": "progress changing",
        "watcher, moving, told": "every poll an event",
        "watcher, moving, read": "each event's whole task read",
    }
    goals = []
    for case, what in watchers.items():
        loop = "bare, moving" if "moving" in case else "bare"
        goals += [
            Goal("a", f"watcher / plain loop, {what}", ratio(samples, case, loop, "us"), 0.85,
                 stretch=0.5, unit="x"),
            Goal("b", f"openai `videos.retrieve` / watcher, {what}",
                 ratio(samples, "openai retrieve", case, "us"), 10, at_least=True, unit="x",
                 digits=1),
        ]  # fmt: skip
    return [
        *goals,
        Goal("b", "openai `videos.retrieve` / `retrieve()`",
             ratio(samples, "openai retrieve", "retrieve", "us"), 10, at_least=True, unit="x",
             digits=1),
        Goal("c", "`retrieve()` / plain loop", ratio(samples, "retrieve", "bare", "us"),
             1.15, unit="x"),
    ]  # fmt: skip
