"""
Benchmark of late polls, of fairness under overload, and of stalls of the event loop.

Real sockets and real time, so other load on the machine affects all figures; an idle event loop and
the same load on plain aiohttp show how much.
"""

from __future__ import annotations

import asyncio
from collections import defaultdict
from itertools import pairwise
from statistics import fmean, median
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
    percentile,
    ratio,
    reached,
    spread,
    task_ids,
)
from tests.long.bench.responder import coroutine_per_id, responder

if TYPE_CHECKING:
    from ezvideo_async import AsyncVideoClient, TaskWatcher

_WIDTH = 64
_AMPLE = 1e6
_IDS = 1_000
_PROBE = 0.005  # seconds between two measurements of the loop
_CALIBRATED = 4_000  # polls, after one of each id
_ROUNDS = 5  # at most: each takes as long as it measures
_SLOW = 1.0  # seconds that the slow reader needs per event


# -- what is measured -----------------------------------------------------------------------------


async def _stalls(seconds: float) -> list[float]:
    """Measure repeatedly how late a timer of the loop is."""
    loop = asyncio.get_running_loop()
    until, late = loop.time() + seconds, []
    while (now := loop.time()) < until:
        await asyncio.sleep(_PROBE)
        late.append(loop.time() - now - _PROBE)
    return late


async def idle_loop(seconds: float) -> Sample:
    """Measure an idle loop."""
    return {"stall": 1e3 * percentile(await _stalls(seconds), 99)}


class _Starts:
    """Records when each poll is sent, and how late that is."""

    def __init__(self, client: AsyncVideoClient) -> None:
        self.late: list[float] = []
        self.at: defaultdict[str, list[float]] = defaultdict(list)
        poller, loop = client._engine.poller, asyncio.get_running_loop()
        send = poller.poll

        async def poll(scheduler: Any, tracked: Any, publish: Any) -> None:
            now = loop.time()
            self.late.append(now - tracked.due)
            self.at[tracked.task_id].append(now)
            await send(scheduler, tracked, publish)

        poller.poll = poll

    def forget(self) -> None:
        """Drop all records."""
        self.late.clear()
        self.at.clear()

    def gaps(self) -> list[list[float]]:
        """Return the seconds between polls, by id."""
        return [
            [after - before for before, after in pairwise(times)]
            for times in self.at.values()
            if len(times) > 1
        ]


async def paced(rate: float, seconds: float, *, is_slow: bool = False) -> Sample:
    """Send *rate* polls per second; each is an event."""
    with responder(is_moving=True) as server:
        async with _client(server.base_url) as client:
            return await _watched(client, _IDS / rate, seconds, pause=_SLOW if is_slow else 0.0)


async def aiohttp_paced(rate: float, seconds: float) -> Sample:
    """Run one coroutine per id at the same rate, on a default aiohttp session."""
    import aiohttp

    with responder(is_moving=True) as server:
        async with (
            aiohttp.ClientSession() as session,
            coroutine_per_id(session, server, task_ids(_IDS), _IDS / rate) as polls,
        ):
            await reached(polls, 2 * _IDS)
            start = polls()
            with Meter() as meter:
                late = await _stalls(seconds)
            done = polls() - start
    return {
        "stall": 1e3 * percentile(late, 99),
        "a second": done / meter.wall,
        "us": 1e6 * meter.cpu / done,
    }


async def loaded(load: float, seconds: float) -> Sample:
    """Run at *load* times the highest rate of this watcher on this machine."""
    with responder(is_moving=True) as server:
        async with _client(server.base_url) as client:
            capacity = await _capacity(client)
            sample = await _watched(client, _IDS / (load * capacity), seconds)
            return {**sample, "capacity": capacity}


async def _capacity(client: AsyncVideoClient) -> float:
    """Measure the highest number of polls per second."""
    async with _watcher(client, interval=0.01) as watcher, meanwhile(drained(watcher)):
        await reached(lambda: watcher.stats.polls, _IDS)
        start = watcher.stats.polls
        with Meter() as meter:
            await reached(lambda: watcher.stats.polls, start + _CALIBRATED)
            polls = watcher.stats.polls - start
    return polls / meter.wall


async def _watched(
    client: AsyncVideoClient, interval: float, seconds: float, *, pause: float = 0.0
) -> Sample:
    client.budget.rate = 2.0 * _IDS / interval  # first polls get half: they take one interval
    async with _watcher(client, interval=interval) as watcher, meanwhile(drained(watcher, pause)):
        starts = _Starts(client)
        await reached(lambda: watcher.stats.polls, 2 * _IDS)
        starts.forget()
        with Meter() as meter:
            late = await _stalls(seconds)
        polls = len(starts.late)
    return {
        "stall": 1e3 * percentile(late, 99),
        "late": 1e3 * percentile(starts.late, 99),
        "a second": polls / meter.wall,
        "us": 1e6 * meter.cpu / polls,
        **_evenness(starts.gaps()),
    }


def _evenness(gaps: list[list[float]]) -> Sample:
    """Return how even the intervals of all ids are; empty if few were polled twice."""
    if len(gaps) < _IDS / 2:
        return {}
    means = [fmean(of_one) for of_one in gaps]
    every = [gap for of_one in gaps for gap in of_one]
    return {"unevenness": max(means) / median(means), "longest": max(every) / median(every)}


def _client(base_url: str) -> AsyncVideoClient:
    from ezvideo_async import AsyncVideoClient, RequestBudget

    budget = RequestBudget(rate=_AMPLE, max_in_flight=_WIDTH)
    return AsyncVideoClient(KEY, base_url=base_url, budget=budget)


def _watcher(client: AsyncVideoClient, interval: float) -> TaskWatcher:
    from ezvideo_async import PollPolicy

    policy = PollPolicy(interval=interval, min_interval=0.001)
    return client.watch(task_ids(_IDS), policy=policy, progress=True)


# -- tables --------------------------------------------------------------------------------------


ROWS = {
    "idle": "idle event loop",
    "aiohttp": "plain aiohttp, one coroutine per id, 1,000 polls per second",
    "paced": "watcher, 1,000 polls per second",
    "slow reader": "watcher, 1,000 polls per second, a reader that needs 1 s per event",
    "half load": "watcher at half of its highest rate",
    "overload": "watcher at 1.5 times its highest rate",
}


def run(options: Options) -> dict[str, Any]:
    """Measure all cases alternately."""
    seconds = 2.0 if options.quick else 5.0
    pace = {"rate": 1_000.0, "seconds": seconds}
    cases = [
        Case("idle", idle_loop, {"seconds": seconds}, _ROUNDS),
        Case("aiohttp", aiohttp_paced, pace, _ROUNDS),
        Case("paced", paced, pace, _ROUNDS),
        Case("slow reader", paced, {**pace, "is_slow": True}, _ROUNDS),
        Case("half load", loaded, {"load": 0.5, "seconds": seconds}, _ROUNDS),
        Case("overload", loaded, {"load": 1.5, "seconds": seconds}, _ROUNDS),
    ]
    return {"samples": interleaved(cases, options)}


def tables(found: dict[str, Any]) -> str:
    """Return late polls and loop stalls at each load as a table."""
    samples = found["samples"]
    heads = [f"{_IDS:,} ids", "polls per second", "late, p99, ms", "loop stalls, p99, ms",
             "CPU per poll, µs"]  # fmt: skip
    rows = [
        [what, *(
            spread(samples, case, name).shown(digits) if name in samples[case][0] else ""
            for name, digits in (("a second", 0), ("late", 1), ("stall", 1), ("us", 0)))]
        for case, what in ROWS.items()
    ]  # fmt: skip
    return (
        f"{markdown(heads, rows)}\n\nUnder overload the longest interval between two polls of "
        f"an id is {spread(samples, 'overload', 'longest').shown()} times the median interval."
    )


def goals(found: dict[str, Any]) -> list[Goal]:
    """Compare the figures with the targets."""
    samples = found["samples"]
    return [
        Goal("f", "late polls at half load, p99", spread(samples, "half load", "late"),
             50, unit="ms", digits=1, needs_quiet=True),
        Goal("f", "longest average interval of an id under overload / median one",
             spread(samples, "overload", "unevenness"), 1.5, unit="x"),
        Goal("g", "loop stalls at 1,000 polls per second, p99",
             spread(samples, "paced", "stall"), 20, unit="ms", digits=1, needs_quiet=True),
        Goal("h", "polls per second with a slow reader / with a fast one",
             ratio(samples, "slow reader", "paced", "a second"), 0.98, at_least=True, unit="x"),
    ]  # fmt: skip
