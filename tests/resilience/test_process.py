"""Processes short of files or memory: fault rows P11 and P12."""

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
    """Run a server in a thread; it answers after *latency* seconds that the task is completed."""
    started, stop = threading.Event(), threading.Event()
    server = RawServer([latency, *DONE])

    async def serve() -> None:
        async with server:
            started.set()
            await asyncio.to_thread(stop.wait)

    thread = threading.Thread(target=lambda: asyncio.run(serve()))
    thread.start()
    try:
        assert started.wait(timeout=60)
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

def count(event):
    if isinstance(event, PollFailed):
        failures[event.error.reason, "Too many open files" in str(event.error)] += 1

async def main():
    resource.setrlimit(resource.RLIMIT_NOFILE, (32, 32))
    budget = RequestBudget(rate=1000.0, max_in_flight=64)
    policy = PollPolicy(interval=0.1, min_interval=0.1, backoff_max=0.5)
    options = {"base_url": sys.argv[1], "budget": budget, "observers": [count]}
    async with AsyncVideoClient(**options) as client:
        async with client.watch(IDS, policy=policy) as watcher:
            finals = [event async for event in watcher if event.is_final]
        print(sorted(event.task_id for event in finals) == sorted(IDS))
        print({event.kind for event in finals}, ('resources', True) in failures)
        print((await client.retrieve("t")).succeeded, client.budget.in_flight)

asyncio.run(main())
"""


@pytest.mark.fault("P11")
def test_polls_that_find_no_free_file_are_repeated() -> None:
    """With 32 files, further connections fail and are tried again, and every task completes."""
    with served(0.2) as server:
        printed = run(FEW_FILES, server.base_url).splitlines()

    assert printed == [
        "True",
        "{'task_completed'} True",
        "True 0",
    ]


LITTLE_MEMORY = """
import asyncio, resource, sys
from ezvideo_async import AsyncVideoClient
from ezvideo_async.testing import VirtualClockLoop
from tests.support.fake_transport import FakeTask, FakeTransport, fake_client
from ezvideo_async import RequestBudget

IDS = [f"vid_{number}" for number in range(10_000)]

async def retrieve():
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
found = asyncio.run(retrieve())
with asyncio.Runner(loop_factory=VirtualClockLoop) as runner:
    finals = runner.run(watch())
print(found.succeeded, len(finals))
"""


@pytest.mark.fault("P12")
def test_10_000_tasks_are_watched_within_256_mib() -> None:
    """With an address space of 256 MiB they all get their final events."""
    with served(0.0) as server:
        printed = run(LITTLE_MEMORY, server.base_url, options=()).splitlines()

    assert printed == ["True 10000"]
