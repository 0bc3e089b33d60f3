"""Polling contract of the watcher: when requests are sent, and when none is."""

from __future__ import annotations

import asyncio
import contextlib
import logging
import random
from collections import deque
from contextlib import AsyncExitStack
from itertools import pairwise

import pytest

from ezvideo_async import EzVideoError, PollPolicy, RequestBudget
from ezvideo_async._limits.budget import rate_limiter_of
from ezvideo_async._scheduling.scheduler import Scheduler
from ezvideo_async.instrumentation import RateLimited
from tests.support.clients import make_client
from tests.support.fake_transport import FakeTask, FakeTransport, fake_client

STEADY = PollPolicy(jitter=0.0)


def now():
    return asyncio.get_running_loop().time()


def ids(count):
    return [f"vid_{number:05}" for number in range(count)]


def server_of(count, status="processing", **options):
    server = FakeTransport()
    server.tasks.update({task_id: FakeTask(status=status, **options) for task_id in ids(count)})
    return server


def peak(times, window):
    """Return the most times within any *window* seconds."""
    times = sorted(times)
    start = most = 0
    for end, at in enumerate(times):
        while times[start] <= at - window:
            start += 1
        most = max(most, end - start + 1)
    return most


# -- 1: slots, not tasks --------------------------------------------------------------------------


async def test_thousand_ids_need_no_asyncio_task_each():
    """The asyncio tasks of a watch are the runner and one worker per request in flight."""
    server = server_of(1000, latency=0.5)
    budget = RequestBudget(rate=1000.0, max_in_flight=8)
    async with fake_client(server, budget=budget) as client:
        before = len(asyncio.all_tasks())
        async with client.watch(ids(1000), policy=STEADY) as watcher:
            await asyncio.sleep(30)

            assert len(asyncio.all_tasks()) - before == 1 + 8
            assert watcher.stats.in_flight == 8


# -- 2: spacing and spreading ---------------------------------------------------------------------


@pytest.mark.fault("C10")
@pytest.mark.parametrize(("rand", "gap"), [(0.0, 4.5), (0.5, 5.0), (0.75, 5.25)])
async def test_polls_come_at_the_interval_although_nobody_reads(rand, gap):
    """The interval is 5 s with 10 % of jitter, however slowly events are read."""
    server = server_of(1)
    async with fake_client(server, rand=lambda: rand) as client, client.watch(ids(1)):
        await asyncio.sleep(4 * gap + 0.1)

    assert server.request_times() == pytest.approx([gap * number for number in range(5)])


@pytest.mark.parametrize("blocked", [0.0, 1.2])
async def test_first_polls_are_spread(monkeypatch, blocked):
    """First polls take half the rate at most, also when adding blocks the loop for a second."""
    server = server_of(1000)
    loop = asyncio.get_running_loop()
    add = Scheduler.add

    def add_slowly(*args, **options):
        added = add(*args, **options)
        loop._now += blocked
        return added

    monkeypatch.setattr(Scheduler, "add", add_slowly)
    async with fake_client(server, budget=RequestBudget(rate=400.0, burst=400)) as client:
        async with client.watch(ids(1000), policy=STEADY):
            await asyncio.sleep(6)

    firsts = [min(server.request_times(task_id)) for task_id in ids(1000)]

    assert min(firsts) == pytest.approx(blocked, abs=0.1)
    assert peak(firsts, 0.1) <= 1.4 * 1000 / 5.0 * 0.1
    assert max(firsts) <= 5.0 + blocked


async def test_min_interval_counts_from_the_send():
    """A poll that a blocked loop sends late delays the next one."""
    server = server_of(1)
    loop = asyncio.get_running_loop()
    async with fake_client(server) as client, client.watch(ids(1)) as watcher:
        loop._now += 3.0  # the caller's own code computes
        await asyncio.sleep(0.1)
        watcher.poll_now(ids(1)[0])
        await asyncio.sleep(2.0)

    assert server.request_times() == [3.0, 4.0]


@pytest.mark.fault("C20", "C21")
async def test_polls_after_a_stall_are_spread(caplog):
    """When the loop was blocked for a minute, the polls it missed are no burst."""
    caplog.set_level(logging.INFO, "ezvideo_async")
    server = server_of(400)
    loop = asyncio.get_running_loop()
    async with fake_client(server, budget=RequestBudget(rate=1000.0)) as client:
        async with client.watch(ids(400)):
            await asyncio.sleep(20)
            loop._now += 60.0  # as a laptop that slept, or a callback that blocked
            resumed = now()
            await asyncio.sleep(30)

    after = [at for at in server.request_times() if at >= resumed]

    assert peak(after, 1.0) <= 1.5 * 400 / 5.0
    assert len({record.message for record in caplog.records if "late" in record.message}) == 1


@pytest.mark.fault("C21")
@pytest.mark.parametrize("blocked", [1.5, 10.0])
async def test_loop_that_is_blocked_again_and_again_still_polls(blocked):
    """Each id is polled late, but within a few of the blocking calls."""
    server = server_of(20)
    loop = asyncio.get_running_loop()
    async with fake_client(server) as client, client.watch(ids(20)):
        await asyncio.sleep(10)
        began = now()
        for _ in range(round(300 / blocked)):
            loop._now += blocked
            await asyncio.sleep(0.1)
        lasted = now() - began

    counts = [sum(at > began for at in server.request_times(task_id)) for task_id in ids(20)]

    assert min(counts) >= 0.3 * lasted / (5.0 + 2 * blocked)


async def test_deadline_that_passes_in_flight_delays_no_other_id(caplog):
    """A slow response after the deadline is not taken for a blocked loop."""
    caplog.set_level(logging.INFO, "ezvideo_async")
    server = server_of(20)
    server.tasks["vid_slow"] = FakeTask(status="processing", latency=9.0)
    async with fake_client(server) as client:
        async with client.watch(ids(20), policy=STEADY, retain_ended=0.0) as watcher:
            for _ in range(10):
                watcher.add("vid_slow", timeout=7.0)
                await asyncio.sleep(10)
    gaps = [two - one for each in ids(20) for one, two in pairwise(server.request_times(each))]

    assert max(gaps) == pytest.approx(5.0)
    assert len(server.request_times("vid_slow")) == 10
    assert caplog.records == []


# -- 3 and 4: hints and failures ------------------------------------------------------------------


async def test_failed_poll_is_due_later_and_a_valid_response_resets_the_backoff():
    """Failure k delays the next poll by U(5, min(60, 5 * 2**k)) s; no slot repeats a request."""
    server = server_of(1)
    task = server.tasks["vid_00000"]
    async with fake_client(server) as client, client.watch(ids(1), policy=STEADY):
        for fault, seconds in ((None, 1), ("500", 20), (None, 5), ("500", 15)):
            task.fault = fault
            await asyncio.sleep(seconds)

    assert server.request_times() == [0.0, 5.0, 12.5, 25.0, 30.0, 37.5]


# -- 5: one budget for all ------------------------------------------------------------------------


@pytest.mark.fault("H13")
async def test_429_cools_down_all_ids_and_then_spreads_their_polls():
    """No poll within Retry-After; then they come over 10 s, at 0.7 of the measured rate."""
    # First polls are spread over 5 s at half the rate, so that one poll comes each 25 ms.
    server = server_of(200)
    cool_downs = []

    def observe(event):
        if isinstance(event, RateLimited):
            server.tasks["vid_00007"].fault = None
            cool_downs.append((now(), event))

    budget = RequestBudget(rate=79.0)
    async with fake_client(server, budget=budget, observers=[observe]) as client:
        async with client.watch(ids(200), policy=STEADY):
            await asyncio.sleep(20)
            server.tasks["vid_00007"].fault = "429"
            await asyncio.sleep(60)

    ((cooled, cool_down),) = cool_downs
    later = [at for at in server.request_times() if at > cooled]

    assert cool_down.seconds == 3.0
    # One request more or less in the meter's 5 s is 0.2 requests per second.
    assert cool_down.rate == pytest.approx(0.7 * 40.0, abs=0.2)
    assert min(later) >= cooled + 3.0
    assert peak([at for at in later if at < cooled + 13.0], 1.0) <= 1.2 * 40.0


async def test_watchers_of_one_id_each_use_the_whole_rate():
    """Ninety watchers of one id send as many polls as one watcher of ninety."""
    server = server_of(90)
    budget = RequestBudget(rate=20.0)
    async with fake_client(server, budget=budget) as client, AsyncExitStack() as stack:
        for task_id in ids(90):
            await stack.enter_async_context(client.watch([task_id]))
        await asyncio.sleep(100)

        assert client.requests_sent >= 0.9 * 18.0 * 100


async def test_outage_ends_for_all_clients_of_a_budget():
    """The polls of one client are spread when another one gets a valid response."""
    budget = RequestBudget(rate=1000.0)
    one, two = server_of(1), server_of(300)
    one.outage = two.outage = "500"
    async with fake_client(one, budget=budget) as first, fake_client(two, budget=budget) as second:
        waiting = [asyncio.ensure_future(second.wait(task_id)) for task_id in ids(300)]
        await asyncio.sleep(60)
        one.outage = two.outage = None
        healed = now()
        await first.retrieve("vid_00000")
        await asyncio.sleep(60)
        for wait in waiting:
            wait.cancel()
        await asyncio.wait(waiting)

    after = [at for at in two.request_times() if at >= healed]

    assert peak(after, 1.0) <= 3 * 300 / 10.0
    assert min(max(two.request_times(task_id)) for task_id in ids(300)) >= healed


async def test_circuit_closes_although_one_task_always_fails():
    """Calls for that task do not keep the probes away, and the outage ends no id."""
    server = server_of(20)
    server.tasks["vid_bad"] = FakeTask(fault="500")
    async with fake_client(server) as client, client.watch(ids(20)) as watcher:
        limiter = rate_limiter_of(client.budget)
        await asyncio.sleep(10)
        server.outage = "500"
        await asyncio.sleep(60)
        assert limiter.is_circuit_open
        server.outage = None
        for _ in range(20):
            with contextlib.suppress(EzVideoError):
                await client.retrieve("vid_bad")
            await asyncio.sleep(5)

        assert not limiter.is_circuit_open
        assert watcher.stats.open == 20


async def test_past_cool_down_delays_no_new_id():
    """An id added an hour after a 429 is polled at once."""
    server = server_of(1, status="completed")
    async with fake_client(server) as client, client.watch(keep_open=True) as watcher:
        server.outage = "429"
        watcher.add("vid_00000")
        await asyncio.sleep(1)
        watcher.discard("vid_00000")
        server.outage = None
        await asyncio.sleep(3600)
        began = now()
        await watcher.wait("vid_00000")

        assert now() == began


async def test_low_rate_limit_serves_all_ids_alike_and_logs_little(caplog):
    """On a server that allows 10 requests per second no id starves; one warning a minute."""
    server = server_of(100)
    recent = deque()

    async def limited(request, api_key, **options):
        while recent and recent[0] <= now() - 1.0:
            recent.popleft()
        server.tasks[request.task_id].fault = "429-bare" if len(recent) >= 10 else None
        recent.append(now())
        return await FakeTransport.send(server, request, api_key, **options)

    server.send = limited
    chance = random.Random(3)
    async with fake_client(server, rand=chance.random) as client, client.watch(ids(100)):
        await asyncio.sleep(1800)
    gaps = [two - one for each in ids(100) for one, two in pairwise(server.request_times(each))]

    assert max(gaps) <= 90.0
    assert len([r for r in caplog.records if r.levelno >= logging.WARNING]) <= 31


# -- deadlines and stalled tasks ------------------------------------------------------------------


async def test_deadlines_hold_when_nothing_can_be_sent():
    """Ids that wait for a slot or for the end of an outage are lost on time."""
    server = server_of(50)
    server.outage = "503"
    async with fake_client(server) as client:
        async with client.watch(ids(50), timeout=100.0) as watcher:
            events = [event async for event in watcher]

        assert now() == pytest.approx(100.0, abs=0.5)
    assert [event.reason for event in events] == ["deadline"] * 50


async def test_each_add_may_have_its_own_timeout():
    """``add(timeout=...)`` counts for these ids only; None means no limit."""
    server = server_of(3)
    async with fake_client(server) as client, client.watch(timeout=50.0) as watcher:
        watcher.add("vid_00000")
        watcher.add("vid_00001", timeout=20.0)
        watcher.add("vid_00002", timeout=None)
        await asyncio.sleep(21)
        assert watcher.open_ids == ("vid_00000", "vid_00002")
        await asyncio.sleep(600)

        assert watcher.open_ids == ("vid_00002",)


async def test_hanging_key_callable_does_not_delay_deadlines():
    """The callable has the time of one request; ids are lost on time meanwhile."""

    async def hanging():
        await asyncio.Event().wait()
        return "never"

    server = server_of(3)
    client = make_client(hanging, transport=server, base_url="https://api.example.test/v1")
    async with client, client.watch(ids(3), timeout=60.0) as watcher:
        events = [event async for event in watcher]

        assert now() <= 80.0
        assert client.budget.in_flight == 0
    assert [event.reason for event in events] == ["deadline"] * 3
