"""
How a watcher behaves towards a server that is out, measured: one definition for all runs.

``python -m tests.resilience.outage_behaviour [seed]`` prints the figures of all runs as a table.
"""

from __future__ import annotations

import asyncio
import random
import sys
from collections import Counter
from contextlib import asynccontextmanager
from typing import TYPE_CHECKING, Any

from attrs import define, field, frozen

from ezvideo_async import AsyncVideoClient, RequestBudget, RequestTimeoutError, TransportError
from ezvideo_async._protocol.messages import Response
from ezvideo_async.instrumentation import PollFailed, PollSucceeded, RateLimited
from ezvideo_async.testing import VirtualClockLoop
from tests.support.fake_transport import FakeConnection, FakeTask, FakeTransport, fake_client
from tests.support.fast_server import HANG, QuickServer, Reply, answer

if TYPE_CHECKING:
    from collections.abc import AsyncIterator, Sequence

    from ezvideo_async import TaskWatcher
    from ezvideo_async.instrumentation import TelemetryEvent

WINDOW = 5.0
"""Seconds over which a peak is taken: one interval, in which each task is asked for once."""
STEADY_FOR = WINDOW  # seconds before the outage that are measured
LATENCY = 0.05  # seconds that an answer takes at most
PATIENCE = 15.0  # seconds after which the client gives a request up; its default
IDS = tuple(f"vid_{number:04}" for number in range(1000))

_PAGE = b"<html><title>maintenance</title></html>"
_HTML = ("content-type", "text/html")
ANSWERS: dict[str, tuple[int, tuple[tuple[str, str], ...], bytes]] = {
    "503": (503, (), b'{"error":{"message":"no"}}'),
    "HTML 200": (200, (_HTML,), _PAGE),
    "HTML 502": (502, (_HTML,), _PAGE),
    "429": (429, (), b""),
    "429, 20 s": (429, (("retry-after", "20"),), b""),
}
"""Status, headers and body of the troubles in which the server answers."""
OUTAGES = ("503", "refused", "hanging", "HTML 200", "HTML 502")


@frozen(kw_only=True)
class Manners:
    """
    What one run showed.

    Attributes:
        steady: Polls a second before the outage.
        steady_second: Polls in the busiest second before the outage, over *steady*.
        share: Polls sent in the outage, over what *steady* would have sent.
        peak: Polls in the busiest ``WINDOW`` after healing, over what *steady* sends in it.
        peak_second: Polls in the busiest second after healing, over *steady*.
        again: Seconds from healing until each id was seen again, in order.
        lost: Ids that were not told exactly one ending when all tasks had ended.
        client_count: Requests as the client counted them.
        server_count: Requests as the server counted them.
    """

    steady: float
    steady_second: float
    share: float
    peak: float
    peak_second: float
    again: Sequence[float]
    lost: int
    client_count: int
    server_count: int

    def again_by(self, share: float) -> float:
        """Seconds from healing until this share of the ids had been seen again."""
        return self.again[min(len(self.again) - 1, int(share * len(self.again)))]


def peak(times: Sequence[float], window: float) -> int:
    """The most of *times*, which are in order, within any *window* seconds."""
    start = most = 0
    for end, at in enumerate(times):
        while times[start] <= at - window:
            start += 1
        most = max(most, end - start + 1)
    return most


@define
class Polls:
    """An observer: when polls were sent, which came to what when, and when all cooled down."""

    sent: list[float] = field(factory=list)
    ended: list[tuple[float, str, bool]] = field(factory=list)  # at, id, whether it was answered
    cool_downs: list[tuple[float, RateLimited]] = field(factory=list)

    def __call__(self, signal: TelemetryEvent) -> None:
        now = asyncio.get_running_loop().time()
        match signal:
            case PollSucceeded(task_id=task_id, elapsed=elapsed):
                self.sent.append(now - elapsed)
                self.ended.append((now, task_id, True))
            case PollFailed(error=error, elapsed=elapsed):
                self.sent.append(now - elapsed)
                self.ended.append((now, str(error.task_id), False))
            case RateLimited():
                self.cool_downs.append((now, signal))

    def between(self, begin: float, end: float) -> list[float]:
        """When polls were sent from *begin* until before *end*, in order."""
        return sorted(at for at in self.sent if begin <= at < end)

    def again_after(self, healed: float) -> list[float]:
        """Seconds from *healed* until each id that was answered since was answered, in order."""
        firsts: dict[str, float] = {}
        for at, task_id, is_answered in self.ended:
            if is_answered and at >= healed:
                firsts.setdefault(task_id, at - healed)
        return sorted(firsts.values())

    async def seen_again(self, since: float) -> None:
        """Wait until every id was answered after *since*."""
        while len(self.again_after(since)) < len(IDS):  # noqa: ASYNC110 -- virtual time
            await asyncio.sleep(1.0)


# -- the two stages -------------------------------------------------------------------------------


class WithoutSockets(FakeTransport):
    """A server that can be out, in the place of the transport."""

    def __init__(self) -> None:
        super().__init__()
        self.tasks = {task_id: FakeTask("processing", latency=LATENCY) for task_id in IDS}
        self._trouble: str | None = None

    @property
    def requests(self) -> int:
        return self.sends

    @asynccontextmanager
    async def client(self, **options: Any) -> AsyncIterator[AsyncVideoClient]:
        """Enter a client of this server."""
        async with fake_client(self, **options) as client:
            yield client

    async def meet_with(self, trouble: str | None) -> None:
        """Meet all requests with this trouble from now on; None: be well."""
        self._trouble = trouble

    def end_all(self) -> None:
        """Let every task be completed."""
        for task in self.tasks.values():
            task.status = "completed"

    async def send(self, request, secret, **options):
        """Do as the server does now."""
        match self._trouble:
            case None:
                return await super().send(request, secret, **options)
            case "refused":
                raise TransportError("refused", task_id=request.task_id, reason="connect")
            case "hanging":
                self.sends += 1
                await asyncio.sleep(PATIENCE)
                raise RequestTimeoutError("no answer in time", task_id=request.task_id)
            case trouble:
                self.sends += 1
                await asyncio.sleep(LATENCY)
                status, headers, body = ANSWERS[trouble]
                return Response(status=status, headers=dict(headers), body=body), FakeConnection()


class OverSockets:
    """A server that can be out, behind real sockets on the loopback interface."""

    def __init__(self) -> None:
        self._server = QuickServer(self._reply, beat=LATENCY)
        self._trouble: str | None = None
        self._status = "processing"

    @property
    def requests(self) -> int:
        return self._server.requests

    @asynccontextmanager
    async def client(self, **options: Any) -> AsyncIterator[AsyncVideoClient]:
        """Enter a client of this server."""
        async with (
            self._server,
            AsyncVideoClient("key", base_url=self._server.base_url, **options) as client,
        ):
            yield client

    async def meet_with(self, trouble: str | None) -> None:
        """Meet all requests with this trouble from now on; None: be well."""
        if "refused" in {trouble, self._trouble}:
            await (self._server.close() if trouble else self._server.open())
        self._trouble = trouble

    def end_all(self) -> None:
        """Let every task be completed."""
        self._status = "completed"

    def _reply(self, task_id: str) -> Reply:
        if self._trouble is None:
            return Reply(answer({"id": task_id, "status": self._status}))
        if self._trouble == "hanging":
            return HANG
        status, headers, body = ANSWERS[self._trouble]
        return Reply(answer(body, *map(": ".join, headers), status=f"{status} S"))


STAGES = {"without sockets": WithoutSockets, "over sockets": OverSockets}


# -- one run --------------------------------------------------------------------------------------


@asynccontextmanager
async def watching(
    stage: WithoutSockets | OverSockets, *, seed: int, rate: float = 400.0
) -> AsyncIterator[tuple[TaskWatcher, AsyncVideoClient, Polls]]:
    """
    Watch 1,000 ids, and give them over at steady load.

    Args:
        stage: The server; it serves one run.
        seed: Of all chance.
        rate: The budget's; the default, twice the steady load, hides no peak.
    """
    polls = Polls()
    options = {
        "budget": RequestBudget(rate=rate),
        "observers": [polls],
        "rand": random.Random(seed).random,
    }
    async with stage.client(**options) as client, client.watch(IDS) as watcher:
        await asyncio.sleep(max(WINDOW, len(IDS) / rate) + LATENCY)  # the first looks
        await asyncio.sleep(STEADY_FOR)
        yield watcher, client, polls


async def manners(
    stage: WithoutSockets | OverSockets, outage: str, *, seed: int = 1, seconds: float = 300.0
) -> Manners:
    """
    Watch 1,000 ids through one outage, which ends in the worst moment: right after a probe.

    Args:
        stage: The server; it serves one run.
        outage: One of ``OUTAGES``.
        seed: Of all chance.
        seconds: How long the server is out, up to a probe gap more.
    """
    loop = asyncio.get_running_loop()
    async with watching(stage, seed=seed) as (watcher, client, polls):
        began = loop.time()
        await stage.meet_with(outage)
        await asyncio.sleep(seconds)
        await _next_probe(watcher)
        await stage.meet_with(None)
        healed = loop.time()
        await polls.seen_again(healed)
        await asyncio.sleep(WINDOW)
        measured = loop.time()
        stage.end_all()
        endings = Counter([event.task_id async for event in watcher if event.is_final])
    usual, recovery = polls.between(began - STEADY_FOR, began), polls.between(healed, measured)
    steady = len(usual) / STEADY_FOR
    return Manners(
        steady=steady,
        steady_second=peak(usual, 1.0) / steady,
        share=len(polls.between(began, healed)) / (steady * (healed - began)),
        peak=peak(recovery, WINDOW) / (steady * WINDOW),
        peak_second=peak(recovery, 1.0) / steady,
        again=polls.again_after(healed),
        lost=sum(endings[task_id] != 1 for task_id in IDS),
        client_count=client.requests_sent,
        server_count=stage.requests,
    )


async def _next_probe(watcher: TaskWatcher) -> None:
    """Wait until one more poll is sent."""
    sent = watcher.stats.polls + watcher.stats.in_flight
    # Nothing else tells of one that hangs.
    while watcher.stats.polls + watcher.stats.in_flight == sent:  # noqa: ASYNC110 -- see above
        await asyncio.sleep(0.1)


# -- the table ------------------------------------------------------------------------------------

HEADS = (
    "server",
    "outage",
    "steady, polls/s",
    "in the outage",
    "busiest 5 s after",
    "busiest 1 s after (before)",
    "seen again p50 / p99 / max, s",
    "lost",
    "requests: client = server",
)


def row(where: str, outage: str, found: Manners) -> str:
    """One line of the table."""
    cells = (
        where,
        outage,
        f"{found.steady:.1f}",
        f"{100 * found.share:.2f} %",
        f"{found.peak:.2f}",
        f"{found.peak_second:.2f} ({found.steady_second:.2f})",
        " / ".join(f"{found.again_by(share):.1f}" for share in (0.5, 0.99, 1.0)),
        str(found.lost),
        f"{found.client_count:,} = {found.server_count:,}",
    )
    return f"| {' | '.join(cells)} |"


def main() -> None:
    """Print the table."""
    seed = int(sys.argv[1]) if len(sys.argv) > 1 else 1
    print(f"| {' | '.join(HEADS)} |")
    print(f"|{' --- |' * len(HEADS)}")
    for where, stage in STAGES.items():
        for outage in OUTAGES:
            with asyncio.Runner(loop_factory=VirtualClockLoop) as runner:
                found = runner.run(manners(stage(), outage, seed=seed))
            print(row(where, outage, found), flush=True)


if __name__ == "__main__":
    main()
