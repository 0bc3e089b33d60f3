"""Budget's rate, set while a watcher runs: after a 429, and after a pause."""

from __future__ import annotations

import asyncio
import random
from typing import TYPE_CHECKING

import pytest

from ezvideo_async import PollPolicy, RequestBudget
from ezvideo_async.instrumentation import PollSucceeded, RateLimited
from tests.support.fake_transport import FakeTask, FakeTransport, fake_client
from tests.support.raw_server import now

if TYPE_CHECKING:
    from ezvideo_async.instrumentation import TelemetryEvent


def server_of(count: int) -> FakeTransport:
    """Return a server with this many running tasks."""
    server = FakeTransport()
    server.tasks.update({f"vid_{place:03}": FakeTask("processing") for place in range(count)})
    return server


def peak(times: list[float], window: float) -> int:
    """Return the most times within any *window* seconds."""
    return max(sum(begin <= at < begin + window for at in times) for begin in times)


@pytest.mark.parametrize(("old", "new"), [(100, 10), (100, 1), (1000, 10), (1000, 1), (1, 1000)])
async def test_next_request_comes_soon_after_the_rate_is_set(old: int, new: int) -> None:
    """Set in the minute after a 429, it counts for the next of 8 polls that come within 10 s."""
    server = server_of(8)
    budget = RequestBudget(rate=old)
    is_limited, set_at = False, 0.0

    def control(event: TelemetryEvent) -> None:
        nonlocal is_limited, set_at
        if isinstance(event, RateLimited):
            is_limited, server.outage = True, None
        elif isinstance(event, PollSucceeded) and is_limited and not set_at:
            budget.rate, set_at = new, now()

    options = {"budget": budget, "observers": [control], "rand": random.Random(1).random}
    async with fake_client(server, **options) as client, client.watch(server.tasks):
        await asyncio.sleep(60.0)
        server.outage = "429-bare"
        await asyncio.sleep(60.0)
    later = [at for at in server.request_times() if at > set_at > 0.0]

    assert later[0] - set_at <= 1 / new + 10.0 / 8


async def test_rate_raised_after_a_pause_brings_all_polls_nearer() -> None:
    """Of a watcher, and of another client in ``wait()``, spread over minutes at a small rate."""
    server = server_of(400)
    budget = RequestBudget(rate=100.0)
    watched, waited = list(server.tasks)[:350], list(server.tasks)[350:]
    options = {"budget": budget, "rand": random.Random(1).random}
    async with fake_client(server, **options) as one, fake_client(server, **options) as other:
        async with one.watch(watched):
            waits = [asyncio.ensure_future(other.wait(task_id)) for task_id in waited]
            await asyncio.sleep(60.0)
            budget.rate = 1.0
            await asyncio.sleep(20.0)
            server.outage = "429"
            await asyncio.sleep(1.5)
            server.outage = None
            await asyncio.sleep(20.0)
            budget.rate, raised = 1000.0, now()
            await asyncio.sleep(11.0)
            for wait in waits:
                wait.cancel()
            await asyncio.wait(waits)
    firsts = [min(t for t in server.request_times(each) if t > raised) for each in server.tasks]

    assert max(firsts) <= raised + 10.0
    assert peak(firsts, 1.0) <= 1.5 * 400 / 10.0


async def test_rate_raised_after_a_tiny_one_counts_at_once() -> None:
    """First polls that were spread over an hour of the policy come within 10 s."""
    server = server_of(50)
    budget = RequestBudget(rate=0.001)
    policy = PollPolicy(interval=3600.0)
    async with fake_client(server, budget=budget) as client:
        async with client.watch(server.tasks, policy=policy):
            await asyncio.sleep(100.0)
            budget.rate, raised = 50.0, now()
            await asyncio.sleep(11.0)

    times = server.request_times()
    assert len(times) == len(server.tasks)
    assert times[0] < raised <= times[1]
    assert peak(times[1:], 1.0) <= 50 / 10.0
