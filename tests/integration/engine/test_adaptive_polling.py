"""An adaptive policy in a watch: fewer requests, ends found no later, and what it is taught."""

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
"""Ends after which there is a quiet time."""


def linear(share):
    return int(100 * share)


def stuck(share):
    return min(99, int(160 * share))


@define
class TimedTask(FakeTask):
    """A task that runs by the loop's clock, from *begun* on."""

    begun: float = 0.0
    duration: float = 60.0
    shown: object = None

    def body(self, task_id):
        """Write the answer of this instant."""
        share = (asyncio.get_running_loop().time() - self.begun) / self.duration
        self.status = "completed" if share >= 1.0 else "processing"
        self.progress = self.shown(share) if self.shown and share < 1.0 else None
        return super().body(task_id)


def new_task(**options):
    """Begin now; in virtual time the wall clock stands, and so does the time of creation."""
    created = {"created_at": int(time.time()), "model": "m"}
    return TimedTask(begun=asyncio.get_running_loop().time(), extra=created, **options)


async def watched(client, server, policy, shown, count=300):
    """Begin a task a second; the seconds from each end to its event, in the order of creation."""
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
    """Requests, and the mean of the seconds from the end to the event."""
    server = FakeTransport()
    async with fake_client(server, rand=random.Random(7).random) as client:
        late = await watched(client, server, policy, shown)
    assert len(late) == 300
    return server.sends, fmean(late), max(late)


async def test_learning_saves_requests_and_finds_ends_no_later():
    """300 tasks with honest progress: a third of the requests, and of the lateness, is gone."""
    requests, mean, _ = await cost_and_detection(FIXED, linear)
    fewer, sooner, longest = await cost_and_detection(ADAPTIVE, linear)

    assert fewer < 0.7 * requests
    assert sooner < 0.7 * mean
    assert longest < 16.5


async def test_a_server_that_lies_costs_no_detection():
    """Progress that stops at 99 % is not trusted; what is saved is the quiet time alone."""
    requests, mean, _ = await cost_and_detection(FIXED, stuck)
    fewer, sooner, longest = await cost_and_detection(ADAPTIVE, stuck)

    assert 0.75 * requests < fewer < requests
    assert sooner <= mean + 0.05
    assert longest < 16.5


async def taught(client, server, *, duration=60.0):
    """Let as many tasks end at once as teach a quiet time."""
    ids = [f"old_{number}" for number in range(ENOUGH)]
    server.tasks.update({task_id: new_task(duration=duration) for task_id in ids})
    async with client.watch(ids, policy=STEADY) as watcher:
        assert len([event async for event in watcher if event.is_final]) == ENOUGH


def gaps(server):
    return [round(later - earlier, 6) for earlier, later in pairwise(server.request_times("new"))]


async def test_calls_of_wait_share_what_a_watch_has_learned():
    """One client is one server: the next call begins with what the last ones saw."""
    server = FakeTransport()
    async with fake_client(server) as client:
        await taught(client, server)
        server.tasks["new"] = new_task()
        await client.wait("new", policy=STEADY)

    assert gaps(server)[:3] == [15.0, 15.0, 15.0]
    assert set(gaps(server)[4:]) == {4.8}


@pytest.mark.parametrize("kind", ["fixed", "no age", "another model", "another client"])
async def test_otherwise_the_interval_is_fixed(kind):
    """Not asked for, an age unknown, nothing learned of this model or by this client: 5 s."""
    server = FakeTransport()
    async with fake_client(server) as client, fake_client(server) as other:
        await taught(other if kind == "another client" else client, server)
        server.tasks["new"] = task = new_task()
        if kind == "no age":
            del task.extra["created_at"]
        elif kind == "another model":
            task.extra["model"] = "n"
        policy = PollPolicy(jitter=0.0) if kind == "fixed" else STEADY
        await client.wait("new", policy=policy)

    assert set(gaps(server)) == {5.0}


async def test_the_servers_hint_counts_before_what_was_learned():
    """``openai-poll-after-ms`` is obeyed in the quiet time too."""
    server = FakeTransport()
    async with fake_client(server) as client:
        await taught(client, server)
        server.headers["openai-poll-after-ms"] = "2000"
        server.tasks["new"] = new_task()
        await client.wait("new", policy=STEADY)

    assert set(gaps(server)) == {2.0}
