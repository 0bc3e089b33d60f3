"""The polling contract of the watcher: when requests leave, and when none does."""

from __future__ import annotations

import asyncio
import contextlib
import logging
import random
from collections import deque
from contextlib import AsyncExitStack
from itertools import pairwise

import pytest

from ezvideo_async import (
    AsyncVideoClient,
    ClosedError,
    ConfigError,
    EzVideoError,
    PollPolicy,
    RequestBudget,
    RequestTimeoutError,
    RetryPolicy,
    TaskLost,
    TaskNotFoundError,
    WaitTimeoutError,
)
from ezvideo_async._scheduling.scheduler import Scheduler
from ezvideo_async.instrumentation import CircuitClosed, CircuitOpened, RateLimited
from tests.support.fake_transport import FakeTask, FakeTransport, fake_client

STEADY = PollPolicy(jitter=0.0)


def ids(count):
    return [f"vid_{number:05}" for number in range(count)]


def server_of(count, status="processing", **options):
    server = FakeTransport()
    server.tasks.update({task_id: FakeTask(status=status, **options) for task_id in ids(count)})
    return server


async def read_all(reader):
    return [event async for event in reader]


def peak(times, window):
    """The most times within any *window* seconds."""
    times = sorted(times)
    start = most = 0
    for end, at in enumerate(times):
        while times[start] <= at - window:
            start += 1
        most = max(most, end - start + 1)
    return most


# -- 1: slots, not tasks --------------------------------------------------------------------------


async def test_a_thousand_ids_take_no_task_each():
    """The tasks of a watch are the runner and as many workers as requests in flight."""
    server = server_of(1000, latency=0.5)
    budget = RequestBudget(rate=1000.0, max_in_flight=8)
    async with fake_client(server, budget=budget) as client:
        before = len(asyncio.all_tasks())
        async with client.watch(ids(1000), policy=STEADY) as watcher:
            await asyncio.sleep(30)
            assert len(asyncio.all_tasks()) - before == 1 + 8
            assert watcher.stats.in_flight == 8


async def test_a_lack_of_slots_stretches_all_intervals_alike():
    """Under overload ids are served in turn: gaps differ by less than the jitter of one round."""
    server = server_of(100, latency=1.0)
    budget = RequestBudget(rate=1000.0, max_in_flight=5)
    async with fake_client(server, budget=budget) as client:
        async with client.watch(ids(100), policy=STEADY):
            await asyncio.sleep(200)

    counts = [len(server.asked(task_id)) for task_id in ids(100)]

    assert (min(counts), max(counts)) == (10, 10)


# -- 2: spacing and spreading ---------------------------------------------------------------------


async def test_polls_come_at_the_interval():
    """Without jitter, one id is asked for at 0, 5, 10 and so on, exactly."""
    server = server_of(1)
    async with fake_client(server) as client, client.watch(ids(1), policy=STEADY):
        await asyncio.sleep(16)

    assert server.asked() == [0.0, 5.0, 10.0, 15.0]


@pytest.mark.parametrize(("rand", "gap"), [(0.0, 4.5), (0.5, 5.0), (0.75, 5.25)])
async def test_the_interval_varies_by_the_jitter(rand, gap):
    """Ten percent of jitter makes 5 s anything from 4.5 to 5.5 s."""
    server = server_of(1)
    async with fake_client(server, rand=lambda: rand) as client, client.watch(ids(1)):
        await asyncio.sleep(4 * gap + 0.1)

    assert server.asked() == pytest.approx([gap * number for number in range(5)])


async def test_first_looks_are_spread():
    """First looks of many ids take half the rate at most: no peak above 2.5 times the mean."""
    server = server_of(1000)
    budget = RequestBudget(rate=400.0)
    async with fake_client(server, budget=budget) as client:
        async with client.watch(ids(1000), policy=STEADY):
            await asyncio.sleep(6)

    firsts = [min(server.asked(task_id)) for task_id in ids(1000)]
    mean_of_100_ms = 1000 / 5.0 * 0.1

    assert max(firsts) <= 5.0
    assert peak(firsts, 0.1) <= 1.1 * mean_of_100_ms


async def test_first_looks_are_spread_also_when_adding_takes_time(monkeypatch):
    """What comes due while ids are added, and the loop stands still, is no burst afterwards."""
    server = server_of(1000)
    loop = asyncio.get_running_loop()
    add = Scheduler.add

    def add_slowly(*args, **options):
        added = add(*args, **options)
        loop._now += 0.4
        return added

    monkeypatch.setattr(Scheduler, "add", add_slowly)
    async with fake_client(server, budget=RequestBudget(rate=400.0, burst=400)) as client:
        async with client.watch(ids(1000), policy=STEADY):
            await asyncio.sleep(6)

    firsts = [min(server.asked(task_id)) for task_id in ids(1000)]

    assert min(firsts) == pytest.approx(0.4, abs=0.1)
    assert peak(firsts, 0.1) <= 1.2 * 1000 / 5.0 * 0.1


async def test_one_more_id_is_looked_at_at_once():
    """An id added alone does not wait for an interval."""
    server = server_of(2)
    async with fake_client(server) as client, client.watch(ids(1), policy=STEADY) as watcher:
        await asyncio.sleep(2.5)
        watcher.add(ids(2)[1])
        await asyncio.sleep(1)

    assert server.asked("vid_00001") == [2.5]


async def test_refresh_looks_soon_but_not_sooner_than_min_interval():
    """``refresh`` brings the next look forward to 1 s after the last start, also in flight."""
    server = server_of(1, latency=0.4)
    async with fake_client(server) as client, client.watch(ids(1), policy=STEADY) as watcher:
        await asyncio.sleep(0.2)
        assert watcher.poll_now("vid_00000")  # in flight
        await asyncio.sleep(3.0)
        assert watcher.poll_now("vid_00000")  # waiting, long enough
        assert not watcher.poll_now("vid_00009")
        await asyncio.sleep(0.1)

    assert server.asked() == [0.0, 1.0, 3.2]


@pytest.mark.fault("C20", "C21")
async def test_polls_after_a_stall_are_spread(caplog):
    """When the loop was blocked for long, the polls it missed do not come at once."""
    caplog.set_level(logging.INFO, "ezvideo_async")
    server = server_of(400)
    loop = asyncio.get_running_loop()
    budget = RequestBudget(rate=1000.0)
    async with fake_client(server, budget=budget) as client:
        async with client.watch(ids(400)):
            await asyncio.sleep(20)
            loop._now += 60.0  # as a laptop that slept, or a callback that blocked
            resumed = loop.time()
            await asyncio.sleep(30)

    after = [at for at in server.asked() if at >= resumed]

    assert peak(after, 1.0) <= 1.5 * 400 / 5.0
    assert len({record.message for record in caplog.records if "late" in record.message}) == 1


@pytest.mark.fault("C20")
async def test_polls_after_a_short_stall_are_spread():
    """Garbage is collected for a fifth of a second: what a thousand ids missed is no burst."""
    server = server_of(1000)
    loop = asyncio.get_running_loop()
    async with fake_client(server, budget=RequestBudget(rate=10_000.0)) as client:
        async with client.watch(ids(1000)):
            await asyncio.sleep(20)
            loop._now += 0.4
            resumed = loop.time()
            await asyncio.sleep(10)

    after = [at for at in server.asked() if at >= resumed]

    assert peak(after, 0.1) <= 2.0 * 1000 / 5.0 * 0.1


async def test_few_polls_after_a_short_stall_go_at_once():
    """What may be in flight at once need not wait any longer."""
    server = server_of(60)
    loop = asyncio.get_running_loop()
    async with fake_client(server, budget=RequestBudget(rate=10_000.0)) as client:
        async with client.watch(ids(60), policy=STEADY):
            await asyncio.sleep(19.9)
            loop._now += 0.4
            resumed = loop.time()
            await asyncio.sleep(1)

    assert [at for at in server.asked() if at > 19.9] == [resumed] * 60


async def test_min_interval_counts_from_the_sending():
    """A loop that was blocked before a poll got out does not send the next one at its heels."""
    server = server_of(1)
    loop = asyncio.get_running_loop()
    async with fake_client(server) as client, client.watch(ids(1)) as watcher:
        loop._now += 3.0  # the caller's own code computes for long
        await asyncio.sleep(0.1)
        watcher.poll_now(ids(1)[0])
        await asyncio.sleep(2.0)

    assert server.asked() == [3.0, 4.0]


# -- 3: server hints ------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("headers", "gap"),
    [
        ({"openai-poll-after-ms": "2500"}, 2.5),
        ({"openai-poll-after-ms": "1"}, 1.0),
        ({"openai-poll-after-ms": "9000000"}, 60.0),
        ({"openai-poll-after-ms": "soon"}, 5.0),
        ({"retry-after": "12", "openai-poll-after-ms": "2500"}, 12.0),
        ({"retry-after": "999999"}, 600.0),
        ({"retry-after": "-3"}, 5.0),
    ],
)
async def test_hints_of_the_server_win_over_the_policy(headers, gap):
    """Retry-After wins over openai-poll-after-ms wins over the policy, all within bounds."""
    server = server_of(1)
    server.headers = headers
    async with fake_client(server) as client, client.watch(ids(1), policy=STEADY):
        await asyncio.sleep(2 * gap + 0.1)

    assert server.asked() == [0.0, gap, 2 * gap]


# -- 4: failures ----------------------------------------------------------------------------------


async def test_failures_back_off_and_an_answer_resets():
    """Failure k waits U(5, min(60, 5 * 2**k)) seconds; with chance 0.5, the middle."""
    server = server_of(1)
    server.tasks["vid_00000"].fault = "garbage"
    async with fake_client(server) as client, client.watch(ids(1), policy=STEADY) as watcher:
        await asyncio.sleep(120)
        server.tasks["vid_00000"].fault = None
        await anext(watcher)
        await asyncio.sleep(5)
        server.tasks["vid_00000"].fault = "garbage"
        await asyncio.sleep(20)
    gaps = [two - one for one, two in zip(server.asked(), server.asked()[1:], strict=False)]

    assert gaps == [7.5, 12.5, 22.5, 32.5, 32.5, 32.5, 5.0, 5.0, 7.5][: len(gaps)]
    assert len(gaps) >= 7


async def test_a_poll_is_sent_once():
    """A failed poll is not repeated within the slot: the retry policy is for ``retrieve``."""
    server = server_of(1)
    server.outage = "500"
    async with fake_client(server) as client, client.watch(ids(1), policy=STEADY):
        await asyncio.sleep(5)

    assert server.asked() == [0.0]


# -- 5: one budget for all ------------------------------------------------------------------------


@pytest.mark.fault("H13")
async def test_a_429_cools_everybody_down_and_then_spreads():
    """No poll leaves within Retry-After; then they come back over ten seconds, at a cut rate."""
    server = server_of(200)
    cooling, signals = asyncio.Event(), []

    def hear(signal):
        if isinstance(signal, RateLimited):
            signals.append(signal)
            cooling.set()

    budget = RequestBudget(rate=200.0)
    async with fake_client(
        server, budget=budget, observers=[hear], rand=random.Random(7).random
    ) as client:
        async with client.watch(ids(200)):
            await asyncio.sleep(20)
            server.tasks["vid_00007"].fault = "429"
            await cooling.wait()
            cooled = asyncio.get_running_loop().time()
            server.tasks["vid_00007"].fault = None
            await asyncio.sleep(60)

    later = [at for at in server.asked() if at > cooled + 0.001]
    (cool_down,) = signals

    assert cool_down.seconds == 3.0
    assert cool_down.rate == pytest.approx(0.7 * 40.0, rel=0.1)
    assert min(later) >= cooled + 3.0 - 0.02
    assert peak([at for at in later if at < cooled + 13.0], 1.0) <= 1.4 * 40.0


@pytest.mark.parametrize("outage", ["503", "html", "hang"])
async def test_an_outage_is_met_with_single_probes(outage, caplog):
    """Five minutes without the server cost under 5 % of the usual polls, and no id."""
    caplog.set_level(logging.INFO, "ezvideo_async")
    server = server_of(400)
    signals = []
    budget = RequestBudget(rate=160.0)
    chance = random.Random(7)
    async with fake_client(
        server, budget=budget, observers=[signals.append], rand=chance.random
    ) as client:
        async with client.watch(ids(400)) as watcher:
            await asyncio.sleep(30)
            server.outage, began = outage, asyncio.get_running_loop().time()
            await asyncio.sleep(300)
            server.outage, healed = None, asyncio.get_running_loop().time()
            await asyncio.sleep(120)
            assert watcher.stats.open == 400

    steady = 400 / 5.0
    during = [at for at in server.asked() if began < at < healed]
    after = [at for at in server.asked() if at >= healed]
    seen = sorted(min(at for at in server.asked(task_id) if at >= healed) for task_id in ids(400))
    breaker = [type(s) for s in signals if isinstance(s, CircuitOpened | CircuitClosed)]

    assert len(during) <= 0.05 * 300 * steady
    assert peak(after, 5.0) <= 1.2 * 5.0 * steady
    assert seen[395] - healed <= 60.0
    assert breaker == [CircuitOpened, CircuitClosed]
    assert [record.levelname for record in caplog.records] == ["WARNING", "INFO"]


async def test_a_stretched_interval_is_told_once(caplog):
    """When the rate does not reach, one line at INFO names both numbers."""
    caplog.set_level(logging.INFO, "ezvideo_async")
    server = server_of(1000)
    async with fake_client(server) as client, client.watch(ids(900)) as watcher:
        watcher.add(*ids(1000))

    assert [record.getMessage() for record in caplog.records] == [
        "900 tasks at 100 requests a second: each is asked for every 9.0 s instead of 5.0 s"
    ]


async def test_the_rate_may_be_set_while_running():
    """A budget's rate counts from the moment it is set."""
    server = server_of(200)
    budget = RequestBudget(rate=10.0, burst=1)
    async with fake_client(server, budget=budget) as client, client.watch(ids(200)):
        await asyncio.sleep(10)
        slow = client.requests_sent
        client.budget.rate = 1000.0
        await asyncio.sleep(10)

    assert slow == pytest.approx(100, abs=1)
    assert client.requests_sent - slow >= 2 * 200


# -- 6: not found ---------------------------------------------------------------------------------


@pytest.mark.fault("H5")
async def test_not_found_is_not_yet_for_a_while():
    """An id the server does not know yet is looked for again within ``not_found_grace``."""
    server = FakeTransport()
    async with fake_client(server) as client, client.watch(ids(1), policy=STEADY) as watcher:
        await asyncio.sleep(7)
        server.tasks["vid_00000"] = FakeTask(status="completed")
        (event,) = await read_all(watcher)

    assert event.kind == "task_completed"
    assert server.asked() == [0.0, 5.0, 10.0]


@pytest.mark.fault("H5")
async def test_an_id_never_found_is_lost_after_the_grace():
    """After the grace "not found" is believed."""
    server = FakeTransport()
    async with fake_client(server) as client, client.watch(ids(1), policy=STEADY) as watcher:
        (event,) = await read_all(watcher)

    assert isinstance(event, TaskLost)
    assert (event.reason, event.task) == ("not_found", None)
    assert isinstance(event.error, TaskNotFoundError)
    assert server.asked() == [0.0, 5.0, 10.0]


@pytest.mark.fault("H6")
@pytest.mark.fault("S12")
async def test_a_task_that_vanishes_gets_two_more_looks():
    """A task that was seen is lost at the third "not found" in a row, with its last state."""
    server = server_of(1)
    async with fake_client(server) as client, client.watch(ids(1), policy=STEADY) as watcher:
        await anext(watcher)
        del server.tasks["vid_00000"]
        (event,) = await read_all(watcher)

    assert (event.reason, event.task.raw_status) == ("vanished", "processing")
    assert server.asked() == [0.0, 5.0, 10.0, 15.0]


async def test_a_task_that_comes_back_is_not_lost():
    """An answer between two "not found" starts the count anew."""
    server = server_of(1)
    async with fake_client(server) as client, client.watch(ids(1), policy=STEADY) as watcher:
        for fault in (None, "not-found", "not-found", None, "not-found", "not-found", None):
            server.tasks["vid_00000"].fault = fault
            await asyncio.sleep(5)
        assert watcher.open_ids == ("vid_00000",)


# -- deadlines ------------------------------------------------------------------------------------


@pytest.mark.fault("S13")
async def test_a_task_that_never_ends_is_given_up_at_its_deadline():
    """The watcher's time limit ends a watch with the last state and what it waited."""
    server = server_of(1)
    async with fake_client(server) as client:
        async with client.watch(ids(1), policy=STEADY, timeout=17.0) as watcher:
            events = await read_all(watcher)
        ended = asyncio.get_running_loop().time()

    assert [event.kind for event in events] == ["status_changed", "task_lost"]
    assert events[1].reason == "deadline"
    assert isinstance(events[1].error, WaitTimeoutError)
    assert (events[1].error.waited, ended) == (17.0, 17.0)
    assert events[1].error.task.raw_status == "processing"


async def test_deadlines_hold_when_nothing_can_be_sent():
    """Ids that wait for a slot or for the end of an outage are given up on time."""
    server = server_of(50)
    server.outage = "503"
    async with fake_client(server) as client:
        async with client.watch(ids(50), timeout=100.0) as watcher:
            events = await read_all(watcher)
        ended = asyncio.get_running_loop().time()

    assert {event.reason for event in events} == {"deadline"}
    assert len(events) == 50
    assert ended == pytest.approx(100.0, abs=0.5)


async def test_each_add_may_have_its_own_deadline():
    """``add(timeout=...)`` counts for these ids only; None is no limit."""
    server = server_of(3)
    async with fake_client(server) as client, client.watch(timeout=50.0) as watcher:
        watcher.add("vid_00000")
        watcher.add("vid_00001", timeout=20.0)
        watcher.add("vid_00002", timeout=None)
        await asyncio.sleep(21)
        assert watcher.open_ids == ("vid_00000", "vid_00002")
        await asyncio.sleep(600)
        assert watcher.open_ids == ("vid_00002",)


@pytest.mark.fault("H16")
async def test_a_retry_after_beyond_the_deadline_ends_at_once():
    """Nobody waits for a pause that is longer than what is left."""
    server = server_of(1)
    server.tasks["vid_00000"].fault = "503"  # Retry-After: 7
    async with fake_client(server) as client:
        async with client.watch(ids(1), timeout=6.0) as watcher:
            (event,) = await read_all(watcher)
        assert asyncio.get_running_loop().time() < 1.0

    assert event.reason == "deadline"


async def test_a_task_without_change_is_told_as_stalled_once():
    """Half an hour without any change is one event, with the moment of the last change."""
    server = server_of(1)
    policy = PollPolicy(jitter=0.0, stalled_after=100.0)
    async with fake_client(server) as client, client.watch(ids(1), policy=policy) as watcher:
        await anext(watcher)
        stalled = await anext(watcher)
        at = asyncio.get_running_loop().time()
        await asyncio.sleep(1000)
        assert watcher.stats.unread == 0

    assert (stalled.kind, at) == ("task_stalled", 100.0)
    assert stalled.at - stalled.since == pytest.approx(100.0)


async def test_a_change_of_progress_alone_is_no_stall():
    """Though it is no event for this reader, and its answer is not read as a whole."""
    server = server_of(1, progress=1)
    policy = PollPolicy(jitter=0.0, stalled_after=100.0)
    async with fake_client(server) as client, client.watch(ids(1), policy=policy) as watcher:
        await anext(watcher)
        for progress in range(2, 11):
            await asyncio.sleep(50)
            server.headers = {"x-request-id": f"r{progress}"}
            server.tasks[ids(1)[0]].progress = progress
        await asyncio.sleep(50)
        assert watcher.stats.unread == 0
        (task,) = watcher.snapshot().values()
        stalled = await anext(watcher)

    assert (task.progress, task.request_id) == (10, "r10")
    assert (stalled.kind, stalled.task.progress) == ("task_stalled", 10)
    assert stalled.at - stalled.since == pytest.approx(100.0)


async def test_progress_is_told_with_the_whole_state():
    """Each change has the task as it was then, read from its own answer."""
    server = server_of(1, progress=1, extra={"model": "m", "metadata": {"a": 1}})
    told = []
    async with (
        fake_client(server) as client,
        client.watch(ids(1), policy=PollPolicy(jitter=0.0), progress=True) as watcher,
    ):
        for progress in range(2, 6):
            told.append(await anext(watcher))
            server.tasks[ids(1)[0]].progress = progress
            server.headers = {"x-request-id": f"r{progress}"}

    assert [event.kind for event in told] == ["status_changed", *["progress_changed"] * 3]
    assert [(event.previous, event.current) for event in told[1:]] == [(1, 2), (2, 3), (3, 4)]
    assert [event.task.progress for event in told] == [1, 2, 3, 4]
    assert [event.task.request_id for event in told] == [None, "r2", "r3", "r4"]
    assert {(event.task.model, event.task.metadata["a"]) for event in told} == {("m", 1)}
    assert [event.task.raw["progress"] for event in told] == [1, 2, 3, 4]


# -- bad options ----------------------------------------------------------------------------------


@pytest.mark.fault("C24")
@pytest.mark.parametrize(
    "options",
    [
        {"timeout": 0.0},
        {"timeout": -1.0},
        {"timeout": float("nan")},
        {"timeout": "60"},
        {"not_found_grace": -1.0},
        {"retain_ended": float("inf")},
    ],
)
async def test_bad_options_are_refused_before_anything_is_sent(options):
    """An option out of its range is one clear sentence that names it."""
    server = FakeTransport()
    async with fake_client(server) as client:
        with pytest.raises(ConfigError, match=next(iter(options))):
            client.watch(ids(1), **options)

    assert server.asked() == []


# -- the loop and its neighbours ------------------------------------------------------------------


@pytest.mark.fault("C21")
@pytest.mark.parametrize("blocked", [1.5, 3.0, 10.0])
async def test_a_loop_that_is_always_busy_still_polls(blocked):
    """Blocked again and again, ids are polled late, but each within a few blockings."""
    server = server_of(20)
    loop = asyncio.get_running_loop()
    async with fake_client(server) as client, client.watch(ids(20)):
        await asyncio.sleep(10)
        began = loop.time()
        for _ in range(round(300 / blocked)):
            loop._now += blocked
            await asyncio.sleep(0.1)
        lasted = loop.time() - began

    counts = [sum(at > began for at in server.asked(task_id)) for task_id in ids(20)]

    assert min(counts) >= 0.3 * lasted / (5.0 + 2 * blocked)


async def test_a_deadline_that_passes_in_flight_blames_nobody(caplog):
    """A slow answer after the deadline is no blocked loop: healthy ids keep their pace."""
    caplog.set_level(logging.INFO, "ezvideo_async")
    server = server_of(20)
    server.tasks["vid_slow"] = FakeTask(status="processing", latency=9.0)
    async with fake_client(server) as client, client.watch(ids(20), policy=STEADY) as watcher:
        for _ in range(10):
            watcher.add("vid_slow", timeout=7.0)
            await asyncio.sleep(10)
    gaps = [two - one for task_id in ids(20) for one, two in pairwise(server.asked(task_id))]

    assert max(gaps) == pytest.approx(5.0)
    assert caplog.records == []


async def test_watchers_with_little_to_send_waste_no_rate():
    """Ninety watchers of one id get as much done as one watcher of ninety."""
    server = server_of(90)
    budget = RequestBudget(rate=20.0)
    async with fake_client(server, budget=budget) as client, AsyncExitStack() as stack:
        for task_id in ids(90):
            await stack.enter_async_context(client.watch([task_id]))
        await asyncio.sleep(100)

    assert client.requests_sent >= 0.9 * 18.0 * 100


async def test_clients_that_share_a_budget_share_it():
    """Neither of two clients, each with more to ask than the budget allows, goes without."""
    budget = RequestBudget(rate=10.0, max_in_flight=4)
    one, two = server_of(200), server_of(200)
    async with fake_client(one, budget=budget) as first, fake_client(two, budget=budget) as second:
        async with first.watch(ids(200)), second.watch(ids(200)):
            await asyncio.sleep(100)

    assert len(one.asked()) == pytest.approx(len(two.asked()), rel=0.1)
    assert len(one.asked()) + len(two.asked()) == pytest.approx(1000, rel=0.05)


async def test_an_outage_is_over_for_all_clients_of_a_budget():
    """The looks of one client are spread when the other one finds the server well again."""
    budget = RequestBudget(rate=1000.0)
    one, two = server_of(1), server_of(300)
    one.outage = two.outage = "500"
    async with fake_client(one, budget=budget) as first, fake_client(two, budget=budget) as second:
        waiting = [asyncio.ensure_future(second.wait(task_id)) for task_id in ids(300)]
        await asyncio.sleep(60)
        one.outage = two.outage = None
        healed = asyncio.get_running_loop().time()
        await first.retrieve("vid_00000")
        await asyncio.sleep(60)
        for wait in waiting:
            wait.cancel()
        await asyncio.wait(waiting)

    after = [at for at in two.asked() if at >= healed]

    assert peak(after, 1.0) <= 3 * 300 / 10.0
    assert len({task_id for task_id in ids(300) if max(two.asked(task_id)) >= healed}) == 300


async def test_polls_come_back_although_one_task_always_fails():
    """While the breaker is open, calls for a bad task do not keep the probes away."""
    server = server_of(20)
    server.tasks["vid_bad"] = FakeTask(fault="500")
    async with fake_client(server) as client, client.watch(ids(20)) as watcher:
        await asyncio.sleep(10)
        server.outage = "500"
        await asyncio.sleep(60)
        assert client.budget.is_server_out
        server.outage = None
        for _ in range(20):
            with contextlib.suppress(EzVideoError):
                await client.retrieve("vid_bad")
            await asyncio.sleep(5)
        assert not client.budget.is_server_out
        assert watcher.stats.open == 20


async def test_an_old_pause_does_not_delay_a_new_id():
    """A cool-down long ago is over: an id added now is looked at now."""
    server = server_of(1, status="completed")
    async with fake_client(server) as client, client.watch(keep_open=True) as watcher:
        server.outage = "429"
        watcher.add("vid_00000")
        await asyncio.sleep(1)
        watcher.discard("vid_00000")
        server.outage = None
        await asyncio.sleep(3600)
        began = asyncio.get_running_loop().time()
        await watcher.wait("vid_00000")

        assert asyncio.get_running_loop().time() == began


async def test_a_low_limit_serves_all_alike_and_logs_little(caplog):
    """A server that allows 10 requests a second: no id is forgotten, one warning a minute."""
    server = server_of(100)
    recent = deque()

    async def limited(request, secret, **options):
        at = asyncio.get_running_loop().time()
        while recent and recent[0] <= at - 1.0:
            recent.popleft()
        server.tasks[request.task_id].fault = "429-bare" if len(recent) >= 10 else None
        recent.append(at)
        return await FakeTransport.send(server, request, secret, **options)

    server.send = limited
    chance = random.Random(3)
    async with fake_client(server, rand=chance.random) as client, client.watch(ids(100)):
        await asyncio.sleep(1800)
    gaps = [two - one for task_id in ids(100) for one, two in pairwise(server.asked(task_id))]

    assert max(gaps) <= 90.0
    assert len([r for r in caplog.records if r.levelno >= logging.WARNING]) <= 31


async def test_a_hanging_key_provider_does_not_hang_the_watch():
    """A provider gets the time of one request; deadlines hold meanwhile."""

    async def hanging():
        await asyncio.Event().wait()
        return "never"

    server = server_of(3)
    client = AsyncVideoClient(hanging, base_url="https://api.example.test/v1")
    client._transport = server
    async with client, client.watch(ids(3), timeout=60.0) as watcher:
        events = await read_all(watcher)

        assert asyncio.get_running_loop().time() <= 80.0
        assert client.budget.in_flight == 0
    assert [event.reason for event in events] == ["deadline"] * 3


async def test_a_provider_that_is_not_async_is_a_clear_error():
    """A plain function in place of an async one is said to be that."""
    client = AsyncVideoClient(lambda: "key", base_url="https://api.example.test/v1")
    client._transport = server_of(1)
    async with client:
        with pytest.raises(ConfigError, match="must be async"):
            await client.retrieve("vid_00000")


async def test_a_huge_retry_after_does_not_lose_a_task():
    """A Retry-After of a day is asked again after ten minutes, not taken for the end."""
    server = server_of(1)
    server.headers = {"retry-after": "90000"}
    async with fake_client(server) as client, client.watch(ids(1), timeout=3600.0) as watcher:
        await asyncio.sleep(1000)
        server.headers = {}
        server.tasks["vid_00000"].status = "completed"
        events = await read_all(watcher)

    assert [event.kind for event in events] == ["status_changed", "task_completed"]


async def test_a_call_has_its_turn_within_its_deadline():
    """``retrieve`` does not stand in line for longer than its policy's deadline."""
    server = server_of(1, latency=10_000.0)
    budget = RequestBudget(max_in_flight=1)
    retry = RetryPolicy(deadline=30.0)
    async with fake_client(server, budget=budget, retry=retry) as client:
        first = asyncio.ensure_future(client.retrieve("vid_00000"))
        await asyncio.sleep(0)
        with pytest.raises(RequestTimeoutError, match="no turn in time"):
            await client.retrieve("vid_00000")
        assert asyncio.get_running_loop().time() == 30.0
        first.cancel()
        await asyncio.wait([first])
        assert budget.in_flight == 0


def test_a_budget_belongs_to_one_event_loop():
    """A second event loop gets a clear error instead of hanging."""
    budget = RequestBudget()

    async def enter():
        await AsyncVideoClient("key", budget=budget).__aenter__()

    with asyncio.Runner() as one, asyncio.Runner() as two:
        client = AsyncVideoClient("key", budget=budget)
        one.run(client.__aenter__())
        with pytest.raises(ClosedError, match="another event loop"):
            two.run(enter())
        one.run(client.aclose())
