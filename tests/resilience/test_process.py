"""Processes that are short of something: rows P of the table that signals and pipes leave open."""

from __future__ import annotations

import asyncio
import contextlib
import sys
import threading
from typing import TYPE_CHECKING

import pytest

from tests.support.raw_server import DONE, RawServer
from tests.support.subprocesses import run

if TYPE_CHECKING:
    from collections.abc import Iterator

pytestmark = pytest.mark.skipif(sys.platform != "linux", reason="limits as Linux keeps them")


@contextlib.contextmanager
def served(latency: float) -> Iterator[RawServer]:
    """A server in a thread of its own, on which every task is completed after a while."""
    started, stop = threading.Event(), threading.Event()
    server = RawServer([latency, *DONE])

    async def serve() -> None:
        async with server:
            started.set()
            await asyncio.to_thread(stop.wait)

    thread = threading.Thread(target=lambda: asyncio.run(serve()))
    thread.start()
    try:
        assert started.wait(timeout=10)
        yield server
    finally:
        stop.set()
        thread.join()


FEW_FILES = """
import asyncio, collections, resource, sys
from ezvideo_async import AsyncVideoClient, PollPolicy, RequestBudget
from ezvideo_async.instrumentation import PollFailed

IDS = [f"vid_{number}" for number in range(100)]
failures = collections.Counter()

def hear(signal):
    if isinstance(signal, PollFailed):
        failures[type(signal.error).__name__, signal.error.reason] += 1
        assert "Too many open files" in str(signal.error), signal.error

async def main():
    resource.setrlimit(resource.RLIMIT_NOFILE, (32, 32))
    budget = RequestBudget(rate=1000.0, max_in_flight=64)
    policy = PollPolicy(interval=0.1, min_interval=0.1, backoff_max=0.5)
    options = {"base_url": sys.argv[1], "budget": budget, "observers": [hear]}
    async with AsyncVideoClient(**options) as client:
        async with client.watch(IDS, policy=policy) as watcher:
            finals = [event async for event in watcher if event.is_final]
        print(sorted(event.task_id for event in finals) == sorted(IDS))
        print({event.kind for event in finals}, set(failures))
        print((await client.retrieve("t")).succeeded, client.budget.in_flight)

asyncio.run(main())
"""


@pytest.mark.fault("P11")
def test_few_open_files_are_trouble_that_passes() -> None:
    """With 32 of them, connections beyond fail and are tried again: every task has its end."""
    with served(0.2) as server:
        printed = run(FEW_FILES, server.base_url).splitlines()

    assert printed == [
        "True",
        "{'task_completed'} {('TransportError', 'resources')}",
        "True 0",
    ]


LITTLE_MEMORY = """
import asyncio, resource, sys
from ezvideo_async import AsyncVideoClient
from ezvideo_async.testing import VirtualClockLoop
from tests.support.fake_transport import FakeTask, FakeTransport, fake_client
from ezvideo_async import RequestBudget

IDS = [f"vid_{number}" for number in range(10_000)]

async def ask():
    async with AsyncVideoClient(base_url=sys.argv[1]) as client:
        return await client.retrieve("t")

async def watch():
    server = FakeTransport()
    text = {"prompt": "x" * 200, "url": "https://cdn.test/" + "y" * 200}
    server.tasks.update((task_id, FakeTask("processing", extra=text)) for task_id in IDS)
    budget = RequestBudget(rate=10_000.0)
    async with fake_client(server, budget=budget) as client, client.watch(IDS) as watcher:
        for _ in range(10_000):
            await anext(watcher)
        for task in server.tasks.values():
            task.status = "completed"
        return {event.task_id async for event in watcher}

resource.setrlimit(resource.RLIMIT_AS, (256 << 20, 256 << 20))
found = asyncio.run(ask())
with asyncio.Runner(loop_factory=VirtualClockLoop) as runner:
    finals = runner.run(watch())
print(found.succeeded, len(finals))
"""


@pytest.mark.fault("P12")
def test_ten_thousand_tasks_need_no_256_mebibytes() -> None:
    """Within that much address space they are watched to their ends."""
    with served(0.0) as server:
        printed = run(LITTLE_MEMORY, server.base_url, options=()).splitlines()

    assert printed == ["True 10000"]
