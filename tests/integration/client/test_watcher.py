"""``TaskWatcher``: its calls, who may call them when, and errors that end a watch."""

from __future__ import annotations

import asyncio
import gc
import threading
import time
import weakref

import pytest

from ezvideo_async import (
    ClosedError,
    ConfigError,
    InvalidTaskIdError,
    NotOpenError,
    ServerError,
    TaskFailedError,
    TaskNotFoundError,
    TaskStatus,
    VideoTask,
    WaitTimeoutError,
)
from tests.support.clients import make_client
from tests.support.fake_transport import FakeTransport, fake_client


async def read_all(reader):
    return [event async for event in reader]


# -- adding ---------------------------------------------------------------------------------------


@pytest.mark.fault("C24")
@pytest.mark.parametrize(
    "option", [{"timeout": 0}, {"policy": 5.0}, {"not_found_grace": -1}, {"retain_ended": "60"}]
)
async def test_invalid_option_is_refused_at_once(option):
    """The error names the option."""
    async with fake_client(FakeTransport()) as client:
        with pytest.raises(ConfigError, match=f"^{next(iter(option))} must be"):
            client.watch(["vid_1"], **option)


@pytest.mark.fault("C1")
async def test_add_takes_all_ids_or_none():
    """An invalid id keeps the others out."""
    async with fake_client(FakeTransport()) as client, client.watch() as watcher:
        with pytest.raises(InvalidTaskIdError, match="control characters"):
            watcher.add("vid_1", "vid\n2")

        assert watcher.open_ids == ()


@pytest.mark.fault("C5", "C9")
async def test_first_tasks_are_copied():
    """Later changes of the caller's list have no effect; an id named twice is watched once."""
    task_ids = ["vid_1", "vid_2", "vid_1"]
    async with fake_client(FakeTransport()) as client:
        watcher = client.watch(task_ids)
        task_ids.clear()
        async with watcher:
            assert watcher.open_ids == ("vid_1", "vid_2")


async def test_every_task_argument_is_an_id_or_a_task():
    """A task stands for its id; its state is used by ``apply`` only."""
    one, two = (VideoTask(id=name, status=TaskStatus.FAILED) for name in ("vid_1", "vid_2"))
    server = FakeTransport(vid_1="processing", vid_2="completed")
    async with fake_client(server) as client, client.watch([one]) as watcher:
        watcher.add(two)
        assert watcher.poll_now(one)
        assert watcher.get(one).task is None
        assert (await watcher.wait(two)).succeeded
        async with watcher.subscribe(two) as events:
            assert [event.kind for event in await read_all(events)] == ["task_completed"]
        assert watcher.discard(one)
        assert (await client.retrieve(two)).succeeded
        assert (await client.wait(two)).succeeded


@pytest.mark.parametrize("how", ["mapping", "watch", "add"])
async def test_every_event_has_the_tag_of_its_id(how):
    """From a mapping of id to tag, from ``watch(tag=...)``, or from ``add(tag=...)``."""
    server = FakeTransport(vid_1="completed")
    tasks, tag = ({"vid_1": "x"}, None) if how == "mapping" else (["vid_1"], "x")
    async with fake_client(server) as client:
        async with client.watch(() if how == "add" else tasks, tag=tag) as watcher:
            if how == "add":
                watcher.add("vid_1", tag="x")
            assert (await anext(watcher)).tag == "x"
            watcher.add("vid_1", tag="ignored: the id is known")
            assert watcher.get("vid_1").tag == "x"


# -- before and after -----------------------------------------------------------------------------


async def test_watcher_is_used_after_entering():
    """Before ``async with`` each call raises ``NotOpenError``."""
    task = VideoTask(id="vid_1", status=TaskStatus.FAILED)
    async with fake_client(FakeTransport()) as client:
        watcher = client.watch(["vid_1"])
        for call in (
            lambda: watcher.add("vid_2"),
            lambda: watcher.discard("vid_1"),
            lambda: watcher.poll_now("vid_1"),
            lambda: watcher.apply(task),
            watcher.subscribe,
        ):
            with pytest.raises(NotOpenError, match="enter the watcher first: async with"):
                call()
        for read in (anext(watcher), watcher.wait("vid_1")):
            with pytest.raises(NotOpenError, match="enter the watcher first: async with"):
                await read
        assert (watcher.stats.polls, watcher.get("vid_1")) == (0, None)


async def test_watcher_that_cannot_be_entered_leaves_nothing():
    """No task, no timer, and nothing of it in the client; the caller's error is raised."""

    def broken():
        raise ZeroDivisionError("no random number")

    async with make_client(transport=FakeTransport(), rand=broken, api_key="key") as client:
        watcher = client.watch(["vid_1", "vid_2"])
        gone, tasks = weakref.ref(watcher), asyncio.all_tasks()
        with pytest.raises(ZeroDivisionError, match="no random number"):
            await watcher.__aenter__()

        assert asyncio.all_tasks() == tasks
        with pytest.raises(ClosedError, match="could not be entered"):
            watcher.add("vid_3")
        del watcher
        gc.collect()
        assert gone() is None


async def test_watcher_counts_its_ids_before_and_after_it_is_entered():
    """Its representation names the ids that have not ended."""
    async with fake_client(FakeTransport(vid_1="completed", vid_2="pending")) as client:
        watcher = client.watch(["vid_1", "vid_2"], keep_open=True)
        shown = [repr(watcher)]
        async with watcher:
            shown.append(repr(watcher))
            await watcher.wait("vid_1")
            shown.append(repr(watcher))
            watcher.discard("vid_2")
            shown.append(repr(watcher))

    assert shown == [f"<TaskWatcher of {count} open tasks>" for count in (2, 2, 1, 0)]


async def test_watcher_is_entered_once():
    """Entering again, inside or later, is refused."""
    async with fake_client(FakeTransport()) as client:
        watcher = client.watch()
        async with watcher:
            with pytest.raises(ClosedError, match="entered once"):
                await watcher.__aenter__()
        with pytest.raises(ClosedError, match="entered once"):
            await watcher.__aenter__()


async def test_closed_watcher_delivers_what_is_unread_and_then_raises():
    """Calls are refused at once; reading raises ``ClosedError`` with the open ids."""
    server = FakeTransport(vid_1="completed", vid_2="processing")
    async with fake_client(server) as client:
        async with client.watch(["vid_1", "vid_2"]) as watcher:
            subscription = watcher.subscribe("vid_2")
            await asyncio.sleep(1)
        kinds = {(await anext(watcher)).kind for _ in range(2)}
        with pytest.raises(ClosedError, match="the watcher was closed") as raised:
            await anext(watcher)
        with pytest.raises(ClosedError, match="the watcher was closed"):
            watcher.add("vid_3")
        with pytest.raises(ClosedError, match="the watcher was closed"):
            await subscription.__aenter__()
        assert watcher.get("vid_1").task.succeeded

    assert kinds == {"task_completed", "status_changed"}
    assert raised.value.open_ids == ("vid_2",)


@pytest.mark.fault("C7")
async def test_call_from_another_thread_is_refused():
    """The error names ``call_soon_threadsafe``."""
    errors = []

    def add_from_here():
        try:
            watcher.add("vid_1")
        except ClosedError as error:
            errors.append(str(error))

    async with fake_client(FakeTransport()) as client, client.watch() as watcher:
        thread = threading.Thread(target=add_from_here)
        thread.start()
        thread.join()

    assert len(errors) == 1
    assert "call_soon_threadsafe" in errors[0]


# -- discard, apply, get --------------------------------------------------------------------------


@pytest.mark.fault("C8")
async def test_discarded_id_has_no_more_events():
    """Not even unread ones, or of the poll in flight; its waiters get ``ClosedError``."""
    server = FakeTransport(vid_1="processing", vid_2="completed")
    async with fake_client(server) as client:
        async with client.watch(["vid_1"], keep_open=True) as watcher:
            async with watcher.subscribe("vid_1", replay=False) as events:
                waiting = asyncio.ensure_future(watcher.wait("vid_1"))
                await asyncio.sleep(4.4)
                server.tasks["vid_1"].latency = 2.0
                await asyncio.sleep(1)  # in flight
                assert watcher.discard("vid_1")
                assert not watcher.discard("vid_1")
                with pytest.raises(ClosedError, match="discarded"):
                    await waiting
                assert await read_all(events) == []
            await asyncio.sleep(60)
            watcher.add("vid_2")
            assert (await anext(watcher)).task_id == "vid_2"

    assert len(server.request_times("vid_1")) == 2


async def test_discarding_the_last_id_ends_the_iteration():
    """A waiting read stops."""
    server = FakeTransport(vid_1="processing")
    async with fake_client(server) as client, client.watch(["vid_1"]) as watcher:
        await anext(watcher)
        reading = asyncio.ensure_future(read_all(watcher))
        await asyncio.sleep(1)
        watcher.discard("vid_1")

        assert await reading == []


async def test_applied_state_counts_as_a_polls():
    """It is delivered at once; a final state ends the id without a request."""
    server = FakeTransport(vid_1="pending")
    async with fake_client(server) as client, client.watch(["vid_1"]) as watcher:
        await anext(watcher)
        assert watcher.apply(VideoTask.from_dict({"id": "vid_1", "status": "in_progress"}))
        changed = await anext(watcher)
        assert watcher.apply(VideoTask.from_dict({"id": "vid_1", "status": "SUCCESS"}))
        events = await read_all(watcher)
        assert not watcher.apply(VideoTask.from_dict({"id": "vid_1", "status": "failed"}))
        assert not watcher.apply(VideoTask.from_dict({"id": "vid_9", "status": "failed"}))
        with pytest.raises(TypeError, match="expected a VideoTask, got dict"):
            watcher.apply({"id": "vid_1"})
        await asyncio.sleep(60)

    assert changed.current == "processing"
    assert [event.kind for event in events] == ["task_completed"]
    assert len(server.request_times()) == 1


async def test_get_returns_what_is_known_without_a_request():
    """Before the first response, between failures, and after the final event."""
    server = FakeTransport(vid_1="processing", vid_2="completed")
    began = time.time()
    async with fake_client(server) as client:
        async with client.watch({"vid_1": "a", "vid_2": "b"}, keep_open=True) as watcher:
            first = watcher.get("vid_1")
            await asyncio.sleep(1)
            open_one, ended = watcher.get("vid_1"), watcher.get("vid_2")
            server.outage = "500"
            await asyncio.sleep(5)
            failing = watcher.get("vid_1")
            sent = client.requests_sent
            # Like snapshot(), it needs no event loop.
            assert (await asyncio.to_thread(watcher.get, "vid_1")) == failing
            assert watcher.get("vid_9") is None
            watcher.discard("vid_1")
            assert watcher.get("vid_1") is None
            assert client.requests_sent == sent

    assert (first.task, first.final_event, first.last_error, first.tag) == (None, None, None, "a")
    assert first.added_at == pytest.approx(began, abs=5.0)
    assert (open_one.task.status, open_one.final_event) == ("processing", None)
    assert (ended.task.succeeded, ended.final_event.kind) == (True, "task_completed")
    assert (ended.last_error, ended.tag) == (None, "b")
    assert (failing.task.status, type(failing.last_error)) == ("processing", ServerError)


async def test_get_returns_the_reason_of_a_lost_id():
    """The final event has the reason, and its error is the last one."""
    async with fake_client(FakeTransport()) as client:
        async with client.watch(["vid_1"], not_found_grace=0.0) as watcher:
            await read_all(watcher)
            lost = watcher.get("vid_1")

    assert (lost.task, lost.final_event.reason) == (None, "not_found")
    assert type(lost.last_error) is TaskNotFoundError
    assert lost.last_error is lost.final_event.error


# -- wait -----------------------------------------------------------------------------------------


async def test_waiters_share_the_polls():
    """Ten waiters and the iteration need the requests of one; a cancelled one stops alone."""
    server = FakeTransport(vid_1="processing")
    async with fake_client(server) as client, client.watch(["vid_1"]) as watcher:
        waiting = [asyncio.ensure_future(watcher.wait("vid_1")) for _ in range(11)]
        await asyncio.sleep(12)
        waiting[0].cancel()
        server.tasks["vid_1"].status = "completed"
        _, *tasks = await asyncio.gather(*waiting, return_exceptions=True)

    assert waiting[0].cancelled()
    assert {task.status for task in tasks} == {"completed"}
    assert len(server.request_times()) == 4


async def test_waiting_for_an_unknown_id_adds_it():
    """It stays watched after the timeout."""
    server = FakeTransport(vid_1="processing")
    async with fake_client(server) as client, client.watch(keep_open=True) as watcher:
        with pytest.raises(WaitTimeoutError, match="did not finish within 12 s") as timed_out:
            await watcher.wait("vid_1", timeout=12.0)
        assert timed_out.value.waited == 12.0
        assert timed_out.value.task.raw_status == "processing"
        assert watcher.open_ids == ("vid_1",)
        server.tasks["vid_1"].status = "failed"
        with pytest.raises(TaskFailedError, match="gives no reason") as failed:
            await watcher.wait("vid_1")
        assert await watcher.wait("vid_1", raise_on_failure=False) is failed.value.task


async def test_waiting_for_a_lost_task_raises_its_error():
    """Each time; its traceback does not grow with the number of waits."""
    async with fake_client(FakeTransport()) as client, client.watch(keep_open=True) as watcher:
        depths = []
        for _ in range(10):
            with pytest.raises(TaskNotFoundError) as raised:
                await watcher.wait("vid_1")
            depths.append(len(raised.traceback))

    assert len(set(depths[1:])) == 1


# -- subscriptions --------------------------------------------------------------------------------


async def test_subscribing_to_an_unknown_id_is_refused():
    """The error says what to do."""
    async with fake_client(FakeTransport()) as client, client.watch(keep_open=True) as watcher:
        with pytest.raises(ConfigError, match=r"'vid_9' is not watched; add\(\) it first"):
            watcher.subscribe("vid_9")


@pytest.mark.parametrize(
    ("status", "replay", "kinds"),
    [
        ("completed", True, ["task_completed"]),
        ("completed", False, []),
        ("processing", True, []),  # discarded
    ],
)
async def test_subscription_ends_if_its_id_ended_before_it_was_entered(status, replay, kinds):
    """A final event is delivered if *replay* is set; a discarded id has none."""
    server = FakeTransport(vid_1=status)
    async with fake_client(server) as client, client.watch(keep_open=True) as watcher:
        watcher.add("vid_1")
        subscription = watcher.subscribe("vid_1", replay=replay)
        await asyncio.sleep(1)
        watcher.discard("vid_1")
        async with subscription as events:
            assert [event.kind for event in await read_all(events)] == kinds


# -- errors that end a watch ----------------------------------------------------------------------


@pytest.mark.parametrize("what", ["request", "runner"])
async def test_stray_cancellation_ends_the_watch_with_an_error(what):
    """Of a poll by something that it awaits, or of every asyncio task at a shutdown."""
    server = FakeTransport(vid_1="processing")

    async def cancelled(_request, _api_key, **_options):
        raise asyncio.CancelledError

    async with fake_client(server) as client, client.watch(["vid_1"]) as watcher:
        await anext(watcher)
        if what == "request":
            server.send = cancelled
        else:
            for task in asyncio.all_tasks():
                if task.get_name() == "ezvideo_async watcher":
                    task.cancel()
        with pytest.raises(ClosedError, match="cancelled by something else") as raised:
            await anext(watcher)

        assert raised.value.open_ids == ("vid_1",)
        assert client.budget.in_flight == 0


@pytest.mark.fault("C22")
async def test_cancellation_raised_by_an_observer_has_no_effect():
    """The watch continues, whatever an observer raises."""

    def observe(_event):
        raise asyncio.CancelledError

    server = FakeTransport(vid_1="processing")
    async with fake_client(server, observers=[observe]) as client:
        async with client.watch(["vid_1"]) as watcher:
            await asyncio.sleep(12)
            server.tasks["vid_1"].status = "completed"
            assert (await read_all(watcher))[-1].kind == "task_completed"
