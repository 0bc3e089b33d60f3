"""Memory of a watcher whose server sends large responses, whoever reads or does not read."""

from __future__ import annotations

import asyncio
import gc
import json
import tracemalloc

import pytest

from ezvideo_async._protocol.messages import Response
from tests.support.clients import make_client
from tests.support.fake_transport import FakeConnection

KIB = 1024
IDS = [f"vid_{number}" for number in range(8)]


class LargeTransport:
    """Sends the same fields about each task, and another progress each time."""

    def __init__(self):
        self.sends = 0
        self.fields = {}

    async def send(self, request, _api_key, **_options):
        """Respond in the next iteration of the loop."""
        self.sends += 1
        await asyncio.sleep(0)
        shape = {"id": request.task_id, "progress": self.sends % 100, **self.fields}
        body = json.dumps(shape).encode()
        return Response(status=200, headers={}, body=body), FakeConnection()

    async def aclose(self):
        """Do nothing."""


def traced():
    """Return the bytes that are in use and were allocated while traced."""
    gc.collect()
    return tracemalloc.get_traced_memory()[0]


@pytest.mark.fault("Q19")
async def test_large_responses_cost_a_watcher_little_memory():
    """Running tasks of 1 MiB, unread or read; ended ones whose metadata somebody has read."""
    transport, metadata = LargeTransport(), {str(number): {} for number in range(3000)}
    transport.fields = {"status": "processing", "note": "x" * (1024 * KIB)}

    async def read(events):
        async for event in events:
            assert event.task.id == event.task_id
            del event

    async with make_client("key", transport=transport) as client:
        async with client.watch(IDS, progress=True, keep_open=True) as watcher:
            await asyncio.sleep(0)
            tracemalloc.start()
            try:
                async with watcher.subscribe() as events:
                    reading = asyncio.ensure_future(read(events))
                    await asyncio.sleep(11)
                    while_running = traced() / len(IDS)
                    transport.fields = {"status": "completed", "metadata": metadata}
                    await asyncio.gather(*map(watcher.wait, IDS))
                    await asyncio.sleep(0)
                    assert all(watcher.get(name).task.metadata == metadata for name in IDS)
                    reading.cancel()
                    await asyncio.wait([reading])
                    after_the_end = traced() / len(IDS)
            finally:
                tracemalloc.stop()
            assert (watcher.stats.unread, watcher.stats.completed) == (len(IDS), len(IDS))

    assert while_running < 16 * KIB
    assert after_the_end < len(json.dumps(metadata)) + 16 * KIB
