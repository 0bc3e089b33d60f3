"""The same oracle over real sockets: servers with faults of every kind, virtual time."""

from __future__ import annotations

import asyncio
import random

import pytest

from ezvideo_async import AsyncVideoClient, EzVideoError, RequestBudget
from ezvideo_async.instrumentation import TaskEnded
from ezvideo_async.testing import FakeVideoServer
from tests.resilience.catalog import CATALOG
from tests.support.oracle import Limits, Trace, check
from tests.support.oracle.recorder import keep, watch_and_note
from tests.support.raw_server import CLOSE, READ, RawServer, client_of, now, response, task

FATAL = {"401", "403", "redirect"}
PASSING = sorted(set(FakeVideoServer.fault_kinds) - FATAL)
LIMITS = Limits(max_in_flight=16, rate=100.0, longest_gap=300.0)


def noted(client, trace):
    """Write every request of *client* into a trace."""
    client._transport.send = keep(trace, client._transport.send)
    return client


def client_noted(server, trace, seed, **options):
    """Make a client of which everything is written down."""

    def hear(signal):
        if isinstance(signal, TaskEnded):
            trace.ended(signal.task_id, now())

    budget = RequestBudget(rate=100.0, max_in_flight=16)
    rand = random.Random(seed).random
    return noted(client_of(server, budget=budget, observers=[hear], rand=rand, **options), trace)


def endings(trace):
    """How each id ended, from what was told."""
    told = [record.event for record in trace.records if hasattr(record, "event")]
    return {event.task_id: event.kind.removeprefix("task_") for event in told if event.is_final}


@pytest.mark.parametrize("seed", range(3))
async def test_every_promise_holds_under_random_faults(seed):
    """120 tasks, every sixth request in trouble of any kind: nothing lost, doubled or invented."""
    chance, trace = random.Random(seed), Trace()
    async with FakeVideoServer() as server, client_noted(server, trace, seed) as client:
        outcomes = {
            server.add_task(duration=chance.uniform(0, 200), outcome=outcome): outcome
            for outcome in chance.choices(["completed", "failed", "lost"], k=120)
        }
        for fault in PASSING:
            server.fault(fault, share=0.01)
        await watch_and_note(client, trace, tuple(outcomes))

    met = {record.fault for record in server.requests()}
    denied = {record.task_id for record in server.requests() if record.fault == "404"}

    assert check(trace, LIMITS) == []
    assert outcomes.keys() == endings(trace).keys()
    assert {end for end in endings(trace).items() if end not in outcomes.items()}.issubset(
        (task_id, "lost") for task_id in denied
    )
    assert set(PASSING) <= met


@pytest.mark.parametrize("fault", sorted(FATAL))
async def test_every_promise_holds_when_it_breaks_off(fault):
    """Trouble with our key or set-up ends it with the open ids named, whatever else goes on."""
    chance, trace = random.Random(fault), Trace()
    async with FakeVideoServer() as server, client_noted(server, trace, fault) as client:
        ids = [server.add_task(duration=chance.uniform(0, 60)) for _ in range(50)]
        for passing in ("500", "reset", "garbage"):
            server.fault(passing, share=0.05)
        asyncio.get_running_loop().call_later(30.0, lambda: server.fault(fault))
        await watch_and_note(client, trace, ids)
        sent = len(server.requests())
        await asyncio.sleep(60.0)

    assert len(server.requests()) == sent
    assert 0 < len(endings(trace)) < len(ids)
    assert check(trace, LIMITS) == []


BROKEN = {f"N{row}" for row in range(1, 23)} | {"H25", "H26", "H27", "H28", "H30"}
"""Rows in which no answer comes; what strange answers mean, the oracle leaves to other tests."""


@pytest.mark.parametrize("seed", range(3))
async def test_every_promise_holds_over_connections_in_trouble(seed):
    """Every third connection plays a trouble of the catalogue, the others are closed by whim."""
    chance, trace = random.Random(seed), Trace()
    outcomes = {
        f"vid_{number}": (chance.uniform(0, 150), chance.choice(["completed", "failed"]))
        for number in range(40)
    }

    def shown(seen):
        end, outcome = outcomes[seen.task_id]
        return response(task(seen.task_id, outcome if seen.at >= end else "processing"))

    troubles = [
        trouble.script
        for trouble in CATALOG.values()
        if trouble.row in BROKEN and isinstance(trouble.script, list)
    ]

    def script():
        if chance.random() < 1 / 3:
            return chance.choice(troubles)
        return [*[READ, shown] * chance.randint(1, 8), CLOSE]

    scripts = [[READ, shown, CLOSE], *[script() for _ in range(150)], [READ, shown] * 1000]
    async with RawServer(*scripts) as server, client_noted(server, trace, seed) as client:
        await watch_and_note(client, trace, tuple(outcomes))

    assert check(trace, LIMITS) == []
    assert endings(trace) == {each: outcome for each, (_end, outcome) in outcomes.items()}
    assert server.connections > 100


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
