"""The delivery contract of the watcher, line by line."""

from __future__ import annotations

import asyncio
import contextlib
from collections import Counter
from contextvars import ContextVar

import pytest
from hypothesis import given, strategies as st

from ezvideo_async import (
    AuthenticationError,
    ClosedError,
    PollPolicy,
    ProgressChanged,
    RequestBudget,
    StatusChanged,
    TaskCompleted,
    TaskFailed,
    TaskLost,
    TaskStatus,
    VideoTask,
)
from ezvideo_async.instrumentation import PollSucceeded
from ezvideo_async.testing import VirtualClockLoop
from tests.support.fake_transport import FakeTask, FakeTransport, fake_client

STEADY = PollPolicy(jitter=0.0)
IDS = [f"vid_{number}" for number in range(20)]


def now():
    return asyncio.get_running_loop().time()


async def read_all(reader):
    return [event async for event in reader]


def run(main):
    with asyncio.Runner(loop_factory=VirtualClockLoop) as runner:
        return runner.run(main())


async def play(server, task_id, states, *, every=5.0):
    """Let a task show each state for a while, beginning now."""
    for status, progress in states:
        server.tasks[task_id] = FakeTask(status=status, progress=progress)
        await asyncio.sleep(every)


alive = st.tuples(st.sampled_from(["pending", "processing", "queued"]), st.integers(0, 3))
scripts = st.tuples(
    st.lists(alive, max_size=8), st.tuples(st.sampled_from(["completed", "failed"]), st.just(9))
).map(lambda parts: [*parts[0], parts[1]])


# -- 1: order, and no event for the same state ----------------------------------------------------


@given(scripts)
def test_events_are_the_changes_the_server_showed(script):
    """Events of an id are the changes among its states, in order, and nothing else."""

    async def main():
        server = FakeTransport()
        async with fake_client(server) as client:
            playing = asyncio.ensure_future(play(server, "vid_0", script))
            async with client.watch(["vid_0"], policy=STEADY, progress=True) as watcher:
                events = await read_all(watcher)
            await playing
        return [(str(event.task.status), event.task.progress) for event in events]

    words = {"queued": "pending"}
    states = [(words.get(status, status), progress) for status, progress in script]
    changes = [state for place, state in enumerate(states) if [state] != states[place - 1 : place]]

    assert run(main) == changes


async def test_the_same_state_twice_is_no_event():
    """A task that repeats itself is told once."""
    server = FakeTransport()
    server.tasks["vid_0"] = FakeTask(status="processing")
    async with fake_client(server) as client, client.watch(["vid_0"], policy=STEADY) as watcher:
        first = await anext(watcher)
        await asyncio.sleep(61)

        assert isinstance(first, StatusChanged)
        assert (first.previous, first.current) == (None, TaskStatus.PROCESSING)
        assert len(server.asked()) == 13
        assert watcher.stats.unread == 0


async def test_progress_is_told_only_to_who_asked():
    """Without ``progress=True`` a change of progress alone is silent."""
    server = FakeTransport()
    script = [("processing", 10), ("processing", 20), ("completed", 100)]
    async with fake_client(server) as client:
        told = {}
        for progress in (False, True):
            playing = asyncio.ensure_future(play(server, "vid_0", script))
            async with client.watch(["vid_0"], policy=STEADY, progress=progress) as watcher:
                told[progress] = [event.kind for event in await read_all(watcher)]
            await playing

    assert told == {
        False: ["status_changed", "task_completed"],
        True: ["status_changed", "progress_changed", "task_completed"],
    }


# -- 2: exactly one final event -------------------------------------------------------------------


@given(
    st.lists(st.tuples(scripts, st.sampled_from([0.0, 0.2, 2.0])), min_size=1, max_size=5),
    st.sampled_from([1, 2, 16]),
)
def test_each_id_ends_exactly_once(scripts, max_in_flight):
    """Each id has one final event, the last of its events, at any concurrency."""

    async def main():
        server = FakeTransport()
        budget = RequestBudget(max_in_flight=max_in_flight)
        async with fake_client(server, budget=budget) as client:
            ids = [f"vid_{number}" for number in range(len(scripts))]
            playing = [
                asyncio.ensure_future(play(server, task_id, script))
                for task_id, (script, _latency) in zip(ids, scripts, strict=True)
            ]
            async with client.watch(ids, policy=STEADY) as watcher:
                events = await read_all(watcher)
            await asyncio.gather(*playing)
            return ids, events

    ids, events = run(main)
    finals = Counter(event.task_id for event in events if event.is_final)
    last = {event.task_id: event.is_final for event in events}

    assert finals == Counter(ids)
    assert last == dict.fromkeys(ids, True)


@pytest.mark.fault("S4")
async def test_nothing_follows_the_final_event():
    """After its end an id is neither polled nor told again, even if the server changes its mind."""
    server = FakeTransport()
    server.tasks["vid_0"] = FakeTask(status="failed")
    server.tasks["vid_1"] = FakeTask(status="processing")
    async with fake_client(server) as client:
        async with client.watch(["vid_0", "vid_1"], policy=STEADY) as watcher:
            await asyncio.sleep(1)
            server.tasks["vid_0"].status = "completed"
            await asyncio.sleep(30)
            server.tasks["vid_1"].status = "completed"
            events = await read_all(watcher)

    kinds = [event.kind for event in events if event.task_id == "vid_0"]

    assert kinds == ["task_failed"]
    assert len(server.asked("vid_0")) == 1


@pytest.mark.fault("C6")
async def test_an_id_added_again_after_its_end_is_watched_anew():
    """A new watch of an ended id looks again and ends again, with its own tag."""
    server = FakeTransport()
    server.tasks["vid_0"] = FakeTask(status="failed")
    async with fake_client(server) as client:
        async with client.watch(policy=STEADY) as watcher:
            watcher.add("vid_0", tag="first")
            await asyncio.sleep(1)
            watcher.add("vid_0", tag="second", restart_ended=True)
            watcher.finish_adding()
            events = await read_all(watcher)

    assert [(event.kind, event.tag, event.seq) for event in events] == [
        ("task_failed", "first", 1),
        ("task_failed", "second", 2),
    ]


# -- 3: slow readers ------------------------------------------------------------------------------


@pytest.mark.fault("C10")
async def test_a_slow_reader_gets_the_newest_state_only():
    """However long nobody reads, at most one event per id waits, and it is the newest."""
    server = FakeTransport()
    async with fake_client(server) as client:
        async with client.watch(IDS, policy=STEADY, progress=True) as watcher:
            for progress in range(10):
                for task_id in IDS:
                    server.tasks[task_id] = FakeTask(status="processing", progress=progress)
                await asyncio.sleep(5)
                assert watcher.stats.unread <= len(IDS)
            events = [await anext(watcher) for _ in IDS]

    assert {event.task_id for event in events} == set(IDS)
    assert {event.task.progress for event in events} == {9}
    assert {(event.previous, event.current) for event in events} == {(None, TaskStatus.PROCESSING)}


@pytest.mark.fault("C10")
async def test_a_slow_reader_loses_no_ending():
    """Endings wait for a reader that comes an hour late."""
    server = FakeTransport()
    for number, task_id in enumerate(IDS):
        server.tasks[task_id] = FakeTask(status=["completed", "failed"][number % 2])
    async with fake_client(server) as client, client.watch(IDS) as watcher:
        await asyncio.sleep(3600)
        events = await read_all(watcher)

    assert {event.task_id for event in events} == set(IDS)
    assert all(event.is_final for event in events)


@pytest.mark.fault("C10")
async def test_polls_do_not_wait_for_the_reader():
    """Nobody reads, and polls keep their pace."""
    server = FakeTransport()
    server.tasks["vid_0"] = FakeTask(status="processing")
    async with fake_client(server) as client, client.watch(["vid_0"], policy=STEADY):
        await asyncio.sleep(100)

    assert server.asked() == [5.0 * number for number in range(20)]


@given(
    st.lists(scripts, min_size=1, max_size=4),
    st.lists(st.tuples(st.floats(0.0, 30.0), st.integers(0, 3)), max_size=6),
)
def test_however_slowly_one_reads_little_waits_and_no_ending_is_lost(scripts, reads):
    """Reads at any moments find one event per id at most; in the end every ending is read."""

    async def main():
        server = FakeTransport()
        ids = IDS[: len(scripts)]
        async with fake_client(server) as client:
            playing = [
                asyncio.ensure_future(play(server, task_id, script))
                for task_id, script in zip(ids, scripts, strict=True)
            ]
            events = []
            async with client.watch(ids, policy=STEADY, progress=True) as watcher:
                for seconds, count in reads:
                    await asyncio.sleep(seconds)
                    assert watcher.stats.unread <= len(ids)
                    for _ in range(min(count, watcher.stats.unread)):
                        events += [await anext(watcher)]
                events += await read_all(watcher)
            await asyncio.gather(*playing)
            return ids, events, server

    ids, events, server = run(main)

    assert Counter(event.task_id for event in events if event.is_final) == Counter(ids)
    for task_id in ids:
        told = [event for event in events if event.task_id == task_id]
        assert told[-1].task.raw_status == server.tasks[task_id].status


# -- 4: late readers ------------------------------------------------------------------------------


async def test_a_late_subscription_gets_the_state_first_without_a_request():
    """``subscribe`` tells what is known before anything new, and asks nobody."""
    server = FakeTransport()
    server.tasks["vid_0"] = FakeTask(status="processing", progress=40)
    server.tasks["vid_1"] = FakeTask(status="completed")
    async with fake_client(server) as client, client.watch(["vid_0", "vid_1"]) as watcher:
        await asyncio.sleep(3)
        sent = client.requests_sent
        async with watcher.subscribe("vid_0", "vid_1") as events:
            first, second = await anext(events), await anext(events)

        assert client.requests_sent == sent
    assert (first.kind, first.previous, first.current) == (
        "status_changed",
        None,
        TaskStatus.PROCESSING,
    )
    assert isinstance(second, TaskCompleted)


@given(scripts, st.floats(0.1, 45.0))
def test_who_comes_late_at_any_moment_knows_at_once_what_is_known(script, seconds):
    """The first event of a late subscription is the state seen last, for no request."""

    async def main():
        server = FakeTransport()
        async with fake_client(server) as client:
            playing = asyncio.ensure_future(play(server, "vid_0", script))
            async with client.watch(["vid_0"], policy=STEADY, keep_open=True) as watcher:
                await asyncio.sleep(seconds)
                known, sent = watcher.snapshot()["vid_0"], client.requests_sent
                async with watcher.subscribe("vid_0") as events:
                    first = await anext(events)
                task = await watcher.wait("vid_0", raise_on_failure=False)
                if known.is_terminal:
                    assert client.requests_sent == sent
            await playing
            return known, first, task

    known, first, task = run(main)

    assert first.task == known
    assert first.is_final == known.is_terminal
    assert task.raw_status == script[-1][0]


async def test_a_subscription_ends_with_its_ids():
    """A subscription to some ids ends when they have ended, whatever else is open."""
    server = FakeTransport()
    script = [("pending", 0), ("processing", 1), ("processing", 2), ("completed", 3)]
    server.tasks["vid_1"] = FakeTask(status="processing")
    async with fake_client(server) as client:
        playing = asyncio.ensure_future(play(server, "vid_0", script))
        async with client.watch(["vid_0", "vid_1"], policy=STEADY) as watcher:
            async with watcher.subscribe("vid_0") as events:
                kinds = [event.kind async for event in events]
            assert watcher.open_ids == ("vid_1",)
        await playing

    assert kinds == ["status_changed", "status_changed", "progress_changed", "task_completed"]


async def test_a_subscription_without_replay_or_progress_is_told_less():
    """``replay=False`` skips what is known, ``progress=False`` skips progress."""
    server = FakeTransport()
    script = [("processing", 1), ("processing", 2), ("completed", 3)]
    async with fake_client(server) as client:
        playing = asyncio.ensure_future(play(server, "vid_0", script))
        async with client.watch(["vid_0"], policy=STEADY) as watcher:
            await asyncio.sleep(1)
            async with watcher.subscribe("vid_0", replay=False, progress=False) as events:
                kinds = [event.kind async for event in events]
        await playing

    assert kinds == ["task_completed"]


async def test_a_subscription_to_all_hears_of_later_ids_and_ends_with_the_watcher():
    """Without ids a subscription covers what is added later, and ends when iteration would."""
    server = FakeTransport()
    server.tasks["vid_0"] = FakeTask(status="completed")
    server.tasks["vid_1"] = FakeTask(status="failed")
    async with fake_client(server) as client, client.watch() as watcher:
        async with watcher.subscribe() as events:
            watcher.add("vid_0")
            first = await anext(events)
            watcher.add("vid_1")
            watcher.finish_adding()
            rest = await read_all(events)

    assert first.task_id == "vid_0"
    assert [event.kind for event in rest] == ["task_failed"]


async def test_subscribing_to_an_unknown_id_says_what_to_do():
    """An id nobody added is a clear error, at once."""
    async with fake_client(FakeTransport()) as client, client.watch(keep_open=True) as watcher:
        with pytest.raises(ValueError, match=r"'vid_9' is not being watched; add\(\) it first"):
            watcher.subscribe("vid_9")


async def test_an_ended_id_is_known_for_a_while_and_then_forgotten():
    """``wait`` on an ended id asks nobody within ``retain_ended``, and looks anew after it."""
    server = FakeTransport()
    server.tasks["vid_0"] = FakeTask(status="completed")
    async with fake_client(server) as client:
        async with client.watch(["vid_0"], retain_ended=60.0, keep_open=True) as watcher:
            await asyncio.sleep(59)
            task = await watcher.wait("vid_0")
            assert client.requests_sent == 1
            await asyncio.sleep(2)
            assert dict(watcher.snapshot()) == {}
            await watcher.wait("vid_0")
            assert client.requests_sent == 2

    assert task.succeeded


async def test_a_hub_that_nobody_iterates_does_not_grow():
    """Endings that a waiter has got are forgotten after ``retain_ended``; others are kept."""
    server = FakeTransport()
    server.tasks.update({task_id: FakeTask(status="completed") for task_id in IDS})
    async with fake_client(server) as client:
        async with client.watch(keep_open=True, retain_ended=60.0) as hub:
            for task_id in IDS[:-1]:
                await hub.wait(task_id)
            hub.add(IDS[-1])
            await asyncio.sleep(61)
            assert hub.stats.unread == 1
            event = await anext(hub)

    assert event.task_id == IDS[-1]


# -- 5: how iteration ends ------------------------------------------------------------------------


async def test_iteration_ends_when_every_id_has_ended():
    """Made with ids, a watcher's loop ends by itself; ids added later count too."""
    server = FakeTransport()
    server.tasks.update({task_id: FakeTask(status="completed") for task_id in IDS})
    async with fake_client(server) as client, client.watch(IDS[:2]) as watcher:
        seen = []
        async for event in watcher:
            seen.append(event.task_id)
            if len(seen) == 1:
                watcher.add(*IDS[2:4])

    assert sorted(seen) == sorted(IDS[:4])


@pytest.mark.parametrize(("ids", "keep_open"), [((), False), (("vid_0",), True)])
async def test_an_open_watcher_goes_on_until_it_is_closed(ids, keep_open):
    """Made without ids, or kept open, the loop waits for more until ``close``."""
    server = FakeTransport()
    server.tasks.update({task_id: FakeTask(status="completed") for task_id in IDS})
    async with fake_client(server) as client:
        async with client.watch(ids, keep_open=keep_open) as watcher:
            reading = asyncio.ensure_future(read_all(watcher))
            await asyncio.sleep(60)
            assert not reading.done()
            watcher.add("vid_5")
            await asyncio.sleep(60)
            assert not reading.done()
            watcher.finish_adding()
            events = await reading
            with pytest.raises(ClosedError, match="takes no more ids"):
                watcher.add("vid_6")

    assert [event.task_id for event in events] == [*ids, "vid_5"]


async def test_a_refused_key_is_raised_after_what_is_unread_with_the_open_ids():
    """401 ends the whole watch by an exception that names the ids without an end."""
    server = FakeTransport()
    server.tasks["vid_0"] = FakeTask(status="completed")
    server.tasks["vid_1"] = FakeTask(status="processing")
    async with fake_client(server) as client:
        async with client.watch(["vid_0", "vid_1"], policy=STEADY) as watcher:
            await asyncio.sleep(1)
            _refuse_key(server)
            await asyncio.sleep(10)
            kinds = [(await anext(watcher)).kind for _ in range(2)]
            with pytest.raises(AuthenticationError) as caught:
                await anext(watcher)
            with pytest.raises(AuthenticationError):
                await watcher.wait("vid_1")
            sent = client.requests_sent
            await asyncio.sleep(60)
            assert client.requests_sent == sent

    assert kinds == ["task_completed", "status_changed"]
    assert caught.value.open_ids == ("vid_1",)


def _refuse_key(server):
    async def refuse(request, _secret, **_options):
        raise AuthenticationError("the key was refused", task_id=request.task_id, status=401)

    server.send = refuse


@given(
    st.lists(st.floats(0.0, 40.0), min_size=1, max_size=5),
    st.one_of(st.none(), st.floats(0.1, 60.0)),
)
def test_iteration_ends_with_the_last_id_or_with_the_open_ones_named(durations, refused_after):
    """At any moment: a loop ends when all have ended, or raises and names who has not."""

    async def main():
        server = FakeTransport()
        ids = IDS[: len(durations)]
        ended, open_ids = [], None

        async def finish(task_id, duration):
            server.tasks[task_id] = FakeTask(status="processing")
            await asyncio.sleep(duration)
            server.tasks[task_id].status = "completed"

        async with fake_client(server) as client:
            playing = [
                asyncio.ensure_future(finish(task_id, duration))
                for task_id, duration in zip(ids, durations, strict=True)
            ]
            if refused_after is not None:
                asyncio.get_running_loop().call_later(refused_after, _refuse_key, server)
            async with client.watch(ids, policy=STEADY) as watcher:
                try:
                    ended += [event.task_id async for event in watcher if event.is_final]
                except AuthenticationError as error:
                    open_ids = error.open_ids
                    finals = watcher.stats.completed
                else:
                    finals = len(ended)
            await asyncio.gather(*playing)
            return ids, finals, open_ids

    ids, finals, open_ids = run(main)

    assert finals + len(open_ids or ()) == len(ids)
    assert open_ids is None or refused_after is not None
    assert open_ids != ()


async def test_an_internal_fault_is_raised_to_every_reader():
    """A bug below is no silent end: loop, subscription and waiter get it, no group around it."""

    async def broken(_request, _secret, **_options):
        raise ZeroDivisionError("a bug")

    server = FakeTransport()
    server.send = broken
    async with fake_client(server) as client, client.watch(["vid_0"]) as watcher:
        async with watcher.subscribe("vid_0") as events:
            waiting = asyncio.ensure_future(watcher.wait("vid_0"))
            for read in (anext(watcher), anext(events), waiting):
                with pytest.raises(ZeroDivisionError) as caught:
                    await read
                assert caught.value.open_ids == ("vid_0",)


@pytest.mark.fault("C17")
async def test_closing_the_client_ends_the_watch():
    """A client that is closed under a watch is an exception with the open ids."""
    server = FakeTransport()
    server.tasks["vid_0"] = FakeTask(status="processing")
    async with fake_client(server) as client, client.watch(["vid_0"]) as watcher:
        await anext(watcher)
        reading = asyncio.ensure_future(anext(watcher))
        await asyncio.sleep(1)
        await client.aclose()
        with pytest.raises(ClosedError, match="client was closed") as caught:
            await reading

    assert caught.value.open_ids == ("vid_0",)


async def test_trouble_with_one_task_is_an_event():
    """A task the server refuses to show is lost; the others go on."""
    server = FakeTransport()
    server.tasks["vid_0"] = FakeTask(fault="refused")
    server.tasks["vid_1"] = FakeTask(status="completed")
    async with fake_client(server) as client, client.watch(["vid_0", "vid_1"]) as watcher:
        events = {event.task_id: event for event in await read_all(watcher)}

    assert isinstance(events["vid_0"], TaskLost)
    assert events["vid_0"].reason == "refused"
    assert isinstance(events["vid_1"], TaskCompleted)


# -- 6: leaving -----------------------------------------------------------------------------------


async def leave_by_break(watcher):
    async for _event in watcher:
        break


async def leave_by_error(watcher):
    async for _event in watcher:
        raise KeyError("the caller's own")


async def leave_by_timeout(watcher):
    async with asyncio.timeout(3):
        await read_all(watcher)


async def leave_by_cancel(watcher):
    task = asyncio.current_task()
    asyncio.get_running_loop().call_later(3, task.cancel)
    await read_all(watcher)


@pytest.mark.fault("C11", "C12")
@pytest.mark.parametrize(
    ("leave", "raised"),
    [
        (leave_by_break, None),
        (leave_by_error, KeyError),
        (leave_by_timeout, TimeoutError),
        (leave_by_cancel, asyncio.CancelledError),
    ],
)
async def test_leaving_in_any_way_leaves_nothing_behind(leave, raised):
    """No task, timer or request in flight is left, and the caller's exception is unchanged."""
    loop = asyncio.get_running_loop()
    server = FakeTransport()
    server.tasks.update({task_id: FakeTask("processing", latency=1.0) for task_id in IDS})
    async with fake_client(server) as client:
        before = asyncio.all_tasks()

        async def use():
            async with client.watch(IDS) as watcher:
                await leave(watcher)

        using = loop.create_task(use())
        await asyncio.wait([using])

        assert asyncio.all_tasks() == before
        assert client.budget.in_flight == 0
        assert [timer for timer in loop._scheduled if not timer.cancelled()] == []
    if raised is asyncio.CancelledError:
        assert using.cancelled()
    else:
        assert type(using.exception()) is (raised or type(None))


@given(st.lists(st.floats(0.0, 7.0), max_size=12), st.lists(scripts, min_size=1, max_size=4))
def test_a_cancelled_read_loses_nothing(waits, scripts):
    """Reads that are cancelled at any moment change nothing in what is told in the end."""

    async def main(waits):
        server = FakeTransport()
        ids = [f"vid_{number}" for number in range(len(scripts))]
        async with fake_client(server) as client, client.watch(ids, policy=STEADY) as watcher:
            playing = [
                asyncio.ensure_future(play(server, task_id, script))
                for task_id, script in zip(ids, scripts, strict=True)
            ]
            events = []
            for seconds in waits:
                with contextlib.suppress(TimeoutError, StopAsyncIteration):
                    async with asyncio.timeout(seconds):
                        events += [await anext(watcher)]
            events += await read_all(watcher)
            await asyncio.gather(*playing)
            return [event.seq for event in events], Counter(
                event.task_id for event in events if event.is_final
            )

    numbers, finals = run(lambda: main(waits))

    assert numbers == list(range(1, len(numbers) + 1))
    assert set(finals.values()) == {1}
    assert len(finals) == len(scripts)


async def test_a_second_cancellation_does_not_leave_polls_behind():
    """Cancelled again while it leaves, a watcher still stops everything first."""
    server = FakeTransport()
    server.tasks.update({task_id: FakeTask("processing", latency=1.0) for task_id in IDS})
    async with fake_client(server) as client:
        before = asyncio.all_tasks()

        async def use():
            async with client.watch(IDS):
                await asyncio.sleep(3600)

        using = asyncio.get_running_loop().create_task(use())
        await asyncio.sleep(0.5)
        using.cancel()
        await asyncio.sleep(0)
        using.cancel()
        await asyncio.wait([using])

        assert using.cancelled()
        assert asyncio.all_tasks() == before
        assert client.budget.in_flight == 0


# -- 7: the caller's context ----------------------------------------------------------------------

trace_span: ContextVar[str] = ContextVar("trace_span", default="none")


async def test_the_callers_context_does_not_leak_into_polls():
    """Polls run in a context of their own, whoever added the id or woke the watcher."""
    spans = []

    class Spying(FakeTransport):
        async def send(self, request, secret, **options):
            spans.append(trace_span.get())
            return await super().send(request, secret, **options)

    server = Spying()
    server.tasks.update({task_id: FakeTask(status="processing") for task_id in IDS})
    async with fake_client(server) as client:
        trace_span.set("request 1")
        async with client.watch(["vid_0"]) as watcher:
            await asyncio.sleep(1)
            trace_span.set("request 2")
            watcher.add("vid_1")
            watcher.poll_now("vid_0")
            watcher.apply(VideoTask.from_dict({"id": "vid_0", "status": "pending"}))
            await asyncio.sleep(20)

    assert set(spans) == {"none"}


async def test_what_an_observer_feeds_in_a_poll_is_overtaken_by_its_answer():
    """Though the answer differs from the one before in its progress alone: there and back."""
    server = FakeTransport()
    server.tasks["vid_0"] = FakeTask("processing", progress=1)
    to_feed = []

    def observe(signal):
        if isinstance(signal, PollSucceeded) and to_feed:
            watcher.apply(to_feed.pop())

    async with (
        fake_client(server, observers=[observe]) as client,
        client.watch(["vid_0"], policy=STEADY) as watcher,
    ):
        await anext(watcher)
        server.tasks["vid_0"].progress = 2
        to_feed.append(VideoTask(id="vid_0", status=TaskStatus.PENDING))
        await asyncio.sleep(6)
        (state,) = watcher.snapshot().values()

        assert (to_feed, watcher.stats.unread) == ([], 0)
        assert (state.status, state.progress) == (TaskStatus.PROCESSING, 2)


@given(
    st.lists(
        st.tuples(st.sampled_from(["add", "refresh", "feed", "wait"]), st.floats(0.0, 9.0)),
        max_size=10,
    )
)
def test_whoever_calls_no_context_gets_into_a_poll(calls):
    """Calls from any number of requests, each with a span of its own: polls know none of them."""
    spans = []

    class Spying(FakeTransport):
        async def send(self, request, secret, **options):
            spans.append(trace_span.get())
            return await super().send(request, secret, **options)

    async def main():
        server = Spying()
        server.tasks.update({task_id: FakeTask(status="processing") for task_id in IDS})
        async with fake_client(server) as client:
            trace_span.set("the application")
            async with client.watch(["vid_0"]) as watcher:
                for number, (call, seconds) in enumerate(calls):
                    trace_span.set(f"request {number}")
                    task_id = IDS[number]
                    match call:
                        case "add":
                            watcher.add(task_id)
                        case "refresh":
                            watcher.poll_now("vid_0")
                        case "feed":
                            watcher.apply(VideoTask.from_dict({"id": "vid_0", "status": "queued"}))
                        case _:
                            with contextlib.suppress(TimeoutError):
                                await watcher.wait(task_id, timeout=1.0)
                    await asyncio.sleep(seconds)
                await asyncio.sleep(6)

    run(main)

    assert set(spans) == {"none"}


# -- reading in odd ways --------------------------------------------------------------------------


@pytest.mark.fault("C13")
async def test_two_reads_at_once_are_refused():
    """A second concurrent read is an error of the caller; the first one goes on."""
    server = FakeTransport()
    server.tasks["vid_0"] = FakeTask(status="completed", latency=1.0)
    async with fake_client(server) as client, client.watch(["vid_0"]) as watcher:
        first = asyncio.ensure_future(anext(watcher))
        await asyncio.sleep(0)
        with pytest.raises(RuntimeError, match="two tasks read the same events"):
            await anext(watcher)

        assert (await first).kind == "task_completed"


@pytest.mark.fault("C13")
async def test_iterating_again_goes_on():
    """A loop left by ``break`` is taken up where it stopped."""
    server = FakeTransport()
    server.tasks.update({task_id: FakeTask(status="completed") for task_id in IDS[:3]})
    async with fake_client(server) as client, client.watch(IDS[:3]) as watcher:
        seen = []
        async for event in watcher:
            seen.append(event.task_id)
            break
        seen += [event.task_id for event in await read_all(watcher)]
        assert await read_all(watcher) == []

    assert sorted(seen) == sorted(IDS[:3])


async def test_a_failed_task_is_an_event_with_its_reason():
    """A failed task is told with the server's code and message, not raised."""
    error = {"code": "content_policy_violation", "message": "拒绝"}
    server = FakeTransport()
    server.tasks["vid_0"] = FakeTask(status="failed", extra={"error": error})
    async with fake_client(server) as client, client.watch(["vid_0"]) as watcher:
        (event,) = await read_all(watcher)

    assert isinstance(event, TaskFailed)
    assert (event.task.error.code, event.task.error.message) == (error["code"], error["message"])
    assert event.to_dict()["task"]["error"] == error


@pytest.mark.fault("S1", "S2")
async def test_regress_is_marked():
    """A status or progress that goes back is told as such."""
    server = FakeTransport()
    script = [("processing", 60), ("processing", 40), ("pending", 0), ("completed", 100)]
    async with fake_client(server) as client:
        playing = asyncio.ensure_future(play(server, "vid_0", script))
        async with client.watch(["vid_0"], policy=STEADY, progress=True) as watcher:
            events = await read_all(watcher)
        await playing

    marks = [
        event.regressed for event in events if isinstance(event, StatusChanged | ProgressChanged)
    ]

    assert marks == [False, True, True]
