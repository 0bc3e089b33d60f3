"""Every await point of the watcher's coroutines, cancelled."""

from __future__ import annotations

import asyncio

import pytest

from ezvideo_async import AsyncVideoClient, PollPolicy
from ezvideo_async.testing import FakeVideoServer
from tests.suspend import CancelledAt

STEADY = PollPolicy(jitter=0.0)
MOST_SUSPENSIONS = 200


def tasks_of_others():
    """The tasks with which the fake server, in the same loop, serves its connections."""
    serving = ("RequestHandler.", "BaseSelectorEventLoop._accept_connection2")
    return {
        task for task in asyncio.all_tasks() if task.get_coro().__qualname__.startswith(serving)
    }


def tasks_of_ours():
    """All other tasks."""
    return asyncio.all_tasks() - tasks_of_others()


async def watch_to_the_end(client, ids):
    """Enter, read everything, leave."""
    async with client.watch(ids, policy=STEADY, progress=True) as watcher:
        return [event.kind async for event in watcher if event.is_final]


async def wait_in_a_hub(client, ids):
    """Add by waiting, read a subscription, discard, leave."""
    async with client.watch(keep_open=True, policy=STEADY) as hub:
        await hub.wait(ids[0])
        hub.add(*ids)
        async with hub.subscribe(*ids) as events:
            await anext(events)
            hub.discard(ids[1])
            return [event.kind async for event in events if event.is_final]


async def wait_for_one(client, ids):
    """One task, without a watcher."""
    return [(await client.wait(ids[0], policy=STEADY)).status]


@pytest.mark.parametrize("use", [watch_to_the_end, wait_in_a_hub, wait_for_one])
@pytest.mark.timeout(120)
async def test_cancelled_at_every_suspension_nothing_is_left(use):
    """Whichever await is cancelled: no task, timer or request is left, and the client works on."""
    loop = asyncio.get_running_loop()
    reached = 0
    async with FakeVideoServer(latency=0.1) as server:
        for at in range(1, MOST_SUSPENSIONS):
            ids = [server.add_task(duration=12.0) for _ in range(3)]
            async with AsyncVideoClient("key", base_url=server.base_url) as client:
                before = tasks_of_ours()
                sweep = CancelledAt(use(client, ids), at=at)

                async def run(sweep=sweep):
                    return await sweep

                running = loop.create_task(run())
                await asyncio.wait([running])

                assert tasks_of_ours() == before
                assert client.budget.in_flight == 0
                assert running.cancelled() == sweep.was_reached
                assert (await client.retrieve(ids[0])).id == ids[0]
            if not sweep.was_reached:
                assert running.result()
                break
            reached += 1

    assert reached >= 4
