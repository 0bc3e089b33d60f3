"""Adaptive polling in a watch: fewer requests, final states detected no later."""

from __future__ import annotations

import asyncio
import random
import time
from itertools import pairwise
from math import exp
from statistics import fmean

import pytest
from attrs import define

from ezvideo_async import PollPolicy, TaskCompleted
from tests.support.fake_transport import FakeTask, FakeTransport, fake_client

FIXED, ADAPTIVE = PollPolicy(), PollPolicy(adaptive=True)
STEADY = PollPolicy(jitter=0.0, adaptive=True)
ENOUGH = 50
"""Finished tasks after which the estimator predicts."""


def linear(share):
    return int(100 * share)


@define
class TimedTask(FakeTask):
    """A task that runs by the loop clock, from *begun* on."""

    begun: float = 0.0
    duration: float = 60.0
    shown: object = None

    def body(self, task_id):
        """Return the body of a response at this instant."""
        share = (asyncio.get_running_loop().time() - self.begun) / self.duration
        self.status = "completed" if share >= 1.0 else "processing"
        self.progress = self.shown(share) if self.shown and share < 1.0 else None
        return super().body(task_id)


def new_task(**options):
    """Begin a task now; in virtual time the wall clock stands still."""
    created = {"created_at": int(time.time()), "model": "m"}
    return TimedTask(begun=asyncio.get_running_loop().time(), extra=created, **options)


async def detection_delays(client, server, policy, shown, count=300):
    """Begin a task per second; return the seconds from each end to its event, by id."""
    chance = random.Random(5)
    loop, late = asyncio.get_running_loop(), {}

    async def read(watcher):
        async for event in watcher:
            if isinstance(event, TaskCompleted):
                task = server.tasks[event.task_id]
                late[event.task_id] = loop.time() - task.begun - task.duration

    async with client.watch(policy=policy) as watcher:
        reader = asyncio.ensure_future(read(watcher))
        for number in range(count):
            duration = 60.0 * exp(chance.gauss(0.0, 0.35))
            server.tasks[f"vid_{number:03}"] = new_task(duration=duration, shown=shown)
            watcher.add(f"vid_{number:03}")
            await asyncio.sleep(1.0)
        watcher.finish_adding()
        await reader
    return [late[task_id] for task_id in sorted(late)]


async def cost_and_detection(policy, shown):
    """Return the requests, and the mean and most seconds from end to event."""
    server = FakeTransport()
    async with fake_client(server, rand=random.Random(7).random) as client:
        late = await detection_delays(client, server, policy, shown)
    assert len(late) == 300
    return server.sends, fmean(late), max(late)


async def test_adaptive_policy_needs_fewer_requests_and_detects_sooner():
    """With linear progress, it saves a third of the requests and of the delay."""
    requests, mean, _ = await cost_and_detection(FIXED, linear)
    fewer, sooner, longest = await cost_and_detection(ADAPTIVE, linear)

    assert fewer < 0.7 * requests
    assert sooner < 0.7 * mean
    assert longest < 16.5


async def finish_many(client, server, *, duration=60.0):
    """Let enough tasks finish at once for a prediction."""
    ids = [f"old_{number}" for number in range(ENOUGH)]
    server.tasks.update({task_id: new_task(duration=duration) for task_id in ids})
    async with client.watch(ids, policy=STEADY) as watcher:
        assert len([event async for event in watcher if event.is_final]) == ENOUGH


def gaps(server):
    return [round(later - earlier, 6) for earlier, later in pairwise(server.request_times("new"))]


async def test_wait_uses_the_estimates_of_a_watch():
    """All calls and watchers of a client share them."""
    server = FakeTransport()
    async with fake_client(server) as client:
        await finish_many(client, server)
        server.tasks["new"] = new_task()
        await client.wait("new", policy=STEADY)

    assert gaps(server)[:3] == [15.0, 15.0, 15.0]
    assert set(gaps(server)[4:]) == {4.8}


@pytest.mark.parametrize("kind", ["fixed", "another client"])
async def test_interval_is_fixed_without_an_estimate(kind):
    """By a fixed policy, or without a finished task of this client."""
    server = FakeTransport()
    async with fake_client(server) as client, fake_client(server) as other:
        await finish_many(other if kind == "another client" else client, server)
        server.tasks["new"] = new_task()
        policy = PollPolicy(jitter=0.0) if kind == "fixed" else STEADY
        await client.wait("new", policy=policy)

    assert set(gaps(server)) == {5.0}
