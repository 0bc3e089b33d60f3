"""The same oracle over crowds: more ids than the rate or the slots can serve, in virtual time."""

from __future__ import annotations

import asyncio
import random

import pytest

from ezvideo_async import RequestBudget
from tests.support.fake_transport import FakeTask, FakeTransport, fake_client
from tests.support.oracle import Limits, Trace, Unread, check
from tests.support.oracle.recorder import read_and_note, watch_and_note

IDS = [f"vid_{number}" for number in range(200)]


async def watched(server, trace, *, rate, max_in_flight, seconds=100.0):
    """Watch the crowd for a while and to its end."""
    loop = asyncio.get_running_loop()

    def end():
        server.outage = None
        for task in server.tasks.values():
            task.status, task.fault = "completed", None

    loop.call_later(seconds, end)
    budget = RequestBudget(rate=rate, max_in_flight=max_in_flight)
    async with fake_client(server, budget=budget, rand=random.Random(1).random) as client:
        await watch_and_note(client, trace, IDS)


def crowd(trace, latency):
    server = FakeTransport(trace)
    server.tasks.update({task_id: FakeTask("processing", latency=latency) for task_id in IDS})
    return server


@pytest.mark.parametrize(
    ("rate", "max_in_flight", "latency"),
    [(20.0, 64, 0.1), (1000.0, 8, 0.5)],
    ids=["rate", "slots"],
)
@pytest.mark.parametrize("failing", [0, 1], ids=["all well", "one hangs"])
async def test_a_full_house_serves_all_alike(rate, max_in_flight, latency, failing):
    """However full it is nobody starves, and one that hangs costs the others its slot only."""
    trace = Trace()
    server = crowd(trace, latency)
    for task_id in IDS[:failing]:
        server.tasks[task_id].fault = "hang"
    await watched(server, trace, rate=rate, max_in_flight=max_in_flight)

    limits = Limits(
        rate=rate, burst=max(1.0, rate / 20), max_in_flight=max_in_flight, longest_gap=90
    )
    assert check(trace, limits) == []


@pytest.mark.parametrize("fault", ["429", "429-bare", "503", "hang"])
async def test_a_full_house_holds_back_when_it_must(fault):
    """A crowd at its full rate meets trouble of all: cool-down, cut and probes are kept to."""
    trace = Trace()
    server = crowd(trace, 0.1)
    loop = asyncio.get_running_loop()
    for at, outage in ((30.0, fault), (45.0, None), (70.0, fault), (72.0, None)):
        loop.call_later(at, setattr, server, "outage", outage)
    await watched(server, trace, rate=20.0, max_in_flight=8, seconds=150.0)

    assert check(trace, Limits(rate=20.0, burst=1.0, max_in_flight=8, longest_gap=150.0)) == []


async def test_all_endings_wait_for_a_reader_however_many_they_are():
    """2,000 endings lie unread until the reader comes, and it gets each of them."""
    trace = Trace()
    ids = [f"vid_{number}" for number in range(2000)]
    server = FakeTransport(trace)
    server.tasks.update({task_id: FakeTask("failed") for task_id in ids})
    budget = RequestBudget(rate=1000.0)
    async with fake_client(server, budget=budget) as client, client.watch() as watcher:
        for task_id in ids:
            trace.added(task_id, 0.0)
        watcher.add(*ids, tag=1)
        watcher.finish_adding()
        await asyncio.sleep(60.0)
        trace.records.append(Unread(watcher.stats.unread, 60.0))
        await read_and_note(watcher, trace)

    assert check(trace, Limits(rate=1000.0, burst=50.0)) == []
