"""Load that a watcher puts on a server during and after an outage: measurement of a run."""

from __future__ import annotations

import asyncio
import random
from collections import Counter
from contextlib import asynccontextmanager
from typing import TYPE_CHECKING

from attrs import define, field, frozen

from ezvideo_async import AsyncVideoClient, RequestBudget, RequestTimeoutError, TransportError
from ezvideo_async._protocol.messages import Response
from ezvideo_async.instrumentation import PollFailed, PollSucceeded, RateLimited
from tests.support.fake_transport import FakeConnection, FakeTask, FakeTransport, fake_client

if TYPE_CHECKING:
    from collections.abc import AsyncIterator, Sequence

    from ezvideo_async import TaskWatcher
    from ezvideo_async.instrumentation import TelemetryEvent

WINDOW = 5.0
"""Seconds over which a peak is taken: one interval, in which each task is polled once."""
STEADY_FOR = WINDOW  # seconds before the outage that are measured
LATENCY = 0.05  # seconds that a response takes at most
REQUEST_TIMEOUT = 15.0  # seconds, the default of the client
IDS = tuple(f"vid_{number:04}" for number in range(1000))

_PAGE = b"<html><title>maintenance</title></html>"
_HTML = ("content-type", "text/html")
RESPONSES: dict[str, tuple[int, tuple[tuple[str, str], ...], bytes]] = {
    "500": (500, (), b'{"error":{"message":"no"}}'),
    "503": (503, (), b'{"error":{"message":"no"}}'),
    "HTML 200": (200, (_HTML,), _PAGE),
    "HTML 502": (502, (_HTML,), _PAGE),
    "429": (429, (), b""),
    "429, 20 s": (429, (("retry-after", "20"),), b""),
}
"""Status, headers and body of the outages in which the server responds."""
OUTAGES = ("503", "refused", "hanging", "HTML 200", "HTML 502")


@frozen(kw_only=True)
class Measurement:
    """
    The figures of one run.

    Attributes:
        steady: Polls a second before the outage.
        share: Polls sent in the outage, over what *steady* would have sent.
        peak: Polls in the busiest ``WINDOW`` after the outage, over what *steady* sends in it.
        again: Seconds from the end of the outage until each id was seen again, in order.
        lost: Ids without exactly one final event when all tasks had ended.
        client_count: Requests as the client counted them.
        server_count: Requests as the server counted them.
    """

    steady: float
    share: float
    peak: float
    again: Sequence[float]
    lost: int
    client_count: int
    server_count: int

    def again_by(self, share: float) -> float:
        """Return the seconds until this share of the ids had been seen again."""
        return self.again[min(len(self.again) - 1, int(share * len(self.again)))]


def peak(times: Sequence[float], window: float) -> int:
    """Return the most of the sorted *times* within any *window* seconds."""
    start = most = 0
    for end, at in enumerate(times):
        while times[start] <= at - window:
            start += 1
        most = max(most, end - start + 1)
    return most


@define
class Polls:
    """An observer that records when polls were sent and ended, and the cool-downs."""

    sent: list[float] = field(factory=list)
    ended: list[tuple[float, str, bool]] = field(factory=list)  # at, id, True if it succeeded
    cool_downs: list[tuple[float, RateLimited]] = field(factory=list)

    def __call__(self, event: TelemetryEvent) -> None:
        now = asyncio.get_running_loop().time()
        match event:
            case PollSucceeded(task_id=task_id, elapsed=elapsed):
                self.sent.append(now - elapsed)
                self.ended.append((now, task_id, True))
            case PollFailed(error=error, elapsed=elapsed):
                self.sent.append(now - elapsed)
                self.ended.append((now, str(error.task_id), False))
            case RateLimited():
                self.cool_downs.append((now, event))

    def between(self, begin: float, end: float) -> list[float]:
        """Return when polls were sent from *begin* until before *end*, in order."""
        return sorted(at for at in self.sent if begin <= at < end)

    def again_after(self, recovered: float) -> list[float]:
        """Return the seconds from *recovered* to the next success of each id, in order."""
        firsts: dict[str, float] = {}
        for at, task_id, is_success in self.ended:
            if is_success and at >= recovered:
                firsts.setdefault(task_id, at - recovered)
        return sorted(firsts.values())

    async def seen_again(self, since: float) -> None:
        """Wait until every id was seen after *since*."""
        async with asyncio.timeout(3600.0):
            while len(self.again_after(since)) < len(IDS):  # noqa: ASYNC110 -- virtual time
                await asyncio.sleep(1.0)


# -- the server -------------------------------------------------------------------------------


class OutageServer(FakeTransport):
    """
    A server with outages, in the place of the transport.

    Attributes:
        outage: One of ``OUTAGES`` or ``RESPONSES``; None without an outage.
    """

    def __init__(self) -> None:
        super().__init__()
        self.tasks = {task_id: FakeTask("processing", latency=LATENCY) for task_id in IDS}
        self.outage: str | None = None

    def end_all(self) -> None:
        """Complete every task."""
        for task in self.tasks.values():
            task.status = "completed"

    async def send(self, request, secret, **options):
        """Reply, or fail as the current outage does."""
        match self.outage:
            case None:
                return await super().send(request, secret, **options)
            case "refused":
                raise TransportError("refused", task_id=request.task_id, reason="connect")
            case "hanging":
                self.sends += 1
                await asyncio.sleep(REQUEST_TIMEOUT)
                raise RequestTimeoutError("no answer in time", task_id=request.task_id)
            case outage:
                self.sends += 1
                await asyncio.sleep(LATENCY)
                status, headers, body = RESPONSES[outage]
                return Response(status=status, headers=dict(headers), body=body), FakeConnection()


# -- one run --------------------------------------------------------------------------------------


@asynccontextmanager
async def watching(
    server: OutageServer, *, seed: int, rate: float = 400.0
) -> AsyncIterator[tuple[TaskWatcher, AsyncVideoClient, Polls]]:
    """
    Watch 1,000 ids, and yield when the load is steady.

    Args:
        server: Serves one run.
        seed: Of all random numbers.
        rate: Of the budget; the default is twice the steady load, so that a peak shows.
    """
    polls = Polls()
    options = {
        "budget": RequestBudget(rate=rate),
        "observers": [polls],
        "rand": random.Random(seed).random,
    }
    async with fake_client(server, **options) as client, client.watch(IDS) as watcher:
        await asyncio.sleep(max(WINDOW, len(IDS) / rate) + LATENCY)  # the first polls
        await asyncio.sleep(STEADY_FOR)
        yield watcher, client, polls


async def measure(
    server: OutageServer, outage: str, *, seed: int = 1, seconds: float = 300.0
) -> Measurement:
    """
    Watch 1,000 ids through one outage, which ends right after a probe, the worst instant.

    Args:
        server: Serves one run.
        outage: One of ``OUTAGES``.
        seed: Of all random numbers.
        seconds: Length of the outage, up to a probe gap more.
    """
    loop = asyncio.get_running_loop()
    async with watching(server, seed=seed) as (watcher, client, polls):
        began = loop.time()
        server.outage = outage
        await asyncio.sleep(seconds)
        await _next_probe(watcher)
        server.outage = None
        recovered = loop.time()
        await polls.seen_again(recovered)
        await asyncio.sleep(WINDOW)
        measured = loop.time()
        server.end_all()
        final_events = Counter([event.task_id async for event in watcher if event.is_final])
    usual, recovery = polls.between(began - STEADY_FOR, began), polls.between(recovered, measured)
    steady = len(usual) / STEADY_FOR
    return Measurement(
        steady=steady,
        share=len(polls.between(began, recovered)) / (steady * (recovered - began)),
        peak=peak(recovery, WINDOW) / (steady * WINDOW),
        again=polls.again_after(recovered),
        lost=sum(final_events[task_id] != 1 for task_id in IDS),
        client_count=client.requests_sent,
        server_count=server.sends,
    )


async def _next_probe(watcher: TaskWatcher) -> None:
    """Wait until one more poll is sent."""
    sent = watcher.stats.polls + watcher.stats.in_flight
    # No event shows a poll that hangs.
    while watcher.stats.polls + watcher.stats.in_flight == sent:  # noqa: ASYNC110 -- virtual time
        await asyncio.sleep(0.1)
