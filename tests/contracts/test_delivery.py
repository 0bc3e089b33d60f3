"""Delivery contract of the watcher, line by line."""

from __future__ import annotations

import asyncio
import traceback
from collections import Counter
from contextlib import suppress
from contextvars import ContextVar

import pytest
from hypothesis import given, strategies as st

from ezvideo_async import (
    AuthenticationError,
    ClosedError,
    EzVideoError,
    PollPolicy,
    TaskCompleted,
    TaskNotFoundError,
    TaskStatus,
    VideoTask,
)
from ezvideo_async.instrumentation import PollSucceeded
from ezvideo_async.testing import VirtualClockLoop
from tests.support.fake_transport import FakeTask, FakeTransport, fake_client

STEADY = PollPolicy(jitter=0.0)
IDS = [f"vid_{number}" for number in range(20)]


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


def play_all(server, scripts):
    """Play one script for each of the first ids; return the ids and a future of the end."""
    ids = IDS[: len(scripts)]
    playing = [play(server, task_id, script) for task_id, script in zip(ids, scripts, strict=True)]
    return ids, asyncio.gather(*playing)


open_states = st.tuples(st.sampled_from(["pending", "processing", "queued"]), st.integers(0, 3))
scripts = st.tuples(
    st.lists(open_states, max_size=8),
    st.tuples(st.sampled_from(["completed", "failed"]), st.just(9)),
).map(lambda parts: [*parts[0], parts[1]])


# -- 1: order, and no event for the same state ----------------------------------------------------


@given(scripts, st.booleans())
def test_events_are_the_changes_that_the_server_showed(script, progress):
    """In order, and nothing else; changes of progress alone only with ``progress=True``."""

    async def main():
        server = FakeTransport()
        async with fake_client(server) as client:
            ids, playing = play_all(server, [script])
            async with client.watch(ids, policy=STEADY, progress=progress) as watcher:
                events = await read_all(watcher)
            await playing
        return [(str(event.task.status), event.task.progress) for event in events]

    values = {"queued": "pending"}
    states = [(values.get(status, status), percent) for status, percent in script]
    compared = 2 if progress else 1
    changes = [
        state
        for state, before in zip(states, [(None, None), *states], strict=False)
        if state[:compared] != before[:compared]
    ]

    assert run(main) == changes


# -- 2: exactly one final event -------------------------------------------------------------------


# -- 3: slow readers ------------------------------------------------------------------------------


@pytest.mark.fault("C10")
@given(
    st.lists(scripts, min_size=1, max_size=4),
    st.lists(st.tuples(st.floats(0.0, 30.0), st.integers(0, 3)), max_size=6),
)
def test_slow_reader_has_one_unread_event_per_id_and_loses_no_final_event(scripts, reads):
    """Whenever it reads, unread events are the newest; in the end every final event is read."""

    async def main():
        server = FakeTransport()
        async with fake_client(server) as client:
            ids, playing = play_all(server, scripts)
            events = []
            async with client.watch(ids, policy=STEADY, progress=True) as watcher:
                for seconds, count in reads:
                    await asyncio.sleep(seconds)
                    assert watcher.stats.unread <= len(ids)
                    for _ in range(min(count, watcher.stats.unread)):
                        event = await anext(watcher)
                        newest = watcher.get(event.task_id).task
                        assert (event.task.status, event.task.progress) == (
                            newest.status,
                            newest.progress,
                        )
                        events.append(event)
                events += await read_all(watcher)
            await playing
            return ids, events

    ids, events = run(main)
    final = {event.task_id: event.task.raw_status for event in events if event.is_final}

    assert Counter(event.task_id for event in events if event.is_final) == Counter(ids)
    assert final == {each: script[-1][0] for each, script in zip(ids, scripts, strict=True)}


# -- 4: late readers ------------------------------------------------------------------------------


@given(scripts, st.floats(0.1, 45.0))
def test_late_subscription_gets_the_last_state_first(script, seconds):
    """At any moment, without a request; ``wait`` then has the final state."""

    async def main():
        server = FakeTransport()
        async with fake_client(server) as client:
            ids, playing = play_all(server, [script])
            async with client.watch(ids, policy=STEADY, keep_open=True) as watcher:
                await asyncio.sleep(seconds)
                known, sent = watcher.snapshot()["vid_0"], client.requests_sent
                async with watcher.subscribe("vid_0") as events:
                    first = await anext(events)
                    assert client.requests_sent == sent
                task = await watcher.wait("vid_0", raise_on_failure=False)
                assert not known.is_terminal or client.requests_sent == sent
            await playing
            return known, first, task

    known, first, task = run(main)

    assert first.task == known
    assert first.is_final == known.is_terminal
    assert task.raw_status == script[-1][0]


@pytest.mark.parametrize(
    ("options", "kinds"),
    [
        ({}, ["status_changed", "status_changed", "progress_changed", "task_completed"]),
        ({"replay": False}, ["status_changed", "progress_changed", "task_completed"]),
        ({"replay": False, "progress": False}, ["status_changed", "task_completed"]),
    ],
)
async def test_subscription_ends_with_its_ids(options, kinds):
    """Whatever else is open; without *replay* and *progress* it gets fewer events."""
    server = FakeTransport(vid_1="processing")
    script = [("pending", 0), ("processing", 1), ("processing", 2), ("completed", 3)]
    async with fake_client(server) as client:
        playing = asyncio.ensure_future(play(server, "vid_0", script))
        async with client.watch(["vid_0", "vid_1"], policy=STEADY) as watcher:
            await asyncio.sleep(3)
            async with watcher.subscribe("vid_0", **options) as events:
                assert [event.kind async for event in events] == kinds
            assert watcher.open_ids == ("vid_1",)
        await playing


async def test_hub_that_nobody_iterates_does_not_grow():
    """Final events that a waiter got are dropped after ``retain_ended``; others are kept."""
    server = FakeTransport(**dict.fromkeys(IDS, "completed"))
    async with fake_client(server) as client:
        async with client.watch(keep_open=True, retain_ended=60.0) as hub:
            for task_id in IDS[:-1]:
                await hub.wait(task_id)
            hub.add(IDS[-1])
            await asyncio.sleep(61)
            assert hub.stats.unread == 1
            assert (await anext(hub)).task_id == IDS[-1]


# -- 5: how iteration ends ------------------------------------------------------------------------


@pytest.mark.parametrize(("ids", "keep_open"), [((), False), (("vid_0",), True)])
async def test_open_watcher_continues_until_finish_adding(ids, keep_open):
    """Made without ids, or kept open, iteration waits for more ids."""
    server = FakeTransport(vid_0="completed", vid_5="completed")
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


async def test_refused_key_is_raised_after_unread_events_with_the_open_ids():
    """A 401 ends the whole watch; nothing is sent after it."""
    server = FakeTransport(vid_0="completed", vid_1="processing")
    async with fake_client(server) as client:
        async with client.watch(["vid_0", "vid_1"], policy=STEADY) as watcher:
            await asyncio.sleep(1)
            server.outage = 401, {}, b'{"error":{"code":"invalid_api_key","message":"no"}}'
            await asyncio.sleep(10)
            kinds = [(await anext(watcher)).kind for _ in range(2)]
            with pytest.raises(AuthenticationError) as raised:
                await anext(watcher)
            with pytest.raises(AuthenticationError):
                await watcher.wait("vid_1")
            sent = client.requests_sent
            await asyncio.sleep(60)
            assert client.requests_sent == sent

    assert kinds == ["task_completed", "status_changed"]
    assert raised.value.open_ids == ("vid_1",)


@pytest.mark.parametrize("kind", [ZeroDivisionError, StopAsyncIteration])
async def test_internal_fault_is_raised_to_every_reader(kind):
    """Iteration, subscription and waiter each get an error of ours that it caused; no group."""
    bug = kind("a bug")

    async def broken(_request, _api_key, **_options):
        raise bug

    server = FakeTransport()
    server.send = broken
    async with fake_client(server) as client, client.watch(["vid_0"]) as watcher:
        async with watcher.subscribe("vid_0") as events:
            waiting = asyncio.ensure_future(watcher.wait("vid_0"))
            reads = anext(watcher), anext(events), waiting, anext(watcher)
            errors = [await failure_of(read) for read in reads]

    assert len({id(error) for error in errors}) == 4
    for error in errors:
        assert type(error) is EzVideoError
        assert str(error).startswith(f"{kind.__name__} ended the watch (see the cause): ")
        assert (error.open_ids, error.__cause__) == (("vid_0",), bug)
        assert error.__context__ is None
    assert not any(each.name == "failure_of" for each in traceback.extract_tb(bug.__traceback__))


async def failure_of(read):
    """Return the error that a read raises."""
    try:
        await read
    except EzVideoError as error:
        return error


def key_refused(server, watcher):
    server.outage = 401, {}, b'{"error":{"code":"invalid_api_key","message":"no"}}'
    watcher.poll_now("vid_0")


def task_refused(server, _watcher):
    server.outage = 410, {}, b""


def task_discarded(_server, watcher):
    watcher.discard("vid_0")


@pytest.mark.parametrize("end", [key_refused, task_refused, task_discarded])
async def test_no_caller_sees_what_another_one_was_handling(end):
    """Two waiters of one id get equal errors, each with its own frames only."""
    server = FakeTransport(vid_0="processing")
    failed, reported = asyncio.Event(), asyncio.Event()

    async def alice(watcher):
        error = await failure_of(watcher.wait("vid_0"))
        failed.set()
        await reported.wait()
        frames = [frame.name for frame in traceback.extract_tb(error.__traceback__)]
        return error, frames, "".join(traceback.format_exception(error))

    async def bob(watcher):
        waiting = asyncio.ensure_future(watcher.wait("vid_0"))
        await failed.wait()
        try:
            {}["bob's password"]
        except KeyError:
            error = await failure_of(waiting)
        reported.set()
        return error

    async with fake_client(server) as client, client.watch(["vid_0"], keep_open=True) as watcher:
        callers = asyncio.gather(alice(watcher), bob(watcher))
        await asyncio.sleep(1)
        end(server, watcher)
        (first, frames, report), second = await callers

    assert first is not second
    assert (type(first), str(first), vars(first)) == (type(second), str(second), vars(second))
    assert (frames[0], frames.count("failure_of")) == ("failure_of", 1)
    assert "bob's password" not in report
    assert "bob's password" in repr(second.__context__)


async def test_error_of_a_lost_id_is_each_readers_own():
    """Also in the event, in get() and in a later wait()."""
    server = FakeTransport()
    async with fake_client(server) as client:
        async with client.watch(["vid_0"], not_found_grace=0, keep_open=True) as watcher:
            async with watcher.subscribe() as events:
                errors = [(await anext(events)).error, (await anext(watcher)).error]
            known = watcher.get("vid_0")
            errors.append(known.final_event.error)
            errors += [await failure_of(watcher.wait("vid_0")) for _ in range(2)]

    assert len({id(error) for error in errors}) == 5
    assert {type(error) for error in errors} == {TaskNotFoundError}
    assert len({str(error) for error in errors}) == 1


@pytest.mark.fault("C17")
async def test_closing_the_client_ends_the_watch():
    """A waiting read raises ``ClosedError`` with the open ids."""
    server = FakeTransport(vid_0="processing")
    async with fake_client(server) as client, client.watch(["vid_0"]) as watcher:
        await anext(watcher)
        reading = asyncio.ensure_future(anext(watcher))
        await asyncio.sleep(1)
        await client.aclose()
        with pytest.raises(ClosedError, match="client was closed during the watch") as raised:
            await reading

    assert raised.value.open_ids == ("vid_0",)


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
async def test_leaving_a_watcher_leaves_nothing_behind(leave, raised):
    """No task, timer or request in flight is left; the caller's exception is unchanged."""
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


# -- 7: the caller's context ----------------------------------------------------------------------

trace_span: ContextVar[str] = ContextVar("trace_span", default="none")


@given(
    st.lists(
        st.tuples(st.sampled_from(["add", "poll_now", "apply", "wait"]), st.floats(0.0, 9.0)),
        max_size=10,
    )
)
def test_no_context_of_a_caller_is_visible_in_polls(calls):
    """Whatever is called, from any number of requests with a span of their own."""
    spans = []

    class SpyingTransport(FakeTransport):
        async def send(self, request, api_key, **options):
            spans.append(trace_span.get())
            return await super().send(request, api_key, **options)

    async def main():
        server = SpyingTransport(**dict.fromkeys(IDS, "processing"))
        async with fake_client(server) as client:
            trace_span.set("the application")
            async with client.watch(["vid_0"]) as watcher:
                for number, (call, seconds) in enumerate(calls):
                    trace_span.set(f"request {number}")
                    match call:
                        case "add":
                            watcher.add(IDS[number])
                        case "poll_now":
                            watcher.poll_now("vid_0")
                        case "apply":
                            watcher.apply(VideoTask.from_dict({"id": "vid_0", "status": "queued"}))
                        case _:
                            with suppress(TimeoutError):
                                await watcher.wait(IDS[number], timeout=1.0)
                    await asyncio.sleep(seconds)
                await asyncio.sleep(6)

    run(main)

    assert set(spans) == {"none"}


# -- states applied by an observer ----------------------------------------------------------------


@pytest.mark.parametrize("status", [TaskStatus.PENDING, TaskStatus.COMPLETED])
async def test_state_applied_by_an_observer_comes_after_the_response_of_its_poll(status):
    """``PollSucceeded`` is emitted after publishing; nothing follows a final state."""
    applied = VideoTask(id="vid_0", status=status)
    to_apply = []

    def observe(event):
        if isinstance(event, PollSucceeded) and to_apply:
            watcher.apply(to_apply.pop())

    server = FakeTransport(vid_0="processing")
    async with (
        fake_client(server, observers=[observe]) as client,
        client.watch(["vid_0"], policy=STEADY, progress=True, keep_open=True) as watcher,
    ):
        await anext(watcher)
        server.tasks["vid_0"].progress = 2
        to_apply.append(applied)
        await asyncio.sleep(6)
        assert watcher.get("vid_0").task is applied
        event = await anext(watcher)
        await asyncio.sleep(60)
        sent, unread = client.requests_sent, watcher.stats.unread

    assert (event.task, event.is_final) == (applied, status.is_terminal)
    assert (sent, unread) == ((2, 0) if status.is_terminal else (14, 1))
    assert isinstance(event, TaskCompleted) is status.is_terminal


# -- concurrent and repeated reads ----------------------------------------------------------------


@pytest.mark.fault("C13")
async def test_second_iteration_continues_the_first():
    """Iteration that was left by ``break`` is resumed where it stopped."""
    server = FakeTransport(**dict.fromkeys(IDS[:3], "completed"))
    async with fake_client(server) as client, client.watch(IDS[:3]) as watcher:
        seen = []
        async for event in watcher:
            seen.append(event.task_id)
            break
        seen += [event.task_id for event in await read_all(watcher)]
        assert await read_all(watcher) == []

    assert sorted(seen) == sorted(IDS[:3])
