"""The same oracle over real sockets: a fake server with faults, virtual time."""

from __future__ import annotations

import asyncio
import json
import random

import pytest

from ezvideo_async import AsyncVideoClient, EzVideoError, RequestBudget
from ezvideo_async.testing import FakeVideoServer
from tests.oracle import Added, Limits, Trace, check

FAULTS = ["500", "503", "429", "html", "garbage", "empty", "truncated", "reset", "close", "hang"]


def recording(client, trace):
    """Write down every request of *client*, and what the server showed."""
    transport = client._transport
    send = transport.send

    async def send_and_record(request, secret, **options):
        loop = asyncio.get_running_loop()
        asked = trace.asked(request.task_id, loop.time())
        try:
            response, line = await send(request, secret, **options)
        finally:
            asked.ended = loop.time()
        shown = word_of(response)
        if shown is not None:
            trace.answered(request.task_id, loop.time(), shown)
        return response, line

    transport.send = send_and_record


def word_of(response):
    try:
        return json.loads(response.body)["status"]
    except (ValueError, KeyError, TypeError):
        return None


@pytest.mark.parametrize("seed", range(3))
async def test_every_promise_holds_under_random_faults(seed):
    """150 tasks, every tenth request in trouble of any kind: nothing lost, doubled or invented."""
    chance = random.Random(seed)
    loop = asyncio.get_running_loop()
    trace = Trace()
    budget = RequestBudget(rate=100.0, max_in_flight=16)
    async with (
        FakeVideoServer() as server,
        AsyncVideoClient(
            "key", base_url=server.base_url, budget=budget, rand=chance.random
        ) as client,
    ):
        recording(client, trace)
        outcomes = {
            server.add_task(duration=chance.uniform(0, 200), outcome=outcome): outcome
            for outcome in chance.choices(["completed", "failed", "lost"], k=150)
        }
        for fault in FAULTS:
            server.fault(fault, share=0.01)
        ends = {}
        async with client.watch(tuple(outcomes)) as watcher:
            trace.records += [Added(task_id, 0, loop.time()) for task_id in outcomes]
            async for event in watcher:
                trace.told(_numbered(event), loop.time())
                if event.is_final:
                    ends[event.task_id] = event.kind.removeprefix("task_")

        assert check(trace, Limits(max_in_flight=16, rate=100.0), is_over=True) == []
        assert ends == outcomes
        assert client.requests_sent == len(server.requests())


def _numbered(event):
    """Tag an event with the number of its watch, as the oracle wants it: the first and only."""
    from attrs import evolve

    return evolve(event, tag=0)


async def test_a_server_that_dies_is_outlived():
    """The whole server goes away and comes back on the same port: every task has its ending."""
    trouble = []
    async with FakeVideoServer() as server:
        port = int(server.base_url.split(":")[2].split("/")[0])
        client = AsyncVideoClient(
            "key", base_url=server.base_url, observers=[trouble.append], rand=lambda: 0.5
        )
        ids = [server.add_task(duration=100.0) for _ in range(50)]
        await client.__aenter__()
        watcher = client.watch(ids)
        await watcher.__aenter__()
        await asyncio.sleep(20)
    await asyncio.sleep(100)
    async with FakeVideoServer(port=port) as server:
        for task_id in ids:
            server.add_task(task_id, duration=0.0)
        finals = [event.task_id async for event in watcher if event.is_final]
        await watcher.__aexit__(None, None, None)
        await client.aclose()

    assert sorted(finals) == sorted(ids)
    assert any(isinstance(getattr(signal, "error", None), EzVideoError) for signal in trouble)
