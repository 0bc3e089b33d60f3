"""Budget's rate, set while a watcher runs: after a 429, and after a pause."""

from __future__ import annotations

import asyncio
import random
from typing import TYPE_CHECKING

import pytest

from ezvideo_async import RequestBudget
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
