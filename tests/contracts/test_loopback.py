"""Oracle over real sockets: servers with faults of every kind, in virtual time."""

from __future__ import annotations

import asyncio
import random

import pytest

from ezvideo_async import RequestBudget
from ezvideo_async.instrumentation import TaskEnded
from ezvideo_async.testing import FakeVideoServer
from tests.resilience.catalog import CATALOG
from tests.support.oracle import Limits, Trace, check
from tests.support.oracle.recorder import keep, watch_and_note
from tests.support.raw_server import CLOSE, READ, RawServer, client_of, now, response, task

FATAL = {"401", "403", "redirect"}
TRANSIENT = sorted(set(FakeVideoServer.fault_kinds) - FATAL)
LIMITS = Limits(max_in_flight=16, rate=100.0, longest_gap=300.0)


def recorded_client(server, trace, seed):
    """Make a client that records requests and ends in *trace*."""

    def observe(event):
        if isinstance(event, TaskEnded):
            trace.ended(event.task_id, now())

    budget = RequestBudget(rate=100.0, max_in_flight=16)
    rand = random.Random(seed).random
    client = client_of(server, budget=budget, observers=[observe], rand=rand)
    transport = client._engine._transport
    transport.send = keep(trace, transport.send)
    return client


def final_kinds(trace):
    """Return how each id ended, from the delivered events."""
    events = [record.event for record in trace.records if hasattr(record, "event")]
    return {event.task_id: event.kind.removeprefix("task_") for event in events if event.is_final}


@pytest.mark.parametrize("seed", range(3))
async def test_promises_hold_under_random_faults(seed):
    """120 tasks, a sixth of the requests with a fault: no event is lost, doubled or invented."""
    chance, trace = random.Random(seed), Trace()
    async with FakeVideoServer() as server, recorded_client(server, trace, seed) as client:
        outcomes = {
            server.add_task(duration=chance.uniform(0, 200), outcome=outcome): outcome
            for outcome in chance.choices(["completed", "failed", "lost"], k=120)
        }
        for fault in TRANSIENT:
            server.fault(fault, share=0.01)
        await watch_and_note(client, trace, tuple(outcomes))

    faults = {record.fault for record in server.requests()}
    denied = {record.task_id for record in server.requests() if record.fault == "404"}

    assert check(trace, LIMITS) == []
    assert outcomes.keys() == final_kinds(trace).keys()
    assert {end for end in final_kinds(trace).items() if end not in outcomes.items()}.issubset(
        (task_id, "lost") for task_id in denied
    )
    assert set(TRANSIENT) <= faults


@pytest.mark.parametrize("fault", sorted(FATAL))
async def test_promises_hold_when_the_watch_fails(fault):
    """An error of key or configuration ends it with the open ids, whatever else happens."""
    chance, trace = random.Random(fault), Trace()
    async with FakeVideoServer() as server, recorded_client(server, trace, fault) as client:
        ids = [server.add_task(duration=chance.uniform(0, 60)) for _ in range(50)]
        for transient in ("500", "reset", "garbage"):
            server.fault(transient, share=0.05)
        asyncio.get_running_loop().call_later(30.0, lambda: server.fault(fault))
        await watch_and_note(client, trace, ids)
        sent = len(server.requests())
        await asyncio.sleep(60.0)

    assert len(server.requests()) == sent
    assert 0 < len(final_kinds(trace)) < len(ids)
    assert check(trace, LIMITS) == []


BROKEN = {f"N{row}" for row in range(1, 23)} | {"H25", "H26", "H27", "H28", "H30"}
"""Rows in which no response comes; the oracle does not check what unusual responses mean."""


@pytest.mark.parametrize("seed", range(3))
async def test_promises_hold_over_faulty_connections(seed):
    """Every third connection has a fault of the catalog, the others are closed at random."""
    chance, trace = random.Random(seed), Trace()
    outcomes = {
        f"vid_{number}": (chance.uniform(0, 150), chance.choice(["completed", "failed"]))
        for number in range(40)
    }

    def shown(seen):
        end, outcome = outcomes[seen.task_id]
        return response(task(seen.task_id, outcome if seen.at >= end else "processing"))

    faults = [
        fault.script
        for fault in CATALOG.values()
        if fault.row in BROKEN and isinstance(fault.script, list)
    ]

    def script():
        if chance.random() < 1 / 3:
            return chance.choice(faults)
        return [*[READ, shown] * chance.randint(1, 8), CLOSE]

    scripts = [[READ, shown, CLOSE], *[script() for _ in range(150)], [READ, shown] * 1000]
    async with RawServer(*scripts) as server, recorded_client(server, trace, seed) as client:
        await watch_and_note(client, trace, tuple(outcomes))

    assert check(trace, LIMITS) == []
    assert final_kinds(trace) == {each: outcome for each, (_end, outcome) in outcomes.items()}
    assert server.connections > 100
